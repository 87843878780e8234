"""A control plane that does exactly what a test tells it: for tests of gateways and of clients."""

from __future__ import annotations

import asyncio
import json
import ssl as tls
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import WSMessage, WSMsgType, web

from gatecast.testing.eventually import PATIENCE

#: Where gateways connect.
CONNECT_PATH = "/api/internal/v1/ws/gateways/connect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer."""

    #: The HTTP status.
    status: int = 200
    #: The body; text and bytes as they are, anything else as JSON.
    body: Any = ""
    #: Headers to add.
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request, as it arrived."""

    method: str
    path: str
    #: Path and query as they came, with their escapes.
    raw_path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        """The decoded body."""
        return json.loads(self.body)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


#: Makes the answer to a request.
Responder = Callable[[Request], Awaitable[Answer]]


class ScriptedConnection:
    """One upgraded connection, in the hands of the test."""

    def __init__(self, socket: web.WebSocketResponse, request: Request) -> None:
        #: The upgrade's request.
        self.request = request
        #: The socket itself.
        self.socket = socket
        #: Set when the server may let go of the connection.
        self.finished = asyncio.Event()

    async def greet(self, gateway_id: str = "gw-1", connection_id: str = "c-1") -> None:
        """Send `connection.ack`."""
        await self.send(
            {
                "type": "connection.ack",
                "gatewayId": gateway_id,
                "connectionId": connection_id,
                "timestamp": "2026-01-02T03:04:05Z",
            }
        )

    async def send(self, message: Mapping[str, Any] | str) -> None:
        """Send a text frame."""
        await self.socket.send_str(message if isinstance(message, str) else json.dumps(message))

    async def receive(self) -> WSMessage:
        """The next frame of the peer; control frames too."""
        async with asyncio.timeout(PATIENCE):
            return await self.socket.receive()

    async def receive_message(self) -> dict[str, Any]:
        """The next text frame, decoded; anything else is a failure."""
        frame = await self.receive()
        assert frame.type is WSMsgType.TEXT, f"got {frame}"
        message: dict[str, Any] = json.loads(frame.data)
        return message

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Send Close and wait for the peer's."""
        await self.socket.close(code=code, message=reason.encode())
        self.finished.set()

    def cut(self) -> None:
        """Abort the TCP connection."""
        transport = self.socket._req and self.socket._req.transport  # noqa: SLF001 - aiohttp offers no abort
        if transport:
            transport.abort()
        self.finished.set()


class ScriptedControlPlane:
    """Listens on a free port of 127.0.0.1; unknown paths answer 404."""

    def __init__(
        self, *, ssl: tls.SSLContext | None = None, port: int = 0, protocols: tuple[str, ...] = ("gatecast.v2",)
    ) -> None:
        #: Each HTTP request, upgrades too, in the order of arrival.
        self.requests: list[Request] = []
        #: How to answer, by "METHOD /path".
        self.answers: dict[str, Answer | Responder] = {}
        #: Answers to give to the next upgrades instead of upgrading.
        self.refusals: deque[Answer] = deque()
        self._ssl = ssl
        self._port = port
        self._protocols = protocols
        self._connections: asyncio.Queue[ScriptedConnection] = asyncio.Queue()
        self._open: set[ScriptedConnection] = set()
        self._answering: set[asyncio.Transport] = set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=16 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._respond)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        self._stack.callback(self._let_go)
        site = web.TCPSite(runner, "127.0.0.1", self._port, ssl_context=self._ssl)
        await site.start()
        self._port = runner.addresses[0][1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    @property
    def host(self) -> str:
        """`address:port`."""
        return f"127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def calls(self) -> list[str]:
        """Each request as "METHOD /path", in order."""
        return [str(request) for request in self.requests]

    async def accept(self) -> ScriptedConnection:
        """The next connection, upgraded but not greeted."""
        async with asyncio.timeout(PATIENCE):
            return await self._connections.get()

    async def greeted(self, gateway_id: str = "gw-1", connection_id: str = "c-1") -> ScriptedConnection:
        """The next connection, greeted."""
        connection = await self.accept()
        await connection.greet(gateway_id, connection_id)
        return connection

    def cut_requests(self) -> None:
        """Abort the TCP connection of each request that is being answered now."""
        for transport in self._answering:
            transport.abort()

    async def _respond(self, incoming: web.Request) -> web.StreamResponse:
        request = Request(
            method=incoming.method,
            path=incoming.path,
            raw_path=incoming.raw_path,
            query=dict(incoming.query),
            headers={name.lower(): value for name, value in incoming.headers.items()},
            body=await incoming.read(),
        )
        self.requests.append(request)
        if incoming.path.endswith("/ws/gateways/connect"):
            return await self._upgrade(incoming, request)
        answer = self.answers.get(str(request), Answer(status=404))
        if isinstance(answer, Answer):
            return _response(answer)
        transport = incoming.transport
        assert transport is not None, "the peer is gone"
        self._answering.add(transport)
        try:
            return _response(await answer(request))
        finally:
            self._answering.discard(transport)

    async def _upgrade(self, incoming: web.Request, request: Request) -> web.StreamResponse:
        if self.refusals:
            return _response(self.refusals.popleft())
        socket = web.WebSocketResponse(autoping=False, protocols=self._protocols, max_msg_size=0)
        await socket.prepare(incoming)
        connection = ScriptedConnection(socket, request)
        self._open.add(connection)
        self._connections.put_nowait(connection)
        try:
            await connection.finished.wait()
        finally:
            self._open.discard(connection)
        return socket

    def _let_go(self) -> None:
        for connection in self._open:
            connection.cut()


def _response(answer: Answer) -> web.Response:
    body = answer.body
    if not isinstance(body, str | bytes):
        body = json.dumps(body)
    return web.Response(
        status=answer.status, body=body if isinstance(body, bytes) else body.encode(), headers=dict(answer.headers)
    )
