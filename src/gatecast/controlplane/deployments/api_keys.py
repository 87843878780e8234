"""The API keys of artifacts: create, list, rotate, revoke."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from secrets import token_hex
from typing import NamedTuple
from uuid import uuid4

from gatecast.containment import contained
from gatecast.controlplane.catalog.api_key import MAX_ACTIVE_KEYS, ApiKey, hash_of, keys_of_artifact, mask_of
from gatecast.controlplane.catalog.artifact_kinds import BY_KIND, MCP_PROXY, ArtifactKind, kind_of
from gatecast.controlplane.catalog.artifact_store import ArtifactStore
from gatecast.controlplane.deployments.artifacts import Artifacts
from gatecast.controlplane.deployments.placements import Desired, Placement, placements_of
from gatecast.controlplane.deployments.placing import keys_of_placements, publish, tell_anew
from gatecast.controlplane.deployments.rollouts import keys_of
from gatecast.controlplane.transactions.clock import database_time, later_than
from gatecast.controlplane.transactions.unit_of_work import UnitOfWork, begin_unit_of_work
from gatecast.errors import Conflict, InvalidValue, LimitReached, NotFound, SecretKeyMissing, StoredByNewerRelease
from gatecast.gathering import Gathered
from gatecast.hub import EventHub
from gatecast.storage.contract import Receipt
from gatecast.storage.gathered_rows import gathered_rows
from gatecast.storage.queries import Queries
from gatecast.storage.repeating import whole

_QUERIES = Queries("gatecast.controlplane.deployments", "api_keys.sql")

#: Most revoked keys of an artifact that are still listed.
MAX_REVOKED_KEYS = 50

#: Most names that the keys of an artifact can have. For MCP proxies all names are remembered, because a gateway cannot
#: ask which of their keys were revoked.
MAX_KEY_NAMES = 1_000

NAME_PATTERN = "^[a-z0-9]+([_-][a-z0-9]+)*$"
SHORTEST_NAME, LONGEST_NAME = 3, 63

#: So many expired keys are read at once.
_READ_AT_ONCE = 100

_NAME = re.compile(NAME_PATTERN)
_NAME_RULE = "have 3 to 63 lower-case letters and digits, with single hyphens or underscores between them"


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key with its value, which is known only when it is created or rotated."""

    key: ApiKey
    value: str
    #: The positions of the events for the gateways.
    receipts: Sequence[Receipt]


class _NameOnGateway(NamedTuple):
    """The name of a key that a gateway has revoked."""

    organization: str
    artifact_kind: ArtifactKind
    artifact_id: str
    name: str
    gateway_id: str


class ApiKeys:
    """Keys of artifacts. Their values are known only once, when they are created."""

    def __init__(self, hub: EventHub, store: ArtifactStore, artifacts: Artifacts) -> None:
        self._hub = hub
        self._database = hub.database
        self._store = store
        self._artifacts = artifacts
        # Every gateway of an artifact asks for these when a key of it was revoked.
        self._active_names = gathered_rows(self._database, _QUERIES["active_names"], "artifact_id")
        self._renewals = Gathered("renewals", self._renew_each)

    async def of_artifact(self, organization: str, artifact_kind: ArtifactKind, artifact_id: str) -> list[ApiKey]:
        """The keys of an artifact by name, including the most recently revoked ones.

        Raises:
            NotFound: there is no such artifact.
        """
        await self._artifacts.check_exists(organization, artifact_kind, artifact_id)
        return await keys_of_artifact(self._database, artifact_id)

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
        value = _new_value()
        key = ApiKey(
            id=str(uuid4()),
            artifact_id=artifact_id,
            name=name,
            mask=mask_of(value),
            sha256=hash_of(value),
            expires_at=_expiry(expires_at),
            created_at=0,
            updated_at=0,
        )
        async with begin_unit_of_work(self._hub) as change:
            await _check_expiry(change, key.expires_at, given=expires_at)
            await self._store.lock(change, organization, artifact_kind, artifact_id)
            now = await _next_version(change, artifact_id)
            key = replace(key, created_at=now, updated_at=now)
            await _check_room(change, key)
            await _forget_ended(change, artifact_kind, key)
            columns = (key.id, artifact_id, name, key.mask, key.sha256, key.expires_at, key.created_at)
            await change.transaction.execute(_QUERIES["insert_key"], *columns)
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
                expires_at=_expiry(expires_at) if expires_at else before.expires_at,
                updated_at=await _next_version(change, artifact_id),
            )
            await _check_expiry(change, key.expires_at, given=expires_at)
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
            await change.transaction.execute(_QUERIES["revoke_key"], key.id, version)
            await _publish(change, organization, artifact_id)
        return change.receipts

    async def outlive_revocations(
        self, organization: str, gateway_id: str, revoked: Collection[tuple[str, str]]
    ) -> None:
        """Tell a gateway once more, as newer, of the active keys among these artifacts and names, which it has revoked.

        A revocation names a name, and a gateway may handle it late, or again: 1. it, or a faster replica of it, has
        taken the new key of that name, 2. it revokes the name, 3. the new key's own event, which may follow, is not
        newer than what was there.
        """
        for artifact_id in sorted({artifact_id for artifact_id, _ in revoked}):
            for row in await self._active_names.ask(artifact_id):
                if (artifact_id, row["name"]) in revoked:
                    with suppress(NotFound, SecretKeyMissing, StoredByNewerRelease):
                        name = _NameOnGateway(organization, BY_KIND[kind_of(row)], artifact_id, row["name"], gateway_id)
                        await self._renewals.ask(name)

    async def _renew_each(self, names: Sequence[_NameOnGateway]) -> Sequence[None]:
        gateways: defaultdict[_NameOnGateway, set[str]] = defaultdict(set)
        for each in names:
            gateways[each._replace(gateway_id="")].add(each.gateway_id)
        for name, gateway_ids in gateways.items():
            await self._renew(name, gateway_ids)
        return [None] * len(names)

    @whole
    async def _renew(self, name: _NameOnGateway, gateway_ids: Collection[str]) -> None:
        """Give the key of a name a newer version without any other change, and tell these gateways alone."""
        async with begin_unit_of_work(self._hub) as change:
            await self._store.lock(change, name.organization, name.artifact_kind, name.artifact_id)
            key = await _active_key(change, name.artifact_id, name.name)
            await change.lock_gateways(name.organization, gateway_ids)
            # An expired key is published as revoked, and each revocation would call this again.
            if not key.has_ended:
                version = await _next_version(change, name.artifact_id)
                await change.transaction.execute(_QUERIES["renew_key"], key.id, version)
                for placement in await placements_of(change, name.artifact_id):
                    if placement.gateway_id in gateway_ids:
                        tell_anew(change, placement, replace(key, renewed_at=version))

    async def end_expired(self) -> None:
        """Tell gateways of expired keys.

        A gateway drops a value that arrives after its expiry, and would go on accepting an older value of the same key.
        """
        now, after = _milliseconds(await database_time(self._database)), (0, "")
        while rows := await self._database.fetch(_QUERIES["expired_keys"], now, *after, _READ_AT_ONCE):
            for row in rows:
                # A pod that cannot read what is stored leaves it to the others.
                left = suppress(NotFound, SecretKeyMissing, StoredByNewerRelease)
                with contained("key-not-ended", artifact=row["artifact_id"]), left:
                    await self._end(row["organization"], BY_KIND[kind_of(row)], row["artifact_id"], row["name"], now)
            after = (rows[-1]["expires_at"], rows[-1]["id"])

    @whole
    async def _end(self, organization: str, artifact_kind: ArtifactKind, artifact_id: str, name: str, now: int) -> None:
        async with begin_unit_of_work(self._hub) as change:
            await self._store.lock(change, organization, artifact_kind, artifact_id)
            key = await _active_key(change, artifact_id, name)
            # Another pod may have been faster, or an operator.
            if key.expires_at is not None and key.expires_at <= now and not key.has_ended:
                version = await _next_version(change, artifact_id)
                await change.transaction.execute(_QUERIES["end_key"], key.id, version)
                await _publish(change, organization, artifact_id)


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
    return _milliseconds(moment.astimezone(UTC))


async def _check_expiry(change: UnitOfWork, expires_at: int | None, *, given: datetime | None) -> None:
    """Refuse an expiry, given or kept, that is over: a value that has it would never be accepted."""
    if expires_at is None or expires_at > _milliseconds(await database_time(change.transaction)):
        return
    if given is None:
        raise InvalidValue("expires_at", None, "be given, because the key has expired; it lies in the future")
    raise InvalidValue("expires_at", given, "lie in the future; to end a key now, revoke it")


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


async def _store_rotated(change: UnitOfWork, key: ApiKey) -> None:
    columns = (key.id, key.mask, key.sha256, key.expires_at, key.updated_at)
    await change.transaction.execute(_QUERIES["rotate_key"], *columns)


async def _next_version(change: UnitOfWork, artifact_id: str) -> int:
    """A version later than every change of a key of this artifact, whose lock is held.

    Gateways ignore versions that are not newer than theirs for the same name, and versions tell what a gateway got.
    """
    row = await change.transaction.fetch_one(_QUERIES["last_key_version"], artifact_id)
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
        await change.transaction.execute(_QUERIES["forget_revoked_keys"], key.artifact_id, MAX_REVOKED_KEYS)
        return
    await change.transaction.execute(_QUERIES["forget_namesakes"], key.artifact_id)
    names = {each.name for each in await keys_of_artifact(change.transaction, key.artifact_id)}
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
    # Read again: the placements may have changed before the gateways were locked.
    placements = await placements_of(change, artifact_id)
    placements = [each for each in placements if each.gateway_id in gateways]
    publish(change, organization, placements, await keys_of_placements(change, placements))


def _has_keys(placement: Placement) -> bool:
    return placement.desired is not Desired.DELETED
