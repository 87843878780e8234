"""Plain values: published and recorded events, positions, and the grammar that every endpoint checks."""

from gatecast.events.event import UNKNOWN_ID, Action, Event, RecordedEvent
from gatecast.events.grammar import (
    MAX_DEPTH,
    MAX_IDENTIFIER_LENGTH,
    MAX_INTEGER,
    MAX_PAYLOAD_BYTES,
    clean_identifier,
    is_storable,
    printable,
)
from gatecast.events.position import PendingPosition, Position

__all__ = [
    "MAX_DEPTH",
    "MAX_IDENTIFIER_LENGTH",
    "MAX_INTEGER",
    "MAX_PAYLOAD_BYTES",
    "UNKNOWN_ID",
    "Action",
    "Event",
    "PendingPosition",
    "Position",
    "RecordedEvent",
    "clean_identifier",
    "is_storable",
    "printable",
]
