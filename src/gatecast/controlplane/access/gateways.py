"""The gateways of an organization: what operators say of them, and what they report about themselves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import uuid4

from gatecast.controlplane.transactions.locks import lock_gateway, lock_names
from gatecast.controlplane.transactions.timestamps import instant
from gatecast.errors import Conflict, InvalidValue, Mistakes, NotFound, StaleWrite
from gatecast.events import clean_identifier, is_storable, printable
from gatecast.events.json_values import encode, encode_foreign, read_stored
from gatecast.hub import EventHub
from gatecast.storage.contract import GatewayStatus, Row, Transaction
from gatecast.storage.queries import Queries
from gatecast.storage.repeating import whole
from gatecast.storage.rows import as_keys

_QUERIES = Queries("gatecast.controlplane.access", "gateways.sql")

#: Shortest name of a gateway, in characters.
MIN_NAME_LENGTH = 2

#: Longest name of a gateway, in characters.
MAX_NAME_LENGTH = 120

#: Longest display name, description and vhost, in characters.
MAX_TEXT_LENGTH = 512

#: Largest manifest, in bytes of JSON.
MAX_MANIFEST_BYTES = 4 * 1024 * 1024

#: Largest properties of a gateway, in bytes of JSON.
MAX_PROPERTIES_BYTES = 16 * 1024

#: Most gateways remembered as known to exist, so that publishing to them needs no look-up.
_MAX_FOUND = 20_000


class GatewayType(StrEnum):
    """What a gateway serves."""

    REGULAR = "regular"
    AI = "ai"


class ConnectionPolicy(StrEnum):
    """What happens to a gateway's older connections when it opens a new one."""

    #: They stay, and every connection receives every event.
    ALL = "all"
    #: They are closed, on every pod.
    NEWEST_ONLY = "newest-only"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayFields:
    """The properties of a gateway that an operator sets.

    Raises:
        InvalidValue: a field breaks its rule; the error names every such field. The size of `properties` is checked
            when they are stored.
    """

    #: Unique in the organization; 2 to 120 printable characters, after surrounding blanks are removed.
    name: str
    #: Like `description` and `vhost`, at most 512 characters.
    display_name: str = ""
    description: str = ""
    vhost: str = ""
    type: GatewayType = GatewayType.REGULAR
    connection_policy: ConnectionPolicy = ConnectionPolicy.ALL
    #: A JSON object, at most 16 KiB.
    properties: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def stored(cls, **values: object) -> Self:
        """Fields as they are stored, unchecked: another release may have had other rules; a change checks them."""
        fields = object.__new__(cls)
        for name, value in values.items():
            object.__setattr__(fields, name, value)
        return fields

    def __post_init__(self) -> None:
        mistakes = Mistakes()
        with mistakes.noted():
            object.__setattr__(self, "name", _clean_name(self.name))
        for text in ("display_name", "description", "vhost"):
            with mistakes.noted():
                _check_text(text, getattr(self, text))
        mistakes.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A registered gateway."""

    id: str
    organization: str
    fields: GatewayFields
    #: Rises with every change that an operator makes.
    version: int
    created_at: datetime
    updated_at: datetime
    #: Stored fields that cannot be read, with the rule that each breaks; `fields` has a default in their place.
    unreadable: Mapping[str, str] = field(default_factory=dict)
    #: Why it lost events that the control plane cannot republish; empty: it lost none, or has recovered.
    unrecovered: str = ""
    #: Why its last manifest could not be stored; empty: it was stored.
    manifest_fault: str = ""
    #: Why it may run artifacts that the control plane does not know: a history was lost, and the gateway's process has
    #: not restarted since; empty: it does not.
    unlisted: str = ""


@dataclass(frozen=True, slots=True)
class GatewayName:
    """The few fields of a gateway that a list of ten thousand has room for; they mean the same as in `Gateway`."""

    id: str
    name: str
    display_name: str
    version: int
    unrecovered: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayState:
    """A gateway, its manifest and its delivery status."""

    gateway: Gateway
    #: As `Gateways.manifest` returns it.
    manifest: Mapping[str, Any] | None
    status: GatewayStatus


class Gateways:
    """The gateways of every organization. For a caller, gateways of other organizations do not exist (scenario S31)."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._database = hub.database
        #: Organization and id of gateways that were found, oldest first. An id is never used twice, so an entry can be
        #: wrong only once its gateway is deleted; then its log refuses every event.
        self._found: OrderedDict[tuple[str, str], None] = OrderedDict()
        #: The last change of a gateway of each organization that was made here, by its number; the newest at the end.
        self._changed: OrderedDict[str, int] = OrderedDict()
        self._changes = 0

    async def check(self, organization: str, gateway_id: str) -> None:
        """Return if the organization has this gateway; may also return if it had it and has deleted it since.

        Publishing to a deleted gateway is refused by its log, so an answer from memory is good enough here.

        Raises:
            NotFound: the organization has no such gateway.
        """
        if (organization, gateway_id) not in self._found:
            await self.get(organization, gateway_id)
            self._found[organization, gateway_id] = None
            if len(self._found) > _MAX_FOUND:
                self._found.popitem(last=False)

    def forget(self, organization: str, gateway_id: str) -> None:
        """Make the next `check` ask the database: the gateway was deleted, perhaps by another pod."""
        self._found.pop((organization, gateway_id), None)

    def last_change(self, organization: str) -> int:
        """A number that grows whenever this process may have changed a gateway of the organization."""
        return self._changed.get(organization, 0)

    @asynccontextmanager
    async def _begin_change(self, organization: str) -> AsyncIterator[Transaction]:
        """A transaction that changes gateways, counted however it ends: it may be committed."""
        try:
            async with self._database.transaction() as transaction:
                yield transaction
        finally:
            self._changes += 1
            self._changed[organization] = self._changes
            self._changed.move_to_end(organization)
            if len(self._changed) > _MAX_FOUND:
                self._changed.popitem(last=False)

    @whole
    async def create(self, organization: str, fields: GatewayFields) -> GatewayState:
        """The new gateway, registered with an empty log in one transaction.

        Raises:
            Conflict: the organization has another gateway of this name.
            InvalidValue: the properties are no JSON, or larger than 16 KiB.
        """
        gateway_id = str(uuid4())
        async with self._begin_change(organization) as transaction:
            await lock_names(transaction, organization)
            inserted = await transaction.execute(
                _QUERIES["insert_gateway"], gateway_id, organization, *_columns(fields)
            )
            if not inserted:
                raise _name_taken(fields.name)
            await self._hub.register_gateway(gateway_id, transaction=transaction)
            return await self._state(transaction, organization, gateway_id)

    async def get(self, organization: str, gateway_id: str) -> Gateway:
        """The gateway with this id.

        Raises:
            NotFound: the organization has no such gateway.
        """
        rows = await self._database.fetch(_QUERIES["gateway"], organization, gateway_id)
        if not rows:
            raise NotFound("gateway", gateway_id)
        return _gateway(rows[0])

    async def ids_of(self, organization: str, names: Collection[str]) -> Mapping[str, str]:
        """The ids of the gateways with these names, by name.

        Raises:
            NotFound: the organization has no gateway of one of these names.
        """
        if not names:
            return {}
        rows = await self._database.fetch(_QUERIES["gateways_named"], organization, as_keys(names))
        found = {str(row["name"]): str(row["id"]) for row in rows}
        if missing := set(names) - found.keys():
            raise NotFound("gateway", min(missing))
        return found

    async def page(self, organization: str, *, after: str, limit: int) -> list[Gateway]:
        """At most `limit` gateways whose names come after `after`, by name."""
        rows = await self._database.fetch(_QUERIES["gateways"], organization, after, limit)
        return [_gateway(row) for row in rows]

    async def among(self, organization: str, gateway_ids: Iterable[str]) -> frozenset[str]:
        """The ids among these that are gateways of the organization."""
        if not (wanted := list(gateway_ids)):
            return frozenset()
        rows = await self._database.fetch(_QUERIES["gateways_among"], organization, as_keys(wanted))
        return frozenset(row["id"] for row in rows)

    async def names(self, organization: str, *, limit: int) -> list[GatewayName]:
        """The first `limit` gateways, by name, in short form."""
        rows = await self._database.fetch(_QUERIES["gateway_names"], organization, limit)
        return [
            GatewayName(row["id"], row["name"], row["display_name"], row["version"], row["unrestored"]) for row in rows
        ]

    async def those(self, organization: str, gateway_ids: Iterable[str]) -> dict[str, Gateway]:
        """The gateways of the organization among these, by id."""
        rows = await self._database.fetch(_QUERIES["gateways_by_id"], organization, as_keys(gateway_ids))
        return {row["id"]: _gateway(row) for row in rows}

    async def manifest(self, organization: str, gateway_id: str) -> Mapping[str, Any] | None:
        """What the gateway reported about itself, its version and policies among it (gateway-protocol.md 3.6).

        None if there is no such gateway, if it has reported nothing, or if what is stored cannot be read.
        """
        rows = await self._database.fetch(_QUERIES["manifest"], organization, gateway_id)
        return readable_manifest(rows[0]["manifest"]) if rows else None

    @whole
    async def update(
        self, organization: str, gateway_id: str, changes: Mapping[str, Any], *, version: int | None = None
    ) -> GatewayState:
        """The gateway after the change; fields that `changes` does not name stay as they are (scenario S32).

        Raises:
            NotFound: the organization has no such gateway.
            StaleWrite: it is no longer at `version`.
            Conflict: the organization has another gateway of the new name.
            InvalidValue: a field breaks its rule, or a stored field cannot be read and `changes` does not replace it.
        """
        status = await self._hub.status_before(gateway_id)
        async with self._begin_change(organization) as transaction:
            if "name" in changes:
                await lock_names(transaction, organization)
            await lock_gateway(transaction, organization, gateway_id)
            gateway = await _find(transaction, organization, gateway_id)
            _check_version(gateway, version)
            for name, rule in gateway.unreadable.items():
                if name not in changes:
                    raise InvalidValue(name, f"what must {rule}", "be given, because the stored value cannot be read")
            fields = replace(gateway.fields, **changes)
            if await transaction.fetch_one(_QUERIES["name_taken"], organization, fields.name, gateway_id):
                raise _name_taken(fields.name)
            await transaction.execute(
                _QUERIES["update_gateway"], organization, gateway_id, gateway.version, *_columns(fields)
            )
            return await self._state(transaction, organization, gateway_id, status)

    @whole
    async def delete(self, organization: str, gateway_id: str, *, version: int | None = None) -> None:
        """Delete a gateway, its tokens and its log, and have every pod close its connections.

        Raises:
            NotFound: the organization has no such gateway.
            StaleWrite: it is no longer at `version`.
        """
        async with self._begin_change(organization) as transaction:
            # Its tokens first: a gateway that connects now waits for this transaction, and then finds no token.
            await lock_gateway(transaction, organization, gateway_id)
            _check_version(await _find(transaction, organization, gateway_id), version)
            await transaction.execute(_QUERIES["delete_tokens"], gateway_id)
            await transaction.execute(_QUERIES["delete_gateway"], organization, gateway_id)
            await self._hub.delete_connected(gateway_id, transaction=transaction)
        self.forget(organization, gateway_id)

    async def _state(
        self, transaction: Transaction, organization: str, gateway_id: str, status: GatewayStatus | None = None
    ) -> GatewayState:
        """The gateway as this transaction leaves it; with the status from before, where it does not see another.

        Read inside the transaction: after the commit, no failure may hide that the change was made.
        """
        gateway = await _find(transaction, organization, gateway_id)
        row = await transaction.fetch_one(_QUERIES["manifest"], organization, gateway_id)
        statuses = await self._hub.status([gateway_id], transaction=transaction)
        manifest = readable_manifest(row["manifest"]) if row else None
        return GatewayState(gateway=gateway, manifest=manifest, status=status or statuses[gateway_id])

    async def record_manifest(self, gateway_id: str, manifest: Mapping[str, Any]) -> None:
        """Store a gateway's manifest in place of the earlier one, and clear the fault of an earlier attempt.

        Raises:
            InvalidValue: it is larger than 4 MiB, or is not JSON that can be read again.
        """
        text = _bounded("manifest", encode_foreign("manifest", manifest), MAX_MANIFEST_BYTES)
        await self._database.execute(_QUERIES["record_manifest"], gateway_id, text)

    async def record_manifest_fault(self, gateway_id: str, fault: str) -> None:
        """Store why a gateway's manifest could not be stored; the earlier manifest stays."""
        await self._database.execute(_QUERIES["record_manifest_fault"], gateway_id, printable(fault, MAX_TEXT_LENGTH))


async def _find(transaction: Transaction, organization: str, gateway_id: str) -> Gateway:
    row = await transaction.fetch_one(_QUERIES["gateway"], organization, gateway_id)
    if row is None:
        raise NotFound("gateway", gateway_id)
    return _gateway(row)


def _check_version(gateway: Gateway, version: int | None) -> None:
    if version not in (None, gateway.version):
        raise StaleWrite("gateway", f'"{gateway.version}"')


def _clean_name(name: str) -> str:
    name = clean_identifier("name", name)
    if not MIN_NAME_LENGTH <= len(name) <= MAX_NAME_LENGTH:
        raise InvalidValue("name", name, f"have {MIN_NAME_LENGTH} to {MAX_NAME_LENGTH} characters")
    return name


def _check_text(name: str, value: str) -> None:
    if len(value) > MAX_TEXT_LENGTH:
        raise InvalidValue(name, value, f"have at most {MAX_TEXT_LENGTH} characters, not {len(value):,}")
    if not is_storable(value):
        raise InvalidValue(name, value, "hold no NUL and no lone surrogate")


def _name_taken(name: str) -> Conflict:
    return Conflict(f'a gateway named "{name}" exists already; choose another name', field="name")


def _columns(fields: GatewayFields) -> list[str]:
    values = asdict(fields)
    values["properties"] = _bounded("properties", encode("properties", fields.properties), MAX_PROPERTIES_BYTES)
    return [str(value) for value in values.values()]


def readable_manifest(text: str | None) -> Mapping[str, Any] | None:
    """The manifest in a stored text; None if there is no text, or one of an older release that cannot be read."""
    with suppress(InvalidValue):
        return read_stored("manifest", text) if text else None
    return None


def _bounded(name: str, text: str, limit: int) -> str:
    if (size := len(text.encode())) > limit:
        raise InvalidValue(name, size, f"be at most {limit:,} bytes of JSON")
    return text


def _gateway(row: Row) -> Gateway:
    values, unreadable = _stored_fields(row)
    return Gateway(
        id=row["id"],
        organization=row["organization"],
        fields=GatewayFields.stored(**values),
        unreadable=unreadable,
        version=row["version"],
        created_at=instant(row["created_at"]),
        updated_at=instant(row["updated_at"]),
        unrecovered=row["unrestored"],
        manifest_fault=row["manifest_fault"],
        unlisted=row["unlisted"],
    )


def _stored_fields(row: Row) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """The fields in a row, and the rules that some break: older releases accepted more, and newer ones know more."""
    values: dict[str, Any] = {name: row[name] for name in ("name", "display_name", "description", "vhost")}
    broken = {}
    for name, (read, otherwise) in _READERS.items():
        try:
            values[name] = read(name, row[name])
        except InvalidValue as error:
            values[name], broken[name] = otherwise, error.rule
    return values, broken


def _member(kind: type[StrEnum]) -> Callable[[str, str], StrEnum]:
    def read(name: str, text: str) -> StrEnum:
        try:
            return kind(text)
        except ValueError:
            raise InvalidValue(name, text, f"be one of {', '.join(kind)}") from None

    return read


#: How to read each field that is more than a text, and its default where that fails.
_READERS: Mapping[str, tuple[Callable[[str, str], object], object]] = {
    "type": (_member(GatewayType), GatewayType.REGULAR),
    "connection_policy": (_member(ConnectionPolicy), ConnectionPolicy.ALL),
    "properties": (read_stored, {}),
}
