"""HTTP's rules for every resource: HEAD wherever there is GET, and a 405 that names every allowed method."""

from __future__ import annotations

from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class HeadAsGet:
    """Answers HEAD with the head of GET's answer; an endless answer ends there, too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope.get("method") != "HEAD":
            await self._app(scope, receive, send)
            return

        async def head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body"})

        await self._app({**scope, "method": "GET"}, receive, head)


def allowed_methods(request: Request) -> str:
    """The methods that some route has for this path, as the header Allow lists them."""
    routes: list[BaseRoute] = request.app.router.routes
    return ", ".join(method for method in _METHODS if _is_served(routes, {**request.scope, "method": method}))


def _is_served(routes: list[BaseRoute], scope: Scope) -> bool:
    if scope["method"] == "HEAD":
        scope = {**scope, "method": "GET"}
    return any(route.matches(scope)[0] is Match.FULL for route in routes)
