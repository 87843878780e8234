"""Where a reader stands in a gateway's log."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from gatecast.errors import InvalidValue
from gatecast.events.grammar import MAX_INTEGER


@dataclass(frozen=True, slots=True, order=False)
class Position:
    """A place in one gateway's log: everything up to and including `offset` lies behind it.

    Written as `epoch:offset`. Two positions compare only within one epoch: after a restore or a purge the same
    offset means another event.
    """

    #: Identity of the database's history.
    epoch: UUID
    #: Offset of the last event behind this position; 0 is the very beginning.
    offset: int

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
