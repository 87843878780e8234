"""The gateway's API keys (gateway-protocol.md 2.5, 3.9 and 5)."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from gatecast.testing.unmodified_gateway.messages import Event, Fields, Unparsable

_NAME = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")
_NAME_LENGTHS = range(3, 64)

#: Most active keys of one artifact and one user; keys without a user share one bucket.
MAX_KEYS_PER_USER: Final = 10

ACTIVE: Final = "active"
REVOKED: Final = "revoked"

_UNITS = {
    "seconds": timedelta(seconds=1),
    "minutes": timedelta(minutes=1),
    "hours": timedelta(hours=1),
    "days": timedelta(days=1),
    "weeks": timedelta(weeks=1),
    "months": timedelta(days=30),
}


class Dropped(Exception):
    """The event has no effect, and the control plane gets no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One key, by its hash."""

    #: Its id.
    uuid: str
    #: The artifact it opens.
    artifact_id: str
    #: Unique per artifact.
    name: str
    #: Lower-case hex SHA-256 of the key.
    sha256: str
    #: What listings show.
    mask: str
    #: `active` or `revoked`.
    status: str
    #: The user whose limit it counts against; empty when none was named.
    user_id: str
    #: When it stops to work, if ever.
    expires_at: datetime | None
    #: When the control plane changed it last.
    updated_at: datetime


class ApiKeys:
    """Keys by (artifact id, name)."""

    def __init__(self) -> None:
        #: All keys, revoked ones too.
        self.stored: dict[tuple[str, str], ApiKey] = {}

    def created(self, event: Event, *, handle: str, now: datetime) -> None:
        """Apply `apikey.created`; raises Dropped where the gateway ignores it."""
        payload = event.payload
        name = payload.text("name")
        if name:
            _check_name(name)
        else:
            name = f"{handle}-key-{uuid4().hex[:8]}"
        key = _key_from(payload, name, event.user_id, now)
        self._check_limit(key)
        self.save(key)

    def updated(self, event: Event, *, now: datetime) -> None:
        """Apply `apikey.updated`, which also creates; raises Dropped where the gateway ignores it."""
        payload = event.payload
        key = _key_from(payload, _required(payload, "keyName"), event.user_id, now)
        present = self.stored.get((key.artifact_id, key.name))
        self.save(replace(key, uuid=present.uuid, user_id=present.user_id) if present else key)

    def revoked(self, event: Event) -> None:
        """Apply `apikey.revoked`; an unknown key changes nothing."""
        place = _required(event.payload, "apiId"), _required(event.payload, "keyName")
        if place in self.stored:
            self.stored[place] = replace(self.stored[place], status=REVOKED)

    def save(self, key: ApiKey) -> None:
        """Store the key unless the one that is here is as new; raises Dropped when its value opens another artifact."""
        place = (key.artifact_id, key.name)
        others = [other for at, other in self.stored.items() if at != place]
        if any(other.sha256 == key.sha256 for other in others):
            raise Dropped("one key value cannot serve two keys")
        if any(other.uuid == key.uuid for other in others):
            raise Dropped("two keys cannot have the same id")
        present = self.stored.get(place)
        if present is None or key.updated_at > present.updated_at:
            self.stored[place] = key

    def drop_artifact(self, artifact_id: str) -> None:
        """Remove every key of an artifact."""
        self._keep(lambda key: key.artifact_id != artifact_id)

    def keep_only(self, listed: Collection[str], *, artifact_ids: Collection[str]) -> None:
        """Remove each key of these artifacts whose id is not listed."""
        self._keep(lambda key: key.uuid in listed or key.artifact_id not in artifact_ids)

    def _keep(self, wanted: Callable[[ApiKey], bool]) -> None:
        self.stored = {place: key for place, key in self.stored.items() if wanted(key)}

    def _check_limit(self, key: ApiKey) -> None:
        bucket = (key.artifact_id, key.user_id)
        taken = sum(1 for other in self.stored.values() if other.status == ACTIVE and _bucket(other) == bucket)
        if taken >= MAX_KEYS_PER_USER:
            raise Dropped(f"{MAX_KEYS_PER_USER} active keys are the most for one artifact and user")


def generated_key(artifact_id: str, name: str, now: datetime) -> ApiKey:
    """A key that is made on the gateway itself (section 5)."""
    value = f"apip_{secrets.token_hex(32)}"
    return ApiKey(
        uuid=str(uuid4()),
        artifact_id=artifact_id,
        name=name,
        sha256=hashlib.sha256(value.encode()).hexdigest(),
        mask=f"***{value[-5:]}",
        status=ACTIVE,
        user_id="admin",
        expires_at=None,
        updated_at=now,
    )


def listed_keys(items: Iterable[object]) -> list[ApiKey]:
    """The usable keys of a back-fill answer.

    Raises:
        Unparsable: one entry cannot be read, which makes the whole answer useless.
    """
    keys = [_listed_key(Fields(item)) for item in items]
    return [key for key in keys if key is not None]


def _listed_key(item: Fields) -> ApiKey | None:
    updated_at, expires_at = item.instant("updatedAt"), item.instant("expiresAt")
    item.instant("createdAt")
    for name in ("etag", "source", "externalRefId", "issuer"):
        item.text(name)
    hashes = item.fields("apiKeyHashes")
    sha256 = hashes.text("sha256").strip() if hashes else ""
    if item.text("status") != ACTIVE or not sha256 or not item.text("uuid") or updated_at is None:
        return None
    return ApiKey(
        uuid=item.text("uuid"),
        artifact_id=item.text("artifactUuid"),
        name=item.text("name"),
        sha256=sha256,
        mask=item.text("maskedApiKey"),
        status=ACTIVE,
        user_id=item.text("createdBy"),
        expires_at=expires_at.moment if expires_at else None,
        updated_at=updated_at.moment,
    )


def _key_from(payload: Fields, name: str, user_id: str, now: datetime) -> ApiKey:
    return ApiKey(
        uuid=payload.text("uuid") or str(uuid4()),
        artifact_id=_required(payload, "apiId"),
        name=name,
        sha256=_sha256(payload),
        mask=payload.text("maskedApiKey"),
        status=ACTIVE,
        user_id=user_id,
        expires_at=_expiry(payload, now),
        updated_at=_updated_at(payload, now),
    )


def _sha256(payload: Fields) -> str:
    """The hash out of a string that holds JSON."""
    try:
        sha256 = Fields(json.loads(_required(payload, "apiKeyHashes"))).text("sha256").strip()
    except ValueError:
        raise Dropped("apiKeyHashes is not a string of JSON") from None
    if not sha256:
        raise Dropped("no sha256 hash")
    return sha256


def _expiry(payload: Fields, now: datetime) -> datetime | None:
    expires_at, expires_in = payload.instant("expiresAt"), payload.fields("expiresIn")
    if expires_at is not None and expires_at.moment <= now:
        raise Dropped("expiresAt is in the past")
    if expires_at is not None or expires_in is None:
        return expires_at.moment if expires_at else None
    unit = _UNITS.get(expires_in.text("unit"))
    if unit is None:
        raise Dropped("unknown unit of time")
    return now + (expires_in.integer("duration") or 0) * unit


def _updated_at(payload: Fields, now: datetime) -> datetime:
    """The control plane's time, or the gateway's own when there is none that it can read."""
    payload.text("updatedAt")
    try:
        instant = payload.instant("updatedAt")
    except Unparsable:
        return now
    return instant.moment if instant else now


def _required(payload: Fields, name: str) -> str:
    value = payload.text(name)
    if not value:
        raise Dropped(f"{name} is missing")
    return value


def _check_name(name: str) -> None:
    if len(name) not in _NAME_LENGTHS or not _NAME.fullmatch(name):
        raise Dropped(f"{name!r} is not a name of a key")


def _bucket(key: ApiKey) -> tuple[str, str]:
    return key.artifact_id, key.user_id
