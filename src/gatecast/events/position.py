"""Where a reader stands in a gateway's log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn
from uuid import UUID

from gatecast.errors import InvalidValue, PositionPending
from gatecast.events.grammar import MAX_INTEGER


@dataclass(frozen=True, slots=True, order=False)
class Position:
    """A place in one gateway's log, right after the event at `offset`.

    Written as `epoch:offset`. Two positions compare only within one epoch: after a restore or a purge the same
    offset means another event.
    """

    #: Identity of the database's history.
    epoch: UUID
    #: Offset of the last event before this position; 0 is the very beginning.
    offset: int

    @property
    def pending(self) -> bool:
        """Whether the event waits in the outbox, so that it has no offset yet."""
        return False

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"

    @classmethod
    def parse(cls, text: str, *, field: str = "position") -> Position:
        """The position written as `epoch:offset`.

        Raises:
            InvalidValue: the text is not a position.
        """
        epoch, colon, offset = text.strip().partition(":")
        try:
            if not (colon and offset.isascii() and offset.isdigit()):
                raise ValueError  # noqa: TRY301 - one reply for every malformed text
            position = cls(UUID(epoch), int(offset))
        except ValueError:
            raise InvalidValue(field, text, 'be written "epoch:offset", as found in an event') from None
        if position.offset > MAX_INTEGER:
            raise InvalidValue(field, text, f"have an offset of at most {MAX_INTEGER}")
        return position


class PendingPosition(Position):
    """The position that an event will have in its gateway's log; until it is forwarded, only its id is known.

    `await hub.outbox.wait_until_forwarded(position)` returns the position itself.
    """

    __slots__ = ("event_id", "gateway_id")

    #: The gateway whose log will hold the event.
    gateway_id: str
    #: The event's id.
    event_id: UUID

    def __init__(self, gateway_id: str, event_id: UUID) -> None:
        object.__setattr__(self, "gateway_id", gateway_id)
        object.__setattr__(self, "event_id", event_id)

    @property
    def pending(self) -> bool:
        """Always True."""
        return True

    @property
    def epoch(self) -> NoReturn:
        """Not known yet.

        Raises:
            PositionPending: always.
        """
        raise PositionPending(self.gateway_id, self.event_id)

    @property
    def offset(self) -> NoReturn:
        """Not known yet.

        Raises:
            PositionPending: always.
        """
        raise PositionPending(self.gateway_id, self.event_id)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PendingPosition):
            return NotImplemented
        return (self.gateway_id, self.event_id) == (other.gateway_id, other.event_id)

    def __hash__(self) -> int:
        return hash((self.gateway_id, self.event_id))

    def __reduce__(self) -> tuple[type[PendingPosition], tuple[str, UUID]]:
        return PendingPosition, (self.gateway_id, self.event_id)

    def __repr__(self) -> str:
        return f"PendingPosition(gateway_id={self.gateway_id!r}, event_id={self.event_id!r})"

    def __str__(self) -> str:
        return f"pending:{self.event_id}"
