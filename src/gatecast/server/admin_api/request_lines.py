"""Names each request, and logs a line for each answer where that is asked for."""

from __future__ import annotations

import time
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatecast.settings import Settings
from gatecast.telemetry import get_logger
from gatecast.telemetry.requests import REQUEST_ID_HEADER, follow_trace, name_request

_logger = get_logger("admin-api")

_HEADER = REQUEST_ID_HEADER.lower().encode()
_TRACE = b"traceparent"


class HasSettings(Protocol):
    """An object with the settings, which say whether to log requests."""

    @property
    def settings(self) -> Settings:
        """The settings of the pod."""


class RequestLines:
    """Gives each request a name, tells it in the answer, and logs what was answered."""

    def __init__(self, app: ASGIApp, *, context: HasSettings) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, under a name."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in (_HEADER, _TRACE)}
        name = name_request(headers.get(_HEADER)).encode()
        follow_trace(headers.get(_TRACE))
        status, began_at = 0, time.monotonic()

        async def naming(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (_HEADER, name)]
            await send(message)

        try:
            await self._app(scope, receive, naming)
        finally:
            if self._context.settings.access_log:
                _log(scope, status, time.monotonic() - began_at)


def _log(scope: Scope, status: int, seconds: float) -> None:
    # Without the query: it may hold a person's search text.
    peer = scope["client"][0] if scope.get("client") else None
    path, took = scope["path"], round(seconds, 6)
    _logger.info("answered", method=scope["method"], path=path, status=status, seconds=took, peer=peer)
