"""Puts the console together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from fastapi import FastAPI
from starlette.routing import BaseRoute
from starlette.staticfiles import StaticFiles

from gatecast.server.console import login, oidc_login
from gatecast.server.console.pages import (
    artifacts,
    audit,
    event_search,
    gateway,
    gateways,
    installation,
    overview,
    provider_form,
    rollouts,
    tail,
    templates,
)
from gatecast.server.console.rendering import static_folder


def add_console(app: FastAPI) -> None:
    """Serve the console's pages beside the admin API."""
    app.router.routes.extend(_routes())
    app.mount("/static", StaticFiles(directory=static_folder()), name="static")


@cache
def _routes() -> Sequence[BaseRoute]:
    """Every page, built once in a process."""
    app = FastAPI(openapi_url=None)
    routers = [
        login.router,
        oidc_login.router,
        overview.router,
        gateways.router,
        gateway.router,
        # Before the artifacts: `new` is no id.
        provider_form.router,
        *artifacts.ROUTERS,
        rollouts.router,
        tail.router,
        event_search.router,
        templates.router,
        audit.router,
        installation.router,
    ]
    for router in routers:
        app.include_router(router)
    return app.routes
