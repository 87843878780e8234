"""Plain values: what is published, what was recorded, and where a reader stands."""

from gatecast.events.event import (
    MAX_PAYLOAD_BYTES,
    Action,
    Event,
    RecordedEvent,
    check_payload_size,
)
from gatecast.events.identifiers import MAX_IDENTIFIER_LENGTH, clean_identifier
from gatecast.events.position import Position

__all__ = [
    "MAX_IDENTIFIER_LENGTH",
    "MAX_PAYLOAD_BYTES",
    "Action",
    "Event",
    "Position",
    "RecordedEvent",
    "check_payload_size",
    "clean_identifier",
]
