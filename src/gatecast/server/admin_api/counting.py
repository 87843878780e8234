"""Counts answers for the metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatecast.telemetry import metrics

#: Stands for unknown routes and methods: a client could name as many as it likes.
_OTHER = "other"

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class ShortWay:
    """Stands for the route of a request that is answered before the routes are reached: `scope["route"]`."""

    #: The route's path.
    path: str


class CountAnswers:
    """Counts each answer by its route, and notes how long it took until it began."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and count."""
        begun_at = time.monotonic()

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                method = scope["method"] if scope["method"] in _METHODS else _OTHER
                metrics.answered(method, _route(scope), message["status"], time.monotonic() - begun_at)
            await send(message)

        await self._app(scope, receive, counting)


def _route(scope: Scope) -> str:
    """The path with its parameters' names in place of their values."""
    return str(getattr(scope.get("route"), "path", _OTHER)) or _OTHER
