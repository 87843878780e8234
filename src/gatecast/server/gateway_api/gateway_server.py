"""The gateway listener: aiohttp, with limits on what a peer may leave unfinished."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from gatecast.server.connections import KEEP_ALIVE, Place
from gatecast.server.gateway_api.conversations import CONVERSATIONS
from gatecast.telemetry import get_logger

_logger = get_logger("gateway-api")


class GatewayServer(web.AppRunner):
    """Serves an application on the connections that a listener hands over."""

    def __init__(self, app: web.Application) -> None:
        self._options: dict[str, Any] = {"access_log": None, "keepalive_timeout": KEEP_ALIVE}
        super().__init__(app, handle_signals=False, **self._options)

    async def stop(self, *, within: float) -> None:
        """Finish running requests and conversations, and end those that take longer than this; in seconds."""
        self._shutdown_timeout = within
        self.app[CONVERSATIONS].end_within(within)
        await self.cleanup()

    def connection(self, place: Place) -> GatewayConnection:
        """The protocol of a new connection."""
        assert self.server is not None  # noqa: S101 - set up before anybody listens
        return GatewayConnection(place, self.server, loop=asyncio.get_running_loop(), **self._options)


class GatewayConnection(web.RequestHandler):
    """One connection of a gateway, which tells its place how far its requests have come.

    Once a request is upgraded, another protocol speaks on the connection and holds its place.
    """

    __slots__ = ("_body", "_place", "_successor")

    def __init__(self, place: Place, server: web.Server, **options: Any) -> None:  # noqa: ANN401 - aiohttp's own
        super().__init__(server, **options)
        self._place = place
        #: The unread body of the request that is being answered.
        self._body: StreamReader | None = None
        self._successor: asyncio.Protocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The first request has to come."""
        super().connection_made(transport)
        self._place.opened(cast("asyncio.WriteTransport", transport))

    def connection_lost(self, exc: BaseException | None) -> None:
        """The peer has gone."""
        if self._successor is not None:
            # With TLS this may be on its way already when the successor comes.
            self._successor.connection_lost(cast("Exception | None", exc))
            return
        super().connection_lost(exc)
        self._place.lost()

    def hand_over(self, successor: asyncio.Protocol) -> Place:
        """Give the place away; what is still said here belongs to the successor."""
        place = self._place
        end_http(self)
        self._successor = successor
        return place

    def data_received(self, data: bytes) -> None:
        """A request begins, or continues."""
        self._place.receives_head()
        super().data_received(data)
        if self._body is not None:
            self._place.received(len(data))
            self._note_body()

    def pause_writing(self) -> None:
        """The peer does not read."""
        super().pause_writing()
        self._place.pause_writing()

    def resume_writing(self) -> None:
        """The peer reads again."""
        super().resume_writing()
        self._place.resume_writing()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Report an error to the log and the peer; a peer's own mistake takes one line."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        # Its own words repeat what was sent, which may be a token.
        _logger.info("malformed-request", peer=request.remote, error=type(exc).__name__)
        answer = web.Response(status=status, text="the request is malformed")
        answer.force_close()
        return answer

    def begin_answer(self, body: StreamReader) -> None:
        """The head of a request has come, and its body may still be coming."""
        self._body = body
        self._place.receives_body()
        self._note_body()

    def end_answer(self) -> None:
        """It is answered."""
        self._body = None
        if self._successor is None:
            self._place.answered()

    def _note_body(self) -> None:
        """Once the body is whole, the peer waits for us."""
        if self._body is not None and self._body.is_eof():
            self._body = None
            self._place.answers()


def end_http(connection: web.RequestHandler) -> None:
    """Have aiohttp release a connection that continues: it holds several KiB of each."""
    connection.transport = None
    web.RequestHandler.connection_lost(connection, None)


@web.middleware
async def tell_place(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Tell the connection's place when a request begins and when it is over."""
    connection = request.protocol
    if not isinstance(connection, GatewayConnection):
        return await handler(request)
    connection.begin_answer(request.content)
    try:
        return await handler(request)
    finally:
        connection.end_answer()
