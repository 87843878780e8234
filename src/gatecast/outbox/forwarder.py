"""Moves what was committed to the outbox to the log: in the order of each gateway, once for each event id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, TypeVar
from uuid import UUID

from gatecast.containment import RetryLoop, contained, describe, in_halves, log_failure
from gatecast.errors import (
    GatecastError,
    InvalidValue,
    StatementFailed,
    StorageError,
    StorageUnavailable,
    UnknownGateway,
)
from gatecast.events import Event, RecordedEvent, printable
from gatecast.outbox.lease import Lease
from gatecast.outbox.records import Mark, Records, TermOver, Waiting
from gatecast.storage.contract import EventLog, PublishResult, ReadRequest, ReadResult, Receipt, TrimPolicy
from gatecast.telemetry import get_logger, metrics
from gatecast.waiting import Signal
from gatecast.wakeup.contract import Hint

#: Most gateways whose entries are forwarded at once.
_GATEWAYS: Final = 100

#: Most entries that are forwarded at once, so that all of them are in the log long before the lease ends.
_ENTRIES: Final = 1_000

#: Most of them of one gateway; as one group they fit into one batch of JetStream.
_ENTRIES_OF_ONE: Final = 100

#: A process that ends has so many seconds to let another one take over at once.
_GOODBYE_TIME_LIMIT: Final = 2.0

#: Most bytes of data of one gateway that are forwarded at once.
_BYTES: Final = 64 * 1024

#: Entries that were forwarded are removed so often, in seconds.
_CLEAN_UP_EVERY: Final = 5.0

#: Most gateways whose forwarded entries one statement releases to be removed.
_CONFIRMED_AT_ONCE: Final = 1_000

#: Most events of a log that one request reads, to find those that were forwarded before.
_PAGE: Final = 1_000

#: Removes what is confirmed, which is what was forwarded, and nothing else.
_FORWARDED = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(days=36_500), max_events=1 << 60)

_UNCERTAIN = (
    "it may have been forwarded and removed by retention since; compare it with what the gateway has, then leave it "
    "out or try it again"
)

T = TypeVar("T")

_logger = get_logger("outbox")


@dataclass(frozen=True, slots=True)
class _Batch:
    """The next entries of one gateway."""

    mark: Mark
    entries: Sequence[RecordedEvent]
    events: Sequence[Event]
    #: Why no event could be made of the entry after these; empty if all could.
    problem: str = ""

    @classmethod
    def of(cls, mark: Mark, entries: Sequence[RecordedEvent]) -> _Batch:
        """As many of the entries as can be read."""
        events: list[Event] = []
        for entry in map(RecordedEvent.checked, entries):
            if entry.undeliverable is not None:
                return cls(mark, entries, events, f"it cannot be read: {entry.undeliverable}")
            try:
                events.append(_event(entry))
            except GatecastError as error:
                return cls(mark, entries, events, f"it cannot be read: {error}")
        return cls(mark, entries, events)

    def forwarded(self, receipts: Sequence[Receipt]) -> Mark:
        """The mark once the events were forwarded."""
        epoch = str(receipts[0].position.epoch)
        # New events are the end of the log. Of ids that it knew already it is where they were stored first.
        before = self.mark.log_head if epoch == self.mark.log_epoch else 0
        ends = [receipt.position.offset for receipt in receipts if receipt.created]
        head = max(ends or [before, *(receipt.position.offset for receipt in receipts)])
        through = self.entries[len(receipts) - 1].offset
        return replace(self.mark, forwarded=through, log_epoch=epoch, log_head=head)

    def refused(self, reason: str) -> Mark:
        """The mark once the first entry was refused."""
        return replace(self.mark, refused=self.entries[0].offset, reason=printable(reason, _LONGEST_REASON))


def _no_hint(_: Hint) -> None:
    """Nobody is told: readers of the log poll."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxOptions:
    """How this process forwards."""

    pod_id: str
    #: Longest time between two looks at the outbox, in seconds.
    poll_interval: float
    #: Sends hints to those who read the log.
    send_hint: Callable[[Hint], None] = _no_hint
    clock: Callable[[], float] = time.monotonic


class Forwarder:
    """One loop in each process that has opened the outbox; in one of them at a time it forwards.

    What is in the log is recorded after the log has confirmed it. Whatever comes between is noticed when the same
    entries are forwarded again: the log stores an id once while it retains it, and `_skip_forwarded` finds what it
    does not retain.
    """

    def __init__(self, outbox: EventLog, log: EventLog, records: Records, options: OutboxOptions) -> None:
        self._outbox = outbox
        self._log = log
        self._records = records
        self._options = options
        self._clock = options.clock
        self.lease = Lease(records, options.pod_id, clock=options.clock)
        self.loop = RetryLoop("forward-failed", "the outbox cannot be forwarded")
        self._signal = Signal()
        self._waiters: set[asyncio.Future[None]] = set()
        self._cleaned_at = options.clock()
        #: The gateways of which something was forwarded that is still in the outbox.
        self._unconfirmed: dict[str, Mark] = {}
        self._term: str | None = None
        #: The gateways of which nothing can be in the log that is not recorded, because every answer arrived.
        self._certain: set[str] = set()
        #: The gateways whose entries go one by one, because the log has refused a batch of them.
        self._one_by_one: set[str] = set()
        #: When the first entry of each gateway that waits was stored, in seconds since 1970.
        self._since: dict[str, float] = {}

    async def run(self) -> None:
        """Forward until cancelled; then let another process do it at once."""
        try:
            await self.loop.run(self.forward, rest=self._rest)
        finally:
            await self._give_up()

    async def _give_up(self) -> None:
        try:
            async with asyncio.timeout(_GOODBYE_TIME_LIMIT):
                await self.lease.give_up()
        except (StorageError, TimeoutError) as error:
            _logger.info("outbox-lease-kept", error=describe(error))

    async def _rest(self) -> None:
        await self._signal.wait(self._options.poll_interval)

    def look(self) -> None:
        """Let the loop look at the outbox at once."""
        self._signal.set()

    async def moved(self, seconds: float) -> None:
        """Return when this process has forwarded something, at the latest after so many seconds."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=seconds)
        finally:
            self._waiters.discard(waiter)

    async def forward(self) -> None:
        """Forward everything that waits now, if this process is the one that does."""
        try:
            if not await self.lease.is_held():
                metrics.outbox(0, 0, None)
                return
            if self._term != self.lease.term:
                self._term = self.lease.term
                self._certain.clear()
            failed: set[str] = set()
            while work := _turn(await self._look(), failed):
                for start in range(0, len(work), _GATEWAYS):
                    await self._forward_some(work[start : start + _GATEWAYS], failed)
                await self._clean_up()
            await self._clean_up()
        except TermOver:
            self.lease.lose()
        except BaseException:
            # An answer may be on its way.
            self._certain.clear()
            raise

    async def _look(self) -> list[Waiting]:
        """The gateways of which something is to be forwarded; shows how much waits, and since when."""
        found = await self._records.waiting()
        waiting = {one.gateway_id: one.entries for one in found if one.entries > 0}
        self._since = {name: since for name, since in self._since.items() if name in waiting}
        self._one_by_one &= waiting.keys()
        refused = [one.present for one in found if one.present is not None and one.is_refused]
        await self._read([mark for mark in refused if mark.gateway_id not in self._since])
        metrics.outbox(sum(waiting.values()), len(refused), min(self._since.values(), default=None))
        return found

    async def _read(self, marks: Sequence[Mark]) -> list[tuple[Mark, Sequence[RecordedEvent]]]:
        """The next entries of each of these gateways that has some and that is still there."""
        if not marks:
            return []
        found = await self._outbox.read(
            [_next_entries(mark, self._most(mark.gateway_id, len(marks))) for mark in marks]
        )
        # A gateway may have been deleted, or registered again, since.
        present = [
            (mark, read.events)
            for mark, read in zip(marks, found, strict=True)
            if read is not None and read.log_id == mark.outbox_log and read.events
        ]
        self._since |= {mark.gateway_id: entries[0].recorded_at.timestamp() for mark, entries in present}
        return present

    async def _forward_some(self, work: Sequence[Waiting], failed: set[str]) -> None:
        """Do what is to be done for these gateways; note those with a problem of their own."""
        if not await self.lease.is_held():
            raise TermOver
        marks = []
        for each in work:
            try:
                mark = each.present or await self._follow(each)
            except StatementFailed as error:
                log_failure("outbox-gateway-failed", error, gateway=each.gateway_id)
                failed.add(each.gateway_id)
            else:
                if mark is not None:
                    marks.append(mark)
        if batches := [_Batch.of(mark, entries) for mark, entries in await self._read(marks)]:
            await self._forward(batches)

    def _most(self, gateway_id: str, gateways: int) -> int:
        """How many entries of one of so many gateways are forwarded at once."""
        return 1 if gateway_id in self._one_by_one else max(1, min(_ENTRIES // gateways, _ENTRIES_OF_ONE))

    # --- registering and deleting -----------------------------------------------------------------------------------

    async def _follow(self, waiting: Waiting) -> Mark | None:
        """The mark of a gateway that was registered in the outbox, once its log exists; None if it was deleted there.

        A gateway that was registered again was deleted before: so is its log, with the entries that waited.
        """
        gateway_id, earlier = waiting.gateway_id, waiting.mark
        if earlier is not None and earlier.outbox_log != waiting.log_id:
            await self._in_time(lambda: self._log.forget(gateway_id))
            self._unconfirmed.setdefault(gateway_id, earlier)
            if waiting.log_id is None:
                await self._records.drop(self._held_term(), earlier)
        if waiting.log_id is None:
            self._wake_waiters()
            return None
        # Recorded first: should the gateway be deleted before the rest is done, its log is deleted as well.
        mark = Mark(gateway_id=gateway_id, outbox_log=waiting.log_id, forwarded=0, log_epoch="", log_head=0)
        await self._records.save(self._held_term(), [mark])
        await self._in_time(lambda: self._log.register(gateway_id))
        log = await self._end_of(gateway_id)
        mark = replace(mark, log_epoch=str(log.epoch), log_head=log.head)
        await self._records.save(self._held_term(), [mark])
        self._certain.add(gateway_id)
        self._wake_waiters()
        return mark

    async def _end_of(self, gateway_id: str) -> ReadResult:
        request = ReadRequest(gateway_id=gateway_id, after=_PAST_EVERY_END, max_events=1, max_bytes=1)
        [log] = await self._log.read([request])
        if log is None:
            raise UnknownGateway(gateway_id)
        return log

    # --- forwarding -------------------------------------------------------------------------------------------------

    async def _forward(self, batches: Sequence[_Batch]) -> None:
        """Publish these batches, each as one group, and record what became of them."""
        saved: list[Mark] = []
        ready: list[_Batch] = []
        for batch in batches:
            if (mark := await self._skip_forwarded(batch)) is not None:
                saved.append(mark)
            elif not batch.events:
                saved.append(batch.refused(batch.problem))
            else:
                ready.append(batch)
        results = await in_halves([batch.events for batch in ready], self._publish) if ready else []
        failures: list[GatecastError] = []
        for batch, result in zip(ready, results, strict=True):
            mark = self._outcome(batch, result)
            if mark is not None:
                saved.append(mark)
            elif isinstance(result, GatecastError) and not _is_refusal(result):
                failures.append(result)
        await self._save(saved)
        with contained("hint-lost"):
            self._options.send_hint(Hint.at(mark.gateway_id for mark in saved))
        if failures:
            raise failures[0]

    async def _publish(self, groups: Sequence[Sequence[Event]]) -> Sequence[PublishResult]:
        return await self._in_time(lambda: self._log.publish(groups))

    def _outcome(self, batch: _Batch, result: PublishResult | GatecastError) -> Mark | None:
        """The mark to record; None if nothing is known, or the batch has to become smaller."""
        gateway_id = batch.mark.gateway_id
        if isinstance(result, tuple):
            metrics.forwarded(len(result))
            self._certain.add(gateway_id)
            return batch.forwarded(result)
        self._certain.discard(gateway_id)
        if isinstance(result, GatecastError) and _is_refusal(result):
            if len(batch.events) == 1:
                self._one_by_one.discard(gateway_id)
                return batch.refused(describe(result))
            self._one_by_one.add(gateway_id)
        return None

    async def _save(self, marks: Sequence[Mark]) -> None:
        if not marks:
            return
        await self._records.save(self._held_term(), marks)
        for mark in marks:
            self._unconfirmed[mark.gateway_id] = mark
            if mark.refused:
                _logger.warning("outbox-entry-refused", gateway=mark.gateway_id, reason=mark.reason)
        self._wake_waiters()

    async def _skip_forwarded(self, batch: _Batch) -> Mark | None:
        """The mark after the entries that are in the log already; None if none is, or the log itself can tell.

        Asked once for each gateway in a term, and after a failure: an answer may have been lost. What the log retains
        it recognizes by the id. If it has removed events since the last record, those may have been these.
        """
        mark = batch.mark
        if mark.gateway_id in self._certain:
            return None
        [log] = await self._log.read([self._page(mark, mark.log_head)])
        if log is None or str(log.epoch) != mark.log_epoch or log.low_water_mark <= mark.log_head:
            self._certain.add(mark.gateway_id)
            return None
        known = {log.last_event_id} | await self._ids_after(mark, log)
        # As many entries as a batch ever had: this one may be smaller than the one whose answer was lost.
        [present] = await self._outbox.read([_next_entries(mark, _ENTRIES_OF_ONE)])
        for entry in reversed(present.events if present is not None and present.log_id == mark.outbox_log else ()):
            if entry.event_id in known:
                self._certain.add(mark.gateway_id)
                return replace(mark, forwarded=entry.offset, log_epoch=str(log.epoch), log_head=log.head)
        return batch.refused(_UNCERTAIN)

    async def _ids_after(self, mark: Mark, log: ReadResult | None) -> set[object]:
        ids: set[object] = set()
        while log is not None and log.events:
            ids |= {event.event_id for event in log.events}
            [log] = await self._log.read([self._page(mark, log.events[-1].offset)])
        return ids

    def _page(self, mark: Mark, after: int) -> ReadRequest:
        return ReadRequest(gateway_id=mark.gateway_id, after=after, max_events=_PAGE, max_bytes=16 * _BYTES)

    # --- leaving no trace ---------------------------------------------------------------------------------------------

    async def _clean_up(self) -> None:
        """Remove what was forwarded from the outbox, from time to time."""
        if not self._unconfirmed or self._clock() - self._cleaned_at < _CLEAN_UP_EVERY:
            return
        self._cleaned_at = self._clock()
        while self._unconfirmed:
            some = list(self._unconfirmed.values())[:_CONFIRMED_AT_ONCE]
            await self._records.confirm(some)
            for mark in some:
                del self._unconfirmed[mark.gateway_id]
        while await self._outbox.trim(_FORWARDED):
            if not await self.lease.is_held():
                return

    # --- the term -----------------------------------------------------------------------------------------------------

    def _held_term(self) -> str:
        if self._term is None or self._term != self.lease.term:
            raise TermOver
        return self._term

    async def _in_time(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of work on the log, which must not reach the log once another process may forward.

        Raises:
            StorageUnavailable: the lease ended first; what was sent may have been stored.
        """
        if (left := self.lease.left) <= 0:
            raise TermOver
        try:
            async with asyncio.timeout(left):
                return await work()
        except TimeoutError as error:
            raise StorageUnavailable("the log did not answer before the lease of the forwarder ended") from error

    def _wake_waiters(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


#: Most characters of a reason that are kept.
_LONGEST_REASON: Final = 1_000

#: Past the end of every log.
_PAST_EVERY_END: Final = (1 << 62) - 1


def _turn(found: Sequence[Waiting], failed: Container[str]) -> list[Waiting]:
    """What is done next: all that can be forwarded, and then some of what is to be registered or deleted first."""
    able = [one for one in found if not one.is_refused and one.gateway_id not in failed]
    return [
        *(one for one in able if one.present is not None),
        *[one for one in able if one.present is None][:_GATEWAYS],
    ]


def _next_entries(mark: Mark, most: int) -> ReadRequest:
    return ReadRequest(gateway_id=mark.gateway_id, after=mark.forwarded, max_events=most, max_bytes=_BYTES)


def _is_refusal(error: GatecastError) -> bool:
    """Whether the log has refused the events, and not failed for everybody."""
    return isinstance(error, StatementFailed | UnknownGateway | InvalidValue)


def _event(entry: RecordedEvent) -> Event:
    return Event.again(
        payload=entry.payload,
        gateway_id=entry.gateway_id,
        # One driver has a class of its own for ids, which the others do not know.
        event_id=UUID(int=entry.event_id.int),
        type=entry.type,
        action=entry.action,
        entity_type=entry.entity_type,
        entity_id=entry.entity_id,
        originated_at=entry.originated_at,
        trace_parent=entry.trace_parent,
    )
