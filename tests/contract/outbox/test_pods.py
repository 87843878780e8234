"""Pods whose events are on NATS JetStream, and whose tables and changes are in the outbox's database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from gatecast.errors import DatabaseUnsuitable
from gatecast.testing.doubles.raw_connection import RawConnection, refusal
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.nats_server import NatsServer
from gatecast.testing.operator import GatewayAccess, Operator, Refused
from gatecast.testing.processes.deployment import Site
from gatecast.testing.processes.installation import Installation, Replica
from gatecast.testing.tcp_proxy import TcpProxy
from tests.acceptance.test_control_plane import provider
from tests.contract.outbox.site import EVERYTHING

pytestmark = pytest.mark.slow


@pytest.fixture
def outbox_url(request: pytest.FixtureRequest) -> str:
    """Where the control plane keeps its tables; `test_forwarder` has shown the outbox itself on both databases."""
    return str(request.getfixturevalue("empty_postgres_url"))


@asynccontextmanager
async def _site(server: NatsServer, stream_url: str, outbox_url: str) -> AsyncIterator[tuple[Installation, TcpProxy]]:
    """Two pods, a gateway at the first one, and the way that both take to the log."""
    async with asyncio.timeout(PATIENCE), TcpProxy(server.socket) as way:
        far = stream_url.replace(server.address, way.address)
        async with Installation.open(Site(database=far, outbox=outbox_url), pods=2) as installation:
            yield installation, way


async def _published(operator: Operator, gateway_id: str, **fields: object) -> tuple[int, dict[str, Any]]:
    """The status and the answer to a publish."""
    body = {"type": "api.updated", "action": "UPDATE", "entityType": "Api", "entityId": "a", "data": {}, **fields}
    async with operator._session.post(f"/api/v1/gateways/{gateway_id}/events", json=body) as reply:
        return reply.status, await reply.json()


async def _is_away(installation: Installation) -> bool:
    return all(each.pod.hub.delivery.reader.loop.problem is not None for each in installation.replicas)


async def test_what_is_created_at_one_pod_arrives_at_a_gateway_of_the_other(stream_url: str, outbox_url: str) -> None:
    """It is confirmed, and both gateways run it."""
    async with Installation.open(Site(database=stream_url, outbox=outbox_url), pods=2, gateways=2) as installation:
        there = Installation(installation.replicas, installation.edges[1:])
        await there.create("llm-providers", provider())
        await there.is_true()
        await installation.create("llm-providers", provider("Another"))
        await installation.is_true()


async def test_an_answer_has_the_offset_and_a_repeated_id_has_the_same_one(
    server: NatsServer, stream_url: str, outbox_url: str
) -> None:
    """Another content under it is refused."""
    async with _site(server, stream_url, outbox_url) as (installation, _):
        operator, gateway_id, event_id = installation.operator, installation.edge.id, str(uuid4())
        status, first = await _published(operator, gateway_id, eventId=event_id)
        assert (status, first["offset"], first["state"]) == (201, 1, "stored")
        again = installation.replicas[1].operator
        assert await _published(again, gateway_id, eventId=event_id) == (200, first)
        status, problem = await _published(again, gateway_id, eventId=event_id, data={"other": 1})
        assert status == 409, problem
        status, second = await _published(operator, gateway_id)
        assert (status, second["offset"]) == (201, 2)
        async with operator._session.post(
            f"/api/v1/gateways/{gateway_id}/events?wait=confirmed&timeout=60",
            json={"type": "api.updated", "action": "UPDATE", "entityType": "Api", "entityId": "a"},
        ) as reply:
            assert (reply.status, (await reply.json())["state"]) == (201, "confirmed")


async def test_a_repeated_event_that_the_log_has_removed_is_not_told_as_pending(
    server: NatsServer, stream_url: str, outbox_url: str
) -> None:
    """The outbox knows its id, and nobody its offset any more: asking again would never tell it."""
    async with _site(server, stream_url, outbox_url) as (installation, _):
        operator, gateway_id, event_id = installation.operator, installation.edge.id, str(uuid4())
        assert (await _published(operator, gateway_id, eventId=event_id))[0] == 201
        assert await installation.replicas[0].pod.hub.engine.log.trim(EVERYTHING) == 1
        gone = {"eventId": event_id, "offset": None, "position": None, "state": "removed", "reason": ""}
        assert await _published(operator, gateway_id, eventId=event_id) == (200, gone)
        status, problem = await _published(operator, gateway_id, eventId=event_id, data={"other": 1})
        assert status == 409, problem
        event = {"type": "api.updated", "action": "UPDATE", "entityType": "Api", "entityId": "a", "eventId": event_id}
        waiting = f"/gateways/{gateway_id}/events?wait=confirmed&timeout=60"
        assert await operator.ask("POST", waiting, event) == gone
        [told] = (await operator.ask("POST", "/events", {"events": [{**event, "gatewayId": gateway_id}]}))["items"]
        assert (told["result"], told["offset"]) == ("known", None)


async def test_p10_while_the_log_is_away_changes_are_taken_and_told_as_pending(
    server: NatsServer, stream_url: str, outbox_url: str
) -> None:
    """All of them arrive in order once it is back, and `why` says meanwhile that they wait in the outbox."""
    async with _site(server, stream_url, outbox_url) as (installation, way):
        operator, edge, event_id = installation.operator, installation.edge, str(uuid4())
        await _published(operator, edge.id)
        way.cut()
        await eventually(lambda: _is_away(installation))
        status, first = await _published(operator, edge.id, eventId=event_id)
        assert (status, first) == (
            202,
            {"eventId": event_id, "offset": None, "position": None, "state": "pending", "reason": ""},
        )
        assert await _published(operator, edge.id, eventId=event_id) == (202, first)
        assert (await _published(operator, edge.id, eventId=event_id, data={"other": 1}))[0] == 409
        others = [await _published(installation.replicas[number % 2].operator, edge.id) for number in range(4)]
        assert [status for status, _ in others] == [202] * 4
        assert await installation.why() == "publisher-unforwarded"
        # The log is not asked in the transaction: neither is one needed, nor does a slow one hold its locks.
        changed = await operator.ask("PATCH", f"/gateways/{edge.id}", {"displayName": "Meanwhile"})
        assert (changed["displayName"], changed["connected"]) == ("Meanwhile", False)
        new = await operator.create_gateway("made-meanwhile")
        assert await refusal(installation.replicas[0].pod.gateway_url, new.token) == 503
        async with operator._session.get("/readyz") as reply:
            assert reply.status == 200
        way.heal()
        shown = await eventually(lambda: _log(operator, edge.id, 6))
        assert [each["eventId"] for each in shown][1:] == [event_id, *(answer["eventId"] for _, answer in others)]
        assert await eventually(lambda: _repeated(operator, edge.id, event_id)) == 2
        await operator.confirmed(edge.id, 6)
        changed = await operator.ask("PATCH", f"/gateways/{edge.id}", {"displayName": "Afterwards"})
        assert (changed["connected"], changed["position"]["head"]) == (True, 6)
        assert await installation.why() == "current"
        async with await _connected(installation, new):
            await operator.connections(new.id, 1)


async def _log(operator: Operator, gateway_id: str, events: int) -> list[dict[str, Any]]:
    """The gateway's log, once it has as many events."""
    try:
        items: list[dict[str, Any]] = (await operator.ask("GET", f"/gateways/{gateway_id}/events"))["items"]
    except Refused:
        return []
    return items if len(items) == events else []


async def _repeated(operator: Operator, gateway_id: str, event_id: str) -> int | None:
    """The offset that an id has which was published before."""
    status, answer = await _published(operator, gateway_id, eventId=event_id)
    assert status in (200, 202), answer
    offset: int | None = answer["offset"]
    return offset


async def _connected(installation: Installation, access: GatewayAccess) -> Any:  # noqa: ANN401 - a context manager
    """A connection at the second pod, as soon as it lets the gateway in."""
    gateways = installation.replicas[1].pod.gateway_url

    statuses: list[int] = []

    async def let_in() -> bool:
        try:
            async with RawConnection.open(gateways, access.token):
                return True
        except aiohttp.WSServerHandshakeError as error:
            statuses.append(error.status)
            return False

    await eventually(let_in)
    assert {503}.issuperset(statuses)
    return RawConnection.open(gateways, access.token)


@pytest.mark.parametrize("away", [False, True])
async def test_p9_a_revoked_token_and_a_deleted_gateway_are_disconnected_everywhere(
    server: NatsServer, stream_url: str, outbox_url: str, *, away: bool
) -> None:
    """Whether or not the log can be reached."""
    async with _site(server, stream_url, outbox_url) as (installation, way):
        operator, there = installation.operator, installation.replicas[1].pod.gateway_url
        revoked, deleted = [await operator.create_gateway(name) for name in ("revoked", "deleted")]
        async with await _connected(installation, revoked) as one, await _connected(installation, deleted) as other:
            if away:
                way.cut()
                await eventually(lambda: _is_away(installation))
            await operator.ask("DELETE", f"/gateways/{revoked.id}/tokens/{revoked.token_id}")
            await operator.ask("DELETE", f"/gateways/{deleted.id}")
            assert (await one.closed(), await other.closed()) == (4001, 4004)
            assert [await refusal(there, each.token) for each in (revoked, deleted)] == [401, 401]
        way.heal()


async def test_why_says_what_the_log_refused_and_others_flow(
    server: NatsServer, stream_url: str, outbox_url: str
) -> None:
    """Later events of the gateway wait for a decision."""
    async with _site(server, stream_url, outbox_url) as (installation, _):
        operator, hub = installation.operator, installation.replicas[0].pod.hub
        access = await operator.create_gateway("broken")
        await eventually(lambda: _has_log(operator, access))
        # Something else than a pod deletes its log.
        await hub._opened.engine.log.forget(access.id)
        status, answer = await _published(operator, access.id)
        assert status == 202
        assert answer["eventId"] in await eventually(lambda: _why_refused(operator, access.id))
        for path in ("/gateways", "/gateways?connected=false"):
            [listed] = [each for each in (await operator.ask("GET", path))["items"] if each["id"] == access.id]
            assert listed["lag"] == 1, path
        assert (await operator.ask("GET", f"/gateways/{access.id}"))["lag"] == 1
        assert (await _published(operator, installation.edge.id))[0] == 201
        assert await hub.outbox.try_again(access.id)
        assert (await eventually(lambda: _log(operator, access.id, 1)))[0]["eventId"] == answer["eventId"]


async def _has_log(operator: Operator, access: GatewayAccess) -> bool:
    status, _ = await _published(operator, access.id)
    return status == 201


async def _why_refused(operator: Operator, gateway_id: str) -> str:
    """The words of `why`, once they say that the log refused something."""
    why = await operator.ask("GET", f"/gateways/{gateway_id}/why")
    return str(why["cause"]) if "refused" in why["cause"] else ""


async def test_what_waits_in_the_outbox_is_not_taken_for_unanswered(
    server: NatsServer, stream_url: str, outbox_url: str
) -> None:
    """Neither is a deletion there taken for handled: nothing is published once more, and nothing is forgotten."""
    async with _site(server, stream_url, outbox_url) as (installation, _):
        edge, hub = installation.edge, installation.replicas[0].pod.hub
        path = await installation.create("llm-providers", provider())
        confirmed = (await installation.operator.gateway(edge.id))["position"]["head"]
        # Another process has just begun to forward, and stands still.
        await hub.database.execute(
            "UPDATE gatecast_outbox_forwarder SET term = 'another', pod_id = 'another', beats = 0"
        )
        await installation.operator.ask("DELETE", path)
        before = await hub.unforwarded(edge.id)
        desired_state = installation.replicas[0].pod.control_plane.desired_state
        end = await desired_state.answered_nothing("default", edge.id, confirmed)
        assert (end, await hub.unforwarded(edge.id)) == (confirmed + before.events, before)
        placed = await installation.operator.ask("GET", f"/gateways/{edge.id}/deployments")
        assert [each["state"] for each in placed["items"]] == ["DELETING"]
        # It is believed to live for 10 seconds.
        await installation.operator.confirmed(edge.id, confirmed + before.events)


async def test_a_list_shows_a_gateway_whose_log_is_not_made_yet(
    server: NatsServer, stream_url: str, outbox_url: str
) -> None:
    """As registered, with an empty log and never connected; it is told to come again, not that its token is bad."""
    async with _site(server, stream_url, outbox_url) as (installation, _):
        operator, hub = installation.operator, installation.replicas[0].pod.hub
        await hub.database.execute(
            "UPDATE gatecast_outbox_forwarder SET term = 'another', pod_id = 'another', beats = 0"
        )
        new = await operator.create_gateway("new")
        assert await refusal(installation.replicas[0].pod.gateway_url, new.token) == 503
        for path in ("/gateways", "/gateways?connected=false"):
            listed = {each["id"]: each for each in (await operator.ask("GET", path))["items"]}
            assert (listed[new.id]["position"]["head"], listed[new.id]["lag"]) == (0, 0)
        assert (await operator.gateway(new.id))["connected"] is False
        assert await operator.ask("GET", f"/gateways/{new.id}/events") == {"items": [], "next": None}
        assert (await operator.ask("PATCH", f"/gateways/{new.id}", {"displayName": "New"}))["displayName"] == "New"
        await operator.ask("DELETE", f"/gateways/{new.id}")
        assert await refusal(installation.replicas[0].pod.gateway_url, new.token) == 401


async def test_p10_while_the_database_of_the_outbox_is_away_nothing_is_taken_and_gateways_stay(
    server: NatsServer, stream_url: str, outbox_url: str
) -> None:
    """The pods say that they are not ready; afterwards everything goes on over the same connection."""
    async with _site(server, stream_url, outbox_url) as (installation, _):
        operator, edge = installation.operator, installation.edge
        access = await operator.create_gateway("new")
        with installation.replicas[0].without_database(), installation.replicas[1].without_database():
            assert (await _published(operator, edge.id))[0] == 503
            assert await refusal(installation.replicas[0].pod.gateway_url, access.token) == 503
            async with operator._session.get("/readyz") as reply:
                assert reply.status == 503
            assert edge.gateway.connected
        status, answer = await _published(operator, edge.id)
        assert status in (201, 202), answer
        await operator.confirmed(edge.id, 1)
        assert edge.gateway.connections_made == 1


async def test_events_that_are_published_together_have_their_offsets_and_their_results(
    server: NatsServer, stream_url: str, outbox_url: str
) -> None:
    """Also with ids that were published before, whether they are forwarded by now or wait."""
    async with _site(server, stream_url, outbox_url) as (installation, way):
        operator, gateway_id, ids = installation.operator, installation.edge.id, [str(uuid4()) for _ in range(3)]

        async def together(*events: dict[str, Any]) -> tuple[int, list[tuple[int | None, str]]]:
            fields = {"gatewayId": gateway_id, "type": "a.b", "action": "UPDATE", "entityType": "a", "entityId": "a"}
            body = {"events": [{**fields, **event} for event in events]}
            async with operator._session.post("/api/v1/events", json=body) as reply:
                items = (await reply.json())["items"]
                return reply.status, [(each["offset"], each["result"]) for each in items]

        assert await together({"eventId": ids[0]}, {"eventId": ids[1]}) == (201, [(1, "created"), (2, "created")])
        assert await together({"eventId": ids[1]}, {"eventId": ids[0]}) == (200, [(2, "known"), (1, "known")])
        other = {"eventId": ids[0], "entityId": "other"}
        assert await together(other, {"eventId": ids[2]}) == (201, [(1, "conflict"), (3, "created")])
        way.cut()
        await eventually(lambda: _is_away(installation))
        new = str(uuid4())
        assert await together({"eventId": new}) == (202, [(None, "created")])
        assert await together({"eventId": new}) == (202, [(None, "known")])
        assert await together({"eventId": new, "entityId": "other"}) == (202, [(None, "conflict")])
        way.heal()
        assert len(await eventually(lambda: _log(operator, gateway_id, 4))) == 4


_PLAN = {"type": "subscriptionPlan.updated", "action": "UPDATE", "entityType": "SubscriptionPlan", "entityId": "p"}


async def test_p10_an_event_that_was_published_before_changes_no_record_while_the_log_is_away(
    server: NatsServer, stream_url: str, outbox_url: str
) -> None:
    """The outbox knows its id for as long as ids are kept. Where it does not, it is refused as unavailable."""
    async with _site(server, stream_url, outbox_url) as (installation, way):
        operator, gateway_id, ids = installation.operator, installation.edge.id, [str(uuid4()) for _ in range(4)]
        plans, hub = installation.replicas[0].pod.control_plane.subscriptions, installation.replicas[0].pod.hub

        async def published(plan_status: str, **fields: object) -> int:
            data = {"planId": "p", "planName": "a plan", "status": plan_status}
            return (await _published(operator, gateway_id, **{**_PLAN, **fields}, data=data))[0]

        async def recorded() -> list[str]:
            return [each.fields["status"] for each in await plans.plans(gateway_id)]

        created = {**_PLAN, "type": "subscriptionPlan.created", "action": "CREATE", "eventId": ids[0]}
        data = {"planId": "p", "planName": "a plan", "status": "ACTIVE"}
        assert (await _published(operator, gateway_id, **created, data=data))[0] == 201
        assert await published("INACTIVE", eventId=ids[1]) == 201
        plain = {"eventId": str(uuid4()), "data": {"is": "plain"}}
        assert (await _published(operator, gateway_id, **plain))[0] == 201
        assert (await _published(operator, gateway_id, **created, data=data))[0] == 200
        way.cut()
        await eventually(lambda: _is_away(installation))
        assert (await _published(operator, gateway_id, **created, data=data))[0] == 202
        assert (await published("ACTIVE", eventId=ids[1]), await recorded()) == (409, ["INACTIVE"])
        assert [(await _published(operator, gateway_id, **{**plain, **other}))[0] for other in ({}, _OTHER)] == [
            202,
            409,
        ]
        # Of several at once that are new one is told so, and changes the record.
        both = [_published(each.operator, gateway_id, **_kept(ids[2])) for each in installation.replicas * 2]
        assert [status for status, _ in await asyncio.gather(*both)] == [202] * 4
        assert (await hub.unforwarded(gateway_id)).events == 1
        # An outbox that has begun to keep ids a moment ago.
        await hub.database.execute("UPDATE gatecast_outbox_forwarder SET ids_since = date_part('epoch', now())")
        status, problem = await _published(operator, gateway_id, **_kept(ids[3]))
        assert (status, problem["type"]) == (503, "urn:gatecast:problem:repeat-uncertain")
        assert (await published("ACTIVE"), await recorded()) == (202, ["ACTIVE"])
        way.heal()
        await eventually(lambda: _has_repeated(operator, gateway_id, created, data))
        assert await recorded() == ["ACTIVE"]
        shown = await eventually(lambda: _log(operator, gateway_id, 5))
        assert [each["eventId"] for each in shown][:4] == [*ids[:2], plain["eventId"], ids[2]]


async def test_p6_an_event_that_the_log_may_have_lost_does_not_wait_in_the_outbox(
    server: NatsServer, stream_url: str, outbox_url: str
) -> None:
    """It was forwarded, and then another history began: while the log is away nobody knows whether it has the event."""
    async with _site(server, stream_url, outbox_url) as (installation, way):
        operator, gateway_id = installation.operator, installation.edge.id
        before, waiting = {"eventId": str(uuid4())}, {"eventId": str(uuid4())}
        assert (await _published(operator, gateway_id, **before))[0] == 201
        log = installation.replicas[0].pod.hub.engine.log
        epoch = await log.renew_epoch((await log.changed_since(0)).epoch)
        await eventually(lambda: _has_seen(installation, epoch))
        way.cut()
        await eventually(lambda: _is_away(installation))
        assert (await _published(operator, gateway_id, **waiting))[0] == 202
        answers = [await _published(operator, gateway_id, **each) for each in (before, waiting)]
        assert [(status, answer.get("state")) for status, answer in answers] == [(503, None), (202, "pending")]
        assert answers[0][1]["type"] == "urn:gatecast:problem:repeat-uncertain"
        way.heal()
        await eventually(lambda: _has_repeated(operator, gateway_id, before, {}))


async def _has_seen(installation: Installation, epoch: UUID) -> bool:
    sweeps = [each.pod.hub.delivery.reader.last_sweep for each in installation.replicas]
    return all(sweep is not None and sweep.epoch == epoch for sweep in sweeps)


_OTHER = {"data": {"is": "another"}}


def _kept(event_id: str) -> dict[str, Any]:
    """An event of which the latest is kept."""
    return {"type": "application.updated", "entityType": "Application", "eventId": event_id}


async def _has_repeated(operator: Operator, gateway_id: str, fields: dict[str, Any], data: dict[str, Any]) -> bool:
    return (await _published(operator, gateway_id, **fields, data=data))[0] == 200


async def test_a_pod_whose_outbox_was_mistyped_is_refused(stream_url: str, tmp_path: Path) -> None:
    """Its control plane would know none of the gateways in the log, and turn them away."""
    async with Replica(Site(database=stream_url, outbox=f"sqlite:///{tmp_path}/tables.db"), 0) as pod:
        access = await pod.operator.create_gateway("one-gateway")
        await eventually(lambda: _has_log(pod.operator, access))
        with pytest.raises(DatabaseUnsuitable, match=r"tabels\.db is new"):
            async with Replica(Site(database=stream_url, outbox=f"sqlite:///{tmp_path}/tabels.db"), 1):
                pass
