"""No request for the admin API or the console waits for a thread: FastAPI gives one to whatever is no coroutine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from inspect import isasyncgenfunction, iscoroutinefunction, isroutine
from typing import Any, cast

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from gatecast.server.admin_api import AdminContext
from gatecast.server.pod import api_app


@cache
def _app() -> FastAPI:
    return api_app(cast("AdminContext", None))


def _flat(routes: list[Any]) -> Iterator[APIRoute]:
    """Also those of applications that are mounted, and of routers that some releases of FastAPI keep."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        else:
            yield from _flat(getattr(getattr(route, "original_router", route), "routes", None) or [])


def _called(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    """Whatever FastAPI calls before the route, and the route itself."""
    if dependant.call is not None:
        yield dependant.call
    for each in dependant.dependencies:
        yield from _called(each)


def _waits_in_the_loop(called: Callable[..., Any]) -> bool:
    function = called if isroutine(called) else type(called).__call__
    return iscoroutinefunction(function) or isasyncgenfunction(function)


def test_no_route_and_nothing_that_it_depends_on_needs_a_thread() -> None:
    routes = [*_flat(_app().routes)]
    assert {"/api/v1/gateways", "/gateways"} <= {route.path for route in routes}
    assert {each for route in routes for each in _called(route.dependant) if not _waits_in_the_loop(each)} == set()


def test_no_mistake_is_answered_in_a_thread() -> None:
    assert {each for each in _app().exception_handlers.values() if not _waits_in_the_loop(each)} == set()
