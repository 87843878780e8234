"""Order and completeness come from commits alone: no clock takes part, and a change never parts from its event."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone

import asyncpg
import pytest

from gatecast import Event, EventHub, RecordedEvent
from gatecast.events import Action
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.deployment import Deployment, Site

pytestmark = pytest.mark.acceptance

NewDatabase = Callable[[], Awaitable[str]]
Clock = Callable[[int], datetime]


def _event(gateway_id: str, number: int = 0, *, originated_at: datetime | None = None) -> Event:
    return Event(
        gateway_id=gateway_id,
        type="api.updated",
        action=Action.UPDATE,
        entity_type="Api",
        entity_id=f"api-{number}",
        data={"number": number},
        originated_at=originated_at or datetime.now(UTC),
    )


@asynccontextmanager
async def _hubs(site: str | Site, *names: str) -> AsyncIterator[list[EventHub]]:
    settings = [Site.of(site).settings(pod_id=name) for name in names]
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(EventHub.open(settings=each)) for each in settings]


async def _received(hub: EventHub, gateway_id: str, count: int) -> list[RecordedEvent]:
    events: list[RecordedEvent] = []
    async with asyncio.timeout(PATIENCE), hub.subscribe(gateway_id) as subscription:
        async for event in subscription:
            events.append(event)
            subscription.acknowledge(event)
            if len(events) == count:
                break
    return events


def _five_seconds_ahead(_number: int) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=5)


def _stepping_back(number: int) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=3 if number > 20 else 0)


def _in_another_time_zone(_number: int) -> datetime:
    return datetime.now(timezone(timedelta(hours=5, minutes=30)))


async def _publish_by(clock: Clock, hub: EventHub, gateway_id: str, publisher: int) -> None:
    """Publish forty events one after another, stamped by this clock."""
    for number in range(40):
        await hub.publish(_event(gateway_id, 1000 * publisher + number, originated_at=clock(number)))


async def test_s01_publishers_whose_clocks_disagree_lose_nothing_and_keep_commit_order(large_site: Site) -> None:
    """One clock is 5 s ahead, one steps back 3 s, one runs in another zone; offsets follow commits."""
    clocks: list[Clock] = [_five_seconds_ahead, _stepping_back, _in_another_time_zone]
    async with _hubs(large_site, "one", "two", "three") as hubs:
        await hubs[0].register_gateway("gateway")
        reading = asyncio.create_task(_received(hubs[1], "gateway", 120))
        publishers = enumerate(zip(clocks, hubs, strict=True))
        await asyncio.gather(*(_publish_by(clock, hub, "gateway", index) for index, (clock, hub) in publishers))
        events = await reading
    assert [event.offset for event in events] == list(range(1, 121))
    # Each publisher waited for its commits, so its own events stand in the order in which it published them.
    numbers = [int(event.data["number"]) for event in events]
    assert sorted(numbers, key=lambda number: number // 1000) == [1000 * i + n for i in range(3) for n in range(40)]
    # By the publishers' clocks the same events are in disorder; by the database's clock they are not.
    assert [event.originated_at for event in events] != sorted(event.originated_at for event in events)
    assert [event.recorded_at for event in events] == sorted(event.recorded_at for event in events)


async def test_s01_a_publisher_whose_clock_is_a_month_behind_gets_nothing_cleaned_up_early(large_site: Site) -> None:
    """Retention measures age by the clock of the database, or of the stream."""
    async with _hubs(large_site, "one") as [hub]:
        await hub.register_gateway("gateway")
        position = await hub.publish(_event("gateway", originated_at=datetime.now(UTC) - timedelta(days=400)))
        if position.pending:
            await hub.outbox.wait_until_forwarded(position)
        assert await hub.clean_up() == 0
        assert len(await _received(hub, "gateway", 1)) == 1


async def test_s01_pods_that_run_in_other_time_zones_make_no_difference(large_site: Site) -> None:
    """What they publish in turn stands in that order, and its times are instants, not readings of a wall clock."""
    async with Deployment(large_site) as deployment:
        zones = ("Pacific/Kiritimati", "America/St_Johns")
        pods = [await deployment.pods.start(zone, environment={"TZ": zone}) for zone in zones]
        operators = await deployment.operators(*pods)
        access = await operators[0].create_gateway("gateway")
        for number in range(6):
            assert (await operators[number % 2].publish(access.id))["offset"] == number + 1
        events = (await operators[0].ask("GET", f"/gateways/{access.id}/events"))["items"]
    for kind in ("originatedAt", "recordedAt"):
        instants = [datetime.fromisoformat(event[kind]) for event in events]
        assert instants == sorted(instants)
        assert instants[-1] - instants[0] < timedelta(minutes=5)


async def test_s02_a_transaction_that_is_held_open_is_overtaken_by_nothing_within_its_gateway(
    large_site: Site,
) -> None:
    """Later publishes to that gateway wait and follow; other gateways do not wait at all."""
    async with _hubs(large_site, "one", "two") as [first, second]:
        for gateway_id in ("held", "free"):
            await first.register_gateway(gateway_id)
        caller = await asyncpg.connect(large_site.tables)
        async with asyncio.timeout(PATIENCE):
            async with caller.transaction():
                await first.publish(_event("held", 1), transaction=caller)
                late = [asyncio.create_task(hub.publish(_event("held", 2))) for hub in (first, second)]
                free = [hub.publish(_event("free", number)) for hub in (first, second) for number in range(10)]
                await asyncio.gather(*free)
                assert len(await _received(second, "free", 20)) == 20
                assert not any(task.done() for task in late)
            await asyncio.gather(*late)
        await caller.close()
        held = await _received(second, "held", 3)
        assert [(event.offset, event.data["number"]) for event in held] == [(1, 1), (2, 2), (3, 2)]


_CALLER = """
import asyncio, sys, asyncpg
from gatecast import Event, EventHub

async def main(log, url, gateways, commits):
    async with EventHub.open(log, outbox=url if url != log else None) as hub:
        caller = await asyncpg.connect(url)
        transaction = caller.transaction()
        await transaction.start()
        await caller.execute("INSERT INTO change DEFAULT VALUES")
        event = Event(gateway_id=gateways[0], type="api.updated", action="UPDATE", entity_type="Api", entity_id="a")
        await hub.publish([event.addressed_to(each) for each in gateways], transaction=caller)
        if commits:
            await transaction.commit()
        print("now", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:3], sys.argv[3].split(","), sys.argv[4] == "commit"))
"""


async def _run_caller_and_kill_it(site: Site, gateways: list[str], until: str) -> None:
    """A process changes something, publishes in the same transaction, and is killed before or after its commit."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CALLER, site.database, site.tables, ",".join(gateways), until, stdout=PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert await process.stdout.readline() == b"now\n"
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize(("until", "changes"), [("open", 0), ("commit", 1)])
async def test_s06_a_change_and_its_events_are_both_there_or_neither_is(
    large_site: Site, until: str, changes: int
) -> None:
    """A process killed before its commit leaves nothing, for a thousand gateways; after it, everything."""
    # To an outbox, which is such a database, a fan-out is the same; a stream takes longer to register them.
    fan_out = 100 if large_site.outbox else 1000
    gateways = [f"gateway-{number}" for number in range(fan_out)]
    connection = await asyncpg.connect(large_site.tables)
    await connection.execute("CREATE TABLE change (id uuid DEFAULT gen_random_uuid())")
    async with _hubs(large_site, "survivor") as [hub]:
        async with hub.database.transaction() as transaction:
            for gateway_id in gateways:
                await hub.register_gateway(gateway_id, transaction=transaction)
        await _run_caller_and_kill_it(large_site, gateways, until)
        async with asyncio.timeout(PATIENCE):
            # The dead process holds no log: the next event follows at once, right behind what it committed.
            await hub.publish(_event(gateways[-1]))
            if hub.has_outbox:
                await hub.outbox.wait_until_empty()
        assert await connection.fetchval("SELECT count(*) FROM change") == changes
        heads = (await hub.engine.log.changed_since(0)).heads
        assert sorted(heads.values()) == [changes] * (fan_out - 1) + [changes + 1]
    await connection.close()


async def test_s06_a_fan_out_whose_process_dies_in_the_middle_is_whole_or_absent(
    postgres: PostgresServer, new_database: NewDatabase
) -> None:
    """Its connection breaks while the statement runs: no gateway has the event, or every one."""
    url = postgres.url(await new_database())
    gateways = [f"gateway-{number}" for number in range(1000)]
    async with _hubs(url, "publisher", "reader") as [publisher, reader]:
        async with publisher.storage.database.transaction() as transaction:
            for gateway_id in gateways:
                await publisher.register_gateway(gateway_id, transaction=transaction)
        connection = await asyncpg.connect(url)
        event = _event(gateways[0])
        async with connection.transaction():
            # The last log is held, so that the fan-out stands with 999 of them in its hands when it is broken off.
            await reader.publish(_event(gateways[-1]), transaction=connection)
            caller = await asyncpg.connect(url)
            await caller.transaction().start()
            fan_out = asyncio.create_task(
                publisher.publish([event.addressed_to(each) for each in gateways], transaction=caller)
            )
            await _until_blocked(url, caller.get_server_pid())
            caller.terminate()
            with pytest.raises(Exception, match="connection"):
                await fan_out
        assert await connection.fetchval("SELECT count(*) FROM gatecast.events") == 1
        await connection.close()


async def _until_blocked(url: str, process_id: int) -> None:
    """Return when this backend of the database waits for a lock."""
    observer = await asyncpg.connect(url)
    try:
        await eventually(lambda: observer.fetchval("SELECT cardinality(pg_blocking_pids($1))", process_id))
    finally:
        await observer.close()
