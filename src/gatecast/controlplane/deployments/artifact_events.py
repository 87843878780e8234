"""The events that tell a gateway what to run (scenarios.md, "Events of a change"; gateway-protocol.md 2.3 and 2.5)."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from gatecast.controlplane.catalog.api_key import ApiKey
from gatecast.controlplane.catalog.artifact_kinds import ArtifactKind
from gatecast.events import Action, Event, RecordedEvent

#: Entity type of the events of API keys.
KEY_ENTITY = "apikey"


def written(milliseconds: int) -> str:
    """An instant as gateways compare it: UTC, with `Z` and milliseconds."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def artifact_event(
    artifact_kind: ArtifactKind, verb: str, action: Action, *, artifact_id: str, gateway_id: str, **data: str
) -> Event:
    """`verb` is deployed, undeployed or deleted."""
    return Event(
        gateway_id=gateway_id,
        type=f"{artifact_kind.resource_type}.{verb}",
        action=action,
        entity_type=artifact_kind.resource_type,
        entity_id=artifact_id,
        data={artifact_kind.id_field: artifact_id, **data},
    )


#: Type of the event that ends a key.
REVOKED = "apikey.revoked"


def key_created(key: ApiKey, gateway_id: str) -> Event:
    """A gateway ignores a key that is not newer than what it has, so sending it again is harmless."""
    data = {
        "uuid": key.id,
        "apiId": key.artifact_id,
        "name": key.name,
        **_hash(key),
        "createdAt": written(key.created_at),
    }
    return _key_event("created", Action.PROVISION, key, gateway_id, data)


def key_updated(key: ApiKey, gateway_id: str) -> Event:
    """A new value under the same name."""
    data = {"apiId": key.artifact_id, "keyName": key.name, **_hash(key)}
    return _key_event("updated", Action.UPDATE, key, gateway_id, data)


def key_revoked(key: ApiKey, gateway_id: str) -> Event:
    """The name is enough."""
    return _key_event("revoked", Action.REVOKE, key, gateway_id, {"apiId": key.artifact_id, "keyName": key.name})


def revoked_by(event: RecordedEvent) -> tuple[str, str] | None:
    """The artifact and the key name that an event revokes; None: it revokes none, or cannot be read."""
    if event.type != REVOKED:
        return None
    try:
        data = json.loads(event.payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    artifact_id, name = data.get("apiId"), data.get("keyName")
    return (artifact_id, name) if isinstance(artifact_id, str) and isinstance(name, str) else None


def _hash(key: ApiKey) -> dict[str, str]:
    # In events the hashes are a string that holds JSON; in the back-fill they are an object (section 5).
    hashes = json.dumps({"sha256": key.sha256}, separators=(",", ":"))
    expiry = {} if key.expires_at is None else {"expiresAt": written(key.expires_at)}
    return {"apiKeyHashes": hashes, "maskedApiKey": key.mask, **expiry, "updatedAt": written(key.version)}


def _key_event(verb: str, action: Action, key: ApiKey, gateway_id: str, data: dict[str, str]) -> Event:
    return Event(
        gateway_id=gateway_id,
        type=f"apikey.{verb}",
        action=action,
        entity_type=KEY_ENTITY,
        entity_id=key.id,
        data=data,
    )
