"""One connection: discovery, upgrade, `connection.ack`, the read loop, liveness (gateway-protocol.md 1.3 to 1.7)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import aiohttp

from gatecast.client.socket import ClientSocket, open_socket
from gatecast.testing.unmodified_gateway.messages import Unparsable, check_connection_ack
from gatecast.testing.unmodified_gateway.options import GatewayOptions

_HTTP_OK = 200
_USER_AGENT = "Go-http-client/1.1"

_DEFAULT_PATH = "/api/internal/v1"
_LOST = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


#: Answers to the upgrade and to the manifest that end the gateway's process (sections 1.4 and 3.2).
PERMANENT_REFUSALS: Final = frozenset({401, 403, 404, 409, 422})


class ProcessExit(Exception):
    """The gateway's process ends with status 1."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        #: The HTTP status that made it end.
        self.status = status


class ConnectFailed(Exception):
    """An attempt failed; another one follows after a pause."""


class Dialer:
    """Makes connections; remembers the path that discovery found, for the life of the process."""

    def __init__(self, session: aiohttp.ClientSession, host: str, token: str, options: GatewayOptions) -> None:
        self._session = session
        self._host = host
        self._headers = {"api-key": token, "User-Agent": _USER_AGENT}
        self._options = options
        self._secure = "s" if options.tls else ""
        self._discovered: str | None = None

    @property
    def on_premises(self) -> bool:
        """True once discovery named a path."""
        return self._discovered is not None

    @property
    def rest_base(self) -> str:
        """Where REST calls go."""
        return f"http{self._secure}://{self._host}{self._path}"

    @property
    def _path(self) -> str:
        return self._discovered or _DEFAULT_PATH

    async def dial(self) -> ClientSocket:
        """An upgraded connection.

        Raises:
            ConnectFailed: it may work later.
            ProcessExit: the control plane refused for good.
        """
        if self._discovered is None:
            self._discovered = await self._discover()
        url = f"ws{self._secure}://{self._host}{self._path}/ws/gateways/connect"
        try:
            async with asyncio.timeout(self._options.upgrade_time_limit):
                return await open_socket(self._session, url, headers=self._headers)
        except aiohttp.WSServerHandshakeError as refusal:
            if refusal.status in PERMANENT_REFUSALS:
                raise ProcessExit(refusal.status) from refusal
            raise ConnectFailed(f"HTTP {refusal.status}") from refusal
        except (aiohttp.ClientError, OSError, TimeoutError) as problem:
            raise ConnectFailed(repr(problem)) from problem

    async def _discover(self) -> str | None:
        """The path of an on-premises gateway; None for whatever else is answered."""
        url = f"http{self._secure}://{self._host}/internal/gateway/.well-known"
        try:
            async with asyncio.timeout(self._options.discovery_time_limit), self._session.get(url) as answer:
                found = json.loads(await answer.read()) if answer.status == _HTTP_OK else None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return None
        path = found.get("gatewayPath") if isinstance(found, dict) else None
        return f"/{path.strip().strip('/')}" if isinstance(path, str) and path.strip() else None


class Link:
    """An upgraded connection and its single reader."""

    def __init__(self, socket: ClientSocket, options: GatewayOptions, may_read: asyncio.Event) -> None:
        self.socket = socket
        self._options = options
        self._may_read = may_read
        self._last_ping = options.clock.monotonic()
        self._dropped = False

    def drop(self) -> None:
        """Cut TCP without a close frame; whatever was not handled yet never is."""
        self._dropped = True
        self.socket.abort()

    async def greet(self) -> tuple[str, str]:
        """Gateway id and connection id of the first frame; raises ConnectFailed when it is late or something else."""
        try:
            async with asyncio.timeout(self._options.ack_time_limit):
                message = await self._receive()
        except TimeoutError:
            raise ConnectFailed("no connection.ack in time") from None
        if message is None or message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectFailed("lost before connection.ack")
        try:
            return check_connection_ack(message.data)
        except Unparsable:
            raise ConnectFailed("the first frame is not a connection.ack") from None

    async def serve(self, handle: Callable[[str], Awaitable[None]]) -> None:
        """Handle text frames, one after another, until the connection is lost."""
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self._watch_liveness(), name="liveness")
            while (message := await self._receive()) is not None:
                if message.type is aiohttp.WSMsgType.TEXT:
                    await handle(message.data)
            watch.cancel()

    async def send(self, text: str) -> bool:
        """Send a text frame; False when the connection is gone."""
        if self._dropped:
            return False
        try:
            await self.socket.send_str(text)
        except (aiohttp.ClientError, OSError):
            return False
        return True

    async def send_close(self, payload: bytes) -> None:
        """Send a Close frame; the reader goes on until the peer hangs up."""
        with suppress(aiohttp.ClientError, OSError):
            await self.socket.send_frame(payload, aiohttp.WSMsgType.CLOSE)

    async def _receive(self) -> aiohttp.WSMessage | None:
        """The next frame that is not a ping; None when the connection is lost.

        Pings are answered here and nowhere else: a slow handler delays the Pong (section 1.6).
        """
        while True:
            message = await self.socket.receive()
            await self._may_read.wait()
            if self._dropped or message.type in _LOST:
                return None
            if message.type is not aiohttp.WSMsgType.PING:
                return message
            await self._answer(message.data)

    async def _answer(self, payload: bytes) -> None:
        self._last_ping = self._options.clock.monotonic()
        try:
            await self.socket.pong(payload)
        except (aiohttp.ClientError, OSError):
            self.drop()

    async def _watch_liveness(self) -> None:
        """Only pings count: events do not keep a connection alive (section 1.6)."""
        clock = self._options.clock
        while clock.monotonic() - self._last_ping <= self._options.liveness_limit:
            await clock.sleep(self._options.liveness_tick)
        self.drop()
