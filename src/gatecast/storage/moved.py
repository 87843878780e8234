"""A database whose log is moved, or was moved, to another place: what it remembers, and what everybody is told."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

#: What everybody is told who tries to change a log that goes to another database.
MOVED = "its log was moved to another database; start pods with the GATECAST_DATABASE of that one"

#: The same of a log that goes to a stream.
MOVED_TO_STREAM = (
    "its log was moved to NATS JetStream; start pods with that stream as GATECAST_DATABASE and this database as "
    "GATECAST_OUTBOX"
)

#: Every one of them.
TOLD = frozenset({MOVED, MOVED_TO_STREAM})


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocking:
    """Keeps every program from changing the log while it is moved."""

    #: The name of the database or stream that it is moved to.
    target: UUID
    #: The run of the command that has blocked it last; what another one has blocked is left to that.
    run: UUID
