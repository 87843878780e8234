"""Retention beside publishers that hold logs, and its bounds over many gateways."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from gatecast.storage.contract import Outcome, OutcomeKind, Storage, TrimPass, TrimPolicy
from gatecast.storage.postgres import PostgresStorage
from gatecast.testing.contracts.backend import (
    ALIVE,
    GATEWAY,
    POD,
    confirm,
    connect,
    make_connection,
    make_event,
    make_events,
    offsets_of,
    publish,
    read,
)
from gatecast.testing.contracts.held_log import HeldLog


def _keep(events: int, *, chunk: int = 2_000) -> TrimPolicy:
    age = timedelta(days=1)
    return TrimPolicy(keep_confirmed=age, keep_at_most=age, max_events=events, chunk=chunk)


async def _fill(storage: Storage, gateways: Sequence[str], events: int) -> None:
    for gateway_id in gateways:
        await storage.log.register(gateway_id)
        await publish(storage, *make_events(events, gateway_id))


async def test_a_held_log_is_left_alone_and_waited_for_by_nobody(postgres_url: str) -> None:
    async with PostgresStorage.open(postgres_url) as storage:
        await _fill(storage, ["free", "held"], 10)
        async with HeldLog.hold(postgres_url, "held"):
            assert await storage.log.trim(_keep(4)) == 6
            assert (await read(storage, "held")).low_water_mark == 0
        assert await storage.log.trim(_keep(4)) == 6
        assert (await read(storage, "held")).low_water_mark == 6


async def test_a_held_log_uses_up_nothing_of_the_chunk_of_the_others(postgres_url: str) -> None:
    """One transaction that stays open must not stop retention for every gateway behind it."""
    async with PostgresStorage.open(postgres_url) as storage:
        await _fill(storage, ["a-held", "b-free"], 20)
        async with HeldLog.hold(postgres_url, "a-held"):
            removed = [await storage.log.trim(_keep(4, chunk=10)) for _ in range(5)]
            assert removed == [10, 6, 0, 0, 0]
            assert (await read(storage, "a-held")).low_water_mark == 0
        assert await storage.log.trim(_keep(4, chunk=10)) == 10


async def _wait_as_long_as_it_takes(storage: PostgresStorage) -> None:
    await storage.database.execute("ALTER FUNCTION gatecast.wait_for_log_v1(text, bigint) SET lock_timeout = '100s'")


async def test_a_log_that_is_written_to_all_the_time_is_waited_for(postgres_url: str) -> None:
    """It is never free, and would grow for ever. No other log is held meanwhile; little room stops before it, too."""
    async with PostgresStorage.open(postgres_url) as storage:
        await _fill(storage, ["a-free", "b-busy"], 20)
        await _wait_as_long_as_it_takes(storage)
        policy, trim_pass = _keep(4, chunk=18), TrimPass()
        async with HeldLog.hold(postgres_url, "b-busy") as held:
            assert await storage.log.trim(policy, trim_pass) == 16
            assert (trim_pass.gateway_id, trim_pass.is_done) == ("b-busy", False)
            trimming = asyncio.create_task(storage.log.trim(replace(policy, chunk=16), trim_pass))
            await held.waited_for()
            await publish(storage, make_event("a-free"))
        assert await trimming == 16


async def test_what_a_replica_lacks_that_connects_meanwhile_stays(postgres_url: str) -> None:
    """The transaction that is waited for decides what may go."""
    async with PostgresStorage.open(postgres_url) as storage:
        await _fill(storage, [GATEWAY], 20)
        await _wait_as_long_as_it_takes(storage)
        await storage.presence.renew_lease(POD, ALIVE)
        first = make_connection(replica="first")
        await connect(storage, first)
        await confirm(storage, first, 20)
        await storage.database.execute("UPDATE gatecast.events SET recorded_at = now() - interval '2 hours'")
        policy = replace(_keep(1_000, chunk=10), keep_confirmed=timedelta(hours=1))
        async with HeldLog.hold(postgres_url, "another") as held:
            await held.execute(_CONNECT, GATEWAY, POD)
            trimming = asyncio.create_task(storage.log.trim(policy, TrimPass()))
            await held.waited_for()
        assert await trimming == 0
        assert (await read(storage)).low_water_mark == 0


#: A replica that begins at the beginning.
_CONNECT = """
    SELECT gatecast.connect_v1($1, 'second', 'connection', $2, 'protocol', 'remote', NULL, e.current, 0, false, NULL)
    FROM gatecast.epoch AS e
"""


async def test_a_transaction_that_holds_many_logs_keeps_nobody_from_being_trimmed(postgres_url: str) -> None:
    """One call waits for one of them, however many there are; what comes behind them is reached."""
    held_logs = [f"a-held-{number}" for number in range(4)]
    async with PostgresStorage.open(postgres_url) as storage:
        await _fill(storage, [*held_logs, "b-free"], 20)
        policy, trim_pass, next_logs, removed = _keep(4, chunk=16), TrimPass(), [], 0
        async with HeldLog.hold(postgres_url, held_logs[0]) as held:
            await held.execute("SELECT FROM gatecast.gateway_streams WHERE gateway_id LIKE 'a-%' FOR UPDATE")
            while not trim_pass.is_done:
                removed += await storage.log.trim(policy, trim_pass)
                next_logs.append(trim_pass.gateway_id)
        assert next_logs[:3] == held_logs[1:]
        assert removed == 16


async def test_retention_locks_no_more_logs_than_it_trims(postgres_url: str) -> None:
    """A publisher waits for the removal from its own log, never for a log that the chunk did not reach."""
    async with PostgresStorage.open(postgres_url) as storage:
        await _fill(storage, ["a-reached", "b-not-reached"], 20)
        async with HeldLog.hold(postgres_url, "a-reached") as held:
            await held.execute("SELECT gatecast.trim_events_v1('1 day', '1 day', 4, 16)")
            await publish(storage, make_event("b-not-reached"))
        assert (await read(storage, "b-not-reached")).low_water_mark == 0


async def test_what_is_parked_while_a_cap_removes_it_is_told(postgres_url: str) -> None:
    """Recording waits for retention, and then sees what was removed."""
    async with PostgresStorage.open(postgres_url) as storage:
        await _fill(storage, [GATEWAY], 10)
        await connect(storage, make_connection())
        async with HeldLog.hold(postgres_url, GATEWAY) as held:
            await held.execute("SELECT gatecast.trim_events_v1('1 day', '1 day', 4, 100)")
            parked = Outcome(gateway_id=GATEWAY, replica="", offset=3, kind=OutcomeKind.PARKED, reason="no")
            recording = asyncio.create_task(storage.outcomes.record([parked]))
            await held.waited_for()
        await recording
        assert await storage.outcomes.of_events(GATEWAY, [3]) == []
        assert (await storage.presence.standing(GATEWAY, "")).resync_reason == "parked"


async def test_a_chunk_bounds_what_goes_over_all_gateways(postgres_url: str) -> None:
    """Never more than a chunk in one transaction, however it falls on the gateways; everything goes in the end."""
    gateways = [f"gateway-{number:02}" for number in range(12)]
    async with PostgresStorage.open(postgres_url) as storage:
        await _fill(storage, gateways, 9)
        removed = []
        while went := await storage.log.trim(_keep(2, chunk=10)):
            removed.append(went)
        assert max(removed) <= 10
        assert sum(removed) == 12 * 7


async def test_publishing_and_trimming_at_once_leaves_no_hole(postgres_url: str) -> None:
    """What is numbered while retention runs is numbered without gaps, and what is retained is the end of the log."""
    async with PostgresStorage.open(postgres_url) as storage, PostgresStorage.open(postgres_url) as trimmer:
        await storage.log.register(GATEWAY)
        publishing = asyncio.gather(*(_publish_some(storage, 25) for _ in range(4)))
        removed = 0
        while not publishing.done():
            removed += await trimmer.log.trim(_keep(5, chunk=7))
        offsets = sorted(offset for offsets in await publishing for offset in offsets)
        while went := await trimmer.log.trim(_keep(5, chunk=7)):
            removed += went
        assert offsets == list(range(1, 201))
        result = await read(storage)
        assert [event.offset for event in result.events] == [196, 197, 198, 199, 200]
        assert (result.low_water_mark, removed) == (195, 195)


async def _publish_some(storage: Storage, rounds: int) -> list[int]:
    return [offset for _ in range(rounds) for offset in offsets_of(await publish(storage, make_event(), make_event()))]


async def test_an_id_repeated_after_its_event_was_trimmed_is_a_new_event(postgres_url: str) -> None:
    """Ids are kept as long as their events."""
    event = make_event()
    async with PostgresStorage.open(postgres_url) as storage:
        await storage.log.register(GATEWAY)
        await publish(storage, event, make_event())
        await storage.log.trim(_keep(1))
        (receipt,) = await publish(storage, event)
        assert (receipt.created, receipt.position.offset) == (True, 3)
