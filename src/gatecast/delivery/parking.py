"""The delivery filter of one connection: events that it must not receive after a rejection."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from enum import Enum, auto
from operator import itemgetter

from gatecast.events import RecordedEvent
from gatecast.storage.contract import DeliveryFilter, Entity

#: A consumer with this many parked entities receives nothing more until an operator decides: memory is bounded.
MAX_PARKED = 10_000


class Fate(Enum):
    """What happens to an event."""

    #: It is sent.
    SEND = auto()
    #: It waits for a decision about its entity.
    HOLD = auto()
    #: It cannot be delivered: from here on its entity waits for a decision.
    PARK = auto()
    #: It is left out: it was published again as a later event, or an operator decided so.
    PASS = auto()


class SubscriptionFilter:
    """The parked entities of one connection, and the events that were published again; does no I/O.

    A decision about an entity ends the connection, so entities are only ever added here.
    """

    def __init__(self) -> None:
        self._parked: set[Entity] = set()
        self._settled: frozenset[int] = frozenset()
        #: Offset and entity of each sent, unconfirmed event.
        self._sent: list[tuple[int, Entity]] = []

    @property
    def parked(self) -> AbstractSet[Entity]:
        """The parked entities, whose events are not sent."""
        return self._parked

    @property
    def full(self) -> bool:
        """Whether too many entities are parked to send anything more."""
        return len(self._parked) >= MAX_PARKED

    def fill(self, withheld: DeliveryFilter) -> None:
        """Begin with what is stored."""
        self._parked |= withheld.parked
        self._settled = withheld.settled

    def sends(self, events: Iterable[RecordedEvent]) -> bool:
        """Whether each of these next events is simply sent, as nearly always."""
        if self._settled or self._parked:
            return False
        for event in events:  # noqa: SIM110 - for one event, a generator costs more than the question
            if event.undeliverable is not None:
                return False
        return True

    def fate(self, event: RecordedEvent) -> Fate:
        """What happens to the next event; an undeliverable one parks its entity, like a rejected one."""
        if self._settled and event.offset in self._settled:
            return Fate.PASS
        if self._parked and _entity(event) in self._parked:
            return Fate.HOLD
        if event.undeliverable is None:
            return Fate.SEND
        self._parked.add(_entity(event))
        return Fate.PARK

    def passes(self, event: RecordedEvent) -> bool:
        """Whether this event is left out, because it was published again or an operator decided so."""
        return event.offset in self._settled

    def remember(self, events: Iterable[RecordedEvent]) -> None:
        """Remember sent events, so that a rejection finds its entity."""
        self._sent.extend((event.offset, _entity(event)) for event in events)

    def ack(self, offset: int) -> None:
        """Forget confirmed events."""
        if self._sent:
            del self._sent[: bisect_right(self._sent, offset, key=_OFFSET)]

    def park(self, offset: int) -> None:
        """Park the entity of this sent event: send no further event of it."""
        self._parked.update(entity for sent, entity in self._sent if sent == offset)


_OFFSET = itemgetter(0)


def _entity(event: RecordedEvent) -> Entity:
    return event.entity_type, event.entity_id
