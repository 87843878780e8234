"""`/api/v1/gateways`: gateways and their tokens."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gatecast.controlplane.access.admin_tokens import Caller, Role
from gatecast.controlplane.gateway_sync.synchronizations import Call
from gatecast.errors import Forbidden, IssuerUnavailable, StorageUnavailable
from gatecast.events import Position
from gatecast.server.admin_api import AdminContext
from gatecast.storage.contract import Connection, DisconnectReason, GatewayStatus, Outcome, OutcomeKind
from gatecast.storage.queries import Queries
from gatecast.testing.contracts.backend import make_event

QUERIES = Queries("gatecast.controlplane.transactions", "foreign_events.sql")

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_EVENT = {"type": "api.deployed", "action": "CREATE", "entityType": "Api", "entityId": "a-1", "data": {}}
_OTHER = {"Authorization": "Bearer other-token"}

#: Every way to name a gateway: method, path behind its id, body.
_WITH_A_GATEWAY: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("PATCH", "", {"vhost": "mine.example"}),
    ("DELETE", "", None),
    ("GET", "/why", None),
    ("POST", "/resynchronized", None),
    ("POST", "/tokens", None),
    ("GET", "/tokens", None),
    ("DELETE", "/tokens/some-token", None),
    ("POST", "/events", _EVENT),
    ("GET", "/events", None),
]


def _is_problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"urn:gatecast:problem:{kind}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


async def _connect(context: AdminContext, gateway_id: str, token_id: str | None = None) -> None:
    presence = context.hub.storage.presence
    await presence.renew_lease("pod-1", timedelta(hours=1))
    connection = Connection(
        connection_id="connection-1",
        gateway_id=gateway_id,
        replica="",
        pod_id="pod-1",
        protocol="gateway.v1",
        remote="127.0.0.1:5000",
        token_id=token_id,
    )
    await presence.connect(connection, start=Position((await presence.standing(gateway_id, "")).epoch, 0))


# --- gateways ---------------------------------------------------------------------------------------------------------


async def test_a_gateway_is_created_shown_changed_and_deleted(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        body = {
            "name": " edge-1 ",
            "displayName": "Edge",
            "vhost": "edge.example",
            "type": "ai",
            "properties": {"a": 1},
        }
        created = await client.post("/api/v1/gateways", json=body)
        assert created.status_code == 201
        assert created.headers["etag"] == '"1"'
        gateway = created.json()
        assert (gateway["name"], gateway["displayName"], gateway["type"]) == ("edge-1", "Edge", "ai")
        assert (gateway["connected"], gateway["connections"], gateway["lag"]) == (False, [], 0)
        position = gateway["position"]
        assert position == {"epoch": position["epoch"], "head": 0, "trimmed": 0, "sent": 0, "confirmed": 0}
        path = f"/api/v1/gateways/{gateway['id']}"
        assert (await client.get(path)).json() == gateway
        changed = await client.patch(path, json={"vhost": "new.example"}, headers={"If-Match": '"1"'})
        assert changed.headers["etag"] == '"2"'
        moved_on = {"etag": '"2"', "updatedAt": changed.json()["updatedAt"]}
        assert changed.json() == gateway | {"vhost": "new.example"} | moved_on
        assert (await client.delete(path)).status_code == 204
        _is_problem(await client.get(path), 404, "not-found")


async def test_lists_are_pages_in_the_order_of_names(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Each item shows its delivery, and none its manifest, which may be large."""
    async with open_api() as (client, context):
        ids = [await new_gateway(client, name) for name in ("gw-c", "gw-a", "gw-b")]
        await context.gateways.record_manifest(ids[0], {"version": "1.0"})
        first = (await client.get("/api/v1/gateways", params={"limit": 2})).json()
        second = (await client.get("/api/v1/gateways", params={"limit": 2, "after": first["next"]})).json()
        shown = (await client.get(f"/api/v1/gateways/{ids[0]}")).json()
    assert [item["name"] for item in first["items"] + second["items"]] == ["gw-a", "gw-b", "gw-c"]
    assert second["next"] is None
    assert "manifest" not in second["items"][0]
    assert shown["manifest"] == {"version": "1.0"}


@pytest.mark.parametrize("path", ["/api/v1/gateways", "/api/v1/gateways?connected=false"])
async def test_a_list_misses_no_event_that_is_forwarded_while_it_looks(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """It moves from the outbox to the log between two questions: a gateway behind is never shown as current."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        hub, in_outbox = context.hub, [make_event(gateway_id)]
        status = hub.status

        async def forwarded() -> None:
            if in_outbox:
                await hub.publish(in_outbox.pop())

        async def waiting_of(gateway_ids: Sequence[str]) -> dict[str, int]:
            waiting = dict.fromkeys(gateway_ids, len(in_outbox))
            await forwarded()
            return waiting

        async def status_of(gateway_ids: Sequence[str]) -> dict[str, GatewayStatus]:
            found = await status(gateway_ids)
            await forwarded()
            return found

        monkeypatch.setattr(hub, "unforwarded_of", waiting_of)
        monkeypatch.setattr(hub, "status", status_of)
        [shown] = (await client.get(path)).json()["items"]
        assert shown["lag"] > 0


async def test_a_connected_gateway_shows_its_connection_and_its_lag(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        await _connect(context, gateway_id)
        await client.post(f"/api/v1/gateways/{gateway_id}/events", json=_EVENT)
        gateway = (await client.get(f"/api/v1/gateways/{gateway_id}")).json()
    assert (gateway["connected"], gateway["lag"], gateway["position"]["head"]) == (True, 1, 1)
    [connection] = gateway["connections"]
    assert (connection["connectionId"], connection["podId"]) == ("connection-1", "pod-1")
    assert gateway["lagSeconds"] >= 0


async def test_a_taken_name_is_a_conflict_at_its_field(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        await new_gateway(client, "edge")
        other = await new_gateway(client, "other")
        created = await client.post("/api/v1/gateways", json={"name": "edge"})
        renamed = await client.patch(f"/api/v1/gateways/{other}", json={"name": "edge"})
    assert _is_problem(created, 409, "conflict")["field"] == "name"
    assert _is_problem(renamed, 409, "conflict")["field"] == "name"


async def test_a_stale_change_is_refused_with_what_is_current(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        path = f"/api/v1/gateways/{await new_gateway(client)}"
        await client.patch(path, json={"vhost": "one.example"})
        stale = await client.patch(path, json={"vhost": "two.example"}, headers={"If-Match": '"1"'})
        assert _is_problem(stale, 412, "stale-write")["current"] == '"2"'
        for match in ('"2"', "*"):
            assert (await client.patch(path, json={}, headers={"If-Match": match})).status_code == 200
        assert _is_problem(await client.delete(path, headers={"If-Match": '"1"'}), 412, "stale-write")
        [listed] = (await client.get("/api/v1/gateways")).json()["items"]
        assert (await client.get(path)).headers["etag"] == listed["etag"]
        nonsense = await client.patch(path, json={}, headers={"If-Match": "yesterday"})
        assert _is_problem(nonsense, 422, "invalid-value")["field"] == "If-Match"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "x"}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": 7}, "name"),
        ({"name": "nul\x00"}, "name"),
        ({"name": "\ud800\ud800"}, "name"),
        ({"name": "edge", "type": "strange"}, "type"),
        ({"name": "edge", "displayName": "x" * 513}, "displayName"),
        ({"name": "edge", "properties": []}, "properties"),
        ({"name": "edge", "properties": {"x": "y" * 20_000}}, "properties"),
        ({"name": "edge", "organization": "other"}, "organization"),
        ([], "body"),
    ],
)
async def test_a_body_that_breaks_a_rule_is_refused_at_its_field(open_api: OpenApi, body: object, field: str) -> None:
    async with open_api() as (client, _):
        # As text, because httpx cannot write half a character.
        content, headers = json.dumps(body), {"Content-Type": "application/json"}
        answer = await client.post("/api/v1/gateways", content=content, headers=headers)
        assert _is_problem(answer, 422, "invalid-value")["field"] == field
        assert (await client.get("/api/v1/gateways")).json()["items"] == []


async def test_null_is_no_way_to_remove_a_field(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        answer = await client.patch(f"/api/v1/gateways/{await new_gateway(client)}", json={"displayName": None})
    assert _is_problem(answer, 422, "invalid-value")["field"] == "displayName"


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", f"after={'x' * 121}"])
async def test_a_query_that_breaks_a_rule_is_refused(open_api: OpenApi, query: str) -> None:
    async with open_api() as (client, _):
        answer = await client.get(f"/api/v1/gateways?{query}")
    assert _is_problem(answer, 422, "invalid-value")["field"] == query.partition("=")[0]


@pytest.mark.parametrize("gateway_id", ["%00", "x" * 256, "%20", "a%0Ab"])
async def test_s17_an_id_that_can_be_nobodys_is_refused(open_api: OpenApi, gateway_id: str) -> None:
    async with open_api() as (client, _):
        answer = await client.get(f"/api/v1/gateways/{gateway_id}")
    _is_problem(answer, 422, "invalid-value")


# --- who may do what --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "rest", "body"), _WITH_A_GATEWAY)
async def test_s31_another_organizations_gateway_does_not_exist(
    open_api: OpenApi, new_gateway: NewGateway, *, method: str, rest: str, body: object
) -> None:
    """404 and never 403, which would tell that it exists; and nothing of it changes."""
    async with open_api() as (client, _):
        path = f"/api/v1/gateways/{await new_gateway(client)}"
        before = (await client.get(path)).json()
        mine = await client.request(method, path + rest, json=body, headers=_OTHER)
        nobodys = await client.request(method, f"/api/v1/gateways/{uuid4()}{rest}", json=body, headers=_OTHER)
        assert mine.status_code == nobodys.status_code == 404
        assert mine.json()["type"] == nobodys.json()["type"]
        assert (await client.get(path)).json() == before


async def test_s31_lists_and_names_of_organizations_are_apart(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """The same name may exist in both, and neither sees the other's."""
    async with open_api() as (client, _):
        ids = [await new_gateway(client), await new_gateway(client, headers=_OTHER)]
        lists = [(await client.get("/api/v1/gateways", headers=headers)).json()["items"] for headers in ({}, _OTHER)]
    assert [[item["id"] for item in items] for items in lists] == [[ids[0]], [ids[1]]]


async def test_s31_a_token_is_revoked_only_by_its_own_organization(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Also when the path names a gateway of the one who asks."""
    async with open_api() as (client, context):
        issued = await context.tokens.issue("default", await new_gateway(client))
        own = await new_gateway(client, headers=_OTHER)
        answer = await client.delete(f"/api/v1/gateways/{own}/tokens/{issued.id}", headers=_OTHER)
        _is_problem(answer, 404, "not-found")
        assert await context.tokens.authenticate(issued.token) is not None


@pytest.mark.parametrize(
    "authorization", [None, "Bearer wrong", "Bearer ", "Basic ZGVmYXVsdC10b2tlbg==", "Bearer \x80"]
)
@pytest.mark.parametrize("path", ["/api/v1/gateways", "/api/v1/events/stream", "/api/v1/gateways/x/events"])
async def test_without_a_valid_token_there_is_nothing_to_see(
    open_api: OpenApi, authorization: str | None, path: str
) -> None:
    async with open_api() as (client, _):
        client.headers.pop("Authorization")
        headers = {} if authorization is None else {b"Authorization": authorization.encode("latin-1")}
        answer = await client.get(path, headers=headers)
    _is_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


class _Unreachable:
    async def caller_with(self, token: str) -> Caller:
        raise StorageUnavailable(f"cannot reach db.internal with {token}")

    async def prepare(self, configured: str) -> None:
        """There is nothing to prepare."""


async def test_a_database_that_is_away_is_503_and_never_401(open_api: OpenApi) -> None:
    """And nobody is told what our network looks like."""
    async with open_api(admin_tokens=_Unreachable()) as (client, _):
        answer = await client.get("/api/v1/gateways")
    _is_problem(answer, 503, "database-unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert "internal" not in answer.text


class _FakeIssuer:
    """Stands for an OIDC issuer; a token is answered by its last part."""

    async def caller_with(self, token: str) -> Caller:
        answer = token.rpartition(".")[2]
        if answer == "nobody":
            raise Forbidden("the token names no organization")
        if answer == "away":
            raise IssuerUnavailable
        return Caller(organization=answer, role=Role.ADMIN, subject="somebody")


@pytest.mark.parametrize(("token", "status"), [("acme", 200), ("nobody", 403), ("away", 503)])
async def test_s31_a_jwt_names_the_organization(
    open_api: OpenApi, new_gateway: NewGateway, token: str, status: int
) -> None:
    """Beside admin tokens, which stay what they are; an issuer that is away is 503 and never 401."""
    headers = {"Authorization": f"Bearer eyJhbGciOi.claims.{token}"}
    async with open_api(oidc=_FakeIssuer()) as (client, context):
        await new_gateway(client)
        answer = await client.get("/api/v1/gateways", headers=headers)
        assert answer.status_code == status
        if status == 200:
            created = await new_gateway(client, headers=headers)
            assert (await context.gateways.get("acme", created)).organization == "acme"
            assert len((await client.get("/api/v1/gateways")).json()["items"]) == 1


async def test_without_an_issuer_a_jwt_is_nobodys(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        answer = await client.get("/api/v1/gateways", headers={"Authorization": "Bearer eyJhbGciOi.claims.acme"})
    _is_problem(answer, 401, "unauthenticated")


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_a_token_is_shown_once_and_rotated_with_a_second_one(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        path = f"/api/v1/gateways/{await new_gateway(client)}/tokens"
        first, second = [(await client.post(path)).json() for _ in range(2)]
        assert first["token"].startswith(first["prefix"])
        _is_problem(await client.post(path), 409, "limit-reached")
        assert (await client.delete(f"{path}/{first['id']}")).status_code == 204
        listed = await client.get(path)
        assert first["token"] not in listed.text
        items = {item["id"]: item for item in listed.json()["items"]}
        assert items[first["id"]]["revokedAt"] is not None
        assert items[second["id"]]["revokedAt"] is None
        _is_problem(await client.delete(f"{path}/no-such-token"), 404, "not-found")


async def test_s26_a_revoked_token_dismisses_its_connections(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        token_id = (await client.post(f"/api/v1/gateways/{gateway_id}/tokens")).json()["id"]
        await _connect(context, gateway_id, token_id)
        await client.delete(f"/api/v1/gateways/{gateway_id}/tokens/{token_id}")
        pending_disconnects = await context.hub.storage.presence.pending_disconnects("pod-1")
    assert pending_disconnects == {"connection-1": DisconnectReason.TOKEN_REVOKED}


async def test_s26_a_deleted_gateway_dismisses_its_connections(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        await _connect(context, gateway_id)
        await client.delete(f"/api/v1/gateways/{gateway_id}")
        pending_disconnects = await context.hub.storage.presence.pending_disconnects("pod-1")
    assert pending_disconnects == {"connection-1": DisconnectReason.GATEWAY_DELETED}


# --- why --------------------------------------------------------------------------------------------------------------


async def test_why_follows_a_gateway_from_current_to_rejected_and_back(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    """A rejection stands until a later event of the same entity."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        path = f"/api/v1/gateways/{gateway_id}"

        async def code() -> str:
            return str((await client.get(f"{path}/why")).json()["code"])

        async def publish(entity: str) -> None:
            await client.post(f"{path}/events", json=_EVENT | {"entityId": entity})

        await _everything_confirmed(context, gateway_id)
        assert await code() == "current"
        await publish("a-1")
        assert await code() == "pod-lagging"
        await publish("a-2")
        outcome = Outcome(
            gateway_id=gateway_id, replica="", offset=1, kind=OutcomeKind.REJECTED, reason="no such template"
        )
        await context.hub.storage.outcomes.record([outcome])
        await _everything_confirmed(context, gateway_id)
        why = (await client.get(f"{path}/why")).json()
        assert why["code"] == "rejected"
        assert "offset 1" in why["cause"]
        assert "no such template" in why["cause"]
        await publish("a-1")
        await _everything_confirmed(context, gateway_id)
        assert await code() == "current"


async def test_why_names_a_publisher_that_does_not_commit(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Nobody waits for it, and after the commit the event is what the gateway waits for."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        storage = context.hub.storage
        async with storage.database.transaction() as transaction:
            await storage.log.publish_in(transaction, [make_event(gateway_id)])
            why = (await client.get(f"/api/v1/gateways/{gateway_id}/why")).json()
            assert why["code"] == "publisher-uncommitted"
        assert (await client.get(f"/api/v1/gateways/{gateway_id}/why")).json()["code"] == "offline"


async def test_why_takes_no_publish_for_an_open_transaction(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that is held now and then is only written to."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        held = [True, True, False]

        async def is_held(_gateway_id: str) -> bool:
            return held.pop(0)

        monkeypatch.setattr(context.hub.storage.log, "is_held", is_held)
        assert (await client.get(f"/api/v1/gateways/{gateway_id}/why")).json()["code"] == "offline"
        assert held == []


async def test_why_names_a_rejection_before_an_open_transaction(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """The one waits for a decision, the other for a commit."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        storage = context.hub.storage
        await storage.log.publish([[make_event(gateway_id)]])
        rejection = Outcome(gateway_id=gateway_id, replica="", offset=1, kind=OutcomeKind.REJECTED, reason="no")
        await storage.outcomes.record([rejection])
        await _everything_confirmed(context, gateway_id)
        async with storage.database.transaction() as transaction:
            await storage.log.publish_in(transaction, [make_event(gateway_id)])
            assert (await client.get(f"/api/v1/gateways/{gateway_id}/why")).json()["code"] == "rejected"


async def _everything_confirmed(context: AdminContext, gateway_id: str) -> None:
    """As if it had connected behind the last event."""
    presence = context.hub.storage.presence
    standing = await presence.standing(gateway_id, "")
    connection = Connection(
        connection_id=str(uuid4()),
        gateway_id=gateway_id,
        replica="",
        pod_id="pod-1",
        protocol="gateway.v1",
        remote="",
        token_id=None,
    )
    await presence.renew_lease("pod-1", timedelta(hours=1))
    await presence.connect(connection, start=Position(standing.epoch, standing.head), newest_only=True)


def _connection(gateway_id: str) -> Connection:
    return Connection(
        connection_id="c",
        gateway_id=gateway_id,
        replica="",
        pod_id="pod-1",
        protocol="gateway.v1",
        remote="",
        token_id=None,
    )


async def test_a_gateway_that_cannot_say_so_is_called_resynchronized(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        presence = context.hub.storage.presence
        await presence.renew_lease("pod-1", timedelta(hours=1))
        epoch = (await presence.standing(gateway_id, "")).epoch
        await presence.connect(_connection(gateway_id), start=Position(epoch, 0), resync_reason="retention")
        path = f"/api/v1/gateways/{gateway_id}"
        assert (await client.get(f"{path}/why")).json()["code"] == "resync-needed"
        assert (await client.get(path)).json()["resyncReason"] == "retention"
        assert (await client.post(f"{path}/resynchronized")).status_code == 204
        assert (await client.get(f"{path}/why")).json()["code"] == "current"


async def test_lost_events_of_others_are_shown_until_somebody_says_that_they_came_again(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        await context.hub.append([make_event(gateway_id)])
        assert await context.control_plane.foreign_events.note(gateway_id, "epoch")
        path = f"/api/v1/gateways/{gateway_id}"
        why = (await client.get(f"{path}/why")).json()
        assert (why["code"], "only their publisher" in why["cause"]) == ("resync-needed", True)
        [listed] = (await client.get("/api/v1/gateways")).json()["items"]
        assert listed["resyncReason"] == (await client.get(path)).json()["resyncReason"] == "epoch"
        assert (await client.post(f"{path}/resynchronized")).status_code == 204
        assert (await client.get(path)).json()["resyncReason"] is None
        assert (await client.get(f"{path}/why")).json()["code"] == "offline"


async def test_what_a_process_could_not_name_is_said_of_a_gateway_that_is_there(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    """Of one that is away, that it is away: its next process names everything."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        presence, epoch = context.hub.storage.presence, (await context.hub.storage.log.changed_since(0)).epoch
        await presence.renew_lease("pod-1", timedelta(hours=1))
        for call in (Call.FIRST, Call.LAST):
            await context.control_plane.synchronizations.note(gateway_id, call)
        async with context.hub.storage.database.transaction() as transaction:
            await transaction.execute(QUERIES["mark_unlisted"], gateway_id, "epoch")
        path = f"/api/v1/gateways/{gateway_id}/why"
        assert (await client.get(path)).json()["code"] == "offline"
        await presence.connect(_connection(gateway_id), start=Position(epoch, 0))
        assert (await client.get(path)).json()["code"] == "resync-needed"
