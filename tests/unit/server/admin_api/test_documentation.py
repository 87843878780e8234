"""What the admin API says of itself: OpenAPI."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
from fastapi.routing import APIRoute
from openapi_spec_validator import validate

from gatecast import errors
from gatecast.controlplane.deployments.api_keys import NAME_PATTERN
from gatecast.controlplane.documents import MODELS, Kind, LlmProviderTemplate
from gatecast.controlplane.documents.handles import HANDLE_PATTERN
from gatecast.server.admin_api import AdminContext, create_admin_app
from gatecast.server.admin_api.examples import ARTIFACT_PATCH, ARTIFACTS, TEMPLATE
from gatecast.server.admin_api.merge_patch import merged
from gatecast.server.error_replies import ERROR_REPLIES, INTERNAL, MEDIA_TYPE

pytestmark = pytest.mark.slow

_APP = create_admin_app(cast("AdminContext", None))

#: Raised where there is no request, or by clients.
_NEVER_ANSWERED = {
    errors.GatecastError,
    errors.ControlPlaneError,
    errors.PositionLost,
    errors.SubscriptionClosed,
    errors.SettingInvalid,
    errors.ProtocolViolation,
    errors.ServerUnavailable,
    errors.EventUndeliverable,
    errors.InvariantBroken,
    # Pods store in the log itself, not in an outbox.
    errors.PositionPending,
    errors.EventNotForwarded,
}


def _document() -> dict[str, Any]:
    """What the API says of itself; it takes a second, so nobody asks who only collects tests."""
    return _APP.openapi()


def _operations(prefix: str = "/") -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in _document()["paths"].items():
        if path.startswith(prefix):
            for method, operation in operations.items():
                yield method, path, operation


def _flat(routes: list[Any]) -> Iterator[Any]:
    """Some releases of FastAPI keep the routes of an included router below it."""
    for route in routes:
        below = getattr(route, "original_router", None)
        if below is None:
            yield route
        else:
            yield from _flat(below.routes)


#: Method and path of each.
_ROUTES = [
    (method.lower(), route.path)
    for route in _flat(_APP.routes)
    if isinstance(route, APIRoute) and route.include_in_schema
    for method in sorted(route.methods or ())
]

_each_of_the_api = pytest.mark.parametrize(
    ("method", "path"), [(method, path) for method, path in _ROUTES if path.startswith("/api/")]
)


def _problems(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every example of a problem."""
    for status, reply in operation["responses"].items():
        if int(status) >= 400:
            for example in reply["content"][MEDIA_TYPE]["examples"].values():
                yield example["value"]


def test_the_document_is_valid() -> None:
    validate(cast("Any", _document()))


def test_every_route_is_documented() -> None:
    """With what it does, but for the document itself; and nothing is there that is not a route."""
    assert sorted((method, path) for method, path, _ in _operations()) == sorted(_ROUTES)
    assert len(_ROUTES) >= 16
    assert all(operation["description"] for _, _, operation in _operations())


@_each_of_the_api
def test_every_problem_is_documented_at_every_route_of_the_api(method: str, path: str) -> None:
    """Each row of the table of errors, under its status and in the one shape."""
    operation = _document()["paths"][path][method]
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


@_each_of_the_api
def test_every_route_of_the_api_wants_a_token(method: str, path: str) -> None:
    assert _document()["paths"][path][method]["security"] == [{"HTTPBearer": []}]


def _bodies() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each request that has a body: its name, the body's schema, and the examples that stand beside it."""
    schemas = _document()["components"]["schemas"]
    for method, path, operation in _operations():
        if "requestBody" in operation:
            described = operation["requestBody"]["content"]["application/json"]
            schema = described["schema"]
            schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
            yield f"{method} {path}", schema, described.get("examples", {})


def test_requests_have_examples() -> None:
    """A whole one, or one of each field that is needed; where none is needed, of some field."""
    for body, schema, examples in _bodies():
        fields = schema["properties"]
        if examples:
            assert all(set(each["value"]) <= set(fields) for each in examples.values()), body
            continue
        assert any(each.get("examples") for each in fields.values()), body
        for name in schema.get("required", []):
            assert fields[name].get("examples") or "$ref" in fields[name], (body, name)


def test_a_body_says_which_fields_it_may_have() -> None:
    """Those of a merge patch at every depth, and none of them is required; null removes."""
    for name, schema, _ in _bodies():
        assert schema["additionalProperties"] is False, name
    patch = _document()["paths"]["/api/v1/llm-providers/{artifact_id}"]["patch"]["requestBody"]
    schema = patch["content"]["application/json"]["schema"]
    assert "required" not in schema
    upstream, null = schema["properties"]["upstream"]["anyOf"]
    assert null == {"type": "null"}
    assert "required" not in upstream
    assert upstream["properties"]["url"]["anyOf"][0]["format"] == "uri"
    assert "$ref" not in str(schema)


@pytest.mark.parametrize("kind", MODELS)
def test_the_examples_of_artifacts_are_accepted(kind: Kind) -> None:
    document = {name: value for name, value in ARTIFACTS[kind].items() if name != "gateways"}
    MODELS[kind].model_validate(document)
    MODELS[kind].model_validate(merged(document, {"labels": ARTIFACT_PATCH["labels"]}))


def test_the_example_of_a_template_is_accepted() -> None:
    LlmProviderTemplate.model_validate(TEMPLATE)


def test_patterns_and_lengths_are_in_the_document() -> None:
    """Names of keys, handles and URLs: what the code checks by itself, the document says."""
    schemas = _document()["components"]["schemas"]
    key = schemas["NewApiKey"]["properties"]["name"]
    assert (key["minLength"], key["maxLength"], key["pattern"]) == (3, 63, NAME_PATTERN)
    handle = schemas["LlmProviderTemplate"]["properties"]["handle"]
    assert (handle["maxLength"], handle["pattern"]) == (253, HANDLE_PATTERN)
    assert schemas["NewRestApi"]["properties"]["handle"]["anyOf"][0]["pattern"] == HANDLE_PATTERN
    url = schemas["LlmUpstream"]["properties"]["url"]["anyOf"][0]
    assert re.search(url["pattern"], "https://host.example:8080/path?query=1")
    assert not re.search(url["pattern"], "https://user@host.example")


def test_what_is_bounded_says_so() -> None:
    """Every text and number of a path or query has a limit."""
    for _, path, operation in _operations("/api/"):
        for parameter in operation.get("parameters", []):
            schema = parameter["schema"]
            assert _is_bounded(schema), f"{path}: {parameter['name']}"


def _is_bounded(schema: dict[str, Any]) -> bool:
    if "anyOf" in schema:
        return all(_is_bounded(each) for each in schema["anyOf"])
    if "$ref" in schema or schema.get("type") in ("null", "boolean") or "enum" in schema:
        return True
    if schema.get("type") == "array":
        return "maxItems" in schema and _is_bounded(schema["items"])
    # An instant is bounded by its format.
    return "maxLength" in schema or "maximum" in schema or schema.get("format") == "date-time"
