"""Puts the admin API together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatecast.controlplane.catalog.artifact_kinds import ARTIFACT_KINDS
from gatecast.server.admin_api import (
    api_keys,
    artifacts,
    audit,
    batches,
    bulk,
    event_hops,
    events,
    fleet_history,
    fleet_routes,
    gateways,
    lists,
    operations,
    parking,
    stream,
    templates,
)
from gatecast.server.admin_api.auditing import NoteAnswers
from gatecast.server.admin_api.context import AdminContext, context_of
from gatecast.server.admin_api.counting import CountAnswers
from gatecast.server.admin_api.health_shortcut import HealthShortcut
from gatecast.server.admin_api.http_methods import HeadAsGet
from gatecast.server.admin_api.models import Problem
from gatecast.server.admin_api.problems import BodyTooLarge, answer_errors, documented_problems
from gatecast.server.admin_api.publish_shortcut import PublishShortcut
from gatecast.server.admin_api.request_lines import RequestLines
from gatecast.server.admission import is_trusted
from gatecast.version import __version__

#: Largest body of a request, in bytes: an event of 1 MiB and the fields around it.
MAX_BODY_BYTES = 2 * 1024 * 1024

#: Largest body that holds an artifact: the description of an API may have 8 MiB without blanks, and people indent
#: theirs.
MAX_ARTIFACT_BODY_BYTES = 16 * 1024 * 1024

_ARTIFACTS = re.compile(
    f"/api/v1/(?:{'|'.join(artifact_kind.collection for artifact_kind in ARTIFACT_KINDS)})(?:/[^/]+)?"
)


class _AdminApp(FastAPI):
    """An application with a front: what each request passes first, before FastAPI spends time on it."""

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        scope["app"] = self
        await self.front(scope, receive, send)

    async def routed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as FastAPI does: through every layer, by the route."""
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The documentation; the first call in a process takes a second."""
        return _documentation()


@cache
def _documentation() -> dict[str, Any]:
    """The OpenAPI document of all routes; every problem has the same shape."""
    document = get_openapi(
        title="Gatecast",
        version=__version__,
        summary="Durable, ordered, confirmed delivery of configuration changes to gateways.",
        routes=_routes(),
    )
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    document["components"]["schemas"] |= problem.pop("$defs") | {"Problem": problem}
    return document


#: Our verbs, and the usual ones of generated clients.
_VERBS = {"show": "get", "read": "get", "change": "update", "explain": "explain", "note": "mark"}


def operation_id(route: APIRoute) -> str:
    """The name of an operation in generated clients: `show_gateway` is `getGateway`."""
    verb, *others = route.name.split("_")
    return _VERBS.get(verb, verb) + "".join(word.capitalize() for word in others)


def create_admin_app(context: AdminContext) -> FastAPI:
    """The application that the API listener serves."""
    # The documentation has a route of our own, and the console a page for it whose scripts come from this server.
    app = _AdminApp(openapi_url=None, docs_url=None, redoc_url=None, routes=[*_routes()])
    app.state.context = context
    answer_errors(app)
    app.add_middleware(_BoundedBodies)
    app.add_middleware(NoteAnswers)
    app.add_middleware(_ForwardedScheme)
    shortcuts = HealthShortcut(PublishShortcut(app.routed, context=context, most_bytes=MAX_BODY_BYTES))
    # Counted here, so that nothing is left out: neither a short way, nor an answer 500, which no layer of FastAPI sees.
    app.front = RequestLines(HeadAsGet(CountAnswers(shortcuts)), context=context)
    return app


@cache
def _routes() -> Sequence[BaseRoute]:
    """Every route, built once in a process: that takes far longer than all else that an application needs."""
    app = FastAPI(openapi_url=None, generate_unique_id_function=operation_id)
    routers = [
        gateways.router,
        parking.router,
        # Before the events of a log: `search` is no offset.
        lists.router,
        events.router,
        batches.router,
        event_hops.router,
        stream.router,
        templates.router,
        audit.router,
        fleet_routes.router,
        fleet_history.router,
        bulk.router,
        *artifacts.ROUTERS,
        *api_keys.ROUTERS,
    ]
    for router in routers:
        app.include_router(router, responses=documented_problems())
    app.include_router(operations.router)
    return app.routes


async def build_routes(app: FastAPI) -> None:
    """Make the first requests as fast as those that follow.

    FastAPI builds a router's routes when a request first reaches it, which would hold up every gateway of the pod by
    tenths of a second. A request that no route serves reaches all routers.
    """
    scope = {"type": "http", "method": "GET", "path": "/-", "root_path": "", "headers": [], "query_string": b""}
    await app.router(scope, _nothing, _ignored)


async def _nothing() -> Message:
    return {"type": "http.request"}


async def _ignored(message: Message) -> None:
    """Nobody asked."""


class _BoundedBodies:
    """Stops reading a body at the limit, whatever its headers say."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = 0
        limit = MAX_ARTIFACT_BODY_BYTES if _ARTIFACTS.fullmatch(scope.get("path", "")) else MAX_BODY_BYTES

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limit:
                raise BodyTooLarge(limit)
            return message

        await self._app(scope, bounded, send)


class _ForwardedScheme:
    """Takes the scheme that the client used from a trusted proxy, so that redirects lead back there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        # With several proxies they may form a list, to which each adds; the last entry is our own proxy's.
        said = ",".join(request.headers.getlist("X-Forwarded-Proto")).rpartition(",")[2].strip().lower()
        peer = request.client.host if request.client else ""
        if said in ("http", "https") and is_trusted(peer, context_of(request).settings.trusted_proxies):
            # In place: the metrics middleware finds the route in the same scope.
            scope["scheme"] = said
        await self._app(scope, receive, send)
