"""While two releases run, the newer stores what the older does not know: that concerns its own row alone."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from gatecast.controlplane.access.token_hashing import digest_of
from gatecast.controlplane.catalog.artifact_store import document_place
from gatecast.controlplane.encryption import Encryption
from gatecast.errors import StoredByNewerRelease
from gatecast.events import Action, Event
from gatecast.server.admin_api import AdminContext
from gatecast.storage.contract import DisconnectReason, Outcome, OutcomeKind
from gatecast.storage.postgres import PostgresStorage

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_UPSTREAM = {"url": "https://llm.example.test"}


async def _provider(client: httpx.AsyncClient, name: str, gateway_id: str) -> str:
    body = {"name": name, "template": "openai", "context": f"/{name}", "upstream": _UPSTREAM, "gateways": [gateway_id]}
    made = await client.post("/api/v1/llm-providers", json=body)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def _run(context: AdminContext, statement: Any, *values: object) -> None:  # noqa: ANN401 - a literal elsewhere
    async with context.hub.storage.database.transaction() as transaction:
        await transaction.execute(statement, *values)


@pytest.mark.parametrize(
    ("statement", "hidden"),
    [
        ("UPDATE gatecast_artifacts SET kind = 'Grpc' WHERE id = $1", True),
        ("UPDATE gatecast_deployments SET state = 'PAUSED' WHERE artifact_id = $1", False),
        ("UPDATE gatecast_placements SET desired = 'PAUSED' WHERE artifact_id = $1", False),
        ("UPDATE gatecast_placements SET kind = 'Grpc' WHERE artifact_id = $1", False),
    ],
)
async def test_such_an_artifact_hides_no_other(
    open_api: OpenApi, new_gateway: NewGateway, statement: str, *, hidden: bool
) -> None:
    """Lists, pages of the gateway, and what the gateway itself asks for; changes of the other gateway go on."""
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        newer, known = [await _provider(client, name, gateway) for name in ("newer", "known")]
        await _run(context, statement, newer)
        for path in ("/llm-providers", "/artifacts", "/artifacts?sort=changed&limit=1", f"/llm-providers/{known}"):
            assert (await client.get(f"/api/v1{path}")).status_code == 200, path
        for path in ("/deployments", f"/gateways/{gateway}/deployments", f"/gateways/{gateway}/why"):
            answer = await client.get(f"/api/v1{path}")
            assert answer.status_code == 200, f"{path}: {answer.text}"
            assert known in answer.text or path.endswith("why"), path
        ids = {each["id"] for each in (await client.get("/api/v1/artifacts")).json()["items"]}
        assert ids == ({known} if hidden else {known, newer})
        files = context.control_plane.files
        listed = await files.deployments(gateway)
        assert {each.artifact_id for each in listed} >= {known}
        assert len(await files.contents(gateway, [each.deployment_id for each in listed])) >= 1
        changed = await client.patch(f"/api/v1/llm-providers/{known}", json={"description": "goes on"})
        assert changed.status_code == 200, changed.text
        await context.control_plane.desired_state.settle("default", gateway)
        other = await client.patch(f"/api/v1/llm-providers/{newer}", json={"description": "does not"})
        assert other.status_code in (200, 404, 503), other.text


async def test_such_a_document_hides_no_other(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """A field that this release does not know: the artifact itself says so, and pages go on after it."""
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        made = [await _provider(client, name, gateway) for name in ("first", "newer", "third")]
        encryption = context.control_plane.artifacts._store._encryption
        rows = await context.hub.storage.database.fetch(
            "SELECT content_id FROM gatecast_artifacts WHERE id = $1", made[1]
        )
        content_id = rows[0]["content_id"]
        text = json.dumps({"name": "newer", "template": "openai", "upstream": _UPSTREAM, "shadow": {"of": "tomorrow"}})
        sealed = encryption.encrypt(text, place=document_place(content_id))
        await _run(context, "UPDATE gatecast_contents SET document = $2 WHERE id = $1", content_id, sealed)
        page = (await client.get("/api/v1/llm-providers")).json()
        assert [each["id"] for each in page["items"]] == [made[0], made[2]]
        first = (await client.get("/api/v1/llm-providers?limit=2")).json()
        rest = (await client.get(f"/api/v1/llm-providers?limit=2&after={first['next']}")).json()
        assert [each["id"] for each in first["items"] + rest["items"]] == [made[0], made[2]]
        for answer in (
            await client.get(f"/api/v1/llm-providers/{made[1]}"),
            await client.put(f"/api/v1/llm-providers/{made[1]}", json={"name": "newer"}),
        ):
            assert answer.status_code in (422, 503)
        shown = await client.get(f"/api/v1/llm-providers/{made[1]}")
        assert (shown.status_code, shown.json()["type"]) == (503, "urn:gatecast:problem:newer-release")
        assert "update every pod" in shown.json()["detail"]


async def test_a_document_whose_key_is_gone_hides_no_other(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """It was sealed with a key that was taken away too early. Where nothing can be read, that is said."""
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        made = [await _provider(client, name, gateway) for name in ("first", "lost", "third")]
        content = "(SELECT content_id FROM gatecast_artifacts WHERE id = $1)"
        for number, artifact_id in enumerate((made[1], made[0], made[2])):
            sealed = Encryption([bytes(32)]).encrypt("{}", place="elsewhere")
            await _run(
                context,
                f"UPDATE gatecast_contents SET document = $2, content = $2 WHERE id = {content}",
                artifact_id,
                sealed,
            )
            page = await client.get("/api/v1/llm-providers")
            if number == 2:
                assert (page.status_code, page.json()["type"]) == (503, "urn:gatecast:problem:secret-key-missing")
                break
            assert [each["id"] for each in page.json()["items"]] == ([made[0], made[2]], [made[2]])[number]
            assert (await client.get(f"/api/v1/llm-providers/{artifact_id}")).status_code == 503
            files = context.control_plane.files
            listed = [each.deployment_id for each in await files.deployments(gateway)]
            contents = (await files.contents(gateway, listed)).values()
            assert {each.artifact_id for each in contents} == {each["id"] for each in page.json()["items"]}


async def test_such_a_role_is_shown_and_may_do_nothing_here(open_api: OpenApi) -> None:
    """A pod of the newer release lets it in; this one says to come back."""
    async with open_api() as (client, context):
        await _run(
            context,
            "UPDATE gatecast_admin_tokens SET role = 'auditor' WHERE digest = $1",
            digest_of("other-token"),
        )
        assert "auditor" in {each.role for each in await context.admin_tokens.all()}
        asked = await client.get("/api/v1/gateways", headers={"Authorization": "Bearer other-token"})
        assert (asked.status_code, asked.json()["type"]) == (503, "urn:gatecast:problem:newer-release")
        with pytest.raises(StoredByNewerRelease, match="auditor"):
            await context.admin_tokens.caller_with("other-token")
        assert (await client.get("/api/v1/gateways")).status_code == 200


async def test_such_an_outcome_and_such_a_disconnect_concern_their_own_row(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    """The outcome is shown as unknown; a connection that must end for an unknown reason ends, and may come back."""
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        event = Event(gateway_id=gateway, type="a.b", action=Action.UPDATE, entity_type="a", entity_id="1")
        await context.hub.publish([event, Event(**{**_fields(event), "entity_id": "2"})])
        outcomes = [
            Outcome(gateway_id=gateway, replica="", offset=offset, kind=OutcomeKind.REJECTED, reason="no")
            for offset in (1, 2)
        ]
        await context.hub.storage.outcomes.record(outcomes)
        table = "gatecast_"
        if isinstance(context.hub.storage, PostgresStorage):
            table = "gatecast."
            await _run(context, "ALTER TABLE gatecast.outcomes DROP CONSTRAINT outcomes_kind_check")
        else:
            await _run(context, "PRAGMA ignore_check_constraints = ON")
        await _run(context, f"UPDATE {table}outcomes SET kind = 'postponed' WHERE \"offset\" = 1")
        items = (await client.get(f"/api/v1/gateways/{gateway}/events")).json()["items"]
        assert [each["outcome"]["kind"] for each in items] == ["unknown", "rejected"]
        assert DisconnectReason.read("moved-to-mars") is DisconnectReason.RESTARTING


def _fields(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in ("gateway_id", "type", "action", "entity_type", "entity_id")}
