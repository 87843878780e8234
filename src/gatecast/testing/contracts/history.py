"""What every backend promises about histories: it tells one that lacks an event that was read from a complete one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

from gatecast.storage.contract import Engine, ReadResult, Remembered, TrimPolicy, Verdict
from gatecast.testing.contracts.backend import (
    GATEWAY,
    OTHER_GATEWAY,
    EngineBackend,
    epoch_of,
    make_event,
    make_events,
    publish,
    read,
)

_NOTHING_STAYS = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(0), max_events=10**6)


async def _remembered(storage: Engine, offset: int, *, gateway_id: str = GATEWAY) -> Remembered:
    """What a pod remembers that has read up to this offset."""
    result = await read(storage, gateway_id)
    [event] = [event for event in result.events if event.offset == offset]
    return _at(result, offset, event.event_id, gateway_id=gateway_id)


def _at(result: ReadResult, offset: int, event_id: UUID | None, *, gateway_id: str = GATEWAY) -> Remembered:
    return Remembered(gateway_id=gateway_id, log_id=result.log_id, offset=offset, event_id=event_id)


class HistoryContract(EngineBackend):
    """`contradicts`, `record_history`, and what reads tell of the end of a log."""

    async def test_s20_a_read_tells_the_id_of_the_last_event(self, tmp_path: Path) -> None:
        """Also of one that it did not bring, and after the same id was published again."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            assert (await read(storage)).last_event_id is None
            events = make_events(3)
            await publish(storage, *events)
            assert (await read(storage, limit=1)).last_event_id == events[-1].event_id
            await publish(storage, events[0])
            await publish(storage, *events)
            assert (await read(storage)).last_event_id == events[-1].event_id
            last = make_event()
            await publish(storage, last)
            assert (await read(storage, after=4)).last_event_id == last.event_id

    async def test_s20_the_last_id_outlives_its_event(self, tmp_path: Path) -> None:
        """Retention removes what everybody has confirmed, and the history can still be recognised."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            (*_, last) = events = make_events(3)
            await publish(storage, *events)
            assert await storage.log.trim(_NOTHING_STAYS) == 3
            result = await read(storage)
            assert (result.head, result.low_water_mark, result.last_event_id) == (3, 3, last.event_id)
            assert not await storage.log.contradicts([_at(result, 3, last.event_id), _at(result, 2, uuid4())])
            assert await storage.log.contradicts([_at(result, 3, uuid4())])

    async def test_s20_what_is_there_contradicts_nothing(self, tmp_path: Path) -> None:
        """Wherever in a log it was read, and in however many logs."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await publish(storage, *make_events(3), *make_events(2, OTHER_GATEWAY))
            remembered = [await _remembered(storage, offset) for offset in (1, 2, 3)]
            remembered.append(await _remembered(storage, 2, gateway_id=OTHER_GATEWAY))
            assert not await storage.log.contradicts(remembered)
            assert not await storage.log.contradicts([])

    async def test_s20_a_log_that_ends_too_soon_or_holds_another_event_contradicts(self, tmp_path: Path) -> None:
        """Among a thousand that are as they were."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(3))
            known, result = [await _remembered(storage, 2)] * 1_000, await read(storage)
            for contradiction in (_at(result, 4, uuid4()), _at(result, 4, None), _at(result, 2, uuid4())):
                assert await storage.log.contradicts([*known, contradiction])
            assert not await storage.log.contradicts([*known, _at(result, 2, None)])

    async def test_s20_a_deleted_gateway_contradicts_nothing_and_a_log_of_the_past_does(self, tmp_path: Path) -> None:
        """A gateway that is registered again has a later log; an earlier one comes back with a backup alone."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, make_event())
            old = await _remembered(storage, 1)
            await storage.log.forget(GATEWAY)
            assert not await storage.log.contradicts([old])
            await storage.log.register(GATEWAY)
            assert not await storage.log.contradicts([old])
            result = await read(storage)
            assert old.log_id is not None
            assert result.log_id > old.log_id
            later = Remembered(gateway_id=GATEWAY, log_id=result.log_id + 1, offset=0, event_id=None)
            assert await storage.log.contradicts([later])

    async def test_s20_what_a_client_says_is_compared_with_the_log_that_its_gateway_has(self, tmp_path: Path) -> None:
        """It knows no number of a log; of an unknown gateway nothing can be said."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            events = make_events(2)
            await publish(storage, *events)
            said = Remembered(gateway_id=GATEWAY, log_id=None, offset=2, event_id=events[1].event_id)
            assert not await storage.log.contradicts([said, replace(said, gateway_id="unknown")])
            assert await storage.log.contradicts([replace(said, offset=1)])
            assert await storage.log.contradicts([replace(said, offset=3)])

    async def test_s20_a_history_goes_on_where_it_is(self, tmp_path: Path) -> None:
        """Whatever anybody thinks of it; with a wrong expectation nothing is decided."""
        async with self.open_with(tmp_path, GATEWAY) as storage, self.open_second(tmp_path) as second:
            epoch = await epoch_of(storage)
            for verdict in Verdict:
                assert await storage.log.record_history(epoch, verdict) == epoch
                assert (await second.log.changed_since(0)).settled
            assert await storage.log.record_history(uuid4(), Verdict.DOUBT) == epoch

    async def test_s20_settling_what_is_settled_changes_nothing(self, tmp_path: Path) -> None:
        """Pods that find the same at the same time do not take each other for another server."""
        async with self.open_with(tmp_path, GATEWAY) as storage, self.open_second(tmp_path) as second:
            epoch = await storage.log.record_history(await epoch_of(storage))
            before = await storage.log.changed_since(0)
            await second.log.record_history(epoch)
            after = await storage.log.changed_since(before.marker)
            assert after.continues(before)
            assert (await read(second)).server == before.server == after.server
