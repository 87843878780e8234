"""Messages that gateways send, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from gatecast.events import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentAck:
    """What an unmodified gateway says of a deployment (gateway-protocol 1.9)."""

    deployment_id: str
    artifact_id: str
    #: `api`, `llmprovider`, `llmproxy` or `mcpproxy`.
    resource_type: str
    #: `deploy` or `undeploy`.
    action: str
    #: True when the gateway applied it.
    succeeded: bool
    #: The event's instant, compared as an instant; None when the gateway never saw one.
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
    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """Something that is no message of ours; counted, and the connection stays (scenario S28)."""

    #: `not-json`, `too-deep`, `not-an-object`, `unknown-type` or `malformed`.
    why: str


Inbound: TypeAlias = DeploymentAck | PositionAck | EventReject | Ignored
