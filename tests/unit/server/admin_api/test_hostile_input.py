"""Whatever is sent to the admin API, it answers as its documentation says, and never with a mistake of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeAlias, cast
from uuid import uuid4

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gatecast.controlplane.catalog.artifact_kinds import ARTIFACT_KINDS, LLM_PROVIDER, LLM_PROXY, REST_API, ArtifactKind
from gatecast.events import Position
from gatecast.server.admin_api import AdminContext, create_admin_app
from gatecast.server.admin_api.examples import ARTIFACTS, TEMPLATE
from gatecast.storage.contract import Connection, Outcome, OutcomeKind

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]

#: Never ends.
_ENDLESS = "/api/v1/events/stream"

_Case: TypeAlias = schemathesis.Case[Any]

_CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)

#: A token of an organization may be missing here.
_OPEN = ("/healthz", "/readyz", "/metrics")

#: What stands for an id of something that exists, by the name of the field in a body.
_REFERENCES = {"gateways", "undeploy", "gatewayId", "entityId", "entityType"}

_generated = settings(
    max_examples=4,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def _document() -> dict[str, Any]:
    """What the API says of itself; it takes a second, so nobody asks who only collects tests."""
    return create_admin_app(cast("AdminContext", None)).openapi()


def _schema(reference: str) -> dict[str, Any]:
    found: dict[str, Any] = _document()["components"]["schemas"][reference.rpartition("/")[2]]
    return found


@cache
def _operations() -> list[Any]:
    every = (each.ok() for each in cast("Any", schemathesis.openapi.from_dict(_document()).get_all_operations()))
    return [each for each in every if each.path != _ENDLESS]


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """Keeps one event loop from request to request."""
    with asyncio.Runner() as opened:
        yield opened


# --- what exists --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Things:
    """A gateway of one operation's own, and one of everything on it."""

    #: By the name of the parameter in a path.
    parameters: dict[str, str]
    #: By the name of the field in a body.
    references: dict[str, Any]
    provider_id: str

    def in_body(self, body: Any) -> Any:  # noqa: ANN401 - JSON
        """The body with ids of what exists where ids belong."""
        if not isinstance(body, dict):
            return body
        known = {name: self.references[name] for name in _REFERENCES & body.keys()}
        if isinstance(body.get("provider"), dict):
            known["provider"] = {**body["provider"], "id": self.provider_id}
        if isinstance(body.get("template"), str):
            known["template"] = "openai"
        if isinstance(body.get("events"), list):
            known["events"] = [self.in_body(each) for each in body["events"]]
        return {**body, **known}


class _World:
    """Makes what operations are about, one of each for every operation, and anew when one has destroyed it."""

    def __init__(self, client: httpx.AsyncClient, context: AdminContext) -> None:
        self._client = client
        self._context = context
        self._number = 0

    async def things(self, path: str) -> _Things:
        """What an operation with this path needs."""
        self._number += 1
        gateway = (await self._made("gateways", {"name": f"edge {self._number}"}))["id"]
        token = (await self._made(f"gateways/{gateway}/tokens", {}))["id"]
        artifact_kind = next((each for each in ARTIFACT_KINDS if f"/{each.collection}" in path), REST_API)
        provider_id = ""
        if artifact_kind is LLM_PROXY:
            provider_id = (await self._made("llm-providers", self.example(LLM_PROVIDER, gateway)))["id"]
        artifact = await self._made(artifact_kind.collection, self.example(artifact_kind, gateway, provider_id))
        await self._made(f"{artifact_kind.collection}/{artifact['id']}/api-keys", {"name": "first-key"})
        handle = (await self._made("llm-provider-templates", {**TEMPLATE, "handle": f"template-{self._number}"}))[
            "handle"
        ]
        offset = await self._park(gateway)
        connection = await self._connect(gateway)
        return _Things(
            parameters={
                "gateway_id": gateway,
                "offset": str(offset),
                "connection_id": connection,
                "token_id": token,
                "artifact_id": artifact["id"],
                "deployment_id": artifact["deployments"][0]["id"],
                "name": "first-key",
                "handle": handle,
            },
            references={
                "gateways": [gateway],
                "undeploy": [gateway],
                "gatewayId": gateway,
                "entityType": "api",
                "entityId": "parked",
            },
            provider_id=provider_id,
        )

    def example(self, artifact_kind: ArtifactKind, gateway: str, provider_id: str = "") -> dict[str, Any]:
        """The documented artifact of one kind, under a name of its own."""
        example = {**ARTIFACTS[artifact_kind.kind], "name": f"Example {self._number}", "gateways": [gateway]}
        return {**example, "provider": {"id": provider_id}} if provider_id else example

    async def _made(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._client.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def _park(self, gateway: str) -> int:
        event = {"type": "api.changed", "action": "UPDATE", "entityType": "api", "entityId": "parked"}
        offset: int = (await self._made(f"gateways/{gateway}/events", event))["offset"]
        parked = Outcome(gateway_id=gateway, replica="", offset=offset, kind=OutcomeKind.PARKED, reason="no")
        await self._context.hub.storage.outcomes.record([parked])
        return offset

    async def _connect(self, gateway: str) -> str:
        presence = self._context.hub.storage.presence
        await presence.renew_lease("pod-1", timedelta(hours=1))
        epoch = (await presence.standing(gateway, "")).epoch
        connection = Connection(
            connection_id=str(uuid4()),
            gateway_id=gateway,
            replica="",
            pod_id="pod-1",
            protocol="gateway.v1",
            remote="",
            token_id=None,
        )
        await presence.connect(connection, start=Position(epoch, 0))
        return connection.connection_id


def _documented_body(operation: Any, things: _Things, number: int) -> Any:  # noqa: ANN401 - schemathesis, and JSON
    """The example of the documentation with ids of what exists; None: there is no body."""
    described = operation.definition.raw.get("requestBody", {}).get("content", {}).get("application/json")
    if described is None:
        return None
    if "examples" in described:
        [example] = described["examples"].values()
        body = things.in_body(example["value"])
    else:
        schema = _schema(described["schema"]["$ref"])
        body = things.in_body(dict(_examples_of(schema)))
    if "handle" in body and "{handle}" in operation.path:
        body["handle"] = things.parameters["handle"]
    if "name" in body and "api-keys" not in operation.path:
        body["name"] = f"Documented {number}"
    if "expected" in body:
        # How many there are changes with every operation; none is called this.
        body |= {"search": "no gateway has this name", "expected": 0}
    if "context" in body:
        # What is there already has that of the example.
        body["context"] = f"/documented-{number}"
    return body


def _examples_of(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The first example of each field; of one with a few values, the first value where the field is needed."""
    for name, field in schema["properties"].items():
        if "examples" in field:
            yield name, field["examples"][0]
        elif name in schema.get("required", []):
            yield name, _schema(field["$ref"])["enum"][0]


# --- requests ---------------------------------------------------------------------------------------------------------


async def _send(client: httpx.AsyncClient, case: _Case) -> int:
    """The status of the answer, which is as the documentation says."""
    if case.query and not case.query.keys().isdisjoint(("wait", "timeout")):
        # Nobody answers: a request that asks to wait and says nothing else waits for ten seconds.
        case.query["timeout"] = 0
    sent = case.as_transport_kwargs(base_url="http://pod")
    sent = {name: sent[name] for name in ("method", "url", "params", "json", "data", "headers") if name in sent}
    # The test chooses the caller, not the generator.
    headers = {name: value for name, value in (sent.get("headers") or {}).items() if name.lower() != "authorization"}
    sent["headers"] = {**headers, **client.headers}
    if isinstance(sent.get("data"), bytes | str):
        sent["content"] = sent.pop("data")
    answer = await client.request(**sent)
    case.validate_response(schemathesis.Response.from_httpx(answer, verify=False), checks=list(_CHECKS))
    return answer.status_code


def _documented_case(operation: Any, things: _Things, number: int) -> _Case:  # noqa: ANN401 - schemathesis
    body = _documented_body(operation, things, number)
    sent = {} if body is None else {"body": body, "media_type": "application/json"}
    query = {"gateway": things.parameters["gateway_id"]} if operation.path == "/api/v1/policies" else {}
    case: _Case = operation.Case(path_parameters=_parameters(operation.path, things), query=query, **sent)
    return case


def _parameters(path: str, things: _Things) -> dict[str, str]:
    return {name: value for name, value in things.parameters.items() if f"{{{name}}}" in path}


def test_every_answer_is_as_documented(open_api: OpenApi, runner: asyncio.Runner) -> None:
    """Every route does what its example asks for, and answers whatever is sent, with ids that exist and with others."""
    opening = open_api()
    client, context = runner.run(opening.__aenter__())
    try:
        world = _World(client, context)
        for number, operation in enumerate(_operations()):
            things = runner.run(world.things(operation.path))
            status = runner.run(_send(client, _documented_case(operation, things, number)))
            assert 200 <= status < 300, f"{operation.label}: {status}"
            _explore(runner, client, world, operation, None if operation.method.upper() == "DELETE" else things)
    finally:
        runner.run(opening.__aexit__(None, None, None))


def _explore(
    runner: asyncio.Runner,
    client: httpx.AsyncClient,
    world: _World,
    operation: Any,  # noqa: ANN401 - schemathesis
    things: _Things | None,
) -> None:
    for case, parameters, body, real in _drawn(operation.label):
        # On another database it was sent with the ids of there.
        case.path_parameters, case.body = parameters, body
        if real:
            # Made anew once it is gone, so that one answer does not decide about all that follow.
            things = things or runner.run(world.things(operation.path))
            case.path_parameters = {**parameters, **_parameters(operation.path, things)}
            case.body = things.in_body(body)
        status = runner.run(_send(client, case))
        if real and case.method == "DELETE" and status < 300:
            things = None


@cache
def _drawn(label: str) -> list[tuple[_Case, dict[str, Any], Any, bool]]:
    """Each request to an operation, its parameters and body as drawn, and whether ids that exist belong there.

    It is the same on every database, and drawing it takes longer than sending it.
    """
    [operation] = [each for each in _operations() if each.label == label]
    drawn: list[tuple[_Case, dict[str, Any], Any, bool]] = []

    @_generated
    @given(case=operation.as_strategy(), real=st.booleans())
    def draw(case: _Case, *, real: bool) -> None:
        drawn.append((case, case.path_parameters, case.body, real))

    draw()
    return drawn


def test_whoever_has_no_token_is_told_nothing(open_api: OpenApi, runner: asyncio.Runner) -> None:
    """On no route but those for the pod's operator, whatever is sent."""
    opening = open_api()
    client, context = runner.run(opening.__aenter__())
    try:
        things = runner.run(_World(client, context).things(""))
        client.headers.pop("Authorization")
        for number, operation in enumerate(_operations()):
            status = runner.run(_send(client, _documented_case(operation, things, number)))
            assert status == (200 if operation.path in _OPEN else 401), operation.label
    finally:
        runner.run(opening.__aexit__(None, None, None))
