"""A hub with an outbox: what commits with a change of the application's database gets into the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gatecast import Action, Event, EventHub, Position, Settings
from gatecast.errors import (
    DatabaseUnsuitable,
    EventNotForwarded,
    InvalidValue,
    PositionPending,
    SettingInvalid,
    TransactionUnusable,
    UnknownGateway,
)
from gatecast.server.fleet_metrics import count_gateways
from gatecast.server.probe import LeftProbes
from gatecast.telemetry import metrics
from gatecast.testing.contracts.backend import (
    GATEWAY,
    OTHER_GATEWAY,
    ids_of,
    make_event,
    make_events,
    read,
    rolled_back,
)
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.nats_server import NatsServer
from gatecast.testing.tcp_proxy import TcpProxy

Opening = Callable[..., AbstractAsyncContextManager[EventHub]]


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.slow),
        pytest.param("jetstream", marks=pytest.mark.slow),
    ]
)
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A log in a database of its own, or on JetStream."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/log.db"
    return str(request.getfixturevalue("postgres_url" if request.param == "postgres" else "stream_url"))


@pytest.fixture
def opened(log_url: str, outbox_url: str) -> Opening:
    """Opens one more pod on the same log and outbox."""

    @asynccontextmanager
    async def opening(pod_id: str = "pod-1", **settings: object) -> AsyncIterator[EventHub]:
        chosen = Settings(
            database=log_url,
            outbox=outbox_url,
            pod_id=pod_id,
            poll_interval=timedelta(milliseconds=100),
            **settings,  # type: ignore[arg-type] # of the settings
        )
        async with asyncio.timeout(PATIENCE), EventHub.open(settings=chosen) as hub:
            yield hub

    return opening


async def test_an_event_commits_with_the_transaction_and_gets_into_the_log(opened: Opening) -> None:
    """Its position is pending until then; what is rolled back never gets there."""
    async with opened() as hub:
        assert await hub.register_gateway(GATEWAY)
        events = make_events(3)
        async with hub.outbox.database.transaction() as transaction:
            positions = await hub.publish(events[:2], transaction)
            assert await ids_of(hub.engine) == []
            with pytest.raises(EventNotForwarded):
                await hub.outbox.position_of(positions[0])
        async with rolled_back(hub.outbox.database.transaction()) as transaction:
            await hub.publish(make_event(), transaction)
        last = await hub.publish(events[2])
        found = [await hub.outbox.wait_until_forwarded(each) for each in (*positions, last)]
        assert [position.offset for position in found] == [1, 2, 3]
        assert await ids_of(hub.engine) == [event.event_id for event in events]
        # The log has them a moment before that is recorded.
        await hub.outbox.wait_until_empty()
        assert (await hub.outbox.status()).waiting == {}


async def test_a_pending_position_says_what_to_do(opened: Opening) -> None:
    """Nothing can take it for a position in the log."""
    async with opened() as hub:
        await hub.register_gateway(GATEWAY)
        event = make_event()
        [receipt] = await hub.append([event])
        assert (receipt.pending, receipt.created) == (True, True)
        with pytest.raises(PositionPending, match="wait_until_forwarded"):
            _ = receipt.position.offset
        assert str(receipt.position) == f"pending:{event.event_id}"
        position = await hub.outbox.wait_until_forwarded(receipt)
        assert position == await hub.outbox.wait_until_forwarded(event)
        assert not position.pending
        [again] = await hub.append([event])
        assert await hub.outbox.wait_until_forwarded(again) == position


async def test_what_is_forwarded_is_delivered(opened: Opening) -> None:
    """To a subscriber in another process, in order."""
    async with opened() as one, opened("pod-2") as two:
        await one.register_gateway(GATEWAY)
        async with two.subscribe(GATEWAY) as subscription:
            for number in range(1, 4):
                async with one.outbox.database.transaction() as transaction:
                    await one.publish(make_event(number=number), transaction)
            assert [(await anext(subscription)).data["number"] for _ in range(3)] == [1, 2, 3]


async def test_gateways_are_registered_and_deleted_with_the_transaction(opened: Opening) -> None:
    """Also again, with entries that wait: those of the deleted gateway never get into the log of the new one."""
    async with opened() as hub:
        async with hub.outbox.database.transaction() as transaction:
            assert await hub.register_gateway(GATEWAY, transaction=transaction)
            await hub.publish(make_event(), transaction)
        await hub.outbox.wait_until_empty()
        assert len(await ids_of(hub.engine)) == 1
        later = make_event()
        async with hub.outbox.database.transaction() as transaction:
            await hub.publish(make_events(2), transaction)
            assert await hub.delete_gateway(GATEWAY, transaction=transaction)
            with pytest.raises(UnknownGateway):
                await hub.publish(make_event(), transaction)
            assert await hub.register_gateway(GATEWAY, transaction=transaction)
            await hub.publish(later, transaction)
        await hub.outbox.wait_until_empty()
        assert await ids_of(hub.engine) == [later.event_id]
        assert await hub.delete_gateway(GATEWAY)
        assert (await hub.engine.log.changed_since(0)).heads == {}
        with pytest.raises(EventNotForwarded):
            await hub.outbox.position_of(later)


async def test_gateways_of_the_log_are_known_to_a_new_outbox(opened: Opening, log_url: str) -> None:
    """Their logs go on where they were."""
    async with EventHub.open(log_url) as hub:
        await hub.register_gateway(GATEWAY)
        await hub.publish(make_events(2))
    async with opened() as hub:
        position = await hub.outbox.wait_until_forwarded(await hub.publish(make_event()))
        assert position.offset == 3


_EXTREMES: list[dict[str, Any]] = [
    {"data": {"number": 2**63 - 1, "small": -(2**63), "float": 1.5e308, "text": "\U0001f600\x01 \\ ' \""}},
    {"data": {"text": "x" * 1_000_000}},
    {"originated_at": datetime.max.replace(tzinfo=UTC)},
    {"originated_at": datetime.min.replace(tzinfo=UTC)},
    {"entity_id": "e" * 255, "type": "\u00e9" * 255},
    {"trace_parent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
    {"event_id": UUID(int=2**128 - 1)},
]

_IMPOSSIBLE: list[dict[str, Any]] = [{"text": "\x00"}, {"text": "\ud800"}, {"number": 2**63}, {"text": "x" * 2_000_000}]


async def test_whatever_the_outbox_takes_the_log_gets_unchanged(opened: Opening) -> None:
    """The limits of both are those of an event: what could not be stored in either is refused when it is made."""
    plain: dict[str, Any] = {
        "gateway_id": GATEWAY,
        "type": "route.changed",
        "action": Action.REVOKE,
        "entity_type": "Route",
        "entity_id": "orders",
    }
    async with opened() as hub:
        await hub.register_gateway(GATEWAY)
        events = [Event(**plain | extreme) for extreme in _EXTREMES]
        async with hub.outbox.database.transaction() as transaction:
            await hub.publish(events, transaction)
        await hub.outbox.wait_until_empty()
        found = (await read(hub.engine)).events
        names = ("event_id", "type", "action", "entity_type", "entity_id", "payload", "originated_at", "trace_parent")
        for event, stored in zip(events, found, strict=True):
            assert [getattr(stored, name) for name in names] == [getattr(event, name) for name in names]
    for impossible in _IMPOSSIBLE:
        with pytest.raises(InvalidValue):
            Event(**plain, data=impossible)


async def test_several_pods_forward_together_and_one_at_a_time(opened: Opening) -> None:
    """Whichever of them publishes, in whichever way, each gateway's log has the order of the commits."""
    async with opened() as one, opened("pod-2") as two:
        for gateway_id in (GATEWAY, OTHER_GATEWAY):
            await one.register_gateway(gateway_id)

        async def publish(hub: EventHub, gateway_id: str, numbers: range) -> None:
            for number in numbers:
                if number % 2:
                    async with hub.outbox.database.transaction() as transaction:
                        await hub.publish(make_event(gateway_id, number=number, hub=hub is one), transaction)
                else:
                    await hub.publish(make_event(gateway_id, number=number, hub=hub is one))

        async with asyncio.TaskGroup() as tasks:
            for hub in (one, two):
                for gateway_id in (GATEWAY, OTHER_GATEWAY):
                    tasks.create_task(publish(hub, gateway_id, range(20)))
        await two.outbox.wait_until_empty()
        async with one.subscribe(GATEWAY) as subscription:
            received = [(await anext(subscription)).data for _ in range(40)]
        for mine in (True, False):
            assert [data["number"] for data in received if data["hub"] is mine] == list(range(20))


async def test_the_process_that_forwards_may_end(opened: Opening) -> None:
    """Another one goes on at once; a wait goes by the event's id, and so it may be in another process."""
    async with opened() as one:
        await one.register_gateway(GATEWAY)
        async with opened("pod-2") as two:
            positions = [await one.publish(make_event())]
            await two.outbox.wait_until_forwarded(positions[0])
            await one.outbox._task.stop()
            positions.append(await one.publish(make_event()))
            found = [await two.outbox.wait_until_forwarded(each) for each in positions]
            assert [position.offset for position in found] == [1, 2]
            assert (await one.outbox.status()).forwarder == "pod-2"


@pytest.mark.slow
async def test_p10_the_log_may_be_away(server: NatsServer, stream_url: str, outbox_url: str) -> None:
    """Changes commit meanwhile; everything gets into the log when it is back, and the wait for it ends."""
    async with asyncio.timeout(PATIENCE), TcpProxy(server.socket) as proxy:
        far = stream_url.replace(server.address, proxy.address)
        async with EventHub.open(stream_url) as near, EventHub.open(far, outbox=outbox_url) as hub:
            await hub.register_gateway(GATEWAY)
            await hub.outbox.wait_until_forwarded(await hub.publish(make_event()))
            proxy.cut()
            events = make_events(3)
            async with hub.outbox.database.transaction() as transaction:
                positions = await hub.publish(events, transaction)
            await eventually(lambda: _problem(hub))
            status = await hub.outbox.status()
            assert (status.waiting, status.oldest is not None) == ({GATEWAY: 3}, True)
            proxy.heal()
            found = [await hub.outbox.wait_until_forwarded(position) for position in positions]
            assert [position.offset for position in found] == [2, 3, 4]
            assert (await ids_of(near.engine))[1:] == [event.event_id for event in events]
            await hub.outbox.wait_until_empty()
            await eventually(lambda: _no_problem(hub))


async def _no_problem(hub: EventHub) -> bool:
    return (await hub.outbox.status()).problem is None


async def _problem(hub: EventHub) -> str | None:
    return (await hub.outbox.status()).problem


async def test_the_logs_own_database_needs_no_outbox(tmp_path: Path) -> None:
    """And a database that holds a log is no outbox, nor the other way round."""
    log, other = f"sqlite:///{tmp_path}/log.db", f"sqlite:///{tmp_path}/other.db"
    with pytest.raises(SettingInvalid, match="GATECAST_OUTBOX must name another database"):
        async with EventHub.open(log, outbox=log):
            pass
    async with EventHub.open(other) as hub:
        await hub.register_gateway(GATEWAY)
        with pytest.raises(DatabaseUnsuitable, match="the hub has no outbox"):
            _ = hub.outbox
    with pytest.raises(DatabaseUnsuitable, match="it holds a log"):
        async with EventHub.open(log, outbox=other):
            pass
    outbox = f"sqlite:///{tmp_path}/outbox.db"
    async with EventHub.open(log, outbox=outbox) as hub:
        with pytest.raises(TransactionUnusable, match="a transaction of this database"):
            async with hub.storage.database.transaction() as transaction:
                await hub.publish(make_event(), transaction)
    with pytest.raises(DatabaseUnsuitable, match="it is the outbox of another log"):
        async with EventHub.open(outbox):
            pass
    with pytest.raises(SettingInvalid, match="GATECAST_OUTBOX must be written"):
        async with EventHub.open(log, outbox="postgresql+asyncpg://localhost/application"):
            pass


async def test_the_log_of_processes_that_run_is_refused_as_an_outbox(log_url: str, outbox_url: str) -> None:
    """They would go on numbering events there by themselves; once they have ended it may be one."""
    async with EventHub.open(settings=Settings(database=outbox_url, pod_id="runs")) as running:
        await running.delivery.presence.until_known()
        with pytest.raises(DatabaseUnsuitable, match="processes that run: 'runs'"):
            async with EventHub.open(log_url, outbox=outbox_url):
                pass
    async with EventHub.open(log_url, outbox=outbox_url) as hub:
        assert hub.has_outbox


async def test_a_log_behind_an_outbox_keeps_ids_for_a_while(tmp_path: Path) -> None:
    """Without them it could not recognize what is forwarded again."""
    outbox = f"sqlite:///{tmp_path}/outbox.db"
    settings = Settings(database=f"sqlite:///{tmp_path}/log.db", outbox=outbox, retention=timedelta(seconds=59))
    with pytest.raises(SettingInvalid, match="GATECAST_RETENTION must be at least 1m with an outbox"):
        async with EventHub.open(settings=settings):
            pass


async def test_an_event_that_is_no_event_of_the_outbox_is_not_waited_for(opened: Opening) -> None:
    """A position that is known is returned as it is."""
    async with opened() as hub:
        await hub.register_gateway(GATEWAY)
        with pytest.raises(EventNotForwarded, match="neither the outbox nor the log"):
            await hub.outbox.wait_until_forwarded(make_event())
        with pytest.raises(EventNotForwarded):
            await hub.outbox.wait_until_forwarded(make_event("unknown"))
        position = Position((await hub.engine.log.changed_since(0)).epoch, 7)
        assert await hub.outbox.wait_until_forwarded(position) is position


async def test_a_transaction_does_not_ask_the_log(opened: Opening) -> None:
    """It holds locks, for which others would wait as long. What an answer shows is asked before."""
    async with opened() as hub:
        await hub.register_gateway(GATEWAY)
        await hub.outbox.wait_until_forwarded(await hub.publish(make_event()))
        before = await hub.status_before(GATEWAY)
        async with hub.database.transaction() as transaction:
            status = (await hub.status([GATEWAY], transaction=transaction))[GATEWAY]
        assert before is not None
        assert (before.head, status.head, status.epoch) == (1, 0, before.epoch)
        assert await hub.status_before(OTHER_GATEWAY) is None


async def test_a_new_outbox_that_must_not_adopt_is_refused_where_the_log_has_gateways(tmp_path: Path) -> None:
    """At every attempt; the one that belongs to the log is opened, and so is a new one where the log is new."""
    log, known, new = (f"sqlite:///{tmp_path}/{name}.db" for name in ("log", "known", "new"))
    async with EventHub.open(log, outbox=known, adopt=False) as hub:
        await hub.register_gateway(GATEWAY)
    for _ in range(2):
        with pytest.raises(DatabaseUnsuitable, match=r"new.db is new, and the log .*log.db holds gateways") as refused:
            async with EventHub.open(log, outbox=new, adopt=False):
                pass
        assert "GATECAST_OUTBOX" in refused.value.remedy
    async with EventHub.open(log, outbox=known, adopt=False) as hub:
        await hub.delete_gateway(GATEWAY)
    async with EventHub.open(log, outbox=known, adopt=False):
        pass


async def test_the_metrics_of_gateways_count_what_waits_in_the_outbox(opened: Opening) -> None:
    """As lists do: a connected gateway whose event is not in the log is not current."""

    def shown() -> dict[str, float]:
        samples = (sample for family in metrics.registry.collect() for sample in family.samples)
        return {each.labels["why"]: each.value for each in samples if each.name == "gatecast_gateways"}

    async with opened() as hub:
        await hub.delivery.presence.until_known()
        for gateway_id in (GATEWAY, OTHER_GATEWAY, "offline"):
            await hub.register_gateway(gateway_id)
        async with hub.subscribe(GATEWAY), hub.subscribe(OTHER_GATEWAY):
            await count_gateways(hub, "pod-1", LeftProbes(hub))
            assert shown() == {"current": 2, "offline": 1}
            # Nothing forwards.
            await hub.outbox._task.stop()
            async with hub.database.transaction() as transaction:
                await hub.publish([make_event(), make_event("offline")], transaction=transaction)
            await count_gateways(hub, "pod-1", LeftProbes(hub))
            assert shown() == {"current": 1, "slow": 1, "offline": 1}
