"""The contract of retention: bounded, from the front, and never a hole."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from gatecast.storage.contract import Engine, Outcome, OutcomeKind, TrimPass, TrimPolicy
from gatecast.testing.contracts.backend import (
    GATEWAY,
    OTHER_GATEWAY,
    EngineBackend,
    confirm,
    connect,
    make_connection,
    make_event,
    make_events,
    offsets_of,
    publish,
    read,
)

#: Every event is older than this.
_AT_ONCE = timedelta(seconds=-60)
#: No event is older than this.
_LONG = timedelta(days=3_650)


def _policy(
    *, confirmed: timedelta = _LONG, at_most: timedelta = _LONG, max_events: int = 1_000_000, chunk: int = 2_000
) -> TrimPolicy:
    return TrimPolicy(keep_confirmed=confirmed, keep_at_most=at_most, max_events=max_events, chunk=chunk)


async def _retained(storage: Engine, gateway_id: str = GATEWAY) -> list[int]:
    """The offsets still in the log, which must begin right after `low_water_mark`."""
    result = await read(storage, gateway_id)
    offsets = [event.offset for event in result.events]
    assert offsets == list(range(result.low_water_mark + 1, result.head + 1))
    return offsets


async def _pass(storage: Engine, policy: TrimPolicy) -> list[int]:
    """How many events each chunk of one pass removed."""
    trim_pass, removed = TrimPass(), list[int]()
    while not trim_pass.is_done:
        removed.append(await storage.log.trim(policy, trim_pass))
    return removed


class RetentionContract(EngineBackend):
    """`EventLog.trim`."""

    async def test_what_is_confirmed_and_old_goes(self, tmp_path: Path) -> None:
        """Events that the gateway has confirmed go once they are old; the others stay."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(10))
            await connect(storage, make_connection())
            await confirm(storage, make_connection(), 4)
            assert await storage.log.trim(_policy(confirmed=_AT_ONCE)) == 4
            assert await _retained(storage) == [5, 6, 7, 8, 9, 10]
            assert await storage.log.trim(_policy(confirmed=_AT_ONCE)) == 0

    async def test_what_is_confirmed_but_young_stays(self, tmp_path: Path) -> None:
        """Confirmed events stay for as long as the policy keeps them."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(3))
            await connect(storage, make_connection(), start=3)
            assert await storage.log.trim(_policy()) == 0
            assert await _retained(storage) == [1, 2, 3]

    async def test_a_gateway_that_never_connected_confirms_nothing(self, tmp_path: Path) -> None:
        """Without a stored position nothing counts as confirmed."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(3))
            assert await storage.log.trim(_policy(confirmed=_AT_ONCE)) == 0

    async def test_what_one_replica_lacks_stays(self, tmp_path: Path) -> None:
        """An event is confirmed when every replica has confirmed it."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(5))
            await connect(storage, make_connection("one", replica="a"), start=5)
            await connect(storage, make_connection("two", replica="b"), start=2)
            assert await storage.log.trim(_policy(confirmed=_AT_ONCE)) == 2
            assert await _retained(storage) == [3, 4, 5]

    async def test_what_is_too_old_goes_unconfirmed(self, tmp_path: Path) -> None:
        """Past the hard limit of age an event goes, confirmed or not."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await publish(storage, *make_events(3), *make_events(2, OTHER_GATEWAY))
            assert await storage.log.trim(_policy(at_most=_AT_ONCE)) == 5
            assert await _retained(storage) == await _retained(storage, OTHER_GATEWAY) == []

    async def test_what_is_too_much_goes_from_the_front(self, tmp_path: Path) -> None:
        """A log longer than the limit loses its oldest events; a shorter one loses nothing."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await publish(storage, *make_events(10), *make_events(3, OTHER_GATEWAY))
            assert await storage.log.trim(_policy(max_events=3)) == 7
            assert await _retained(storage) == [8, 9, 10]
            assert await _retained(storage, OTHER_GATEWAY) == [1, 2, 3]

    async def test_at_most_one_chunk_goes_in_one_call(self, tmp_path: Path) -> None:
        """Much work is done in small steps, until there is none left."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(10))
            policy = _policy(at_most=_AT_ONCE, chunk=4)
            assert [await storage.log.trim(policy) for _ in range(4)] == [4, 4, 2, 0]

    async def test_a_pass_removes_everything_in_chunks(self, tmp_path: Path) -> None:
        """From every log, of deleted gateways as well; each chunk but the last is full."""
        gateways = [f"more-{number}" for number in range(7)]
        async with self.open_with(tmp_path, GATEWAY, *gateways) as storage:
            await publish(storage, *make_events(5))
            for gateway_id in gateways:
                await publish(storage, *make_events(6, gateway_id))
            await storage.log.forget(GATEWAY)
            assert await _pass(storage, _policy(max_events=3, chunk=4)) == [4] * 6 + [2]
            assert await _pass(storage, _policy(max_events=3, chunk=13)) == [0]
            assert await _pass(storage, _policy(max_events=1, chunk=7)) == [7, 7, 0]

    async def test_a_pass_ends_although_its_logs_grow(self, tmp_path: Path) -> None:
        """Logs at their cap always have a little more to remove; what comes meanwhile waits for the next pass."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            policy = _policy(max_events=3, chunk=4)
            for growth in (1, 4):
                await publish(storage, *make_events(10), *make_events(10, OTHER_GATEWAY))
                trim_pass, chunks = TrimPass(), 0
                while not trim_pass.is_done:
                    await storage.log.trim(policy, trim_pass)
                    await publish(storage, *make_events(growth), *make_events(growth, OTHER_GATEWAY))
                    chunks += 1
                    assert chunks <= 12
                await _pass(storage, policy)
                assert len(await _retained(storage)) == len(await _retained(storage, OTHER_GATEWAY)) == 3

    async def test_a_pass_takes_from_a_busy_log_once(self, tmp_path: Path) -> None:
        """While much is removed from others: each removal makes its publishers wait."""
        hot, long = "a-hot", "b-long"
        async with self.open_with(tmp_path, hot, long) as storage:
            await publish(storage, *make_events(6, hot), *make_events(63, long))
            policy, trim_pass, marks = _policy(max_events=3, chunk=4), TrimPass(), set[int]()
            while not trim_pass.is_done:
                await storage.log.trim(policy, trim_pass)
                await publish(storage, make_event(hot))
                marks.add((await read(storage, hot)).low_water_mark)
            assert marks == {3}
            assert len(await _retained(storage, long)) == 3

    async def test_the_numbers_go_on_after_everything_went(self, tmp_path: Path) -> None:
        """An emptied log keeps its head: the next event has the next number."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(3))
            await storage.log.trim(_policy(at_most=_AT_ONCE))
            assert offsets_of(await publish(storage, make_event())) == [4]
            assert await _retained(storage) == [4]
            assert (await storage.log.changed_since(0)).heads == {GATEWAY: 4}

    async def test_a_reader_learns_what_was_removed(self, tmp_path: Path) -> None:
        """A reader that asks for removed events gets the first retained one, and the low-water mark."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(5))
            await storage.log.trim(_policy(max_events=2))
            result = await read(storage, after=1, limit=1)
            assert [event.offset for event in result.events] == [4]
            assert (result.low_water_mark, result.head) == (3, 5)
            assert (await storage.presence.standing(GATEWAY, "")).low_water_mark == 3
            assert (await storage.presence.status([GATEWAY]))[GATEWAY].low_water_mark == 3

    async def test_outcomes_go_with_their_events(self, tmp_path: Path) -> None:
        """What was said of a removed event is removed as well."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(3))
            said = [
                Outcome(gateway_id=GATEWAY, replica="", offset=offset, kind=OutcomeKind.APPLIED, reason="")
                for offset in (1, 2, 3)
            ]
            await storage.outcomes.record(said)
            await storage.log.trim(_policy(max_events=1))
            assert [outcome.offset for outcome in await storage.outcomes.of_events(GATEWAY, [1, 2, 3])] == [3]

    async def test_pods_that_trim_at_once_remove_each_event_once(self, tmp_path: Path) -> None:
        """Several pods may trim at the same time; together they count what went."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as first, self.open_second(tmp_path) as second:
            await publish(first, *make_events(50), *make_events(50, OTHER_GATEWAY))
            policy = _policy(max_events=10, chunk=15)
            removed = 0
            while went := sum(await asyncio.gather(*(one.log.trim(policy) for one in (first, second, first, second)))):
                removed += went
            assert removed == 80
            assert await _retained(first) == await _retained(second, OTHER_GATEWAY) == list(range(41, 51))

    async def test_s19_a_slow_reader_finds_no_hole(self, tmp_path: Path) -> None:
        """Retention and publishers work while a slow gateway reads its backlog: it gets every event."""
        async with self.open_with(tmp_path, GATEWAY) as storage, self.open_second(tmp_path) as second:
            await publish(storage, *make_events(200))
            connection = make_connection()
            await connect(storage, connection)
            seen: list[int] = []
            while len(seen) < 200:
                result, _, _ = await asyncio.gather(
                    read(storage, after=len(seen), limit=7),
                    second.log.trim(_policy(confirmed=_AT_ONCE, chunk=10)),
                    publish(second, make_event()),
                )
                seen += [event.offset for event in result.events]
                assert seen == list(range(1, len(seen) + 1))
                await confirm(storage, connection, len(seen))

    async def test_what_a_forgotten_gateway_leaves_goes_in_chunks(self, tmp_path: Path) -> None:
        """Forgetting removes no event itself; each clean-up removes a chunk, over several logs, until none is left."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage, self.open_second(tmp_path) as second:
            await publish(storage, *make_events(5))
            await publish(storage, *make_events(2, OTHER_GATEWAY))
            await storage.log.forget(GATEWAY)
            await storage.log.forget(OTHER_GATEWAY)
            # By any pod: the pod that forgot it may be dead.
            assert [await second.log.trim(_policy(chunk=3)) for _ in range(4)] == [3, 3, 1, 0]

    async def test_a_gateway_registered_again_is_not_touched_by_what_is_left(self, tmp_path: Path) -> None:
        """Its log is new and empty from the start, knows no old id or outcome, and stays when the old one goes."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            events = make_events(5)
            await publish(storage, *events)
            rejected = Outcome(gateway_id=GATEWAY, replica="", offset=2, kind=OutcomeKind.REJECTED, reason="no")
            await storage.outcomes.record([rejected])
            await storage.log.forget(GATEWAY)
            await storage.log.register(GATEWAY)
            assert await _retained(storage) == []
            assert await storage.log.trim(_policy(chunk=3)) == 3
            assert offsets_of(await publish(storage, *events[3:])) == [1, 2]
            await storage.log.publish([[event] for event in events[:1]])
            assert (await storage.presence.status([GATEWAY]))[GATEWAY].head == 3
            assert await storage.log.trim(_policy(chunk=3)) == 2
            assert await storage.log.trim(_policy()) == 0
            assert [event.event_id for event in (await read(storage)).events] == [
                events[number].event_id for number in (3, 4, 0)
            ]
            assert await storage.outcomes.of_events(GATEWAY, [1, 2, 3]) == []
