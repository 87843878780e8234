"""The contract of parking: what waits for a decision, and what is published again after it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from gatecast.errors import StorageUnavailable
from gatecast.events import Event, Position
from gatecast.storage.contract import DeliveryFilter, DisconnectReason, Engine, Outcome, OutcomeKind, TrimPolicy
from gatecast.testing.contracts.backend import (
    GATEWAY,
    POD,
    EngineBackend,
    confirm,
    connect,
    make_connection,
    make_event,
    progress_of,
    publish,
    read,
)

_ENTITY = ("LlmProvider", "provider-1")

_NOTHING = DeliveryFilter()


def _outcome(offset: int, kind: OutcomeKind, replica: str = "") -> Outcome:
    return Outcome(gateway_id=GATEWAY, replica=replica, offset=offset, kind=kind, reason="no such template")


def _other() -> Event:
    event = make_event(number=0)
    return Event(
        gateway_id=event.gateway_id,
        type=event.type,
        action=event.action,
        entity_type=event.entity_type,
        entity_id="provider-2",
        data={"number": 0},
    )


async def _numbers(storage: Engine, after: int) -> list[object]:
    return [event.data["number"] for event in (await read(storage, after=after)).events]


class ParkingContract(EngineBackend):
    """`Parking`."""

    async def _parked(self, storage: Engine, *held: int, replica: str = "") -> None:
        """Offsets 1 to 4 are of one entity and 5 of another; 1 was rejected, and these are held."""
        await publish(storage, *[make_event(number=number) for number in range(1, 5)], _other())
        outcomes = [_outcome(1, OutcomeKind.PARKED, replica)]
        outcomes += [_outcome(offset, OutcomeKind.HELD, replica) for offset in held]
        await storage.outcomes.record(outcomes)

    async def test_a_parked_entity_is_withheld_and_listed(self, tmp_path: Path) -> None:
        """With its reason and the number of held events, for the replica that rejected it and for no other."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage, 2, 3, replica="a")
            assert await storage.parking.withheld(GATEWAY, "a", after=0) == DeliveryFilter(parked=frozenset([_ENTITY]))
            assert await storage.parking.withheld(GATEWAY, "b", after=0) == _NOTHING
            [parked] = await storage.parking.parked(GATEWAY, after=0, limit=10)
            assert (parked.replica, parked.entity_type, parked.entity_id) == ("a", *_ENTITY)
            assert (parked.offset, parked.reason, parked.held) == (1, "no such template", 2)
            assert await storage.parking.parked(GATEWAY, after=1, limit=10) == []
            assert await storage.parking.parked("unknown", after=0, limit=10) == []

    async def test_a_parked_event_that_comes_by_again_stays_parked(self, tmp_path: Path) -> None:
        """A client that continues in front of it lets its pod hold it."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage, 2)
            await storage.outcomes.record([_outcome(1, OutcomeKind.HELD)])
            [parked] = await storage.parking.parked(GATEWAY, after=0, limit=10)
            assert (parked.offset, parked.reason) == (1, "no such template")

    async def test_a_retry_brings_everything_of_the_entity_in_order(self, tmp_path: Path) -> None:
        """The rejected event, what is held, and what still waits: as new events, so that none overtakes another."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage, 2, 3)
            assert await storage.parking.resolve(GATEWAY, "", _ENTITY, retry=True)
            withheld = await storage.parking.withheld(GATEWAY, "", after=3)
            assert withheld == DeliveryFilter(settled=frozenset([4]))
            assert await _numbers(storage, after=5) == [1, 2, 3, 4]
            assert await storage.parking.parked(GATEWAY, after=0, limit=10) == []

    async def test_a_skip_leaves_out_what_was_rejected(self, tmp_path: Path) -> None:
        """The held event comes, with every later one of its entity."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage, 2)
            assert await storage.parking.resolve(GATEWAY, "", _ENTITY, retry=False)
            withheld = await storage.parking.withheld(GATEWAY, "", after=2)
            assert withheld == DeliveryFilter(settled=frozenset([3, 4]))
            assert await _numbers(storage, after=5) == [2, 3, 4]
            skipped, *released = await storage.outcomes.of_events(GATEWAY, [1, 2, 3, 4])
            assert skipped.kind is OutcomeKind.OMITTED
            assert {one.kind for one in released} == {OutcomeKind.RELEASED}

    async def test_a_skip_with_nothing_behind_publishes_nothing(self, tmp_path: Path) -> None:
        """What was rejected was the last event of its entity."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *[make_event(number=number) for number in range(1, 5)], _other())
            await storage.outcomes.record([_outcome(5, OutcomeKind.PARKED)])
            assert await storage.parking.resolve(GATEWAY, "", ("LlmProvider", "provider-2"), retry=False)
            for _ in range(2):
                assert await storage.parking.withheld(GATEWAY, "", after=5) == _NOTHING
            assert await _numbers(storage, after=5) == []
            [skipped] = await storage.outcomes.of_events(GATEWAY, [5])
            assert (skipped.kind, skipped.reason) == (OutcomeKind.OMITTED, "no such template")

    @pytest.mark.parametrize(("retry", "expected"), [(True, [1, 2, 3, 4]), (False, [2, 3, 4])])
    async def test_what_was_passed_over_comes_although_that_was_not_stored(
        self, tmp_path: Path, *, retry: bool, expected: list[int]
    ) -> None:
        """The pod died before it had stored what it held, and the client's position is after it."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage)
            assert await storage.parking.resolve(GATEWAY, "", _ENTITY, retry=retry)
            assert await storage.parking.withheld(GATEWAY, "", after=5) == _NOTHING
            assert await _numbers(storage, after=5) == expected

    async def test_what_was_rejected_on_its_way_is_left_out_as_well(self, tmp_path: Path) -> None:
        """A skip is about everything of the entity that was rejected until then."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage, 2, 4)
            await storage.outcomes.record([_outcome(3, OutcomeKind.PARKED)])
            assert await storage.parking.resolve(GATEWAY, "", _ENTITY, retry=False)
            await storage.parking.withheld(GATEWAY, "", after=5)
            assert await _numbers(storage, after=5) == [2, 4]

    @pytest.mark.parametrize(("retry", "expected"), [(True, [1, 2, 3, 4]), (False, [2, 3, 4])])
    async def test_a_rejection_that_is_repeated_undoes_no_decision(
        self, tmp_path: Path, *, retry: bool, expected: list[int]
    ) -> None:
        """A client repeats what it does not know to be stored: before the release, and after it."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage, 2)
            await storage.parking.resolve(GATEWAY, "", _ENTITY, retry=retry)
            for _ in range(2):
                await storage.outcomes.record([_outcome(1, OutcomeKind.PARKED)])
                assert await storage.parking.parked(GATEWAY, after=0, limit=10) == []
                await storage.parking.withheld(GATEWAY, "", after=5)
            assert await _numbers(storage, after=5) == expected

    async def test_what_was_left_out_is_not_sent_again(self, tmp_path: Path) -> None:
        """A client that does not know that its rejection is stored continues in front of the event."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage, 2)
            await storage.parking.resolve(GATEWAY, "", _ENTITY, retry=False)
            withheld = await storage.parking.withheld(GATEWAY, "", after=0)
            assert withheld == DeliveryFilter(settled=frozenset([1, 2, 3, 4]))

    async def test_what_is_released_comes_once(self, tmp_path: Path) -> None:
        """However many connections ask at the same time, and however often."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage, 2, 3, 4)
            await storage.parking.resolve(GATEWAY, "", _ENTITY, retry=True)
            found = await asyncio.gather(*(storage.parking.withheld(GATEWAY, "", after=0) for _ in range(3)))
            assert {each.parked for each in found} == {frozenset()}
            assert {each.settled for each in found} == {frozenset([1, 2, 3, 4])}
            assert await _numbers(storage, after=5) == [1, 2, 3, 4]

    async def test_of_two_decisions_one_counts(self, tmp_path: Path) -> None:
        """The second decision finds nothing parked."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage, 2)
            decisions = [storage.parking.resolve(GATEWAY, "", _ENTITY, retry=retry) for retry in (True, False)]
            assert sorted(await asyncio.gather(*decisions)) == [False, True]
            assert not await storage.parking.resolve(GATEWAY, "", ("LlmProvider", "provider-2"), retry=True)
            assert not await storage.parking.resolve("unknown", "", _ENTITY, retry=True)

    async def test_a_decision_sends_the_connections_of_the_replica_away(self, tmp_path: Path) -> None:
        """They hold what they held; the next connection learns anew what to hold."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage, 2, replica="a")
            for name in ("a", "b"):
                await connect(storage, make_connection(f"connection-{name}", replica=name))
            await storage.parking.resolve(GATEWAY, "a", _ENTITY, retry=True)
            assert await storage.presence.pending_disconnects(POD) == {"connection-a": DisconnectReason.RESTARTING}

    @pytest.mark.parametrize("first", [OutcomeKind.HELD, OutcomeKind.PARKED])
    async def test_a_copy_that_one_connection_held_may_be_rejected_by_another(
        self, tmp_path: Path, first: OutcomeKind
    ) -> None:
        """The event is parked, and not just held, in either order: an operator can decide about it."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage, 2)
            await storage.parking.resolve(GATEWAY, "", _ENTITY, retry=True)
            await storage.parking.withheld(GATEWAY, "", after=5)
            second = OutcomeKind.PARKED if first is OutcomeKind.HELD else OutcomeKind.HELD
            await storage.outcomes.record([_outcome(6, first), _outcome(6, second)])
            [parked] = await storage.parking.parked(GATEWAY, after=0, limit=10)
            assert parked.offset == 6

    async def test_what_is_held_in_spite_of_a_decision_is_released_at_the_next_connect(self, tmp_path: Path) -> None:
        """A connection that did not know of the decision held the copies, too: they come again, in order."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage, 2)
            await storage.parking.resolve(GATEWAY, "", _ENTITY, retry=True)
            await storage.parking.withheld(GATEWAY, "", after=2)
            await storage.outcomes.record([_outcome(offset, OutcomeKind.HELD) for offset in (3, 6, 7)])
            withheld = await storage.parking.withheld(GATEWAY, "", after=7)
            assert withheld.settled == frozenset([8, 9])
            assert await _numbers(storage, after=9) == [1, 2, 3, 4]
            [third] = await storage.outcomes.of_events(GATEWAY, [3])
            assert third.kind is OutcomeKind.RELEASED

    async def test_retention_keeps_what_waits_for_a_decision(self, tmp_path: Path) -> None:
        """Although it is confirmed; the caps remove it, and then the replica comes back to be told (promise P6)."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage, 2)
            connection = make_connection()
            await connect(storage, connection)
            await confirm(storage, connection, 5)
            long, soon = timedelta(days=1), timedelta(0)
            policy = TrimPolicy(keep_confirmed=soon, keep_at_most=long, max_events=100)
            assert await storage.log.trim(policy) == 0
            await storage.log.trim(TrimPolicy(keep_confirmed=soon, keep_at_most=long, max_events=2))
            standing = await storage.presence.standing(GATEWAY, "")
            assert standing.low_water_mark >= 2
            assert standing.resync_reason == "parked"
            assert await storage.presence.pending_disconnects(POD) == {
                connection.connection_id: DisconnectReason.RESTARTING
            }

    async def test_who_connects_while_its_decision_is_lost_has_to_come_again(self, tmp_path: Path) -> None:
        """It read its position before, and learns of the loss the next time; each start repeats it until recovery."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage, 2)
            start = await self._position(storage, 5)
            await storage.presence.connect(make_connection("before"), start=start)
            soon = timedelta(0)
            await storage.log.trim(TrimPolicy(keep_confirmed=soon, keep_at_most=timedelta(days=1), max_events=2))
            with pytest.raises(StorageUnavailable):
                await storage.presence.connect(make_connection("meanwhile"), start=start)
            for name in ("told", "again"):
                await storage.presence.connect(make_connection(name), start=start, resync_reason="parked")
            await storage.presence.resynchronized(GATEWAY, "", "parked")
            await storage.presence.connect(make_connection("later"), start=start)

    async def test_who_reads_again_while_more_is_lost_has_to_read_once_more(self, tmp_path: Path) -> None:
        """For the same reason: it was told before, and its connection ends."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await self._parked(storage, 2)
            start = await self._position(storage, 5)
            told, gone = make_connection("told"), make_connection("gone")
            for connection in (told, gone):
                await storage.presence.connect(connection, start=start, resync_reason="parked")
            await storage.presence.disconnect([await progress_of(storage, gone, sent=5, confirmed=5)])
            soon = timedelta(0)
            await storage.log.trim(TrimPolicy(keep_confirmed=soon, keep_at_most=timedelta(days=1), max_events=2))
            for connection_id in ("told", "gone", "never recorded"):
                await storage.presence.resynchronized(GATEWAY, "", "parked", connection_id=connection_id)
            assert (await storage.presence.standing(GATEWAY, "")).resync_reason == "parked"

    async def test_what_is_rejected_after_a_cap_removed_it_is_told(self, tmp_path: Path) -> None:
        """It was on its way, and nobody can decide about it any more (promise P6)."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *[make_event(number=number) for number in range(1, 5)])
            connection = make_connection()
            await connect(storage, connection)
            soon = timedelta(0)
            await storage.log.trim(TrimPolicy(keep_confirmed=soon, keep_at_most=timedelta(days=1), max_events=2))
            await storage.outcomes.record([_outcome(1, OutcomeKind.APPLIED), _outcome(4, OutcomeKind.PARKED)])
            assert (await storage.presence.standing(GATEWAY, "")).resync_reason is None
            await storage.outcomes.record([_outcome(1, OutcomeKind.PARKED)])
            assert (await storage.presence.standing(GATEWAY, "")).resync_reason == "parked"
            assert await storage.presence.pending_disconnects(POD) == {
                connection.connection_id: DisconnectReason.RESTARTING
            }

    async def _position(self, storage: Engine, offset: int) -> Position:
        return Position((await storage.presence.standing(GATEWAY, "")).epoch, offset)
