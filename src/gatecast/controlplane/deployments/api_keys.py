"""The API keys of artifacts: create, list, rotate, revoke."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from secrets import token_hex
from uuid import uuid4

from gatecast.controlplane.catalog.api_key import MAX_ACTIVE_KEYS, ApiKey, hash_of, mask_of
from gatecast.controlplane.catalog.artifact_kinds import BY_KIND, MCP_PROXY, ArtifactKind, kind_of
from gatecast.controlplane.catalog.artifact_store import ArtifactStore
from gatecast.controlplane.deployments.artifact_events import REVOKED
from gatecast.controlplane.deployments.artifacts import Artifacts
from gatecast.controlplane.deployments.placements import PLACEMENTS, Desired, Placement, placements_of
from gatecast.controlplane.deployments.placing import keys_of_placements, publish
from gatecast.controlplane.deployments.rollouts import keys_of
from gatecast.controlplane.transactions.clock import later_than, milliseconds
from gatecast.controlplane.transactions.unit_of_work import UnitOfWork, begin_unit_of_work
from gatecast.errors import Conflict, InvalidValue, LimitReached, NotFound, StoredByNewerRelease
from gatecast.hub import EventHub
from gatecast.storage.contract import ReadRequest, Receipt
from gatecast.storage.gathered_rows import gathered_rows
from gatecast.storage.repeating import whole

#: Most revoked keys of an artifact that are still listed.
MAX_REVOKED_KEYS = 50

#: Most names that the keys of an artifact can have. For MCP proxies all names are remembered, because a gateway cannot
#: ask which of their keys were revoked.
MAX_KEY_NAMES = 1_000

NAME_PATTERN = "^[a-z0-9]+([_-][a-z0-9]+)*$"
SHORTEST_NAME, LONGEST_NAME = 3, 63

#: So much is read at once of what waits for a gateway.
_PAGE, _PAGE_BYTES = 1_000, 8 * 1024 * 1024

_NAME = re.compile(NAME_PATTERN)
_NAME_RULE = "have 3 to 63 lower-case letters and digits, with single hyphens or underscores between them"


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key with its value, which is known only when it is created or rotated."""

    key: ApiKey
    value: str
    #: Where the events stand that tell gateways of it.
    receipts: Sequence[Receipt]


class ApiKeys:
    """Keys of artifacts. Their values are known only once, when they are created."""

    def __init__(self, hub: EventHub, store: ArtifactStore, artifacts: Artifacts) -> None:
        self._hub = hub
        self._database = hub.storage.database
        self._store = store
        self._artifacts = artifacts
        # Every gateway that connects asks for these.
        self._reused = gathered_rows(self._database, PLACEMENTS["reused_names"], "gateway_id")
        self._expired = gathered_rows(
            self._database, PLACEMENTS["expired_keys"], "gateway_id", lambda: (milliseconds(),)
        )

    async def of_artifact(self, organization: str, artifact_kind: ArtifactKind, artifact_id: str) -> list[ApiKey]:
        """The keys of an artifact by name, including the most recently revoked ones.

        Raises:
            NotFound: there is no such artifact.
        """
        await self._artifacts.check_exists(organization, artifact_kind, artifact_id)
        rows = await self._database.fetch(PLACEMENTS["keys"], artifact_id)
        return [ApiKey.of(row) for row in rows]

    @whole
    async def create(
        self,
        organization: str,
        artifact_kind: ArtifactKind,
        artifact_id: str,
        name: str,
        expires_at: datetime | None = None,
    ) -> IssuedKey:
        """Create a key for every gateway that has the artifact.

        Raises:
            NotFound: there is no such artifact.
            InvalidValue: the name breaks its rule, or the time is over already.
            Conflict: the artifact has an active key of this name.
            LimitReached: it has ten active keys.
        """
        _check_key_name(name)
        value, now = _new_value(), milliseconds()
        key = ApiKey(
            id=str(uuid4()),
            artifact_id=artifact_id,
            name=name,
            mask=mask_of(value),
            sha256=hash_of(value),
            expires_at=_expiry(expires_at),
            created_at=now,
            updated_at=now,
        )
        async with begin_unit_of_work(self._hub) as change:
            await self._store.lock(change, organization, artifact_kind, artifact_id)
            now = await _next_version(change, artifact_id)
            key = replace(key, created_at=now, updated_at=now)
            await _check_room(change, key)
            await _forget_ended(change, artifact_kind, key)
            columns = (key.id, artifact_id, name, key.mask, key.sha256, key.expires_at, key.created_at)
            await change.transaction.execute(PLACEMENTS["insert_key"], *columns)
            await _publish(change, organization, artifact_id)
        return IssuedKey(key, value, change.receipts)

    @whole
    async def rotate(
        self,
        organization: str,
        artifact_kind: ArtifactKind,
        artifact_id: str,
        name: str,
        expires_at: datetime | None = None,
    ) -> IssuedKey:
        """Give a key a new value; the old value stops working.

        Raises:
            NotFound: there is no such artifact, or no active key of this name.
            InvalidValue: the time is over already, or that of the key is and no other is given.
        """
        value = _new_value()
        async with begin_unit_of_work(self._hub) as change:
            await self._store.lock(change, organization, artifact_kind, artifact_id)
            before = await _active_key(change, artifact_id, name)
            key = replace(
                before,
                mask=mask_of(value),
                sha256=hash_of(value),
                expires_at=_expiry(expires_at) if expires_at else _unexpired(before),
                updated_at=await _next_version(change, artifact_id),
            )
            await _store_rotated(change, key)
            await _publish(change, organization, artifact_id)
        return IssuedKey(key, value, change.receipts)

    @whole
    async def revoke(
        self, organization: str, artifact_kind: ArtifactKind, artifact_id: str, name: str
    ) -> Sequence[Receipt]:
        """Revoke a key on every gateway that has it; return the positions of the events.

        Raises:
            NotFound: there is no such artifact, or no active key of this name.
        """
        async with begin_unit_of_work(self._hub) as change:
            await self._store.lock(change, organization, artifact_kind, artifact_id)
            key = await _active_key(change, artifact_id, name)
            version = await _next_version(change, artifact_id)
            await change.transaction.execute(PLACEMENTS["revoke_key"], key.id, version)
            await _publish(change, organization, artifact_id)
        return change.receipts

    async def outlive_revocations(self, organization: str, gateway_id: str, after: int) -> None:
        """Publish once more, as newer, the keys whose names are revoked in what waits for a gateway after this offset.

        A revocation names a name. A gateway that could not confirm it gets it once more: 1. it revokes the old key,
        2. it takes the new one of that name, 3. it is told to revoke that name again, 4. the new key's own event is not
        newer than what it has.
        """
        rows = await self._reused.ask(gateway_id)
        ended = await self._revoked_after(gateway_id, after) if rows else frozenset()
        for row in rows:
            if (row["artifact_id"], row["name"]) in ended:
                with suppress(NotFound, StoredByNewerRelease):
                    await self._renew(organization, BY_KIND[kind_of(row)], row["artifact_id"], row["name"])

    async def _revoked_after(self, gateway_id: str, after: int) -> frozenset[tuple[object, object]]:
        """The artifact and the key name of every revocation after this offset."""
        found: set[tuple[object, object]] = set()
        while True:
            request = ReadRequest(gateway_id=gateway_id, after=after, max_events=_PAGE, max_bytes=_PAGE_BYTES)
            [result] = await self._hub.storage.log.read([request])
            if result is None or not result.events:
                return frozenset(found)
            data = [json.loads(event.payload) for event in result.events if event.type == REVOKED]
            found |= {(each.get("apiId"), each.get("keyName")) for each in data}
            after = result.events[-1].offset

    @whole
    async def _renew(self, organization: str, artifact_kind: ArtifactKind, artifact_id: str, name: str) -> None:
        """Give a key a newer version without any other change.

        Not one that has expired: gateways are told to revoke it, and each revocation asks for this once more.
        """
        async with begin_unit_of_work(self._hub) as change:
            await self._store.lock(change, organization, artifact_kind, artifact_id)
            key = await _active_key(change, artifact_id, name)
            if key.expired(milliseconds()):
                return
            version = await _next_version(change, artifact_id)
            await _store_rotated(change, replace(key, updated_at=version))
            await _publish(change, organization, artifact_id)

    async def end_expired(self, organization: str, gateway_id: str) -> None:
        """Revoke the expired keys of MCP proxies on a gateway.

        A gateway drops a value that reaches it too late, and an older value of the same key would go on to be good.
        Other kinds of keys it reads in lists when it connects.
        """
        for row in await self._expired.ask(gateway_id):
            with suppress(NotFound):
                await self.revoke(organization, MCP_PROXY, row["artifact_id"], row["name"])


def _new_value() -> str:
    return f"apip_{token_hex(32)}"


def _check_key_name(name: str) -> None:
    if not SHORTEST_NAME <= len(name) <= LONGEST_NAME or not _NAME.fullmatch(name):
        raise InvalidValue("name", name, _NAME_RULE)


def _expiry(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise InvalidValue("expires_at", moment, "carry a time zone")
    expires_at = int(moment.astimezone(UTC).timestamp() * 1000)
    if expires_at <= milliseconds():
        raise InvalidValue("expires_at", moment, "lie in the future; to end a key now, revoke it")
    return expires_at


def _unexpired(key: ApiKey) -> int | None:
    """The time of a key that goes on as before: a value under a time that is over would never open anything."""
    if key.expired(milliseconds()):
        raise InvalidValue("expires_at", None, "be given, because the key has expired; it lies in the future")
    return key.expires_at


async def _store_rotated(change: UnitOfWork, key: ApiKey) -> None:
    columns = (key.id, key.mask, key.sha256, key.expires_at, key.updated_at)
    await change.transaction.execute(PLACEMENTS["rotate_key"], *columns)


async def _next_version(change: UnitOfWork, artifact_id: str) -> int:
    """Later than that of every change of a key of this artifact, whose lock is held.

    Gateways ignore what is not newer than what they have of its name, and what a gateway was told of is known by it.
    """
    row = await change.transaction.fetch_one(PLACEMENTS["last_key_version"], artifact_id)
    return later_than(row["version"] or 0 if row else 0)


async def _check_room(change: UnitOfWork, key: ApiKey) -> None:
    active = await keys_of(change, key.artifact_id)
    if key.name in {each.name for each in active}:
        raise Conflict(f'there is an active key "{key.name}" already; rotate it, or revoke it first', field="name")
    if len(active) >= MAX_ACTIVE_KEYS:
        raise LimitReached(
            f"the artifact has {MAX_ACTIVE_KEYS} active keys, and gateways drop further ones; revoke one first"
        )


async def _forget_ended(change: UnitOfWork, artifact_kind: ArtifactKind, key: ApiKey) -> None:
    """Delete the oldest revoked keys, to make room for a new one."""
    if artifact_kind is not MCP_PROXY:
        await change.transaction.execute(PLACEMENTS["forget_revoked_keys"], key.artifact_id, MAX_REVOKED_KEYS)
        return
    await change.transaction.execute(PLACEMENTS["forget_namesakes"], key.artifact_id)
    names = {row["name"] for row in await change.transaction.fetch(PLACEMENTS["keys"], key.artifact_id)}
    if len(names - {key.name}) >= MAX_KEY_NAMES:
        raise LimitReached(f"keys of the artifact have had {MAX_KEY_NAMES:,} names; use one of them again")


async def _active_key(change: UnitOfWork, artifact_id: str, name: str) -> ApiKey:
    for key in await keys_of(change, artifact_id):
        if key.name == name:
            return key
    raise NotFound("active API key", name)


async def _publish(change: UnitOfWork, organization: str, artifact_id: str) -> None:
    """Publish to every gateway that has the artifact, running or not."""
    gateways = {each.gateway_id for each in await placements_of(change, artifact_id) if _has_keys(each)}
    await change.lock_gateways(organization, gateways)
    # Read again: what gateways were told may have changed before they were locked.
    placements = await placements_of(change, artifact_id)
    placements = [each for each in placements if each.gateway_id in gateways]
    publish(change, organization, placements, await keys_of_placements(change, placements))


def _has_keys(placement: Placement) -> bool:
    return placement.desired is not Desired.DELETED
