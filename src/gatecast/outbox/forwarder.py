"""Moves what was committed to the outbox to the log: in the order of each gateway, once for each event id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from math import isfinite
from typing import Final, TypeVar
from uuid import UUID

from gatecast.containment import RetryLoop, contained, describe, in_halves, log_failure
from gatecast.errors import (
    DatabaseUnsuitable,
    GatecastError,
    InvalidValue,
    StatementFailed,
    StorageError,
    StorageUnavailable,
    UnknownGateway,
)
from gatecast.outbox.following import Following
from gatecast.outbox.lease import LEASE, Lease
from gatecast.outbox.reach import Reach
from gatecast.outbox.records import Mark, Records, TermOver, Waiting
from gatecast.outbox.term import GATEWAYS_AT_ONCE, Batch, Term
from gatecast.storage.contract import Busy, EventLog, PublishResult, ReadRequest, ReadResult, TrimPolicy
from gatecast.storage.reading import read_each
from gatecast.telemetry import get_logger, metrics
from gatecast.waiting import Signal
from gatecast.wakeup.contract import Hint

#: Most entries that are forwarded at once, so that all of them are in the log long before the lease ends.
_ENTRIES: Final = 1_000

#: Most of them of one gateway; as one group they fit into one batch of JetStream.
_ENTRIES_OF_ONE: Final = 100

#: Seconds that a process that ends has to hand over to another one.
_GOODBYE_TIME_LIMIT: Final = 2.0

#: Most bytes of data of one gateway that are forwarded at once.
_BYTES: Final = 64 * 1024

#: It is looked so often whether an entry that was forwarded may be removed, in seconds.
_CLEAN_UP_EVERY: Final = 60.0

#: So many old entries are removed at once, and twice as many as were forwarded since: the outbox must not grow.
_REMOVED: Final = 2_000

#: Most events of a log that one request reads, to find those that were forwarded before.
_PAGE: Final = 1_000

#: Waiting events are never too old.
_EVER: Final = timedelta(days=730_000)

_UNCERTAIN = (
    "it may have been forwarded and removed by retention since; compare it with what the gateway has, then leave it "
    "out or try it again"
)

T = TypeVar("T")

_logger = get_logger("outbox")


def _no_hint(_: Hint) -> None:
    """Send no hint: readers of the log poll."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxOptions:
    """How this process forwards."""

    pod_id: str
    #: Longest time between two looks at the outbox, in seconds.
    poll_interval: float
    #: How long forwarded events are kept, so that a publish in a transaction recognizes a repeated id.
    keep_forwarded: timedelta = timedelta(0)
    #: Sends hints to readers of the log.
    send_hint: Callable[[Hint], None] = _no_hint
    clock: Callable[[], float] = time.monotonic
    #: Identity of the log to which the outbox is bound.
    log: str = ""
    #: Where the log is, without user and password.
    log_place: str = ""


class Forwarder:
    """A loop in each process that has opened the outbox; one process at a time forwards.

    Progress is recorded after the log has confirmed it. After a crash in between, the same entries are forwarded again:
    the log stores an id once while it retains it, and `_without_what_is_there` finds entries that it no longer retains.
    """

    def __init__(self, outbox: EventLog, log: EventLog, records: Records, options: OutboxOptions) -> None:
        self._outbox = outbox
        self._log = log
        self._records = records
        self._options = options
        self._clock = options.clock
        #: What was forwarded is kept so long.
        self.keep_forwarded = options.keep_forwarded
        self.lease = Lease(records, options.pod_id, log=options.log, clock=options.clock)
        self._reach = Reach(log, self.lease)
        self._following = Following(outbox, log, records, self._reach, clock=options.clock, wake=self._wake_waiters)
        self.loop = RetryLoop("forward-failed", "the outbox cannot be forwarded")
        self._signal = Signal()
        self._waiters: set[asyncio.Future[None]] = set()
        self._clean_up_at = options.clock() + _CLEAN_UP_EVERY
        #: Whether the last clean-up has left something to remove.
        self._cleans_up = False
        #: How many events were forwarded since the last clean-up.
        self._forwarded = 0
        self._term: Term | None = None
        #: The gateways whose entries go one by one, because the log has refused a batch of them.
        self._one_by_one: set[str] = set()

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
        """Return when this process has forwarded something, at the latest after this many seconds."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=seconds)
        finally:
            self._waiters.discard(waiter)

    async def forward(self) -> None:
        """Forward everything that waits now, if this process is the one that does."""
        try:
            if not await self._is_its_turn():
                return
            if self._term is None or self._term.name != self.lease.term:
                self._term = Term(self.lease.term or "")
            await self._forward_all(self._term)
        except TermOver:
            self.lease.lose()
        except BaseException as error:
            # An answer may be on its way: as when a term begins.
            self._term = None
            if isinstance(error, Exception):
                # Another process may reach what this one does not.
                await self._give_up()
            raise

    async def _is_its_turn(self) -> bool:
        """Whether this process forwards: it did and continues, or no other process does and the log answers."""
        if await self.lease.is_kept():
            return True
        vacancy = await self.lease.vacancy()
        if vacancy is None:
            metrics.outbox(0, 0, None)
            return False
        # While the log is away no process forwards: then every process reports what waits.
        _show(await self._records.waiting())
        await self._check_log()
        return await self.lease.take(vacancy)

    async def _forward_all(self, term: Term) -> None:
        await self._following.check_history(term)
        while turn := term.turn(await self._look(term)):
            # First without waiting for locks: a log that is held delays the others by one wait at most (promise P7).
            for start in range(0, len(turn.ready), GATEWAYS_AT_ONCE):
                await self._forward_some(term, turn.ready[start : start + GATEWAYS_AT_ONCE])
            await self._following.follow_some(term, turn.changed)
            await self._clean_up(term)
        term.aside.clear()
        await self._clean_up(term)

    async def _look(self, term: Term) -> list[Waiting]:
        """The gateways with work to forward; reports how much waits, and since when."""
        found = await self._records.waiting()
        term.look(found)
        self._one_by_one &= {one.gateway_id for one in found if one.entries > 0}
        _show(found)
        return found

    async def _read(self, marks: Sequence[Mark]) -> list[Batch]:
        """The next entries of each of these gateways that has some and that is still there."""
        if not marks:
            return []
        requests = [_next_entries(mark, self._most(mark.gateway_id, len(marks))) for mark in marks]
        found = dict(zip(marks, await read_each(self._outbox, requests), strict=True))
        for mark, read in found.items():
            if isinstance(read, GatecastError):
                log_failure("outbox-gateway-failed", read, gateway=mark.gateway_id)
        # A gateway may have been deleted, or registered again, since.
        return [
            Batch.of(mark, read.events)
            for mark, read in found.items()
            if isinstance(read, ReadResult) and read.log_id == mark.outbox_log and read.events
        ]

    async def _forward_some(self, term: Term, marks: Sequence[Mark]) -> None:
        """Forward the next entries of these gateways; set aside those with a problem of their own."""
        await self._reach.keep(term)
        batches = await self._read(marks)
        # Waiting gateways without entries: they were deleted meanwhile, or the outbox was restored.
        term.aside |= {mark.gateway_id for mark in marks} - {batch.gateway_id for batch in batches}
        if batches:
            await self._forward(term, batches)

    async def _check_log(self) -> None:
        """Return if the log answers and still belongs to the outbox: its stream may have been recreated.

        Raises:
            StorageUnavailable: it does not answer.
        """
        try:
            async with asyncio.timeout(LEASE):
                found = str(await self._log.identity())
        except TimeoutError as error:
            raise StorageUnavailable("the log does not answer") from error
        if self._options.log and found != self._options.log:
            raise DatabaseUnsuitable(
                f"the log {self._options.log} of the outbox is gone; the log {found} is in its place",
                "restore it; or open the hub again, which says how to continue with another log",
            )

    def _most(self, gateway_id: str, gateways: int) -> int:
        """How many entries of each of this many gateways are forwarded at once."""
        return 1 if gateway_id in self._one_by_one else max(1, min(_ENTRIES // gateways, _ENTRIES_OF_ONE))

    # --- forwarding -------------------------------------------------------------------------------------------------

    async def _forward(self, term: Term, batches: Sequence[Batch]) -> None:
        """Publish these batches, each as one group, and record what became of them."""
        found = await self._without_what_is_there(term, batches)
        saved = [batch.refused(batch.problem) for batch in found if not batch.events]
        ready = [batch for batch in found if batch.events]
        results = await in_halves(ready, partial(self._publish, term)) if ready else []
        failures: list[GatecastError] = []
        for batch, result in zip(ready, results, strict=True):
            mark = self._outcome(term, batch, result)
            if mark is not None:
                saved.append(mark)
            elif isinstance(result, GatecastError) and not _is_refusal(result):
                failures.append(result)
        await self._save(term, saved)
        with contained("hint-lost"):
            self._options.send_hint(Hint.at(mark.gateway_id for mark in saved))
        if failures:
            raise failures[0]

    async def _publish(self, term: Term, batches: Sequence[Batch]) -> Sequence[PublishResult]:
        logs = {batch.gateway_id: term.logs[batch.gateway_id] for batch in batches}
        groups = [batch.events for batch in batches]
        return await self._reach.in_time(term, lambda: self._log.publish(groups, wait=False, logs=logs))

    def _outcome(self, term: Term, batch: Batch, result: PublishResult | GatecastError) -> Mark | None:
        """The mark to record; None if nothing is known, or the batch has to become smaller."""
        if isinstance(result, tuple):
            metrics.forwarded(len(result))
            self._forwarded += len(result)
            return batch.forwarded(result)
        if isinstance(result, Busy):
            term.aside.add(batch.gateway_id)
            return None
        if isinstance(result, UnknownGateway) and term.logs.pop(batch.gateway_id) != _NO_LOG:
            # It has another log now, or the replica that was asked for it lags: it is asked again.
            return None
        term.doubt(batch)
        if _is_refusal(result):
            if len(batch.events) == 1:
                self._one_by_one.discard(batch.gateway_id)
                return batch.refused(describe(result))
            self._one_by_one.add(batch.gateway_id)
        return None

    async def _save(self, term: Term, marks: Sequence[Mark]) -> None:
        if not marks:
            return
        await self._records.save(term.name, marks)
        for mark in marks:
            term.note(mark)
            if mark.is_refused:
                _logger.warning("outbox-entry-refused", gateway=mark.gateway_id, reason=mark.reason)
        self._wake_waiters()

    # --- what may be in the log ---------------------------------------------------------------------------------------

    async def _without_what_is_there(self, term: Term, batches: Sequence[Batch]) -> list[Batch]:
        """The batches without entries that are in the log and that the log would not recognize.

        Every other batch is recorded, as forwarded or as refused, and comes again with the next look. Checked once for
        each gateway in a term, and after an answer may have been lost. The log recognizes retained events by the id; if
        it has removed events since the last record, those may have been these entries.
        """
        asked = [batch for batch in batches if batch.gateway_id not in term.logs or term.doubts(batch.mark)]
        ready = [batch for batch in batches if batch not in asked]
        results = await in_halves(asked, partial(self._ends, term)) if asked else []
        for batch, log in zip(asked, results, strict=True):
            if isinstance(log, GatecastError):
                if not _is_refusal(log):
                    raise log
                log_failure("outbox-gateway-failed", log, gateway=batch.gateway_id)
                term.aside.add(batch.gateway_id)
                continue
            # Without a log it is refused, as a gateway that the log does not know.
            term.logs[batch.gateway_id] = log.log_id if log is not None else _NO_LOG
            if log is None or not term.doubts(batch.mark) or not batch.mark.may_lack(log):
                ready.append(batch)
                term.is_sure(batch.mark)
            else:
                mark = await self._found_in(term, batch, log)
                await self._save(term, [mark])
                if not mark.is_refused:
                    term.is_sure(mark)
        return ready

    async def _ends(self, term: Term, batches: Sequence[Batch]) -> Sequence[ReadResult | None]:
        return await self._reach.read(term, [_page(batch.mark, batch.mark.log_head, most=1) for batch in batches])

    async def _found_in(self, term: Term, batch: Batch, log: ReadResult) -> Mark:
        """The mark after the last entry that is in the log, or was its last event; refused if none can be found."""
        mark, forwarded, head = batch.mark, batch.mark.forwarded, log.head
        page: ReadResult | None = log
        while page is not None:
            head = page.head
            ids = [page.last_event_id, *(event.event_id for event in page.events)]
            # Looked up in the outbox: more entries may be in the log than a batch has.
            wanted = [UUID(int=each.int) for each in ids if each is not None]
            places = await self._outbox.find(mark.gateway_id, wanted)
            forwarded = max([forwarded, *(place.offset for place in places.values())])
            if not page.events:
                break
            await self._reach.keep(term)
            [page] = await self._reach.read(term, [_page(mark, page.events[-1].offset, most=_PAGE)])
        if forwarded == mark.forwarded:
            return batch.refused(_UNCERTAIN)
        return mark.forwarded_to(forwarded, log_epoch=mark.log_epoch, log_head=head)

    # --- removing what is old -----------------------------------------------------------------------------------------

    async def _clean_up(self, term: Term) -> None:
        """Remove old forwarded events, from time to time; the rest is removed after what waits now."""
        forwarded, self._forwarded = self._forwarded, 0
        if self._clock() < self._clean_up_at:
            return
        if not self._cleans_up:
            await self._records.confirm()
            self._cleans_up = True
        left = _REMOVED + 2 * forwarded
        while left > 0:
            await self._reach.keep(term)
            removed = await self._remove_some()
            if not removed:
                self._cleans_up, self._clean_up_at = False, self._clock() + _CLEAN_UP_EVERY
                return
            left -= removed

    async def _remove_some(self) -> int:
        """How many events were removed; only confirmed ones, which are those that were forwarded."""
        # Another process, or this one later, may be told to keep them for longer.
        await self._records.forget_ids(self.keep_forwarded)
        policy = TrimPolicy(keep_confirmed=self.keep_forwarded, keep_at_most=_EVER, max_events=1 << 60)
        return await self._outbox.trim(policy)

    def _wake_waiters(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


#: The number of no log.
_NO_LOG: Final = 0


def _show(found: Sequence[Waiting]) -> None:
    """Show how much waits, since when, and what was refused."""
    waiting = [one for one in found if one.entries > 0]
    oldest = min((one.since for one in waiting if one.since is not None and isfinite(one.since)), default=None)
    metrics.outbox(sum(one.entries for one in waiting), sum(one.is_refused for one in found), oldest)


def _next_entries(mark: Mark, most: int) -> ReadRequest:
    return ReadRequest(gateway_id=mark.gateway_id, after=mark.forwarded, max_events=most, max_bytes=_BYTES)


def _page(mark: Mark, after: int, *, most: int) -> ReadRequest:
    return ReadRequest(gateway_id=mark.gateway_id, after=after, max_events=most, max_bytes=16 * _BYTES)


def _is_refusal(error: GatecastError) -> bool:
    """Whether the log has refused the events, and not failed for everybody."""
    return isinstance(error, StatementFailed | UnknownGateway | InvalidValue)
