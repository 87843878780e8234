"""What is stored, as a backup would contain it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from gatecast.delivery.resume import PARKED
from gatecast.events import RecordedEvent
from gatecast.storage.contract import (
    Connection,
    DisconnectReason,
    Entity,
    OutcomeKind,
)

WAITS_FOR_A_DECISION = (OutcomeKind.PARKED, OutcomeKind.HELD, OutcomeKind.RETRIED, OutcomeKind.SKIPPED)


@dataclass(slots=True)
class Stream:
    """One gateway's log."""

    registered_in: UUID
    head: int = 0
    low_water_mark: int = 0
    changed_xid: int = 0
    last_event_id: UUID | None = None
    events: dict[int, RecordedEvent] = field(default_factory=dict)
    #: Where each event is, by its id.
    offsets: dict[UUID, int] = field(default_factory=dict)


@dataclass(slots=True)
class Cursor:
    """A stored position."""

    epoch: UUID
    sent: int
    confirmed: int
    resync_reason: str | None = None


@dataclass(slots=True)
class ConnectionRow:
    """A recorded connection."""

    connection: Connection
    sent: int
    confirmed: int
    dismissal: DisconnectReason | None = None
    #: Its pod died, and it holds nothing back any more.
    released: bool = False

    @property
    def counts(self) -> bool:
        """Whether the position waits for it, and moves by what it confirms."""
        return not self.released and self.dismissal is None


@dataclass(slots=True)
class Rows:
    """What a backup would contain."""

    epoch: UUID
    #: Where the history was last known to live, and whether commits waited for a standby there.
    place: int = 0
    synchronous: bool = False
    #: What was decided about this history and those before it.
    lineage: tuple[UUID, ...] = ()
    streams: dict[str, Stream] = field(default_factory=dict)
    cursors: dict[tuple[str, str], Cursor] = field(default_factory=dict)
    connections: dict[str, ConnectionRow] = field(default_factory=dict)
    leases: dict[str, datetime] = field(default_factory=dict)
    lives: dict[str, UUID] = field(default_factory=dict)
    #: By gateway, replica and offset.
    outcomes: dict[tuple[str, str, int], OutcomeKind] = field(default_factory=dict)

    def heads(self) -> dict[str, int]:
        """How far each log goes."""
        return {name: stream.head for name, stream in self.streams.items()}

    def told(self, gateway_id: str) -> set[int]:
        """Of which events it is stored what a gateway made of them; what was known of removed ones went with them."""
        known = {offset for name, _, offset in self.outcomes if name == gateway_id}
        return known | set(range(1, self.streams[gateway_id].low_water_mark + 1))

    def lose(self, gateway_id: str, replica: str) -> None:
        """What waited for a decision is gone: who has to be told comes back."""
        if (cursor := self.cursors.get((gateway_id, replica))) is not None:
            cursor.resync_reason = PARKED
            for row in self.connections.values():
                if (row.connection.gateway_id, row.connection.replica) == (gateway_id, replica):
                    row.dismissal = row.dismissal or DisconnectReason.RESTARTING

    def waiting(self) -> list[tuple[str, str, int]]:
        """What waits for a decision, or for what a decision brings."""
        return [
            (name, replica, offset)
            for (name, replica, offset), kind in self.outcomes.items()
            if kind in WAITS_FOR_A_DECISION and offset in self.streams[name].events
        ]

    def entities(self, gateway_id: str, replica: str, *kinds: OutcomeKind) -> dict[Entity, None]:
        """The entities of events of which one of these is known, in the order of their offsets."""
        events = self.streams[gateway_id].events
        found = sorted(
            offset
            for (name, whose, offset), kind in self.outcomes.items()
            if (name, whose) == (gateway_id, replica) and kind in kinds and offset in events
        )
        return dict.fromkeys(entity_of(events[offset]) for offset in found)


def entity_of(event: RecordedEvent) -> Entity:
    """What an event is about."""
    return event.entity_type, event.entity_id
