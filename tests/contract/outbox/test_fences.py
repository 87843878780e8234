"""What is late, restored or decided while the outbox is forwarded: nothing is lost, and nothing is stuck."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gatecast.errors import EventNotForwarded, StatementFailed, StorageUnavailable
from gatecast.outbox.lease import LEASE
from gatecast.outbox.records import Records, Waiting
from gatecast.storage.contract import Busy, Changes, EventLog, PublishResult, ReadRequest
from gatecast.storage.database_url import Backend
from gatecast.testing.contracts.backend import GATEWAY, OTHER_GATEWAY, make_event, make_events, publish, read
from tests.contract.outbox.site import (
    EVERYTHING,
    Log,
    Opening,
    Site,
    Stop,
    forward_and_die,
    holds,
    ids,
    nothing,
    take_over,
)


class _Late(Log):
    """A log that these requests reach late."""

    def __init__(self, log: EventLog, **stops: Stop) -> None:
        super().__init__(log)
        self._stops = stops

    async def register(self, gateway_id: str, **how: Any) -> bool:  # noqa: ANN401 - as the real one
        if stop := self._stops.get("register"):
            await stop()
        return bool(await self._log.register(gateway_id, **how))

    async def forget(self, gateway_id: str, **how: Any) -> bool:  # noqa: ANN401 - as the real one
        if stop := self._stops.get("forget"):
            await stop()
        return bool(await self._log.forget(gateway_id, **how))


async def _register_again(site: Site) -> None:
    await site.outbox.log.forget(GATEWAY)
    await site.outbox.log.register(GATEWAY)


# --- late -----------------------------------------------------------------------------------------------------------


async def test_a_new_term_does_not_go_on_with_what_an_earlier_one_found(opening: Opening) -> None:
    """Another process has followed the registration, has forwarded, and has given up in order."""
    async with opening() as site:
        await site.store(make_event())
        stop = Stop()

        class Slow(Records):
            is_slow = False

            async def waiting(self) -> list[Waiting]:
                found = await super().waiting()
                if self.is_slow:
                    self.is_slow = False
                    await stop()
                return found

        records = Slow(site.outbox.database, site.opened.backend)
        slow = site.forwarder("slow", records=records)
        await slow.forward()
        await _register_again(site)
        records.is_slow = True
        forwarding = asyncio.create_task(slow.forward())
        await stop.reached.wait()
        other = await take_over(site)
        events = make_events(2)
        await site.store(*events)
        await other.forward()
        assert await site.ids() == ids(events)
        await other.lease.give_up()
        stop.go_on.set()
        await forwarding
        await slow.forward()
        assert (await site.waiting(), await site.ids()) == ({}, ids(events))


async def test_a_deletion_that_is_late_deletes_no_later_log(opening: Opening) -> None:
    """Another process has deleted the log meanwhile, registered the gateway again, and forwarded."""
    async with opening() as site:
        await site.store(make_event())
        first = site.forwarder("first")
        await first.forward()
        await first.lease.give_up()
        await _register_again(site)
        stop = Stop()
        slow = site.forwarder("slow", log=_Late(site.engine.log, forget=stop))
        forwarding = asyncio.create_task(slow.forward())
        await stop.reached.wait()
        other = await take_over(site)
        events = make_events(2)
        await site.store(*events)
        await other.forward()
        stop.go_on.set()
        await forwarding
        assert (await site.waiting(), await site.ids()) == ({}, ids(events))


async def test_a_registration_that_is_late_leaves_no_log(opening: Opening) -> None:
    """The gateway was deleted meanwhile, which another process has followed."""
    async with opening() as site:
        stop = Stop()
        slow = site.forwarder("slow", log=_Late(site.engine.log, register=stop))
        forwarding = asyncio.create_task(slow.forward())
        await stop.reached.wait()
        for gateway_id in (GATEWAY, OTHER_GATEWAY):
            await site.outbox.log.forget(gateway_id)
        await take_over(site)
        stop.go_on.set()
        with pytest.raises(StorageUnavailable, match="claim"):
            await forwarding
        assert not (await site.engine.log.changed_since(0)).heads
        assert not await site.records.waiting()


async def test_a_registration_that_arrives_after_its_answer_was_given_up_leaves_no_log(opening: Opening) -> None:
    """The same process goes on, in the same term; the gateway was deleted meanwhile."""
    async with opening() as site:
        late: list[Callable[[], Any]] = []

        class Lost(Log):
            async def register(self, gateway_id: str, **how: Any) -> bool:  # noqa: ANN401 - as the real one
                late.append(lambda: self._log.register(gateway_id, **how))
                raise StorageUnavailable("the connection broke")

        forwarder = site.forwarder(log=Lost(site.engine.log))
        with pytest.raises(StorageUnavailable):
            await forwarder.forward()
        for gateway_id in (GATEWAY, OTHER_GATEWAY):
            await site.outbox.log.forget(gateway_id)
        await forwarder.forward()
        [arrives] = late
        with pytest.raises(StorageUnavailable, match="claim"):
            await arrives()
        assert not (await site.engine.log.changed_since(0)).heads


async def test_a_batch_that_is_late_gets_into_no_later_log(opening: Opening) -> None:
    """The later log knows none of its ids."""
    async with opening() as site:
        await site.store(*make_events(2))
        log, stop = site.log(), Stop()
        log.before = stop
        slow = site.forwarder("slow", log=log)
        forwarding = asyncio.create_task(slow.forward())
        await stop.reached.wait()
        await _register_again(site)
        other = await take_over(site)
        events = make_events(1)
        await site.store(*events)
        await other.forward()
        stop.go_on.set()
        await forwarding
        assert await site.ids() == ids(events)


async def test_an_event_is_not_shown_where_it_was_before_its_gateway_was_registered_again(opening: Opening) -> None:
    """The log of before still has its id; it is about to be deleted."""
    async with opening() as site:
        forwarder = site.forwarder()
        outbox = site.as_outbox(forwarder)
        event, gone = make_events(2)
        await site.store(gone, event)
        await forwarder.forward()
        async with site.outbox.database.transaction() as transaction:
            await site.outbox.log.forget(GATEWAY, transaction=transaction)
            await site.outbox.log.register(GATEWAY, transaction=transaction)
            await site.outbox.log.publish_in(transaction, [event])
        assert await outbox.position_of(event) is None
        with pytest.raises(EventNotForwarded):
            await outbox.position_of(gone)
        await forwarder.forward()
        position = await outbox.position_of(event)
        assert position is not None
        assert position.offset == 1


# --- restored -------------------------------------------------------------------------------------------------------


class _Backup:
    """A copy of the application's SQLite file, to which it can be put back while it is in use."""

    def __init__(self, tmp_path: Path) -> None:
        self._path = tmp_path / "application.db"
        self._copy = sqlite3.connect(":memory:")
        with closing(sqlite3.connect(self._path)) as live:
            live.backup(self._copy)

    def restore(self) -> None:
        with closing(sqlite3.connect(self._path)) as live:
            self._copy.backup(live)
        self._copy.close()


def _only_on_sqlite(site: Site) -> bool:
    """A PostgreSQL database is not restored while it is in use."""
    return site.opened.backend is Backend.SQLITE


async def test_after_a_restore_nothing_is_removed_that_was_not_forwarded(opening: Opening, tmp_path: Path) -> None:
    """What was recorded before the restore means nothing after it: offsets are used again."""
    async with opening() as site:
        if not _only_on_sqlite(site):
            return
        log = site.log()
        forwarder = site.forwarder(log=log)
        await site.store(*make_events(3))
        await forwarder.forward()
        backup = _Backup(tmp_path)
        await site.store(*make_events(3))
        await forwarder.forward()
        backup.restore()
        later = make_event()

        async def commit() -> None:
            log.after = nothing
            await site.store(later)

        log.after = commit
        await site.store(make_event(OTHER_GATEWAY))
        site.now += 5
        await forwarder.forward()
        assert (await site.waiting(), (await site.ids())[-1]) == ({}, later.event_id)


async def test_what_only_the_log_has_is_counted_however_far_forwarding_is(opening: Opening) -> None:
    """As after a restore of the outbox alone. It is never hidden by entries that wait, nor counted twice."""
    async with opening() as site:
        forwarder = site.forwarder()
        published = site.as_outbox(forwarder).gateways.published
        await site.store(*make_events(3))
        assert await published(GATEWAY) == 3
        await forward_and_die(site)
        assert await published(GATEWAY) == 3
        await publish(site.storage, *make_events(2))
        assert await published(GATEWAY) == 5
        forwarder = await take_over(site)
        assert await published(GATEWAY) == 5
        await site.store(*make_events(4))
        assert await published(GATEWAY) == 9
        await forwarder.forward()
        assert await published(GATEWAY) == 9


async def test_an_entry_that_was_left_out_is_counted_once(opening: Opening) -> None:
    async with opening() as site:
        refused, log = make_event(), site.log()
        log.refused[refused.event_id] = "too large"
        forwarder = site.forwarder(log=log)
        await site.store(make_event(), refused, make_event())
        await forwarder.forward()
        outbox = site.as_outbox(forwarder, log=log)
        await outbox.leave_out(GATEWAY, refused.event_id)
        assert await outbox.gateways.published(GATEWAY) == 3
        await forwarder.forward()
        assert len(await site.ids()) == 2
        assert await outbox.gateways.published(GATEWAY) == 3


@pytest.mark.parametrize("number", [3, 150])
@pytest.mark.parametrize("same_term", [True, False])
async def test_what_a_restored_outbox_has_again_is_not_forwarded_again(
    opening: Opening, tmp_path: Path, number: int, *, same_term: bool
) -> None:
    """Retention has removed it from the log, which knows only its last id."""
    async with opening() as site:
        if not _only_on_sqlite(site):
            return
        forwarder = site.forwarder()
        await forwarder.forward()
        await site.store(*make_events(number))
        backup = _Backup(tmp_path)
        await forwarder.forward()
        await site.engine.log.trim(EVERYTHING)
        backup.restore()
        if same_term:
            await forwarder.forward()
        else:
            forwarder = await take_over(site)
        assert ((await read(site.storage)).head, await site.as_outbox(forwarder).refused()) == (number, [])


@pytest.mark.parametrize("is_new_term", [True, False])
@pytest.mark.parametrize("waiting", [0, 2])
async def test_a_gateway_whose_log_is_gone_gets_one_again(opening: Opening, waiting: int, *, is_new_term: bool) -> None:
    """The log was restored from before it was registered, or the outbox from before it was deleted.

    A restored log begins another history, also under a process that forwards all the time.
    """
    async with opening() as site:
        forwarder, log = site.forwarder(), site.engine.log
        await site.store(make_event())
        await forwarder.forward()
        await log.forget(GATEWAY)
        events = make_events(waiting)
        if events:
            await site.store(*events)
            await forwarder.forward()
            assert len(await site.as_outbox(forwarder).refused()) == 1
        if is_new_term:
            forwarder = await take_over(site)
        else:
            await log.renew_epoch((await log.changed_since(0)).epoch)
            site.now += 5
            await forwarder.forward()
        assert (await site.ids(), await site.as_outbox(forwarder).refused()) == (ids(events), [])
        assert GATEWAY in (await log.changed_since(0)).heads


async def test_a_replica_that_lags_changes_nothing_about_a_log_that_is_there(opening: Opening) -> None:
    """What may have been forwarded stays in doubt."""
    async with opening() as site:
        events = make_events(3)
        await site.store(*events)
        await forward_and_die(site)
        await site.engine.log.trim(EVERYTHING)

        class Lagging(Log):
            async def changed_since(self, marker: int) -> Changes:
                return replace(await self._log.changed_since(marker), heads={})

        await site.forwarder("pod-2").forward()
        site.now += LEASE
        await site.forwarder("pod-3", log=Lagging(site.engine.log)).forward()
        later = site.forwarder("pod-4", log=Lagging(site.engine.log))
        await later.forward()
        site.now += LEASE
        await later.forward()
        assert holds(later)
        assert ((await read(site.storage)).head, await site.waiting()) == (3, {})


async def test_a_gateway_that_is_deleted_while_it_gets_a_log_again_leaves_none(opening: Opening) -> None:
    """Its mark stays until the log is deleted."""
    async with opening() as site:
        await site.forwarder().forward()
        await site.engine.log.forget(GATEWAY)

        class Deleting(Log):
            async def register(self, gateway_id: str, **how: Any) -> bool:  # noqa: ANN401 - as the real one
                await site.outbox.log.forget(gateway_id)
                return bool(await self._log.register(gateway_id, **how))

        later = site.forwarder("pod-2", log=Deleting(site.engine.log))
        await later.forward()
        site.now += LEASE
        await later.forward()
        assert holds(later)
        assert GATEWAY not in (await site.engine.log.changed_since(0)).heads
        assert await site.records.mark(GATEWAY) is None


async def test_an_idle_process_that_does_not_reach_the_log_gives_the_lease_up(opening: Opening) -> None:
    """Before anything waits."""
    async with opening() as site:
        log = site.log()
        one, two = site.forwarder("pod-1", log=log), site.forwarder("pod-2")
        await one.forward()

        async def away(_: int) -> Changes:
            raise StorageUnavailable("the connection broke")

        log.changed_since = away
        site.now += 5
        with pytest.raises(StorageUnavailable):
            await one.forward()
        await two.forward()
        assert (holds(one), holds(two)) == (False, True)


# --- in doubt -------------------------------------------------------------------------------------------------------


async def test_what_was_stored_after_a_takeover_is_not_in_doubt(opening: Opening) -> None:
    """Others have published since to the log, as a pod does that releases parked events; retention removed it."""
    async with opening() as site:
        forwarder = site.forwarder()
        await site.store(make_event())
        await forwarder.forward()
        await publish(site.storage, make_event())
        await site.engine.log.trim(EVERYTHING)
        site.now += LEASE
        other = await take_over(site)
        await site.store(*make_events(2))
        await other.forward()
        assert (await site.as_outbox(other).refused(), (await read(site.storage)).head) == ([], 4)


async def test_trying_again_ends_the_doubt(opening: Opening) -> None:
    """What was not forwarded was not followed by anything that was."""
    async with opening() as site:
        events = make_events(2)
        await site.store(*events)
        await forward_and_die(site)
        await publish(site.storage, make_event())
        await site.engine.log.trim(EVERYTHING)
        forwarder = await take_over(site)
        outbox = site.as_outbox(forwarder)
        assert await outbox.try_again(GATEWAY)
        await forwarder.forward()
        assert (await outbox.refused(), await site.waiting()) == ([], {})
        assert await _retained(site) == ids(events)


async def _retained(site: Site) -> list[UUID]:
    return [event.event_id for event in (await read(site.storage)).events]


async def test_leaving_out_what_is_in_doubt_lets_later_events_flow(opening: Opening) -> None:
    """Each event that may have been forwarded is decided about, and no other."""
    async with opening() as site:
        events, later = make_events(2), make_event()
        await site.store(*events)
        await forward_and_die(site)
        await publish(site.storage, make_event())
        await site.engine.log.trim(EVERYTHING)
        forwarder = await take_over(site)
        outbox = site.as_outbox(forwarder)
        await site.store(later)
        for event in events:
            assert [one.event_id for one in await outbox.refused()] == [event.event_id]
            assert await outbox.leave_out(GATEWAY)
            await forwarder.forward()
        assert (await site.waiting(), await _retained(site)) == ({}, [later.event_id])


async def test_the_end_of_a_log_is_known_after_a_new_history_has_begun(opening: Opening) -> None:
    """Also if the first events there were in it before."""
    async with opening() as site:
        forwarder = site.forwarder()
        events = make_events(5)
        await site.store(*events)
        await forwarder.forward()
        site.now += 6
        await forwarder.forward()
        await site.engine.log.renew_epoch((await site.engine.log.changed_since(0)).epoch)
        await site.store(events[0])
        await forwarder.forward()
        mark = await site.records.mark(GATEWAY)
        assert mark is not None
        assert mark.log_head == 5
        await site.engine.log.trim(EVERYTHING)
        other = await take_over(site)
        await site.store(make_event())
        await other.forward()
        assert await site.as_outbox(other).refused() == []


async def test_a_gateway_that_something_else_registered_again_in_the_log_goes_on(opening: Opening) -> None:
    """Its log is looked up again; nothing is refused."""
    async with opening() as site:
        forwarder = site.forwarder()
        await site.store(make_event())
        await forwarder.forward()
        await site.engine.log.forget(GATEWAY)
        await site.engine.log.register(GATEWAY)
        events = make_events(2)
        await site.store(*events)
        await forwarder.forward()
        assert (await site.ids(), await site.as_outbox(forwarder).refused()) == (ids(events), [])


async def test_trying_again_registers_no_gateway_that_was_deleted_meanwhile(opening: Opening) -> None:
    """An operator decides while the deletion is followed."""
    async with opening() as site:
        [event], log = make_events(1), site.log()
        log.refused = {event.event_id: "no"}
        await site.store(event)
        forwarder = site.forwarder(log=log)
        await forwarder.forward()

        class Slow(Records):
            async def try_again(self, mark: Any) -> bool:  # noqa: ANN401 - as the real one
                await site.outbox.log.forget(GATEWAY)
                await forwarder.forward()
                return await super().try_again(mark)

        outbox = site.as_outbox(forwarder, Slow(site.outbox.database, site.opened.backend))
        assert not await outbox.try_again(GATEWAY)
        await forwarder.forward()
        assert GATEWAY not in (await site.engine.log.changed_since(0)).heads


async def test_a_gateway_that_the_log_had_before_is_deleted_there_before_it_was_looked_at(opening: Opening) -> None:
    """Opening the outbox has registered it; nothing was forwarded yet."""
    async with opening() as site:
        await site.engine.log.register("had")
        forwarder = site.forwarder()
        await site.as_outbox(forwarder).adopt()
        await site.outbox.log.forget("had")
        await forwarder.forward()
        assert "had" not in (await site.engine.log.changed_since(0)).heads


async def test_a_gateway_that_only_a_replica_that_lags_still_has_is_not_registered(opening: Opening) -> None:
    """It was deleted through the outbox, which has followed that and knows nothing of it any more."""
    async with opening() as site:

        class Lagging(Log):
            async def changed_since(self, marker: int) -> Changes:
                found = await self._log.changed_since(marker)
                return replace(found, heads={**found.heads, "gone": 3})

        await site.engine.log.register("had")
        await site.as_outbox(site.forwarder(), log=Lagging(site.engine.log)).adopt()
        assert (await site.outbox.log.changed_since(0)).heads.keys() == {GATEWAY, OTHER_GATEWAY, "had"}


async def test_the_events_that_the_log_had_before_stay(opening: Opening) -> None:
    """What is published through the outbox follows them."""
    async with opening() as site:
        await site.engine.log.register("had")
        first, second = make_events(2, "had")
        await publish(site.storage, first)
        forwarder = site.forwarder()
        await site.as_outbox(forwarder).adopt()
        await site.store(second)
        await forwarder.forward()
        assert await site.ids("had") == ids([first, second])


# --- stuck ----------------------------------------------------------------------------------------------------------


class _Reads(Log):
    """A log whose reads do something first."""

    def __init__(self, log: EventLog, before: Callable[[Sequence[ReadRequest]], None]) -> None:
        super().__init__(log)
        self._before_reads = before

    async def read(self, requests: Sequence[ReadRequest]) -> object:
        self._before_reads(requests)
        return await self._log.read(requests)


async def test_slow_reads_of_many_gateways_end_no_term(opening: Opening) -> None:
    """They are asked together; one by one they would take longer than a lease, again and again."""
    async with opening() as site:
        names = [f"many-{number}" for number in range(100)]
        for name in names:
            await site.outbox.log.register(name)
        first = site.forwarder("first")
        await first.forward()
        await first.lease.give_up()
        await site.store(*(make_event(name) for name in names))

        def slow(_: Sequence[ReadRequest]) -> None:
            site.now += 0.11

        await site.forwarder(log=_Reads(site.engine.log, slow)).forward()
        assert await site.waiting() == {}


async def test_a_log_that_cannot_be_read_concerns_its_own_gateway(opening: Opening) -> None:
    """All others flow, and it does once it is repaired."""
    async with opening() as site:
        first = site.forwarder("first")
        await first.forward()
        await first.lease.give_up()
        events, others = make_events(1), make_events(1, OTHER_GATEWAY)
        await site.store(*events, *others)
        is_damaged = True

        def damaged(requests: Sequence[ReadRequest]) -> None:
            if is_damaged and any(request.gateway_id == GATEWAY for request in requests):
                raise StatementFailed("a document in the stream cannot be read")

        forwarder = site.forwarder(log=_Reads(site.engine.log, damaged))
        await forwarder.forward()
        assert (await site.ids(), await site.ids(OTHER_GATEWAY)) == ([], ids(others))
        is_damaged = False
        await forwarder.forward()
        assert await site.ids() == ids(events)


async def test_a_log_that_somebody_holds_delays_no_other(opening: Opening) -> None:
    """What waits for it is forwarded once it is free."""
    async with opening() as site:
        held = {GATEWAY}

        class Held(Log):
            async def publish(self, groups: Sequence[Sequence[Any]], **how: Any) -> list[PublishResult]:  # noqa: ANN401 - as the real one
                assert how["wait"] is False
                free = [group for group in groups if group[0].gateway_id not in held]
                stored = iter(await super().publish(free, **how) if free else [])
                return [next(stored) if group in free else Busy(GATEWAY) for group in groups]

        events, others = make_events(1), make_events(1, OTHER_GATEWAY)
        await site.store(*events, *others)
        forwarder = site.forwarder(log=Held(site.engine.log))
        await forwarder.forward()
        assert (await site.ids(), await site.ids(OTHER_GATEWAY)) == ([], ids(others))
        held.clear()
        await forwarder.forward()
        assert await site.ids() == ids(events)


async def test_a_transaction_that_deletes_a_gateway_delays_no_other(opening: Opening) -> None:
    """An application holds it open while forwarded entries are released to be removed."""
    async with opening() as site:
        if _only_on_sqlite(site):
            return
        forwarder = site.forwarder()
        await site.store(make_event())
        await forwarder.forward()
        async with site.outbox.database.transaction() as transaction:
            await site.outbox.log.forget(GATEWAY, transaction=transaction)
            site.now += 5
            await site.store(make_event(OTHER_GATEWAY))
            await forwarder.forward()
            assert len(await site.ids(OTHER_GATEWAY)) == 1


async def test_what_waits_is_never_too_old(opening: Opening) -> None:
    """Whatever instant its row shows."""
    async with opening() as site:
        log = site.log()
        forwarder = site.forwarder(log=log)
        stuck = make_event()
        log.refused = {stuck.event_id: "no"}
        await site.store(stuck)
        await forwarder.forward()
        text = "1900-01-01T00:00:00.000000Z"
        cast = "$1" if _only_on_sqlite(site) else "$1::text::timestamptz"
        await site.statement(
            f"UPDATE gatecast.events SET recorded_at = {cast} WHERE event_id = $2", text, stuck.event_id
        )
        await site.store(make_event(OTHER_GATEWAY))
        site.now += 5
        await forwarder.forward()
        assert len((await read(site.outbox)).events) == 1
