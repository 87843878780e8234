"""What the admin API says of itself: OpenAPI."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, cast

import pytest
from fastapi.routing import APIRoute
from openapi_spec_validator import validate

from gatecast import errors
from gatecast.server.admin_api import AdminContext, create_admin_app
from gatecast.server.error_replies import ERROR_REPLIES, INTERNAL, MEDIA_TYPE

_APP = create_admin_app(cast("AdminContext", None))
_DOCUMENT: dict[str, Any] = _APP.openapi()

#: Raised where there is no request, or by clients.
_NEVER_ANSWERED = {
    errors.GatecastError,
    errors.ControlPlaneError,
    errors.PositionLost,
    errors.SubscriptionClosed,
    errors.SettingInvalid,
    errors.ProtocolViolation,
    errors.ServerUnavailable,
}


def _operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in _DOCUMENT["paths"].items():
        for method, operation in operations.items():
            yield method, path, operation


_OPERATIONS = list(_operations())
_OF_THE_API = [each for each in _OPERATIONS if each[1].startswith("/api/")]


def _problems(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every example of a problem."""
    for status, reply in operation["responses"].items():
        if int(status) >= 400:
            for example in reply["content"][MEDIA_TYPE]["examples"].values():
                yield example["value"]


def test_the_document_is_valid() -> None:
    validate(cast("Any", _DOCUMENT))


def test_every_route_is_documented() -> None:
    """With what it does, and nothing is there that is not a route."""
    routes = {
        (method.lower(), route.path)
        for route in _flat(_APP.routes)
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    assert {(method, path) for method, path, _ in _OPERATIONS} == routes
    assert len(routes) >= 16
    assert all(operation["description"] for _, _, operation in _OPERATIONS)


def _flat(routes: list[Any]) -> Iterator[Any]:
    """Some releases of FastAPI keep the routes of an included router below it."""
    for route in routes:
        below = getattr(route, "original_router", None)
        if below is None:
            yield route
        else:
            yield from _flat(below.routes)


@pytest.mark.parametrize("operation", [operation for _, _, operation in _OF_THE_API])
def test_every_problem_is_documented_at_every_route_of_the_api(operation: dict[str, Any]) -> None:
    """Each row of the table of errors, under its status and in the one shape."""
    kinds = {(problem["status"], problem["type"]) for problem in _problems(operation)}
    for reply in [*ERROR_REPLIES.values(), INTERNAL]:
        assert (reply.status, f"urn:gatecast:problem:{reply.kind}") in kinds
    for status, reply in operation["responses"].items():
        if int(status) >= 400:
            assert list(reply["content"]) == [MEDIA_TYPE]
            assert reply["content"][MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_every_error_has_a_row_or_is_never_an_answer() -> None:
    classes = {
        each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.GatecastError)
    }
    without = {each for each in classes if not any(issubclass(each, row) for row in ERROR_REPLIES)}
    assert without == _NEVER_ANSWERED


def test_special_errors_stand_before_general_ones() -> None:
    """The first row that fits is taken."""
    rows = list(ERROR_REPLIES)
    for number, row in enumerate(rows):
        assert not any(issubclass(later, row) for later in rows[number + 1 :])


@pytest.mark.parametrize("operation", [operation for _, _, operation in _OF_THE_API])
def test_every_route_of_the_api_wants_a_token(operation: dict[str, Any]) -> None:
    assert operation["security"] == [{"HTTPBearer": []}]


def test_requests_have_examples() -> None:
    schemas = _DOCUMENT["components"]["schemas"]
    for name in ("NewGateway", "NewEvent"):
        for field in schemas[name]["required"]:
            described = schemas[name]["properties"][field]
            assert described.get("examples") or "$ref" in described, f"{name}.{field}"


def test_what_is_bounded_says_so() -> None:
    """Every text and number of a path or query has a limit."""
    for _, path, operation in _OF_THE_API:
        for parameter in operation.get("parameters", []):
            schema = parameter["schema"]
            assert _is_bounded(schema), f"{path}: {parameter['name']}"


def _is_bounded(schema: dict[str, Any]) -> bool:
    if "anyOf" in schema:
        return all(_is_bounded(each) for each in schema["anyOf"])
    if "$ref" in schema or schema.get("type") == "null" or "enum" in schema:
        return True
    return "maxLength" in schema or "maximum" in schema
