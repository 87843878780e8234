"""Settings in force, the state of this pod, and the licences of files that the console serves."""

from __future__ import annotations

import json
from importlib import resources

from fastapi import APIRouter, Request, Response

from gatecast.server.admin_api.context import Context
from gatecast.server.admin_api.operations import describe_probe
from gatecast.server.console.rendering import page
from gatecast.server.console.routes import ConsoleRoute, Visitor
from gatecast.settings import Settings, descriptions, show

router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)


@router.get("/settings")
async def show_settings(request: Request, context: Context, visitor: Visitor) -> Response:
    """The settings and the state of this pod."""
    del visitor
    vendored = json.loads(resources.files("gatecast.server.console").joinpath("static/vendor/vendor.json").read_text())
    return page(
        request,
        "settings.html",
        pod_id=context.settings.pod_id,
        problems=await context.problems(),
        wakeup_problem=context.hub.wakeup_problem,
        probe=describe_probe(context.probe),
        settings=_shown(context.settings),
        vendored=vendored,
    )


@router.get("/docs")
async def show_documentation(request: Request) -> Response:
    """The API's documentation. It needs no session: it is the same for everybody, and holds nothing of anybody."""
    return page(request, "docs.html")


def _shown(settings: Settings) -> list[tuple[str, str, str]]:
    return [
        (each.variable, "hidden" if each.secret else show(getattr(settings, each.name)), each.meaning)
        for each in descriptions()
    ]
