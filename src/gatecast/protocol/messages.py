"""Messages as values: those of a gateway, and those that a `gatecast.v2` client receives."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from gatecast.events import Position


@dataclass(frozen=True, slots=True)
class Ignored:
    """A frame that is not a message of the protocol; counted, and the connection stays open (scenario S28)."""

    #: `too-large`, `not-json`, `too-deep`, `duplicate-field`, `not-an-object`, `unknown-type` or `malformed`.
    why: str


# --- from the gateway -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentAck:
    """A gateway's acknowledgement of a deployment (gateway-protocol.md 1.9)."""

    deployment_id: str
    artifact_id: str
    #: `api`, `llmprovider`, `llmproxy` or `mcpproxy`.
    resource_type: str
    #: `deploy` or `undeploy`.
    action: str
    #: True when the gateway applied it.
    succeeded: bool
    #: The event's instant, compared as an instant; None when the event carried none.
    performed_at: datetime | None
    #: `GATEWAY_PROCESSING_ERROR`, `DEPLOYMENT_ID_MISMATCH`, or empty.
    error_code: str


@dataclass(frozen=True, slots=True)
class PositionAck:
    """Everything up to here was handled (`gatecast.v2`)."""

    position: Position


@dataclass(frozen=True, slots=True)
class EventReject:
    """This one event cannot be applied (`gatecast.v2`)."""

    position: Position
    #: At most 1,000 printable characters.
    reason: str


Inbound: TypeAlias = DeploymentAck | PositionAck | EventReject | Ignored


# --- from the server --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionAck:
    """The first frame of every connection (scenario S21)."""

    gateway_id: str
    connection_id: str
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class ResyncRequired:
    """The desired state must be read again; delivery continues after `position` once that is acknowledged."""

    #: `retention`, `epoch`, `ahead` or `parked`.
    reason: str
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class EventMessage:
    """One event."""

    type: str
    #: Decoded JSON object.
    payload: dict[str, object]
    #: When the publisher made the change, by its own clock.
    timestamp: datetime
    event_id: str
    position: Position
    #: How many events before it were left out on purpose.
    withheld: int = 0


@dataclass(frozen=True, slots=True)
class UnreadableEvent:
    """An event of which only the position can be read."""

    position: Position
    #: How many events before it were left out on purpose.
    withheld: int
    #: As in `Ignored`.
    why: str


Outbound: TypeAlias = ConnectionAck | ResyncRequired | EventMessage | UnreadableEvent | Ignored
