"""Forwarding, step by step: whatever fails in between, each event gets into the log once, in the order of its gateway.

Nothing forwards here unless a test says so, and no time passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gatecast.errors import EventNotForwarded, StorageUnavailable
from gatecast.outbox.lease import LEASE
from gatecast.outbox.records import Records, Waiting
from gatecast.storage.contract import ReadRequest, Receipt
from gatecast.storage.database_url import Backend
from gatecast.telemetry import metrics
from gatecast.testing.contracts.backend import GATEWAY, OTHER_GATEWAY, make_event, make_events, publish, read
from tests.contract.outbox.site import (
    EVERYTHING,
    Opening,
    Site,
    Stop,
    fail,
    forward_and_die,
    holds,
    ids,
    nothing,
    take_over,
)

# --- once ---------------------------------------------------------------------------------------------------------


async def test_s16_an_answer_that_is_lost_stores_nothing_twice(opening: Opening) -> None:
    """The log has stored the batch, and the forwarder cannot know."""
    async with opening() as site:
        events, log = make_events(3), site.log()
        await site.store(*events)
        forwarder = site.forwarder(log=log)
        log.after = fail
        with pytest.raises(StorageUnavailable):
            await forwarder.forward()
        assert await site.ids() == ids(events)
        assert await site.waiting() == {GATEWAY: 3}
        log.after = nothing
        more = make_events(2)
        await site.store(*more)
        await forwarder.forward()
        assert await site.ids() == ids([*events, *more])
        assert await site.waiting() == {}


async def test_a_forwarder_that_is_killed_before_it_records_stores_nothing_twice(opening: Opening) -> None:
    """The one after it publishes the same again, by the same ids."""
    async with opening() as site:
        events = make_events(150)
        await site.store(*events)
        await forward_and_die(site)
        assert await site.ids() == ids(events[:100])
        await take_over(site)
        assert await site.ids() == ids(events)
        assert await site.waiting() == {}


@pytest.mark.parametrize("removed", [1, 2, 3])
async def test_what_retention_removed_before_it_was_recorded_is_not_stored_again(
    opening: Opening, removed: int
) -> None:
    """The log does not know the ids any more, but that its last event was the last of them."""
    async with opening() as site:
        events = make_events(3)
        await site.store(*events)
        await forward_and_die(site)
        assert await site.engine.log.trim(replace(EVERYTHING, chunk=removed)) == removed
        more = make_events(2)
        await site.store(*more)
        await take_over(site)
        log = await read(site.storage)
        assert (log.head, [event.event_id for event in log.events][-2:]) == (5, ids(more))


async def test_what_retention_removed_is_recognized_in_a_smaller_batch(opening: Opening) -> None:
    """The batch before was larger than those of now, when many gateways wait."""
    async with opening() as site:
        events = make_events(60)
        await site.store(*events)
        await forward_and_die(site)
        await site.engine.log.trim(EVERYTHING)
        names = [f"many-{number}" for number in range(99)]
        for name in names:
            await site.outbox.log.register(name)
        await site.store(*(make_event(name) for name in names))
        await take_over(site)
        assert await site.waiting() == {}
        assert (await read(site.storage)).head == 60


async def test_what_was_perhaps_forwarded_and_removed_waits_for_a_decision(opening: Opening) -> None:
    """Another publisher has bypassed the outbox since, so the log cannot tell: nothing is guessed."""
    async with opening() as site:
        events = make_events(2)
        await site.store(*events)
        await forward_and_die(site)
        await publish(site.storage, make_event())
        await site.engine.log.trim(EVERYTHING)
        forwarder = await take_over(site)
        [refused] = await site.as_outbox(forwarder).refused()
        assert (refused.gateway_id, refused.event_id) == (GATEWAY, events[0].event_id)
        assert "may have been forwarded and removed by retention" in refused.reason
        assert (await read(site.storage)).head == 3
        for _ in events:
            assert await site.as_outbox(forwarder).leave_out(GATEWAY)
            await forwarder.forward()
        assert await site.waiting() == {}
        assert (await read(site.storage)).head == 3


async def test_what_the_log_retains_is_found_after_others_have_published(opening: Opening) -> None:
    """Its front is gone, with what was forwarded first; what was forwarded last is still there."""
    async with opening() as site:
        events = make_events(3)
        await site.store(*events)
        await forward_and_die(site)
        await publish(site.storage, make_event())
        await site.engine.log.trim(replace(EVERYTHING, chunk=2))
        await take_over(site)
        assert (await read(site.storage)).head == 4
        assert await site.waiting() == {}


# --- one at a time --------------------------------------------------------------------------------------------------


async def test_one_process_forwards_and_another_takes_over_when_it_stops(opening: Opening) -> None:
    """At once if it stopped in order; otherwise once it has shown no life for as long as a lease."""
    async with opening() as site:
        one, two = site.forwarder("pod-1"), site.forwarder("pod-2")
        await one.forward()
        await site.store(make_event())
        await two.forward()
        assert await site.waiting() == {GATEWAY: 1}
        await one.forward()
        assert await site.waiting() == {}
        for _ in range(5):
            site.now += LEASE / 2
            await one.forward()
            await two.forward()
            assert (holds(one), holds(two)) == (True, False)
        await one.lease.give_up()
        await site.store(make_event())
        await two.forward()
        assert await site.waiting() == {}
        assert (await site.records.forwarder()).pod_id == "pod-2"


async def test_a_forwarder_that_stood_still_before_it_sent_sends_nothing(opening: Opening) -> None:
    """Its lease ended while it had read entries; another one has forwarded them, and later ones."""
    async with opening() as site:
        events, log, stop = make_events(3), site.log(), Stop()
        await site.store(*events[:2])
        slow = site.forwarder("slow", log=log)

        class Slow:
            def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the real one has
                return getattr(site.outbox.log, name)

            async def read(self, requests: Sequence[ReadRequest]) -> object:
                found = await site.outbox.log.read(requests)
                await stop()
                return found

        slow._outbox = Slow()
        forwarding = asyncio.create_task(slow.forward())
        await stop.reached.wait()
        await take_over(site)
        await site.store(events[2])
        await site.engine.log.trim(EVERYTHING)
        stop.go_on.set()
        await forwarding
        assert (log.publishes, holds(slow)) == (0, False)
        assert (await read(site.storage)).head == 2


async def test_a_forwarder_that_stood_still_while_it_sent_records_nothing(opening: Opening) -> None:
    """Its batch reaches the log late: every id is known there, and its term is over."""
    async with opening() as site:
        events, log, stop = make_events(3), site.log(), Stop()
        await site.store(*events[:2])
        slow = site.forwarder("slow", log=log)
        log.before = stop
        forwarding = asyncio.create_task(slow.forward())
        await stop.reached.wait()
        other = await take_over(site)
        await site.store(events[2])
        await other.forward()
        refused = make_event()
        await site.store(refused)
        stop.go_on.set()
        await forwarding
        assert (log.publishes, holds(slow)) == (1, False)
        assert await site.ids() == ids(events)
        assert await site.waiting() == {GATEWAY: 1}
        await other.forward()
        assert await site.ids() == ids([*events, refused])


async def test_of_two_that_take_over_at_once_one_forwards(opening: Opening) -> None:
    """The loser of the race waits for as long as a lease again."""
    async with opening() as site:
        await site.forwarder("dead").forward()
        both = [site.forwarder("pod-1"), site.forwarder("pod-2")]
        for forwarder in both:
            await forwarder.forward()
        site.now += LEASE
        await asyncio.gather(*(forwarder.forward() for forwarder in both))
        assert sorted(map(holds, both)) == [False, True]


async def test_the_log_may_be_away_for_longer_than_the_lease(opening: Opening) -> None:
    """Everything is forwarded in order when it is back, by the first process that looks."""
    async with opening() as site:
        events, log = make_events(4), site.log()
        forwarders = [site.forwarder(pod_id, log=log) for pod_id in ("pod-1", "pod-2")]
        await forwarders[0].forward()
        log.before = fail
        for event in events:
            await site.store(event)
            for forwarder in forwarders:
                with pytest.raises(StorageUnavailable):
                    await forwarder.forward()
            site.now += LEASE + 1
        log.before = nothing
        await forwarders[1].forward()
        assert await site.ids() == ids(events)


async def test_p7_a_process_that_does_not_reach_the_log_leaves_it_to_one_that_does(opening: Opening) -> None:
    """At once, however alive it is, and not again while it reaches nothing."""
    async with opening() as site:
        cut_off = site.log()
        one, two = site.forwarder("pod-1", log=cut_off), site.forwarder("pod-2")
        await one.forward()
        cut_off.before = fail
        for _ in range(3):
            await site.store(make_event())
            with suppress(StorageUnavailable):
                await one.forward()
            await two.forward()
            assert (holds(one), holds(two), await site.waiting()) == (False, True, {})
            site.now += LEASE / 2
        cut_off.identity = fail
        await two.lease.give_up()
        seen = await site.records.forwarder()
        for _ in range(3):
            with pytest.raises(StorageUnavailable):
                await one.forward()
            site.now += LEASE
        assert await site.records.forwarder() == seen


async def test_a_process_whose_own_term_could_not_be_given_up_takes_the_next_at_once(opening: Opening) -> None:
    """The outbox's database was away for a moment: nobody waits for as long as a lease."""
    async with opening() as site:

        class Away(Records):
            is_away = False

            async def waiting(self) -> list[Waiting]:
                await self._answer()
                return await super().waiting()

            async def give_up(self, term: str) -> None:
                await self._answer()
                await super().give_up(term)

            async def _answer(self) -> None:
                if self.is_away:
                    raise StorageUnavailable("the database is away")

        records = Away(site.outbox.database, site.opened.backend)
        one, two = site.forwarder("pod-1", records=records), site.forwarder("pod-2")
        await one.forward()
        await site.store(make_event())
        records.is_away = True
        with pytest.raises(StorageUnavailable):
            await one.forward()
        records.is_away = False
        await two.forward()
        assert not holds(two)
        await one.forward()
        assert (holds(one), await site.waiting()) == (True, {})


# --- in order -------------------------------------------------------------------------------------------------------


async def test_s02_a_transaction_that_commits_late_is_not_skipped(opening: Opening) -> None:
    """Of two transactions the second commits first, and is forwarded; the first is forwarded after it."""
    async with opening() as site:
        forwarder = site.forwarder()
        early, late = make_event(), make_event(OTHER_GATEWAY)
        if site.opened.backend is Backend.SQLITE:
            # One writer at a time: nothing can commit in between.
            await site.store(late)
            await site.store(early)
            await forwarder.forward()
        else:
            async with site.outbox.database.transaction() as transaction:
                await site.outbox.log.publish_in(transaction, [early])
                await site.store(late)
                await forwarder.forward()
                assert (await site.ids(OTHER_GATEWAY), await site.ids()) == ([late.event_id], [])
            await forwarder.forward()
        assert (await site.ids(OTHER_GATEWAY), await site.ids()) == ([late.event_id], [early.event_id])


async def test_a_transaction_that_began_first_and_published_last_comes_last(opening: Opening) -> None:
    """The order of one gateway is that in which transactions had its lock, which is that of their commits."""
    async with opening() as site:
        forwarder = site.forwarder()
        first, last = make_event(), make_event()
        if site.opened.backend is not Backend.SQLITE:
            async with site.outbox.database.transaction() as transaction:
                await transaction.fetch("SELECT txid_current()")
                await site.store(first)
                await site.outbox.log.publish_in(transaction, [last])
        else:
            await site.store(first)
            await site.store(last)
        await forwarder.forward()
        assert await site.ids() == [first.event_id, last.event_id]


# --- what is refused ------------------------------------------------------------------------------------------------


async def test_a_refused_entry_holds_back_its_gateway_alone(opening: Opening) -> None:
    """Those before it are forwarded; an operator has it tried again, or leaves it out."""
    async with opening() as site:
        events, others, log = make_events(5), make_events(2, OTHER_GATEWAY), site.log()
        log.refused = {events[2].event_id: "it is too large"}
        await site.store(*events, *others)
        forwarder = site.forwarder(log=log)
        outbox = site.as_outbox(forwarder)
        await forwarder.forward()
        assert (await site.ids(), await site.ids(OTHER_GATEWAY)) == (ids(events[:2]), ids(others))
        [refused] = await outbox.refused()
        assert (refused.gateway_id, refused.event_id) == (GATEWAY, events[2].event_id)
        assert refused.reason == "the database cannot hold one of the values: it is too large"
        status = await outbox.status()
        assert (status.waiting, status.refused, status.oldest) == ({GATEWAY: 3}, [refused], refused.stored_at)
        publishes = log.publishes
        await forwarder.forward()
        assert log.publishes == publishes
        assert await outbox.try_again(GATEWAY)
        await forwarder.forward()
        assert [one.event_id for one in await outbox.refused()] == [events[2].event_id]
        assert await outbox.leave_out(GATEWAY)
        await forwarder.forward()
        assert await site.ids() == ids([*events[:2], *events[3:]])
        assert not await outbox.leave_out(GATEWAY)
        assert not await outbox.try_again(OTHER_GATEWAY)
        assert (await outbox.status()).waiting == {}


async def test_a_refused_entry_is_forwarded_once_the_log_takes_it(opening: Opening) -> None:
    """And its order stays."""
    async with opening() as site:
        events, log = make_events(3), site.log()
        log.refused = {events[0].event_id: "not now"}
        await site.store(*events)
        forwarder = site.forwarder(log=log)
        await forwarder.forward()
        log.refused = {}
        await forwarder.forward()
        assert await site.ids() == []
        assert await site.as_outbox(site.forwarder("operator")).try_again(GATEWAY)
        await forwarder.forward()
        assert await site.ids() == ids(events)


async def test_deleting_the_gateway_decides_about_what_was_refused(opening: Opening) -> None:
    """Registered again, it begins with an empty log."""
    async with opening() as site:
        events, log = make_events(2), site.log()
        log.refused = {events[0].event_id: "never"}
        await site.store(*events)
        forwarder = site.forwarder(log=log)
        await forwarder.forward()
        await site.outbox.log.forget(GATEWAY)
        await site.outbox.log.register(GATEWAY)
        later = make_event()
        await site.store(later)
        assert await site.as_outbox(forwarder).refused() == []
        await forwarder.forward()
        assert await site.ids() == [later.event_id]


async def test_a_gateway_that_is_missing_in_the_log_is_told(opening: Opening) -> None:
    """It was deleted there, and not through the outbox; trying again registers it."""
    async with opening() as site:
        forwarder = site.forwarder()
        await forwarder.forward()
        await site.engine.log.forget(GATEWAY)
        events = make_events(2)
        await site.store(*events)
        await forwarder.forward()
        [refused] = await site.as_outbox(forwarder).refused()
        assert "is not registered" in refused.reason
        assert await site.as_outbox(forwarder).try_again(GATEWAY)
        await forwarder.forward()
        assert await site.ids() == ids(events)
        mark = await site.records.mark(GATEWAY)
        assert mark is not None
        assert mark.log_head == 2


async def test_after_a_refusal_batches_are_as_large_as_before(opening: Opening) -> None:
    """Only the batch with the culprit is sent one by one."""
    async with opening() as site:
        events, log = make_events(3), site.log()
        log.refused = {events[2].event_id: "no"}
        await site.store(*events)
        forwarder = site.forwarder(log=log)
        await forwarder.forward()
        await site.as_outbox(forwarder).leave_out(GATEWAY)
        await site.store(*make_events(200))
        before = log.publishes
        await forwarder.forward()
        assert log.publishes - before == 2
        assert len(await site.ids()) == 202


async def test_many_gateways_are_forwarded_together(opening: Opening) -> None:
    """A fan-out is whole in the outbox, and gets to every gateway."""
    async with opening() as site:
        names = [f"many-{number}" for number in range(130)]
        for name in names:
            await site.outbox.log.register(name)
        event = make_event()
        await site.store(*(event.addressed_to(name) for name in names))
        log = site.log()
        await site.forwarder(log=log).forward()
        assert [await site.ids(name) for name in (names[0], names[-1])] == [[event.event_id]] * 2
        assert await site.waiting() == {}
        assert log.publishes == 2


async def test_p11_an_entry_that_cannot_be_read_concerns_its_own_gateway(opening: Opening) -> None:
    """Its row is damaged; once it is repaired, it is tried again."""
    async with opening() as site:
        events, others = make_events(3), make_events(1, OTHER_GATEWAY)
        await site.store(*events, *others)
        damage = "UPDATE gatecast.events SET payload = $1 WHERE event_id = $2"
        await site.statement(damage, '{"number":', events[1].event_id)
        forwarder = site.forwarder()
        await forwarder.forward()
        assert (await site.ids(), await site.ids(OTHER_GATEWAY)) == (ids(events[:1]), ids(others))
        [refused] = await site.as_outbox(forwarder).refused()
        assert refused.reason.startswith("it cannot be read: data must be JSON")
        await site.statement(damage, '{"number":2}', events[1].event_id)
        assert await site.as_outbox(forwarder).try_again(GATEWAY)
        await forwarder.forward()
        assert await site.ids() == ids(events)


@pytest.mark.parametrize("column", ["entity_id", "payload", "event_id", "recorded_at", "action"])
async def test_p11_an_entry_that_no_driver_can_read_concerns_its_own_gateway(opening: Opening, column: str) -> None:
    """What is before it is forwarded, and it is told and decided about like any other that was refused."""
    async with opening() as site:
        if site.opened.backend is not Backend.SQLITE:
            # PostgreSQL stores nothing that it cannot read.
            return
        events, others = make_events(3), make_events(1, OTHER_GATEWAY)
        await site.store(*events, *others)
        damage = f"UPDATE gatecast.events SET {column} = CAST(x'ff' AS TEXT) WHERE event_id = $1"
        await site.statement(damage, events[1].event_id)
        forwarder = site.forwarder()
        await forwarder.forward()
        assert (await site.ids(), await site.ids(OTHER_GATEWAY)) == (ids(events[:1]), ids(others))
        outbox = site.as_outbox(forwarder)
        [refused] = await outbox.refused()
        assert refused.gateway_id == GATEWAY
        assert refused.reason.startswith("it cannot be read:")
        status = await outbox.status()
        assert (status.waiting, [one.gateway_id for one in status.refused]) == ({GATEWAY: 2}, [GATEWAY])
        queue = await outbox.gateways.queue(GATEWAY)
        assert (queue.events, (queue.refusal or "").partition(":")[0]) == (2, "it cannot be read")
        entry = await outbox.gateways.entry(GATEWAY, events[1].event_id)
        assert entry is None or entry.checked().undeliverable
        shown = UUID(int=refused.event_id.int)
        assert await outbox.try_again(GATEWAY, shown)
        await forwarder.forward()
        assert not await outbox.leave_out(GATEWAY, uuid4())
        assert await outbox.leave_out(GATEWAY, shown)
        await forwarder.forward()
        assert await site.ids() == ids([events[0], events[2]])


# --- what is shown --------------------------------------------------------------------------------------------------


def _shown(name: str) -> float | None:
    return metrics.registry.get_sample_value(f"gatecast_outbox_{name}")


async def test_the_metrics_show_what_waits_also_while_the_log_is_away(opening: Opening) -> None:
    """From the first look of a term on, so that monitoring sees it grow."""
    async with opening() as site:
        log = site.log()
        await site.records.bind("a-log", "")
        log.identity = fail
        forwarder = site.forwarder(log=log, bound_to="a-log")
        for count in (1, 2):
            await site.store(make_event())
            with pytest.raises(StorageUnavailable):
                await forwarder.forward()
            assert _shown("waiting_events") == count
            # For the alert: also by the process that would forward, after its term has begun.
            assert (_shown("oldest_event_seconds") or 0) > 0


async def test_the_metrics_show_what_waits_and_what_was_refused(opening: Opening) -> None:
    """Also after another process has taken over; one that does not forward shows nothing."""
    async with opening() as site:
        events, log = make_events(3), site.log()
        log.refused = {events[1].event_id: "no"}
        forwarder = site.forwarder(log=log)
        before = _shown("forwarded_events_total") or 0
        await site.store(*events)
        await forwarder.forward()
        assert (_shown("waiting_events"), _shown("refused_events")) == (2, 1)
        assert (_shown("forwarded_events_total") or 0) - before == 1
        assert (_shown("oldest_event_seconds") or 0) > 0
        other = site.forwarder("pod-2", log=log)
        await other.forward()
        assert (_shown("waiting_events"), _shown("oldest_event_seconds")) == (0, 0)
        site.now += LEASE
        await other.forward()
        assert (_shown("waiting_events"), _shown("refused_events")) == (2, 1)
        assert (_shown("oldest_event_seconds") or 0) > 0
        assert await site.as_outbox(other).leave_out(GATEWAY)
        await other.forward()
        assert (_shown("waiting_events"), _shown("refused_events"), _shown("oldest_event_seconds")) == (0, 0, 0)


@pytest.mark.parametrize("instant", ["", "infinity", "-infinity", "4000-01-01 BC", "not UTF-8"])
async def test_an_instant_that_cannot_be_read_hides_nothing_else(opening: Opening, instant: str) -> None:
    """With one damaged row, the events of every other gateway are forwarded and shown."""
    async with opening() as site:
        damaged, other, log = make_event(), make_event(OTHER_GATEWAY), site.log()
        log.refused = {other.event_id: "no"}
        await site.store(damaged, other)
        is_sqlite = site.opened.backend is Backend.SQLITE
        value = "CAST(x'32ff' AS text)" if is_sqlite else "'infinity'"
        if instant and instant != "not UTF-8":
            value = f"'{instant}'"
        await site.statement(f"UPDATE gatecast.events SET recorded_at = {value} WHERE event_id = $1", damaged.event_id)
        await site.forwarder(log=log).forward()
        assert _shown("waiting_events") == len(await site.waiting()) == 2
        assert (_shown("oldest_event_seconds") or 0) > 0


async def test_what_waits_is_counted_for_the_gateways_of_a_page(opening: Opening) -> None:
    """Also for one that was registered again, and has a mark of its former log; whatever is in a name."""
    async with opening() as site:
        strange = 'it\'s "strange" ${}'
        await site.outbox.log.register(strange)
        forwarder = site.forwarder()
        await site.store(*make_events(3), make_event(OTHER_GATEWAY))
        await forwarder.forward()
        await site.outbox.log.forget(GATEWAY)
        await site.outbox.log.register(GATEWAY)
        await site.store(*make_events(2), make_event(OTHER_GATEWAY), make_event(strange))
        gateways = site.as_outbox(forwarder).gateways
        assert await gateways.waiting([GATEWAY, strange, "nobody", GATEWAY]) == {GATEWAY: 2, strange: 1}
        await forwarder.forward()
        assert await gateways.waiting([GATEWAY, OTHER_GATEWAY, strange]) == {}
        assert await gateways.waiting([]) == {}


async def test_a_gateway_whose_event_waits_in_the_outbox_lags_since_then(opening: Opening) -> None:
    """So a list that is sorted by lag begins with it, although the log has nothing that it has not confirmed."""
    async with opening() as site:
        await site.store(make_event())
        stored_at = "recorded_at - interval '1 hour'"
        if site.opened.backend is Backend.SQLITE:
            stored_at = "strftime('%Y-%m-%dT%H:%M:%fZ', julianday(recorded_at) - 1.0 / 24)"
        await site.statement(f"UPDATE gatecast.events SET recorded_at = {stored_at}")
        gateways = site.as_outbox(site.forwarder()).gateways
        found = await gateways.summaries(site.storage.survey, [GATEWAY, OTHER_GATEWAY])
        lags = {each.gateway_id: (each.lag, each.lag_seconds > 3_000) for each in found}
        assert lags == {GATEWAY: (1, True), OTHER_GATEWAY: (0, False)}


# --- leaving no trace -----------------------------------------------------------------------------------------------


async def test_what_was_forwarded_is_removed_from_the_outbox(opening: Opening) -> None:
    """What waits stays, however old it is; what a deleted gateway left is removed as well."""
    async with opening() as site:
        log = site.log()
        forwarder = site.forwarder(log=log)
        stuck = make_event(OTHER_GATEWAY)
        log.refused = {stuck.event_id: "no"}
        await site.store(*make_events(250), stuck)
        await forwarder.forward()
        site.now += 60
        await forwarder.forward()
        assert [len((await read(site.outbox, name)).events) for name in (GATEWAY, OTHER_GATEWAY)] == [0, 1]
        assert len(await site.ids()) == 250
        again = make_event()
        await site.store(again)
        await forwarder.forward()
        assert (await site.ids())[-1] == again.event_id
        await site.outbox.log.forget(OTHER_GATEWAY)
        await forwarder.forward()
        site.now += 60
        await forwarder.forward()
        assert await _entries(site) <= 1


async def test_what_was_forwarded_is_removed_while_more_comes_all_the_time(opening: Opening) -> None:
    """The forwarder has never nothing to do, and the outbox does not grow."""
    async with opening() as site:
        log = site.log()
        more = make_events(16)

        async def another() -> None:
            site.now += LEASE / 2
            if more:
                await site.store(more.pop())

        log.after = another
        await site.store(make_event())
        await site.forwarder(log=log).forward()
        assert len(await site.ids()) == 17
        assert (await read(site.outbox)).low_water_mark >= 12


async def test_what_many_gateways_get_at_once_is_removed_as_fast_as_it_is_forwarded(opening: Opening) -> None:
    """And once a minute it is noted what may be removed: that costs the more, the more gateways there are."""

    class Counting(Records):
        confirms = 0

        async def confirm(self) -> None:
            self.confirms += 1
            await super().confirm()

    async with opening() as site:
        names = [f"gateway-{number:03}" for number in range(60)]
        for name in names:
            await site.outbox.log.register(name)
        records = Counting(site.outbox.database, site.opened.backend)
        forwarder = site.forwarder(records=records)
        await forwarder.forward()
        left = []
        for _ in range(3):
            for name in names:
                await site.store(*make_events(30, name))
            # Two turns, with a clean-up after each.
            site.now += 60
            await forwarder.forward()
            left.append(await _entries(site))
        assert left[-1] <= left[0] < 1_800
        assert records.confirms == 3


async def _entries(site: Site) -> int:
    table = "gatecast_events" if site.opened.backend is Backend.SQLITE else "gatecast.events"
    statement: Any = f"SELECT count(*) AS number FROM {table}"
    [row] = await site.outbox.database.fetch(statement)
    return int(row["number"])


async def test_an_id_that_was_forwarded_long_ago_is_stored_once(opening: Opening) -> None:
    """The outbox has forgotten it, and the log has not."""
    async with opening() as site:
        event, forwarder = make_event(), site.forwarder()
        await site.store(event)
        await forwarder.forward()
        site.now += 60
        await forwarder.forward()
        await site.store(event)
        await forwarder.forward()
        assert await site.ids() == [event.event_id]
        assert await site.waiting() == {}


async def test_an_id_that_was_forwarded_is_known_while_ids_are_kept(opening: Opening) -> None:
    """In the transaction that repeats it: of those that publish it at once one is told that it is new."""
    async with opening() as site:
        site.keep_forwarded = timedelta(days=1)
        forwarder, outbox = site.forwarder(), site.outbox
        before, event = make_events(2)
        await site.store(before)
        await forwarder.forward()
        site.now += 60
        await forwarder.forward()

        async def in_a_transaction() -> tuple[Receipt, ...]:
            async with outbox.database.transaction() as transaction:
                receipts: tuple[Receipt, ...] = await outbox.log.publish_in(transaction, [before, event])
                return receipts

        async def by_itself() -> tuple[Receipt, ...]:
            [result] = await outbox.log.publish([[before, event]])
            assert isinstance(result, tuple)
            return result

        results = await asyncio.gather(*(work() for work in (in_a_transaction, by_itself) * 3))
        assert sorted([each.created for each in result] for result in results) == [[False, False]] * 5 + [[False, True]]
        assert await site.waiting() == {GATEWAY: 1}
        await forwarder.forward()
        assert await site.ids() == ids([before, event])


async def test_what_was_left_out_may_be_published_again(opening: Opening) -> None:
    """It is another entry then: nobody is told that it waits, or that it was published."""
    async with opening() as site:
        site.keep_forwarded = timedelta(days=1)
        log, event = site.log(), make_event()
        log.refused = {event.event_id: "no"}
        forwarder = site.forwarder(log=log)
        outbox = site.as_outbox(forwarder)
        await site.store(event)
        await forwarder.forward()
        assert await outbox.leave_out(GATEWAY)
        with pytest.raises(EventNotForwarded):
            await outbox.position_of(event)
        log.refused = {}
        [[receipt]] = await site.outbox.log.publish([[event]])
        assert receipt.created
        await forwarder.forward()
        assert await site.ids() == [event.event_id]


async def test_ids_that_were_removed_are_not_taken_for_known_once_they_are_to_be_kept_for_longer(
    opening: Opening,
) -> None:
    """Retention was shorter for a while, or is at another process."""
    async with opening() as site:
        await site.records.begin_ids(ever=True)
        forwarder = site.forwarder()
        await site.store(make_event())
        await forwarder.forward()
        assert await site.records.knows_ids(timedelta(days=7))
        site.now += 60
        await forwarder.forward()
        assert await _entries(site) == 0
        assert not await site.records.knows_ids(timedelta(days=7))
        assert await site.records.knows_ids(timedelta(0))


async def test_ids_are_known_while_they_are_kept_for_as_long_as_they_are_asked_for(opening: Opening) -> None:
    """Whatever was removed before."""
    async with opening() as site:
        await site.records.begin_ids(ever=True)
        site.keep_forwarded = timedelta(days=7)
        forwarder = site.forwarder()
        for _ in range(3):
            await site.store(make_event())
            await forwarder.forward()
            site.now += 60
            await forwarder.forward()
        assert await site.records.knows_ids(timedelta(days=7))
        assert not await site.records.knows_ids(timedelta(days=8))


async def test_what_an_earlier_release_forwards_meanwhile_is_not_taken_for_known(opening: Opening) -> None:
    """It keeps no ids, as after a roll-back or while both releases run; they are known since it stopped."""
    async with opening() as site:
        await site.records.begin_ids(ever=True)
        await (forwarder := site.forwarder()).forward()
        await forwarder._give_up()
        assert await site.records.knows_ids(timedelta(days=7))
        await site.statement("UPDATE gatecast_outbox_forwarder SET pod_id = 'old', term = 'of-old', beats = 0")
        assert not await site.records.knows_ids(timedelta(0))
        await site.statement("UPDATE gatecast_outbox_forwarder SET pod_id = ''")
        site.now += LEASE
        await forwarder.forward()
        assert holds(forwarder)
        assert not await site.records.knows_ids(timedelta(days=7))
        assert await site.records.knows_ids(timedelta(0))


async def test_the_outbox_says_whether_it_knows_every_id(opening: Opening) -> None:
    """A new one of an empty log does; otherwise it does once it has kept ids for long enough."""
    async with opening() as site:
        kept = timedelta(minutes=1)
        assert not await site.records.knows_ids(kept)
        outbox = site.as_outbox(site.forwarder())
        await site.storage.log.register("before")
        await outbox.adopt()
        assert not await site.records.knows_ids(kept)
        assert await site.records.knows_ids(-kept)
        await site.statement("UPDATE gatecast_outbox_forwarder SET ids_since = NULL")
        await site.records.begin_ids(ever=True)
        assert await site.records.knows_ids(timedelta(days=10_000))
        await site.storage.log.register("another")
        await outbox.adopt()
        assert not await site.records.knows_ids(kept)
