"""What only a database with concurrent writers can get wrong: logs that are held, races, and backends that die."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal

import asyncpg
import pytest

from gatecast.errors import StorageUnavailable, TransactionUnusable, UnknownGateway
from gatecast.events import Event
from gatecast.storage.contract import Busy, Storage
from gatecast.storage.postgres import PostgresStorage
from gatecast.storage.postgres.appending import _as_arrays
from gatecast.storage.postgres.database import PooledConnection
from gatecast.testing.contracts.backend import ids_of, make_event, make_events, offsets_of, publish, read
from gatecast.testing.contracts.held_log import HeldLog
from gatecast.testing.eventually import PATIENCE, eventually

_FREE = "gateway-free"
_HELD = "gateway-held"


async def _register(storage: Storage, gateways: Sequence[str]) -> None:
    async with storage.database.transaction() as transaction:
        for gateway_id in gateways:
            await storage.log.register(gateway_id, transaction=transaction)


async def test_s12_a_held_log_is_busy_and_delays_nobody(postgres_url: str) -> None:
    async with PostgresStorage.open(postgres_url) as storage:
        await _register(storage, [_FREE, _HELD])
        async with HeldLog.hold(postgres_url, _HELD):
            assert await storage.log.publish([[make_event(_HELD)]], wait=False) == [Busy(_HELD)]
            groups = [[make_event(_FREE)], [make_event(_FREE), make_event(_HELD)], [make_event("nobody")]]
            stored, busy, unknown = await storage.log.publish(groups, wait=False)
            assert isinstance(stored, tuple)
            assert busy == Busy(_HELD)
            assert isinstance(unknown, UnknownGateway)
            assert unknown.gateway_id == "nobody"
        assert len(await ids_of(storage, _FREE)) == 1
        assert await ids_of(storage, _HELD) == []


async def test_s12_many_groups_for_a_held_log_cost_one_statement(postgres_url: str) -> None:
    """A publisher to other logs does not wait for one statement per group of the held log."""
    statements: list[str] = []
    async with PostgresStorage.open(postgres_url, pool_size=1) as storage:
        await _register(storage, [_HELD])
        async with storage.database.connection() as connection:
            connection.add_query_logger(lambda record: statements.append(record.query))
        async with HeldLog.hold(postgres_url, _HELD):
            results = await storage.log.publish([make_events(2, _HELD) for _ in range(100)], wait=False)
        assert results == [Busy(_HELD)] * 100
    assert len([statement for statement in statements if "gatecast." in statement]) == 1


_A, _B = "gateway-a", "gateway-b"
_KNOWN, _NEW = make_event(_A), make_event(_A)

#: Batches of groups, and whether the short way of appending does them by itself.
_BATCHES: dict[str, tuple[list[list[Event]], bool]] = {
    "new events": ([[_NEW], [make_event(_B), make_event(_A)], make_events(3, _B)], True),
    "one event for two gateways": ([[_NEW, _NEW.addressed_to(_B)]], True),
    "a traced one among others": (
        [[_NEW], [replace(make_event(_B), trace_parent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")]],
        True,
    ),
    "one that is known": ([[_NEW], [_KNOWN], [make_event(_A)]], False),
    "one twice": ([[_NEW], [_NEW], [make_event(_B)]], False),
    "a gateway that nobody knows": ([[_NEW], [make_event("nobody"), make_event(_A)], [make_event(_B)]], False),
    "a log that is held": ([[_NEW], [make_event(_HELD), make_event(_B)]], False),
}

_CALL = """
SELECT * FROM gatecast.append_{}($1::text::integer[], $2, $3, $4, $5, $6, $7, $8, $9, $10::text::integer[], $11,
                                 false, {})
"""
_LOCK = """
SELECT gateway_id, log_id FROM gatecast.gateway_streams WHERE gateway_id = ANY ($1)
ORDER BY gateway_id FOR NO KEY UPDATE SKIP LOCKED
"""
_LOGS = """
SELECT gateway_id, head, last_event_id, changed_xid = pg_current_xact_id() FROM gatecast.gateway_streams ORDER BY 1
"""
_EVENTS = """
SELECT log_id, "offset", event_id, type, action, entity_type, entity_id, payload, size, originated_at, trace_parent
FROM gatecast.events ORDER BY 1, 2
"""
_LONG_WAYS = "SELECT sum(calls) FROM pg_stat_xact_user_functions WHERE funcname = 'append_locked_v1'"


@pytest.mark.parametrize("name", _BATCHES)
async def test_the_short_way_of_appending_does_what_the_long_one_does(postgres_url: str, name: str) -> None:
    """And is taken where nothing stands against it, which is counted by the calls of the long one."""
    groups, short = _BATCHES[name]
    async with PostgresStorage.open(postgres_url) as storage:
        await _register(storage, [_A, _B, _HELD])
        await publish(storage, make_event(_A), _KNOWN, make_event(_B))
        async with HeldLog.hold(postgres_url, _HELD), storage.database.connection() as connection:
            found = []
            long_ways: list[object] = []
            # The usual one first: the calls are counted from the session's begin on.
            for call in (_append, _append_the_long_way):
                transaction = connection.transaction()
                await transaction.start()
                await connection.execute("SET LOCAL track_functions = 'all'")
                rows = await call(connection, _as_arrays(groups))
                long_ways.append(await connection.fetchval(_LONG_WAYS))
                found.append((rows, await connection.fetch(_LOGS), await connection.fetch(_EVENTS)))
                await transaction.rollback()
        assert found[0] == found[1]
        assert (long_ways[0] is None) == short


async def _append(connection: PooledConnection, arguments: Sequence[object]) -> list[asyncpg.Record]:
    return await connection.fetch(_CALL.format("events_v1", "false"), *arguments)


async def _append_the_long_way(connection: PooledConnection, arguments: Sequence[object]) -> list[asyncpg.Record]:
    locked = await connection.fetch(_LOCK, arguments[1])
    held, logs = [row["gateway_id"] for row in locked], [row["log_id"] for row in locked]
    return await connection.fetch(_CALL.format("locked_v1", "$12, $13"), *arguments, held, logs)


async def test_whoever_waits_is_never_told_that_a_log_is_busy(postgres_url: str) -> None:
    """A publish that waits is stored behind the holder, and never taken for one that met a log just registered."""
    async with PostgresStorage.open(postgres_url) as storage:
        await _register(storage, [_FREE, _HELD])
        async with HeldLog.hold(postgres_url, _HELD) as held:
            groups = [[make_event(_HELD)], [make_event("late"), make_event(_FREE)]]
            publishing = asyncio.create_task(storage.log.publish(groups, wait=True))
            await held.waited_for()
            await storage.log.register("late")
        stored, unknown = await publishing
        assert isinstance(stored, tuple)
        assert isinstance(unknown, UnknownGateway)
        assert await ids_of(storage, _FREE) == []


async def test_batches_in_opposite_orders_do_not_deadlock(postgres_url: str) -> None:
    """Two pods whose batches and single events name the same gateways in any order only ever wait."""
    gateways = [f"gateway-{number}" for number in range(8)]
    async with PostgresStorage.open(postgres_url) as one, PostgresStorage.open(postgres_url) as two:
        await _register(one, gateways)
        work = [_publish_in_any_order((one, two)[seed % 2], gateways, seed) for seed in range(40)]
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*work)
        for gateway_id in gateways:
            assert len(await ids_of(two, gateway_id)) == 40


async def _publish_in_any_order(storage: Storage, gateways: Sequence[str], seed: int) -> None:
    shuffled = random.Random(seed).sample(gateways, len(gateways))  # noqa: S311 - a repeatable order, not a secret
    *most, last = [make_event(gateway_id) for gateway_id in shuffled]
    await storage.log.publish([most[:4], most[4:]])
    await publish(storage, last)


async def test_s15_duplicates_raced_from_two_pods_are_stored_once(postgres_url: str) -> None:
    """Twenty tasks on each of two pods publish the same id, alone and in batches: one event, one position."""
    event = make_event(_FREE)
    async with PostgresStorage.open(postgres_url) as one, PostgresStorage.open(postgres_url) as two:
        await _register(one, [_FREE])
        alone = [publish((one, two)[number % 2], event) for number in range(40)]
        batches = [publish((one, two)[number % 2], event, make_event(_FREE)) for number in range(40)]
        answers = await asyncio.gather(*alone, *batches)
        receipts = [receipts[0] for receipts in answers]
        assert len({receipt.position for receipt in receipts}) == 1
        assert sum(receipt.created for receipt in receipts) == 1
        assert len(await ids_of(one, _FREE)) == 41


async def test_s02_changed_since_never_misses_a_transaction_held_open(postgres_url: str) -> None:
    """However many commits and questions pass meanwhile, the late commit is named by the next answer."""
    async with PostgresStorage.open(postgres_url) as storage:
        await _register(storage, [_FREE, _HELD])
        marker, seen = 0, dict[str, int]()
        for number in range(1, 6):
            async with storage.database.transaction() as transaction:
                await storage.log.publish_in(transaction, [make_event(_HELD)])
                for _ in range(5):
                    await publish(storage, make_event(_FREE))
                    changes = await storage.log.changed_since(marker)
                    marker, seen = changes.marker, {**seen, **changes.heads}
                assert seen == {_FREE: number * 5, _HELD: number - 1}
            changes = await storage.log.changed_since(marker)
            marker, seen = changes.marker, {**seen, **changes.heads}
            assert seen[_HELD] == number


async def test_s06_a_fan_out_whose_backend_is_terminated_is_whole_or_absent(postgres_url: str) -> None:
    """Terminated with 999 logs in its hands, a statement has stored nothing; repeated, it stores everything."""
    gateways = [f"gateway-{number:04}" for number in range(1_000)]
    event = make_event(gateways[0])
    fan_out = [event.addressed_to(gateway_id) for gateway_id in gateways]
    async with PostgresStorage.open(postgres_url) as storage:
        await _register(storage, gateways)
        async with HeldLog.hold(postgres_url, gateways[-1]) as held:
            publishing = asyncio.create_task(publish(storage, *fan_out))
            await held.waited_for()
            await _terminate_blocked(postgres_url)
            with pytest.raises(StorageUnavailable):
                await publishing
        assert set((await storage.log.changed_since(0)).heads.values()) == {0}
        assert await storage.database.fetch("SELECT FROM gatecast.events") == []
        assert set(offsets_of(await publish(storage, *fan_out))) == {1}


async def test_s06_fan_outs_terminated_at_any_moment_are_whole_or_absent(postgres_url: str) -> None:
    gateways = [f"gateway-{number:04}" for number in range(1_000)]
    async with PostgresStorage.open(postgres_url) as storage, PostgresStorage.open(postgres_url) as reader:
        await _register(storage, gateways)
        for turns in range(1, 12):
            event = make_event(gateways[0])
            publishing = asyncio.create_task(publish(storage, *(event.addressed_to(each) for each in gateways)))
            for _ in range(turns):
                await reader.database.ping()
            await _terminate_publisher(postgres_url)
            with suppress(StorageUnavailable):
                await publishing
            heads = (await reader.log.changed_since(0)).heads
            assert len(set(heads.values())) == 1
            [row] = await reader.database.fetch("SELECT count(*) AS events FROM gatecast.events")
            assert row["events"] == 1_000 * heads[gateways[0]]


async def _terminate_blocked(url: str) -> None:
    await _terminate(url, "cardinality(pg_blocking_pids(pid)) > 0")


async def _terminate_publisher(url: str) -> None:
    await _terminate(url, "query LIKE '%append_events%' AND state = 'active'")


async def _terminate(url: str, which: str) -> None:
    connection = await asyncpg.connect(url)
    mine = f"datname = current_database() AND pid <> pg_backend_pid() AND {which}"
    try:
        await connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")
        gone = f"SELECT count(*) = 0 FROM pg_stat_activity WHERE {mine}"
        await eventually(lambda: connection.fetchval(gone))
    finally:
        await connection.close()


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_a_callers_transaction_may_have_any_isolation(
    postgres_url: str, isolation: Literal["read_committed", "repeatable_read", "serializable"]
) -> None:
    """As long as nobody else appended since its snapshot, every isolation level carries single events and batches."""
    async with PostgresStorage.open(postgres_url) as storage:
        await _register(storage, [_FREE])
        caller = await asyncpg.connect(postgres_url)
        async with caller.transaction(isolation=isolation):
            await caller.fetch("SELECT 1")
            await storage.log.publish_in(caller, [make_event(_FREE)])
            await storage.log.publish_in(caller, make_events(3, _FREE))
        await caller.close()
        assert len(await ids_of(storage, _FREE)) == 4


@pytest.mark.parametrize("count", [1, 3])
async def test_a_snapshot_that_is_too_old_is_refused_and_a_repetition_stored(postgres_url: str, count: int) -> None:
    """In REPEATABLE READ a log that grew since the snapshot cannot be appended to: refused, never misnumbered."""
    events = make_events(count, _FREE)
    async with PostgresStorage.open(postgres_url) as storage:
        await _register(storage, [_FREE])
        caller = await asyncpg.connect(postgres_url)
        transaction = caller.transaction(isolation="repeatable_read")
        await transaction.start()
        await caller.fetch("SELECT count(*) FROM gatecast.events")
        await publish(storage, events[0])
        with pytest.raises(StorageUnavailable):
            await storage.log.publish_in(caller, events)
        await transaction.rollback()
        async with caller.transaction(isolation="repeatable_read"):
            receipts = await storage.log.publish_in(caller, events)
        await caller.close()
        assert offsets_of(receipts) == list(range(1, count + 1))
        assert await ids_of(storage, _FREE) == [event.event_id for event in events]


async def test_a_transaction_that_has_failed_carries_nothing(postgres_url: str) -> None:
    async with PostgresStorage.open(postgres_url) as storage:
        await _register(storage, [_FREE])
        caller = await asyncpg.connect(postgres_url)
        transaction = caller.transaction()
        await transaction.start()
        with pytest.raises(asyncpg.DivisionByZeroError):
            await caller.fetch("SELECT 1 / 0")
        with pytest.raises(TransactionUnusable, match="failed already"):
            await storage.log.publish_in(caller, [make_event(_FREE)])
        await transaction.rollback()
        await caller.close()
        assert (await read(storage, _FREE)).head == 0


@pytest.mark.parametrize("failure", [TimeoutError("the caller's own"), ConnectionResetError("of another server")])
async def test_what_a_transactions_block_raises_comes_out_as_it_is(postgres_url: str, failure: Exception) -> None:
    """A caller's own failure is not taken for the database's, and everything is rolled back."""
    async with PostgresStorage.open(postgres_url) as storage:
        await _register(storage, [_FREE])
        with pytest.raises(type(failure)) as caught:
            await _publish_and_fail(storage, failure)
        assert caught.value is failure
        assert (await read(storage, _FREE)).head == 0


async def _publish_and_fail(storage: Storage, failure: Exception) -> None:
    async with storage.database.transaction() as transaction:
        await storage.log.publish_in(transaction, [make_event(_FREE)])
        raise failure


async def test_a_publish_whose_connection_dies_while_it_waits_frees_its_place(postgres_url: str) -> None:
    """A pool of one connection goes on after its only connection was terminated."""
    events: list[Event] = make_events(2, _HELD)
    async with PostgresStorage.open(postgres_url, pool_size=1) as storage:
        await _register(storage, [_HELD])
        async with HeldLog.hold(postgres_url, _HELD) as held:
            publishing = asyncio.create_task(publish(storage, *events))
            await held.waited_for()
            await _terminate_blocked(postgres_url)
            with pytest.raises(StorageUnavailable):
                await publishing
        assert offsets_of(await publish(storage, *events)) == [1, 2]
