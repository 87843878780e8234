"""The API listener: uvicorn, with limits on what a peer may leave unfinished."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gatecast.server.connections import KEEP_ALIVE, Place
from gatecast.telemetry import get_logger

#: Largest head of a request, in bytes.
MAX_HEAD_BYTES = 64 * 1024

_logger = get_logger("admin-api")


class ApiServer(uvicorn.Server):
    """Uvicorn, with the signals and the listening socket left to the pod."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            http=ApiConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            # Whom a proxy speaks for is a question of our own settings.
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=int(KEEP_ALIVE),
        )
        config.load()
        super().__init__(config)
        #: Set once it answers, and when it ends without ever doing so.
        self.begun = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's own
        """Begin to answer on the connections that the listener hands over."""
        self.servers = []
        self.started = True
        self.begun.set()

    def stop(self, *, within: float) -> None:
        """Finish running requests, and end those that take longer than this; in seconds."""
        self.config.timeout_graceful_shutdown = within  # type: ignore[assignment] # as long as asyncio can wait
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield

    def connection(self, place: Place) -> ApiConnection:
        """The protocol of a new connection."""
        return ApiConnection(place, self.config, self.server_state)


class ApiConnection(HttpToolsProtocol):
    """One connection to the admin API, which tells its place how far its requests have come."""

    def __init__(self, place: Place, config: uvicorn.Config, server_state: ServerState) -> None:
        super().__init__(config, server_state, app_state={})
        self._place = place
        #: Bytes of the head being read; minus infinity while reading a body.
        self._head_bytes: float = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """The first request has to come."""
        super().connection_made(transport)
        self._place.opened(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer has gone."""
        super().connection_lost(exc)
        self._place.lost()

    def data_received(self, data: bytes) -> None:
        """A request begins, or continues."""
        self._place.receives_head()
        self._unset_keepalive_if_required()
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # There is nothing here to upgrade to; it was answered as any other request.
            pass
        except httptools.HttpParserError as error:
            self._refuse("Invalid HTTP request received.", error=str(error))
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(f"The head of a request must be at most {MAX_HEAD_BYTES:,} bytes.", error="head too large")

    def _refuse(self, message: str, *, error: str) -> None:
        """Say what is wrong, here and there, in one line."""
        if not self.transport.is_closing():
            _logger.info("malformed-request", peer=self.client and self.client[0], error=error)
            self.send_400_response(message)

    def on_headers_complete(self) -> None:
        """The head is whole, so the body has to come."""
        super().on_headers_complete()
        self._head_bytes = float("-inf")
        self._place.receives_body()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        super().on_body(body)
        if not self.cycle.response_complete:
            self._place.received(len(body))

    def on_message_complete(self) -> None:
        """The request is whole. It may have been answered already, without what came last."""
        super().on_message_complete()
        self._head_bytes = 0
        if not self.cycle.response_complete:
            self._place.answers()

    def on_response_complete(self) -> None:
        """The answer is written. Others may be running: requests are answered in their order."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._place.answered()

    def pause_writing(self) -> None:
        """The peer does not read."""
        super().pause_writing()
        self._place.pause_writing()

    def resume_writing(self) -> None:
        """The peer reads again."""
        super().resume_writing()
        self._place.resume_writing()
