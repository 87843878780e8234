"""The small documents that the stream holds, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from types import NoneType
from typing import Any, Self

from gatecast.containment import log_failure
from gatecast.errors import StatementFailed, StorageUnavailable
from gatecast.events import Event, RecordedEvent
from gatecast.storage.jetstream.stream import Message
from gatecast.storage.row_values import recorded_event


class Document:
    """A frozen value that is stored as JSON."""

    def encode(self) -> bytes:
        """The document as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":")).encode()  # type: ignore[call-overload] # every document is a dataclass

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The document; fields that only a newer release knows are ignored.

        Raises:
            StatementFailed: it cannot be read.
        """
        try:
            values = json.loads(data)
            known = {field.name: field.type for field in fields(cls)}  # type: ignore[arg-type] # every document is a dataclass
            _check_types(values, known)
            return cls(**{name: value for name, value in values.items() if name in known})
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise StatementFailed(f"a document ({cls.__name__}) in the stream cannot be read") from error

    @classmethod
    def readable(cls, messages: Iterable[Message]) -> list[Self]:
        """The documents that can be read; the others are logged, and affect only what they are about."""
        found: list[Self] = []
        for message in messages:
            try:
                found.append(cls.decode(message.data))
            except StatementFailed as error:
                log_failure("document-unreadable", error, subject=message.subject)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class History(Document):
    """The history that the stream holds."""

    #: The number of the newest shape of these documents.
    schema: int
    epoch: str
    #: When the stream was created in which this history was recorded.
    created: str
    #: The ids of the decisions about it and the histories before it, oldest first.
    lineage: Sequence[str]
    #: The epoch of the first history; empty if an earlier release has written this.
    first: str = ""
    #: The log that is being moved into the stream, and the run of the command that does so; empty if none is.
    moving: str = ""
    mover: str = ""
    #: How far that has come.
    stage: str = ""

    @property
    def log(self) -> str:
        """Which log it is: the epoch of the first history that is known."""
        return self.first or next(iter(self.lineage), self.epoch)

    def check_in_use(self) -> None:
        """Return if no log is being moved into the stream: until that has arrived, nobody else changes it.

        Raises:
            StorageUnavailable: one is.
        """
        if self.moving:
            raise StorageUnavailable("a log is being moved into the stream; nothing is stored until it has arrived")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head(Document):
    """The end of a gateway's log."""

    gateway_id: str
    #: Which log it is; a gateway that is registered again gets a higher number.
    log: int
    #: Offset of the last event.
    head: int
    #: Id of the last event.
    last: str | None
    #: The epoch in which the log began.
    registered_in: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LowWaterMark(Document):
    """Up to where retention has removed events of a log."""

    log: int
    offset: int
    #: Sequence in the stream of the last removed event.
    sequence: int

    @classmethod
    def of(cls, message: Message | None, head: Head) -> Self | None:
        """The low-water mark of the log with this head; None if no event was removed.

        A mark past the head belongs to a log that a restored stream has lost: retention ran meanwhile.
        """
        if message is None or not message.data:
            return None
        found = cls.decode(message.data)
        return found if found.log == head.log and found.offset <= head.head else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgottenLog(Document):
    """The log of a deleted gateway."""

    gateway_id: str
    log: int
    #: Offset of the last event.
    head: int
    #: Up to where its events are removed.
    low: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied(Document):
    """How much of a log that is being moved into the stream has been copied; afterwards there is none."""

    gateway_id: str
    #: The number that the log has where it comes from, and here.
    source: int
    log: int
    #: Offset of the first event that was copied and is still here, and of the last one.
    first: int
    through: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod(Document):
    """A pod and its lease, by the server's clock in seconds since 1970."""

    pod_id: str
    incarnation: str
    lease_until: float
    version: str = ""
    started_at: float | None = None


def offset_in(message: Message) -> int:
    """The offset that the message of an event's id holds.

    Raises:
        StatementFailed: it holds something else.
    """
    try:
        return int(message.data)
    except ValueError as error:
        raise StatementFailed("the id of an event in the stream cannot be read") from error


def _check_types(values: Mapping[str, object], known: Mapping[str, object]) -> None:
    """Refuse a field of another type than it was written with.

    Raises:
        TypeError: there is one.
    """
    for name in known.keys() & values.keys():
        if not isinstance(values[name], _TYPES.get(str(known[name]), object)):
            raise TypeError(name)


def encode_event(event: Event) -> bytes:
    """A line of fields, and then the data as the publisher encoded it."""
    line = {
        "event_id": str(event.event_id),
        "type": event.type,
        "action": event.action.value,
        "entity_type": event.entity_type,
        "entity_id": event.entity_id,
        "originated_at": event.originated_at.isoformat(),
        "trace_parent": event.trace_parent,
    }
    return encode_columns(line, event.payload)


def encode_columns(columns: Mapping[str, str | None], payload: str | None) -> bytes:
    """The same of those columns that are known; an event that lacks one, or its data, is undeliverable."""
    line = json.dumps(columns, ensure_ascii=False, separators=(",", ":")).encode()
    return line + b"\n" + (payload.encode() if payload is not None else _UNREADABLE)


def decode_event(gateway_id: str, offset: int, message: Message) -> RecordedEvent:
    """The event in a message; an undeliverable stand-in with what can be read, if not all of it can."""
    line, _, payload = message.data.partition(b"\n")
    row: dict[str, Any] = dict.fromkeys(_COLUMNS)
    row |= {"offset": offset, "recorded_at": message.stored_at, "payload": _text(payload)}
    try:
        row |= {name: value for name, value in json.loads(line).items() if name in _COLUMNS}
    except (ValueError, AttributeError, RecursionError):
        return recorded_event(gateway_id, row)
    return recorded_event(gateway_id, row)


def moment(seconds: float) -> datetime:
    """The instant this many seconds after the beginning of 1970."""
    return datetime.fromtimestamp(seconds, UTC)


#: Unreadable data: not UTF-8.
_UNREADABLE = b"\xff"

#: The values that a field of this type may hold.
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "int": int,
    "str": str,
    "str | None": (str, NoneType),
    "float": (int, float),
    "float | None": (int, float, NoneType),
}

_COLUMNS = ("event_id", "type", "action", "entity_type", "entity_id", "originated_at", "trace_parent")


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
