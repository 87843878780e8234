"""Messages to text and back. Decoding never raises: peers are hostile, and a bad frame is an ignored frame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from gatecast.errors import InvalidValue
from gatecast.events import Position, RecordedEvent
from gatecast.protocol.messages import DeploymentAck, EventReject, Ignored, Inbound, PositionAck

#: Longest reason that is kept of a peer's words, in characters.
MAX_REASON_LENGTH = 1_000

_MAX_FIELD_LENGTH = 255

#: What Go writes for a time that was never set.
_GO_ZERO_YEAR = 1


def encode_timestamp(instant: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and `Z`."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode_connection_ack(gateway_id: str, connection_id: str, now: datetime) -> str:
    """The first frame of every connection."""
    return _encode(
        {
            "type": "connection.ack",
            "gatewayId": gateway_id,
            "connectionId": connection_id,
            "timestamp": encode_timestamp(now),
        }
    )


def encode_event(event: RecordedEvent, epoch: UUID) -> str:
    """An event's envelope around its payload, which is passed on exactly as the publisher encoded it."""
    event_id = str(event.event_id)
    return (
        f'{{"type":{json.dumps(event.type)},"payload":{event.payload},'
        f'"timestamp":"{encode_timestamp(event.originated_at)}",'
        f'"correlationId":"{event_id}","eventId":"{event_id}","position":"{epoch}:{event.offset}"}}'
    )


def encode_resync_required(reason: str, position: Position) -> str:
    """Tells a `gatecast.v2` client that it must read the desired state anew."""
    return _encode({"type": "resync.required", "reason": reason, "position": str(position)})


def encode_position_ack(position: Position) -> str:
    """A client's word that everything up to here was handled."""
    return _encode({"type": "position.ack", "position": str(position)})


def encode_event_reject(position: Position, reason: str) -> str:
    """A client's word that one event cannot be applied."""
    return _encode({"type": "event.reject", "position": str(position), "reason": printable(reason)})


def _encode(message: Mapping[str, str]) -> str:
    return json.dumps(message, separators=(",", ":"))


def decode(text: str) -> Inbound:
    """The message in a text frame of a gateway."""
    try:
        message = json.loads(text)
    except ValueError:
        return Ignored("not-json")
    except RecursionError:
        return Ignored("too-deep")
    if not isinstance(message, dict):
        return Ignored("not-an-object")
    try:
        return _decode(message)
    except (InvalidValue, ValueError, TypeError, KeyError, OverflowError):
        return Ignored("malformed")


def _decode(message: dict[str, Any]) -> Inbound:
    match message.get("type"):
        case "position.ack":
            return PositionAck(Position.parse(_text(message["position"])))
        case "event.reject":
            return EventReject(Position.parse(_text(message["position"])), printable(message.get("reason", "")))
        case "deployment.ack":
            return _deployment_ack(message["payload"])
        case _:
            return Ignored("unknown-type")


def _deployment_ack(payload: dict[str, Any]) -> DeploymentAck:
    status = payload["status"]
    if status not in ("success", "failed"):
        raise ValueError("status")
    return DeploymentAck(
        deployment_id=_text(payload.get("deploymentId", "")),
        artifact_id=_text(payload["artifactId"]),
        resource_type=_text(payload.get("resourceType", "")),
        action=_text(payload.get("action", "")),
        succeeded=status == "success",
        performed_at=decode_instant(payload.get("performedAt")),
        error_code=_text(payload.get("errorCode", "")),
    )


def decode_instant(text: object) -> datetime | None:
    """An RFC 3339 instant in UTC; None when absent, or when it is the time that Go writes for "never"."""
    if text is None:
        return None
    instant = datetime.fromisoformat(_text(text))
    if instant.year == _GO_ZERO_YEAR or instant.tzinfo is None:
        return None
    return instant.astimezone(UTC)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_FIELD_LENGTH:
        raise ValueError("text")
    return value


def printable(reason: object) -> str:
    """A peer's words, bounded, and safe to log, store and show."""
    text = reason if isinstance(reason, str) else ""
    return "".join(character if character.isprintable() else " " for character in text[:MAX_REASON_LENGTH])
