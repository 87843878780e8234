"""What a statement reads depends on what it is asked for, never on how much there is."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from gatecast.events import Position
from gatecast.storage.contract import Outcome, OutcomeKind, Progress, ReadRequest, Storage, TrimPolicy
from gatecast.storage.hops import Passage
from gatecast.storage.postgres import PostgresStorage
from gatecast.storage.queries import Queries
from gatecast.testing.contracts.backend import ALIVE, make_connection, make_event
from gatecast.testing.processes.postgres_reads import reads_of

#: Often enough that prepared statements, and those inside functions, change to their generic plans.
_OFTEN = 8

_LONG = timedelta(days=3_650)

_numbers = itertools.count(1)

#: Something to do with a storage whose epoch is known.
Work = Callable[[Storage, UUID], Awaitable[object]]


async def _publish_one(storage: Storage, _epoch: UUID) -> None:
    await storage.log.publish([[make_event("gateway-9")]], wait=False)


async def _publish_batch(storage: Storage, _epoch: UUID) -> None:
    """200 events for 100 gateways."""
    groups = [[make_event(f"gateway-{number}"), make_event(f"gateway-{number}")] for number in range(1, 101)]
    await storage.log.publish(groups, wait=False)


async def _publish_fan_out(storage: Storage, _epoch: UUID) -> None:
    event = make_event("gateway-1")
    await storage.log.publish([[event.addressed_to(f"gateway-{number}") for number in range(1, 101)]])


async def _publish_again(storage: Storage, _epoch: UUID) -> None:
    event = make_event("gateway-9")
    for groups in ([[event]], [[event], [event]], [[event]]):
        await storage.log.publish(groups)


async def _publish_to_nobody(storage: Storage, _epoch: UUID) -> None:
    await storage.log.publish([[make_event("nobody")], [make_event("nobody")]])


async def _read(storage: Storage, _epoch: UUID) -> None:
    """100 gateways, 5 events each."""
    await storage.log.read(
        [
            ReadRequest(gateway_id=f"gateway-{number}", after=2, max_events=5, max_bytes=1_000_000)
            for number in range(1, 101)
        ]
    )


async def _read_few(storage: Storage, _epoch: UUID) -> None:
    """Two gateways, 5 events each."""
    requests = [
        ReadRequest(gateway_id=f"gateway-{number}", after=2, max_events=5, max_bytes=1_000_000) for number in (1, 2)
    ]
    assert [len(result.events) for result in await storage.log.read(requests) if result is not None] == [5, 5]


async def _read_at_the_head(storage: Storage, _epoch: UUID) -> None:
    await storage.log.read(
        [ReadRequest(gateway_id="gateway-777", after=10, max_events=256, max_bytes=1_000_000) for _ in range(100)]
    )


async def _ask_for_changes(storage: Storage, _epoch: UUID) -> None:
    # A marker that lies ahead of every transaction; what comes back is the one of now.
    marker = (await storage.log.changed_since(2**60)).marker
    await storage.log.changed_since(marker)


async def _find_places(storage: Storage, _epoch: UUID) -> None:
    """Where 100 logs stood just now, as a stream asks when it shows them for the first time."""
    marker = (await storage.log.changed_since(2**60)).lasting
    gateways = [f"gateway-{number}" for number in range(1, 101)]
    places = await storage.log.places(gateways, marker)
    assert {place.offset >= 10 for place in places.values()} == {True}


async def _ask_for_latencies(storage: Storage, _epoch: UUID) -> None:
    """Of 100 gateways."""
    await storage.survey.latencies([f"gateway-{number}" for number in range(101, 201)], since=0.0)


async def _connect_and_leave(storage: Storage, epoch: UUID) -> None:
    connection = make_connection(f"new-{next(_numbers)}", "gateway-5")
    await storage.presence.standing(connection.gateway_id, "")
    await storage.presence.connect(connection, start=Position(epoch, 8), newest_only=True)
    await storage.presence.disconnect([_progress(epoch, connection.connection_id, "gateway-5")])


async def _connect_together(storage: Storage, epoch: UUID) -> None:
    """100 gateways that come back, and leave."""
    connections = [make_connection(f"new-{next(_numbers)}", f"gateway-{number}") for number in range(101, 201)]
    start = Position(epoch, 8)
    await asyncio.gather(*(storage.presence.standing(each.gateway_id, "") for each in connections))
    await asyncio.gather(*(storage.presence.connect(each, start=start) for each in connections))
    await storage.presence.disconnect([_progress(epoch, each.connection_id, each.gateway_id) for each in connections])


async def _report_progress(storage: Storage, epoch: UUID) -> None:
    """100 connections."""
    progress = [_progress(epoch, f"connection-{number}", f"gateway-{number}") for number in range(1, 101)]
    await storage.presence.record_progress(progress)


async def _tell_of_passages(storage: Storage, epoch: UUID) -> None:
    """100 connections, and the way of an event that they tell of."""
    at = (1_790_000_000.0, 1_790_000_001.0)
    passages = tuple(Passage(after, 9, *at) for after in (7, 7, 8))
    progress = [
        replace(_progress(epoch, f"connection-{number}", f"gateway-{number}"), passages=passages)
        for number in range(101, 201)
    ]
    await storage.presence.record_progress(progress)
    assert await storage.outcomes.deliveries("gateway-101", 9)


async def _look_after_the_pod(storage: Storage, _epoch: UUID) -> None:
    await storage.presence.renew_lease("pod-1", ALIVE)
    await storage.presence.pending_disconnects("pod-1")


async def _revoke(storage: Storage, _epoch: UUID) -> None:
    await storage.presence.disconnect_token("token-4711")


async def _show_status(storage: Storage, _epoch: UUID) -> None:
    """50 gateways."""
    await storage.presence.status([f"gateway-{number}" for number in range(1, 51)])


async def _note_outcomes(storage: Storage, _epoch: UUID) -> None:
    outcomes = [
        Outcome(gateway_id=f"gateway-{number}", replica="", offset=7, kind=OutcomeKind.APPLIED, reason="")
        for number in range(1, 101)
    ]
    await storage.outcomes.record(outcomes)
    await storage.outcomes.of_events("gateway-1", [1, 7])


async def _register_and_forget(storage: Storage, _epoch: UUID) -> None:
    gateway_id = f"new-{next(_numbers)}"
    await storage.log.register(gateway_id)
    await storage.log.publish([[make_event(gateway_id)]])
    await storage.log.forget(gateway_id)


#: The most rows and index entries that one round may read, over all tables.
_WORK: list[tuple[Work, int]] = [
    (_publish_one, 20),
    (_publish_batch, 2_000),
    (_publish_fan_out, 1_500),
    (_publish_again, 60),
    (_publish_to_nobody, 20),
    (_read, 2_000),
    (_read_few, 60),
    (_read_at_the_head, 600),
    (_ask_for_changes, 20),
    (_connect_and_leave, 60),
    (_connect_together, 6_000),
    (_report_progress, 2_500),
    (_tell_of_passages, 3_500),
    (_find_places, 600),
    (_ask_for_latencies, 4_000),
    (_look_after_the_pod, 60),
    (_revoke, 20),
    (_show_status, 1_000),
    (_note_outcomes, 1_000),
    (_register_and_forget, 60),
]


@pytest.mark.parametrize(("work", "most_rows"), _WORK, ids=[work.__name__.strip("_") for work, _ in _WORK])
async def test_it_reads_what_it_is_asked_for(large_url: str, work: Work, most_rows: int) -> None:
    """No table that grows is ever read as a whole, however often the statement runs."""

    async def repeat(storage: Storage) -> None:
        epoch = (await storage.log.changed_since(2**60)).epoch
        for _ in range(_OFTEN):
            await work(storage, epoch)

    reads = await reads_of(large_url, repeat)
    assert reads["events"].scans == 0
    # Without statistics a table of connections may be read as a whole; within a minute autovacuum makes them.
    tables = ("events", "outcomes", "cursors") if "fresh" in large_url else tuple(reads)
    assert sum(reads[table].rows for table in tables) <= most_rows * _OFTEN, reads


async def test_a_read_for_one_gateway_is_not_planned_each_time(postgres_url: str) -> None:
    """Planning it takes longer than running it."""
    requests = [ReadRequest(gateway_id="gateway-1", after=0, max_events=256, max_bytes=1_000_000)]
    async with PostgresStorage.open(postgres_url, pool_size=1) as storage:
        await storage.log.register("gateway-1")
        for _ in range(3 * _OFTEN):
            await storage.log.read(requests)
        [found] = await storage.database.fetch("SELECT sum(custom_plans)::integer AS plans FROM pg_prepared_statements")
    # Five at first, as PostgreSQL does with each statement.
    assert found["plans"] <= 2 * _OFTEN


async def test_a_look_up_of_a_position_is_not_planned_each_time(postgres_url: str) -> None:
    """Every gateway that connects alone needs one."""
    async with PostgresStorage.open(postgres_url, pool_size=1) as storage:
        await storage.log.register("gateway-1")
        for _ in range(3 * _OFTEN):
            await storage.presence.standing("gateway-1", "")
        [found] = await storage.database.fetch("SELECT sum(custom_plans)::integer AS plans FROM pg_prepared_statements")
    assert found["plans"] <= 2 * _OFTEN


async def test_s19_looking_for_old_events_reads_one_event_for_each_gateway(large_url: str) -> None:
    policy = TrimPolicy(keep_confirmed=_LONG, keep_at_most=_LONG, max_events=1_000)
    reads = await reads_of(large_url, lambda storage: storage.log.trim(policy))
    assert reads["events"].scans == 0
    assert reads["events"].rows <= 20_500


async def test_s19_a_chunk_of_old_events_reads_about_a_chunk(large_url: str) -> None:
    """Finding and removing 1,000 events reads a few times as many, not all 200,000."""
    policy = TrimPolicy(keep_confirmed=_LONG, keep_at_most=_LONG, max_events=5, chunk=1_000)

    async def trim(storage: Storage) -> None:
        for _ in range(_OFTEN):
            assert 900 <= await storage.log.trim(policy) <= 1_000

    reads = await reads_of(large_url, trim)
    assert reads["events"].scans == 0
    assert reads["events"].rows <= 10_000 * _OFTEN


async def test_s19_a_chunk_of_one_long_log_reads_nothing_of_the_others(postgres_url: str) -> None:
    """Where fifty logs are long, each chunk reads as much as it removes, and not a chunk of each."""
    gateways = [f"long-{number}" for number in range(50)]
    policy = TrimPolicy(keep_confirmed=_LONG, keep_at_most=_LONG, max_events=5, chunk=500)
    fill = Queries("gatecast.cli.bench", "retention.sql")["fill"]

    async def trim(storage: Storage) -> None:
        for _ in range(_OFTEN):
            assert await storage.log.trim(policy) == 500

    async with PostgresStorage.open(postgres_url) as storage:
        for gateway_id in gateways:
            await storage.log.register(gateway_id)
        await storage.database.fetch(fill, gateways, 600)
    reads = await reads_of(postgres_url, trim)
    assert reads["events"].scans == 0
    assert reads["events"].rows <= 3_000 * _OFTEN


def _progress(epoch: UUID, connection_id: str, gateway_id: str) -> Progress:
    return Progress(
        connection_id=connection_id, gateway_id=gateway_id, replica="", epoch=epoch, sent=9, confirmed=next(_numbers)
    )
