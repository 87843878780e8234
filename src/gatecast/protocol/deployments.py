"""Finds the event of a `deployment.ack`, which names the deployment and not the event."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import TypeAlias

from gatecast.events import RecordedEvent, printable
from gatecast.protocol.instants import parse_performed_at
from gatecast.protocol.messages import DeploymentAck

#: How many sent deployments a connection remembers, to match acknowledgements with their events.
REMEMBERED_DEPLOYMENTS = 1_024

#: The gateway downloads something for these, which may take 30 s each.
DEPLOYED = ".deployed"

_ACTIONS = {DEPLOYED: "deploy", ".undeployed": "undeploy"}
_ARTIFACT_FIELDS = ("apiId", "providerId", "proxyId")

#: Action, artifact, deployment, instant.
_Key: TypeAlias = tuple[str, str, str, datetime | None]


def is_acknowledged(event_type: str) -> bool:
    """Whether an unmodified gateway acknowledges events of this type; it only confirms the handling of others."""
    return _action_of(event_type) is not None


@lru_cache(maxsize=256)
def _action_of(event_type: str) -> str | None:
    """What its acknowledgement calls it; None: there is none. There are few types of events."""
    return _ACTIONS.get(event_type[event_type.rfind(".") :])


class SentDeployments:
    """Sent, unacknowledged deploy and undeploy events; the oldest are forgotten first."""

    def __init__(self, remembered: int = REMEMBERED_DEPLOYMENTS) -> None:
        # A scan beats a table here: acknowledgements come in order, so theirs is nearly always the first one.
        self._sent: list[tuple[_Key, int]] = []
        self._remembered = remembered

    def remember(self, event: RecordedEvent) -> None:
        """Remember a sent event, if gateways acknowledge its type."""
        if (key := _key_of_event(event)) is not None:
            self._sent.append((key, event.offset))
            del self._sent[: -self._remembered]

    def take(self, ack: DeploymentAck) -> int | None:
        """The offset of the oldest event that matches this acknowledgement; each event is found once."""
        key = (ack.action, ack.artifact_id, ack.deployment_id, ack.performed_at)
        for index, (sent, offset) in enumerate(self._sent):
            if sent == key:
                del self._sent[index]
                return offset
        return None


def _key_of_event(event: RecordedEvent) -> _Key | None:
    """What its acknowledgement will name; None if the gateway will not acknowledge it."""
    action = _action_of(event.type)
    if action is None:
        return None
    try:
        data = json.loads(event.payload)
        performed_at = parse_performed_at(data.get("performedAt"))
    except (ValueError, AttributeError, RecursionError):
        return None
    artifact = next((data[name] for name in _ARTIFACT_FIELDS if name in data), "")
    return action, _comparable(artifact), _comparable(data.get("deploymentId")), performed_at


def _comparable(identifier: object) -> str:
    """The identifier as the codec reads it from an acknowledgement."""
    return printable(identifier) if isinstance(identifier, str) else ""
