"""When the events of one connection pass each hop: noted once for all that pass together; knows no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from gatecast.delivery.database_clock import DatabaseClock
from gatecast.events import RecordedEvent
from gatecast.storage.hops import NOTHING, Hop, Passage, Passages
from gatecast.telemetry import metrics, traces
from gatecast.telemetry.traces import EventTraces, Traced

#: So many reads are remembered, to know how old events are when they pass a later hop.
_REMEMBERED_READS = 256

_NOTHING_PASSED = (NOTHING,) * len(Hop)


class Way:
    """Which events passed which hop since that was last stored, and when."""

    def __init__(self, start: int, clock: DatabaseClock) -> None:
        self._clock = clock
        self._picked_up, self._sent, self._confirmed = self._hops = tuple(_Passing(hop, start) for hop in Hop)
        #: For each read: the offsets before and at its end, and when its first event was recorded.
        self._reads: list[tuple[int, int, float]] = []
        self._traces = EventTraces()

    def picked_up(self, events: Sequence[RecordedEvent]) -> None:
        """Note what was read from the log."""
        through = events[-1].offset
        self._reads.append((events[0].offset - 1, through, events[0].recorded_at.timestamp()))
        del self._reads[:-_REMEMBERED_READS]
        if traces.is_on():
            for event in events:
                self._traces.begin(event.offset, event, event.recorded_at.timestamp())
        self._note(self._picked_up, through)

    def sent(self, through: int) -> None:
        """Note that everything up to here was handed to the consumer."""
        self._note(self._sent, through)

    def confirmed(self, through: int) -> None:
        """Note that the consumer has confirmed everything up to here."""
        self._note(self._confirmed, through)

    def applied(self, offset: int) -> None:
        """Note that the consumer says that it has applied this event."""
        self._observe(APPLIED, offset - 1, offset, self._clock.now())

    def _note(self, passing: _Passing, through: int) -> None:
        before = passing.through
        if through <= before:
            return
        now = self._clock.now()
        self._observe(passing.counted, before, through, now)
        if before <= passing.after:
            passing.first = now
        passing.through, passing.last = through, now

    def _observe(self, counted: _Counted, after: int, through: int, now: float) -> None:
        """Count these events with the age of the oldest that was read together with them."""
        ahead = self._clock.ahead
        if ahead is None:
            return
        shown = now + ahead
        if self._traces.open:
            self._traces.passed(counted.hop, after, through, shown)
        for before, end, recorded_at in reversed(self._reads):
            if end <= after:
                return
            if before <= after and end >= through:
                # All in one read, as nearly always.
                counted.observe(shown - recorded_at, through - after)
                return
            if before < through:
                counted.observe(shown - recorded_at, min(end, through) - max(before, after))

    def take(self) -> Passages:
        """The passages to store now, by the database's clock; empty: nothing has passed, or the clock is not known."""
        ahead = self._clock.ahead
        if ahead is None:
            return ()
        taken = (self._picked_up.take(ahead), self._sent.take(ahead), self._confirmed.take(ahead))
        return () if taken == _NOTHING_PASSED else taken

    def take_traced(self) -> Sequence[Traced]:
        """The traced events that were confirmed since this was last asked."""
        return self._traces.take_confirmed()

    def give_back(self, passages: Passages) -> None:
        """Take these once more the next time: they could not be stored."""
        ahead = self._clock.ahead or 0.0
        for hop, passage in zip(self._hops, passages, strict=False):
            if passage is not NOTHING:
                hop.give_back(passage, ahead)


class _Counted:
    """A hop, and where what passes it is counted; one for all connections."""

    __slots__ = ("hop", "observe")

    def __init__(self, hop: str) -> None:
        self.hop = hop
        self.observe = metrics.passing(hop).observe


#: Each hop; and what is counted as one, but not stored.
COUNTED = {hop: _Counted(hop.value) for hop in Hop}
APPLIED = _Counted("applied")


class _Passing:
    """The events that passed one hop since that was last taken."""

    __slots__ = ("after", "counted", "first", "last", "through")

    def __init__(self, hop: Hop, start: int) -> None:
        self.counted = COUNTED[hop]
        self.after = self.through = start
        self.first = self.last = 0.0

    @property
    def moved(self) -> bool:
        return self.through > self.after

    def take(self, ahead: float) -> Passage:
        if self.through <= self.after:
            return NOTHING
        taken = Passage(self.after, self.through, self.first + ahead, self.last + ahead)
        self.after = self.through
        return taken

    def give_back(self, passage: Passage, ahead: float) -> None:
        if not self.moved:
            self.last = passage.last - ahead
        self.after = passage.after
        self.first = passage.first - ahead
