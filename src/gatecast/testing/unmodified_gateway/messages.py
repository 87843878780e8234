"""Messages on the socket, read as strictly as Go's JSON decoder does (gateway-protocol.md 1.5, 1.7, 1.9, 2.1)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from gatecast.testing.unmodified_gateway.instants import ZERO_TIME, GoInstant

#: The first frame of every connection.
CONNECTION_ACK: Final = "connection.ack"

#: The event's artifact could not be applied, whatever the reason.
PROCESSING_ERROR: Final = "GATEWAY_PROCESSING_ERROR"

#: The event undeploys another deployment than the one that is here.
DEPLOYMENT_ID_MISMATCH: Final = "DEPLOYMENT_ID_MISMATCH"


#: Fields of events that hold an id, in the order in which they say what the event is about.
_ID_FIELDS = ("providerId", "proxyId", "apiId", "subscriptionId", "planId", "applicationId")

_T = TypeVar("_T")


class Unparsable(ValueError):
    """A field has the wrong JSON type, or a time that Go cannot read: the whole message is dropped."""


class Received(NamedTuple):
    """One event, as it arrived."""

    #: What the control plane wrote as `position`; an unmodified gateway itself ignores it.
    position: str | None
    #: The correlation id; empty when there was none.
    event_id: str
    #: What happened.
    type: str

    @property
    def offset(self) -> int | None:
        """The offset within `position`."""
        return int(self.position.rpartition(":")[2]) if self.position else None


class Fields:
    """A JSON object with typed access; an absent or `null` field has Go's zero value."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, Mapping | None):
            raise Unparsable
        self._fields: Mapping[str, Any] = value or {}

    def text(self, name: str) -> str:
        """A string; empty when absent."""
        return self._typed(name, str) or ""

    def flag(self, name: str) -> bool:
        """A boolean; false when absent."""
        return self._typed(name, bool) or False

    def integer(self, name: str) -> int | None:
        """A whole number, if present."""
        value = self._typed(name, int)
        if isinstance(value, bool):
            raise Unparsable(name)
        return value

    def instant(self, name: str) -> GoInstant | None:
        """A time, if present; an empty string is not a time."""
        value = self._typed(name, str)
        if value is None:
            return None
        try:
            return GoInstant.parse(value)
        except ValueError:
            raise Unparsable(name) from None

    def fields(self, name: str) -> Fields | None:
        """A nested object, if present."""
        value = self._fields.get(name)
        return None if value is None else Fields(value)

    def mapping(self, name: str) -> dict[str, Fields]:
        """Objects by name; empty when absent."""
        return {key: Fields(value) for key, value in (self._typed(name, dict) or {}).items()}

    def items(self, name: str) -> list[Fields]:
        """A list of objects; empty when absent."""
        return [Fields(value) for value in self._typed(name, list) or ()]

    def _typed(self, name: str, kind: type[_T]) -> _T | None:
        value = self._fields.get(name)
        if value is not None and not isinstance(value, kind):
            raise Unparsable(name)
        return value


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message of the control plane."""

    #: What happened.
    type: str
    #: The whole message, not yet checked.
    body: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str) -> Envelope | None:
        """The message, or None when it is not JSON or has no type: such frames are skipped."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(body, dict) or not isinstance(body.get("type"), str):
            return None
        return cls(body["type"], body)

    @property
    def entity_id(self) -> str:
        """What it is about: the id of an artifact, mostly; empty when it names none."""
        payload = self.body.get("payload")
        named = (payload.get(name) for name in _ID_FIELDS) if isinstance(payload, Mapping) else ()
        return next((value for value in named if isinstance(value, str)), "")

    def as_received(self) -> Received:
        """What a test compares."""
        position, event_id = self.body.get("position"), self.body.get("correlationId")
        return Received(
            position if isinstance(position, str) else None,
            event_id if isinstance(event_id, str) else "",
            self.type,
        )


class Event:
    """An envelope whose own fields have the right types."""

    def __init__(self, envelope: Envelope) -> None:
        fields = Fields(envelope.body)
        fields.text("timestamp")
        self.type = envelope.type
        self.event_id = fields.text("correlationId")
        self.user_id = fields.text("userId")
        self.payload = fields.fields("payload") or Fields(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentAck:
    """The only message that the gateway ever sends."""

    #: Copied from the event.
    deployment_id: str
    #: Copied from the event.
    artifact_id: str
    #: `api`, `llmprovider`, `llmproxy` or `mcpproxy`.
    resource_type: str
    #: `deploy` or `undeploy`.
    action: str
    #: Copied from the event.
    performed_at: GoInstant | None
    #: None on success.
    error_code: str | None = None

    @property
    def payload(self) -> dict[str, str]:
        """The content, field by field."""
        content = {
            "deploymentId": self.deployment_id,
            "artifactId": self.artifact_id,
            "resourceType": self.resource_type,
            "action": self.action,
            "status": "failed" if self.error_code else "success",
            "performedAt": self.performed_at.text if self.performed_at else ZERO_TIME,
        }
        return content | ({"errorCode": self.error_code} if self.error_code else {})

    def encode(self) -> str:
        """The text frame."""
        return json.dumps({"type": "deployment.ack", "payload": self.payload}, separators=(",", ":"))


def check_connection_ack(text: str) -> tuple[str, str]:
    """Gateway id and connection id of a `connection.ack`.

    Raises:
        Unparsable: it is something else.
    """
    envelope = Envelope.parse(text)
    if envelope is None or envelope.type != CONNECTION_ACK:
        raise Unparsable(text[:80])
    fields = Fields(envelope.body)
    fields.text("timestamp")
    return fields.text("gatewayId"), fields.text("connectionId")
