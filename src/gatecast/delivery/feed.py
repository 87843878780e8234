"""One connection's bounded queue between the reader and the socket."""

from __future__ import annotations

from collections.abc import Callable

from gatecast.delivery.database_clock import DatabaseClock
from gatecast.delivery.hops import Way
from gatecast.errors import SubscriptionClosed
from gatecast.events import Position, RecordedEvent
from gatecast.storage.contract import ReadRequest, ReadResult
from gatecast.waiting import Signal

#: Most events that wait in memory for one connection.
MAX_EVENTS = 256

#: Most bytes of payload that wait for one connection, plus at most one event; counted in characters, of which one may
#: have up to four bytes.
MAX_BYTES = 1024 * 1024

#: Why a feed ends by itself: its gateway's log was trimmed past it, or its history was replaced. The client is asked
#: to come back, and the new connection decides where delivery continues: one way to resume, not two.
LOG_MOVED = "restarting"


def _nothing() -> None:
    """Do nothing: no caller waits for the end."""


def _at_none(_event: RecordedEvent) -> bool:
    """False: delivery waits at no event."""
    return False


class Feed:
    """Events of one gateway for one connection: in offset order, without gaps, bounded in count and bytes.

    The reader skips a full feed; its place in the log is `read_through`, and nothing is ever dropped.
    """

    def __init__(
        self,
        gateway_id: str,
        after: Position,
        *,
        on_room: Callable[[Feed], None],
        clock: DatabaseClock | None = None,
    ) -> None:
        self.gateway_id = gateway_id
        #: Records when events pass each hop.
        self.way = Way(after.offset, clock or DatabaseClock())
        #: The history that its offsets belong to.
        self.epoch = after.epoch
        #: Last offset that the reader put in.
        self.read_through = after.offset
        #: Last offset that is known to exist.
        self.known_head = after.offset
        #: True when there may be more than `known_head` tells.
        self.suspect = True
        #: A list: it is short, and an empty one takes a tenth of the memory of a deque.
        self._queue: list[RecordedEvent] = []
        self._bytes = 0
        self._on_room = on_room
        #: Set when there is an event to take, and when the feed ends. Its consumer may wait for it and set it itself.
        self.changed = Signal()
        self._ended: str | None = None
        #: Whether delivery must wait at this event, which cannot be delivered; called before such a one is taken.
        self.waits_at: Callable[[RecordedEvent], bool] = _at_none
        #: Called once, when nothing more will come.
        self.on_end: Callable[[], None] = _nothing

    @property
    def ended(self) -> bool:
        """Whether the feed has ended."""
        return self._ended is not None

    @property
    def end_reason(self) -> str | None:
        """Why the feed has ended; None while it has not."""
        return self._ended

    @property
    def waiting(self) -> int:
        """How many events are here to be taken."""
        return len(self._queue)

    @property
    def wants_read(self) -> bool:
        """Whether there may be events to read, and room for them."""
        return (self.suspect or self.known_head > self.read_through) and self._ended is None and self._has_room

    @property
    def _has_room(self) -> bool:
        return len(self._queue) < MAX_EVENTS and self._bytes < MAX_BYTES

    def request(self) -> ReadRequest:
        """What to read next. Clears `suspect`: a hint that comes during the read makes it suspect again."""
        self.suspect = False
        return ReadRequest(
            gateway_id=self.gateway_id,
            after=self.read_through,
            max_events=MAX_EVENTS - len(self._queue),
            max_bytes=MAX_BYTES - self._bytes,
        )

    def accept(self, result: ReadResult) -> None:
        """Queue the events that were read; end if they do not continue where the feed is."""
        if self._ended is not None:
            return
        if not self._continues_with(result):
            self.end(LOG_MOVED)
            return
        self.known_head = result.head
        if result.events:
            self._queue.extend(result.events)
            self._bytes += sum([len(event.payload) for event in result.events])
            self.read_through = result.events[-1].offset
            self.way.picked_up(result.events)
            self.changed.set()

    def _continues_with(self, result: ReadResult) -> bool:
        first = result.events[0].offset if result.events else self.read_through + 1
        return (
            result.epoch == self.epoch
            and result.low_water_mark <= self.read_through <= result.head
            and first == self.read_through + 1
        )

    def end(self, reason: str) -> None:
        """Deliver nothing more; waiting events are dropped, because they are still in the log."""
        if self._ended is None:
            self._ended = reason
            self._queue.clear()
            self.changed.set()
            self.on_end()

    def take_now(self, max_events: int) -> list[RecordedEvent]:
        """The next events that are already in memory, at most `max_events`.

        Raises:
            SubscriptionClosed: the feed has ended.
        """
        if self._ended is not None:
            raise SubscriptionClosed(self._ended)
        ready = 0
        for index in range(min(max_events, len(self._queue))):
            event = self._checked(index)
            if event.undeliverable is not None and self.waits_at(event):
                break
            ready += 1
        taken = self._queue[:ready]
        del self._queue[:ready]
        self._bytes -= sum([len(event.payload) for event in taken])
        if len(self._queue) <= MAX_EVENTS // 2 and self.wants_read:
            self._on_room(self)
        return taken

    def pass_over(self) -> None:
        """Leave out the event that delivery waits at."""
        if self._queue:
            self._bytes -= len(self._queue.pop(0).payload)

    def _checked(self, index: int) -> RecordedEvent:
        """The event at this place of the queue, after checking whether it can be delivered."""
        event = self._queue[index]
        if (checked := event.checked()) is not event:
            self._queue[index] = checked
            self._bytes += len(checked.payload) - len(event.payload)
        return checked
