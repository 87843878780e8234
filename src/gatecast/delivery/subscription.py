"""One connection's view of delivery: what comes next, and what was confirmed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from gatecast.delivery.feed import LOG_MOVED, Feed
from gatecast.delivery.outcomes import OutcomeRecorder
from gatecast.delivery.parking import SubscriptionFilter
from gatecast.delivery.progress import ProgressRecorder
from gatecast.delivery.resume import Start
from gatecast.events import Position, RecordedEvent
from gatecast.storage.contract import Connection, Outcome, OutcomeKind, Progress
from gatecast.storage.hops import Passages
from gatecast.telemetry import metrics
from gatecast.telemetry.traces import Traced
from gatecast.waiting import Signal

#: No more events are taken while this many are unsettled: memory and work are bounded.
MAX_UNSETTLED = 1_000


class Subscription:
    """The events of one gateway for one connection, from `start` on, until one side ends it."""

    def __init__(
        self,
        connection: Connection,
        start: Start,
        *,
        feed: Feed,
        recorder: ProgressRecorder,
        outcomes: OutcomeRecorder,
        on_close: Callable[[Subscription], None],
    ) -> None:
        self.connection = connection
        #: Where delivery began, and why what the consumer had could not be continued, if so.
        self.start = start
        #: The events that its consumer does not get.
        self.lot = SubscriptionFilter()
        #: Where the reader puts events for it.
        self.feed = feed
        #: The event that nothing is delivered past: it cannot be, and this consumer parks nothing.
        self.stuck_at: RecordedEvent | None = None
        self._recorder = recorder
        self._outcomes = outcomes
        self._on_close = on_close
        self._sent = self._confirmed = start.position.offset
        #: Events that no stored position passes yet.
        self._unsettled: set[int] = set()
        self._closed = False
        self._way = feed.way
        feed.waits_at = self._waits_at

    @property
    def confirmed(self) -> Position:
        """Everything up to here was confirmed by the consumer."""
        return Position(self.start.position.epoch, self._confirmed)

    @property
    def confirmed_offset(self) -> int:
        """The offset of that position."""
        return self._confirmed

    @property
    def sent(self) -> int:
        """Last offset that was handed to the consumer."""
        return self._sent

    @property
    def was_closed_here(self) -> bool:
        """True once the consumer's side has ended it."""
        return self._closed

    @property
    def closed(self) -> bool:
        """True once either side has ended it."""
        return self._closed or self.feed.ended

    @property
    def changed(self) -> Signal:
        """Set when `take_now` has something new to say; a consumer that waits for more sets it for its own ends too."""
        return self.feed.changed

    @property
    def behind(self) -> bool:
        """True while something that was recorded, as far as this pod knows, is not confirmed."""
        return self._confirmed < self.feed.known_head

    def take_now(self, max_events: int) -> list[RecordedEvent]:
        """The next events that are here already; none while too much is parked, or unsettled.

        Raises:
            SubscriptionClosed: either side ended it; `reason` says why.
        """
        room = 0 if self.lot.full else MAX_UNSETTLED - len(self._unsettled)
        return self.feed.take_now(min(max_events, room))

    async def take(self, max_events: int) -> list[RecordedEvent]:
        """The next events, at least one; waits for them.

        Raises:
            SubscriptionClosed: either side ended it; `reason` says why.
        """
        while not (events := self.take_now(max_events)):
            await self.changed.wait()
        return events

    def mark_sent(self, offset: int) -> None:
        """Note that everything up to `offset` was handed to the consumer."""
        if offset > self._sent:
            self._sent = offset
            self._way.sent(offset)
            self._report()

    def acknowledge(self, offset: int) -> None:
        """Note that the consumer has confirmed everything up to `offset`; never moves back."""
        if offset > self._confirmed:
            self._confirmed = offset
            self._sent = max(self._sent, offset)
            self._way.confirmed(offset)
            self._report()

    def _waits_at(self, event: RecordedEvent) -> bool:
        """Whether the log waits at this event; then it is reported, so that an operator can decide."""
        if event.undeliverable is None or self.connection.rejects or self.lot.passes(event):
            return False
        if self.stuck_at is None:
            self.stuck_at = event
            self.report(event.offset, OutcomeKind.UNDELIVERABLE, event.undeliverable)
        return True

    def leave_out(self, event: RecordedEvent) -> None:
        """Go on after the event that the log waits at, which the consumer has decided to do without."""
        self.stuck_at = None
        self.feed.pass_over()
        self.report(event.offset, OutcomeKind.OMITTED, event.undeliverable or "")
        self.acknowledge(event.offset)
        self.changed.set()

    def report(self, offset: int, kind: OutcomeKind, reason: str) -> None:
        """Store what became of an event; until that is done no stored position passes it, unless it was applied."""
        outcome = Outcome(
            gateway_id=self.connection.gateway_id,
            replica=self.connection.replica,
            offset=offset,
            kind=kind,
            reason=reason,
        )
        if kind in (OutcomeKind.REJECTED, OutcomeKind.PARKED):
            metrics.rejected()
        if kind is OutcomeKind.APPLIED:
            self._way.applied(offset)
            self._outcomes.report(outcome)
            return
        self.set_aside(offset)
        self._outcomes.report(outcome, on_stored=partial(self.settled, offset), on_dropped=self.outcome_dropped)

    def set_aside(self, offset: int) -> None:
        """Keep the stored position before this event until its outcome is stored, although it may be confirmed.

        It was refused or held, or its confirmation requires more work: if a crash came before that is stored, the event
        would count as handled and the work would be lost.
        """
        self._unsettled.add(offset)

    def settled(self, offset: int) -> None:
        """Note that its outcome, or the work that it required, is stored."""
        self._unsettled.discard(offset)
        self._report()
        self.changed.set()

    def outcome_dropped(self) -> None:
        """An outcome was dropped; end the connection so that the event is redelivered."""
        self.end_with(LOG_MOVED)

    @property
    def outcomes_stored(self) -> bool:
        """True when the outcome of every refused or held event is stored."""
        return not self._unsettled

    def _report(self) -> None:
        if not self._closed:
            self._recorder.report(self)

    @property
    def progress(self) -> Progress:
        """How far it has come, as it may be stored now."""
        return self._progress()

    def take_progress(self) -> Progress:
        """The same, with the passages that were not taken before."""
        return self._progress(self._way.take())

    def take_traced(self) -> Sequence[Traced]:
        """The traced events that were confirmed since this was last asked."""
        return self._way.take_traced()

    def _progress(self, passages: Passages = ()) -> Progress:
        return Progress(
            connection_id=self.connection.connection_id,
            gateway_id=self.connection.gateway_id,
            replica=self.connection.replica,
            epoch=self.start.position.epoch,
            sent=self._sent,
            confirmed=min(self._confirmed, min(self._unsettled) - 1) if self._unsettled else self._confirmed,
            passages=passages,
        )

    def give_back(self, progress: Progress) -> None:
        """Take the passages back for the next report: they could not be stored."""
        self._way.give_back(progress.passages)

    def end_with(self, reason: str) -> None:
        """End it from the server side; the consumer's next `take` raises with this reason."""
        self.feed.end(reason)

    def close(self) -> None:
        """End it from the consumer's side; the last progress is stored soon after. Twice does nothing."""
        if not self._closed:
            self._closed = True
            self.feed.end("closed")
            self._recorder.leave(self.take_progress())
            self._on_close(self)
