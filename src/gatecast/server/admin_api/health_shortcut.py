"""The short way of `/healthz`, which load balancers ask every few seconds: the route's answer, without its layers."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gatecast.server.admin_api.counting import ShortWay
from gatecast.server.admin_api.operations import is_alive

_ROUTE = ShortWay("/healthz")


class HealthShortcut:
    """Answers whether the process runs, and lets everything else pass."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass it on."""
        if scope["type"] != "http" or scope["path"] != _ROUTE.path or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        await JSONResponse(await is_alive())(scope, receive, send)
