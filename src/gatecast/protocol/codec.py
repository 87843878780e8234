"""Messages to text and back. Decoding never raises: peers may be hostile, and a bad frame is ignored."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from gatecast.events import MAX_IDENTIFIER_LENGTH, Position, RecordedEvent, printable
from gatecast.protocol.instants import format_instant, parse_instant, parse_performed_at
from gatecast.protocol.messages import (
    ConnectionAck,
    DeploymentAck,
    EventMessage,
    EventReject,
    Ignored,
    Inbound,
    Outbound,
    PositionAck,
    ResyncRequired,
    UnreadableEvent,
)

#: Largest frame that a gateway may send, in bytes of UTF-8; a larger one closes the connection with 1009.
MAX_INBOUND_BYTES = 64 * 1024

#: Longest reason from a peer that is kept, in characters.
MAX_REASON_LENGTH = 1_000

#: Deepest nesting of a gateway's message; the messages of the protocol have two levels.
MAX_DEPTH = 16

#: Stands between the messages of one frame. JSON cannot hold it, so no event has to be read to find where it ends.
SEPARATOR = "\x1e"

_T = TypeVar("_T")


# --- encoding ---------------------------------------------------------------------------------------------------------


def encode_connection_ack(gateway_id: str, connection_id: str, timestamp: datetime) -> str:
    """The first frame of every connection."""
    return _encode(
        {
            "type": "connection.ack",
            "gatewayId": gateway_id,
            "connectionId": connection_id,
            "timestamp": format_instant(timestamp),
        }
    )


def encode_event(event: RecordedEvent, epoch: UUID | str, *, withheld: int = 0) -> str:
    """An event's envelope around its payload, which stays exactly as the publisher encoded it.

    `withheld` is how many events before it were left out on purpose, so that a client can tell that from a loss.

    Written by concatenation: a payload of 1 MiB is neither decoded nor copied more than once.
    """
    event_id = str(event.event_id)
    gap = f',"withheld":{withheld}' if withheld else ""
    return (
        f'{{"type":{_quoted(event.type)},"payload":{event.payload},'
        f'"timestamp":"{format_instant(event.originated_at)}",'
        f'"correlationId":"{event_id}","eventId":"{event_id}","position":"{epoch}:{event.offset}"{gap}}}'
    )


@lru_cache(maxsize=256)
def _quoted(text: str) -> str:
    """A text in JSON: there are few types of events."""
    return json.dumps(text)


def join_messages(messages: Iterable[str], most_bytes: int) -> list[str]:
    """Frames of at most this many bytes, each with as many messages as fit; a larger message gets its own frame."""
    frames: list[list[str]] = []
    room = 0
    for message in messages:
        size = len(SEPARATOR) + (len(message) if message.isascii() else len(message.encode()))
        if size > room:
            frames.append([])
            room = most_bytes + len(SEPARATOR)
        frames[-1].append(message)
        room -= size
    return [SEPARATOR.join(frame) for frame in frames]


def encode_resync_required(reason: str, position: Position) -> str:
    """Tells a `gatecast.v2` client that it must read the desired state again."""
    return _encode({"type": "resync.required", "reason": reason, "position": str(position)})


def encode_position_ack(position: Position) -> str:
    """A client's acknowledgement of everything up to and including a position."""
    return _encode({"type": "position.ack", "position": str(position)})


def encode_event_reject(position: Position, reason: str) -> str:
    """A client's rejection of one event."""
    return _encode({"type": "event.reject", "position": str(position), "reason": printable(reason, MAX_REASON_LENGTH)})


def _encode(message: Mapping[str, str]) -> str:
    return json.dumps(message, separators=(",", ":"))


# --- decoding a gateway's messages ------------------------------------------------------------------------------------


def decode(text: str, *, max_bytes: int = MAX_INBOUND_BYTES) -> Inbound:
    """The message in a text frame of a gateway; `Ignored` for everything else."""
    if len(text) > max_bytes or len(text.encode(errors="surrogatepass")) > max_bytes:
        return Ignored("too-large")
    message = _load_object(text, _STRICT)
    if isinstance(message, Ignored):
        return message
    if _is_deep(text, message):
        return Ignored("too-deep")
    return _decoded(message, _INBOUND)


def _position_ack(message: dict[str, Any]) -> PositionAck:
    return PositionAck(_position(message["position"]))


def _event_reject(message: dict[str, Any]) -> EventReject:
    return EventReject(_position(message["position"]), _text(message.get("reason", ""), MAX_REASON_LENGTH))


def _deployment_ack(message: dict[str, Any]) -> DeploymentAck:
    payload = message["payload"]
    if not isinstance(payload, dict):
        raise ValueError("payload")  # noqa: TRY004 - one error for everything that is malformed
    return DeploymentAck(
        deployment_id=_text(payload.get("deploymentId", "")),
        artifact_id=_text(payload["artifactId"]),
        resource_type=_text(payload.get("resourceType", "")),
        action=_one_of(("deploy", "undeploy"), payload["action"]),
        succeeded=_one_of(("success", "failed"), payload["status"]) == "success",
        performed_at=parse_performed_at(payload.get("performedAt")),
        error_code=_text(payload.get("errorCode", "")),
    )


_INBOUND: dict[str, Callable[[dict[str, Any]], Inbound]] = {
    "position.ack": _position_ack,
    "event.reject": _event_reject,
    "deployment.ack": _deployment_ack,
}


# --- decoding the server's messages -----------------------------------------------------------------------------------


def decode_frame_from_server(text: str) -> Iterable[Outbound]:
    """The messages in a text frame of the server, for `gatecast.v2` clients: one, or as many as they asked for."""
    return map(decode_from_server, text.split(SEPARATOR))


def decode_from_server(text: str) -> Outbound:
    """One message of the server, for `gatecast.v2` clients.

    A message with an `eventId` is an event of any type: a publisher may name an event `resync.required`.
    """
    # Not strict: the payload is the publisher's own text.
    loaded = _load_object(text, _LENIENT)
    message = loaded if isinstance(loaded, Ignored) else _from_server(loaded)
    return _unreadable(text, message.why) if isinstance(message, Ignored) else message


def _from_server(message: dict[str, Any]) -> Outbound:
    return _decoded(message, {str(message.get("type")): _event_message} if "eventId" in message else _OUTBOUND)


#: How every event ends (`encode_event`), whatever it begins with: within a payload there would be brackets after it.
_END_OF_EVENT = re.compile(r'"eventId":"[^"\\]*","position":"([^"\\]*)"(?:,"withheld":([0-9]{1,19}))?\}\s*\Z')

#: How many characters at the end of a frame are searched.
_LONGEST_END = 512


def _unreadable(text: str, why: str) -> UnreadableEvent | Ignored:
    """What is known about an unreadable frame: the position of its event, if it is one."""
    end = _END_OF_EVENT.search(text[-_LONGEST_END:])
    try:
        return UnreadableEvent(Position.parse(end[1]), int(end[2] or 0), why) if end else Ignored(why)
    except ValueError:
        return Ignored(why)


def _connection_ack(message: dict[str, Any]) -> ConnectionAck:
    return ConnectionAck(
        gateway_id=_text(message["gatewayId"]),
        connection_id=_text(message["connectionId"]),
        timestamp=parse_instant(_text(message["timestamp"])),
    )


def _resync_required(message: dict[str, Any]) -> ResyncRequired:
    return ResyncRequired(_text(message["reason"], MAX_REASON_LENGTH), _position(message["position"]))


def _event_message(message: dict[str, Any]) -> EventMessage:
    payload = message["payload"]
    if not isinstance(payload, dict):
        raise ValueError("payload")  # noqa: TRY004 - one error for everything that is malformed
    return EventMessage(
        type=_text(message["type"]),
        payload=payload,
        timestamp=parse_instant(_text(message["timestamp"])),
        event_id=_text(message["eventId"]),
        position=_position(message["position"]),
        withheld=_count(message.get("withheld", 0)),
    )


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("withheld")
    return value


_OUTBOUND: dict[str, Callable[[dict[str, Any]], Outbound]] = {
    "connection.ack": _connection_ack,
    "resync.required": _resync_required,
}


# --- both -------------------------------------------------------------------------------------------------------------


class _DuplicateField(ValueError):
    """An object names a field twice, so that two readers could take it for two different messages."""


def _load_object(text: str, decoder: json.JSONDecoder) -> dict[str, Any] | Ignored:
    try:
        message = decoder.decode(text)
    except _DuplicateField:
        return Ignored("duplicate-field")
    except ValueError:
        return Ignored("not-json")
    except RecursionError:
        return Ignored("too-deep")
    return message if isinstance(message, dict) else Ignored("not-an-object")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise _DuplicateField
    return unique


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and Infinity are not JSON


_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
_LENIENT = json.JSONDecoder()


def _is_deep(text: str, message: dict[str, Any]) -> bool:
    """Whether the nesting exceeds the limit; the interpreter's own limit depends on who calls."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    level: list[Any] = [message]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
    return bool(level)


def _children(value: object) -> list[Any]:
    nested = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in nested if isinstance(child, dict | list)]


def _decoded(message: dict[str, Any], decoders: Mapping[str, Callable[[dict[str, Any]], _T]]) -> _T | Ignored:
    kind = message.get("type")
    if not isinstance(kind, str) or (decoder := decoders.get(kind)) is None:
        return Ignored("unknown-type")
    try:
        return decoder(message)
    except (KeyError, ValueError):
        return Ignored("malformed")


def _position(value: object) -> Position:
    return Position.parse(_text(value))


def _one_of(allowed: tuple[str, ...], value: object) -> str:
    if value not in allowed:
        raise ValueError("not allowed")
    return str(value)


def _text(value: object, limit: int = MAX_IDENTIFIER_LENGTH) -> str:
    if not isinstance(value, str):
        raise ValueError("not a string")  # noqa: TRY004 - one error for everything that is malformed
    return printable(value, limit)
