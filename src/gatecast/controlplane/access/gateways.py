"""The gateways of an organization."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
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

#: Most gateways that are remembered to exist, so that they need not be looked up to publish to them.
_MAX_FOUND = 20_000


class GatewayType(StrEnum):
    """What a gateway serves."""

    REGULAR = "regular"
    AI = "ai"


class ConnectionPolicy(StrEnum):
    """What becomes of older connections when a gateway connects once more."""

    #: Every connection gets everything.
    ALL = "all"
    #: Older ones are closed, on every pod.
    NEWEST_ONLY = "newest-only"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayFields:
    """What an operator says of a gateway.

    Raises:
        InvalidValue: a field breaks its rule.
    """

    #: Unique in the organization; trimmed, 2 to 120 printable characters.
    name: str
    display_name: str = ""
    description: str = ""
    vhost: str = ""
    type: GatewayType = GatewayType.REGULAR
    connection_policy: ConnectionPolicy = ConnectionPolicy.ALL
    #: A JSON object, at most 16 KiB.
    properties: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def stored(cls, **values: object) -> Self:
        """What another release has stored, whatever its rules were: it is shown, and checked when it is changed."""
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
    #: Rises with every change.
    version: int
    created_at: datetime
    updated_at: datetime
    #: The rules that stored fields break, by field, so that `fields` has a default in their place; empty: none does.
    unreadable: Mapping[str, str] = field(default_factory=dict)
    #: Why it lost events that the control plane cannot publish again; empty: it did not, or that was made good.
    unrecovered: str = ""
    #: Why what it said last of itself could not be stored; empty: it was.
    manifest_fault: str = ""
    #: Why it may run what nobody here knows: a history was lost, and its process has not started since; empty: it does
    #: not.
    unlisted: str = ""


@dataclass(frozen=True, slots=True)
class GatewayName:
    """As little of a gateway as a list of ten thousand has room for."""

    id: str
    name: str
    display_name: str
    #: Rises with every change.
    version: int
    #: Why it lost events that the control plane cannot publish again; empty: it did not, or that was made good.
    unrecovered: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayState:
    """A gateway, what it said of itself, and how its delivery stands."""

    gateway: Gateway
    #: Its version and its policies; None before it said what can be read back.
    manifest: Mapping[str, Any] | None
    status: GatewayStatus


class Gateways:
    """Creates, finds, changes and deletes gateways. A gateway of another organization does not exist."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._database = hub.storage.database
        #: Organization and id of gateways that were found. An id is never given twice, so that this stays true until
        #: its gateway is deleted; from then on its log takes nothing.
        self._found: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def check(self, organization: str, gateway_id: str) -> None:
        """Make sure that the organization has this gateway, or has had it: to one that is deleted nothing is published.

        Raises:
            NotFound: there is none in this organization.
        """
        if (organization, gateway_id) not in self._found:
            await self.get(organization, gateway_id)
            self._found[organization, gateway_id] = None
            if len(self._found) > _MAX_FOUND:
                self._found.popitem(last=False)

    def forget(self, organization: str, gateway_id: str) -> None:
        """Ask again at the next `check`: the gateway was deleted, perhaps by another pod."""
        self._found.pop((organization, gateway_id), None)

    @whole
    async def create(self, organization: str, fields: GatewayFields) -> GatewayState:
        """Register a gateway, with an empty log, in one transaction.

        Raises:
            Conflict: the name is taken.
        """
        gateway_id = str(uuid4())
        async with self._database.transaction() as transaction:
            await lock_names(transaction, organization)
            inserted = await transaction.execute(
                _QUERIES["insert_gateway"], gateway_id, organization, *_columns(fields)
            )
            if not inserted:
                raise _name_taken(fields.name)
            await self._hub.register_gateway(gateway_id, transaction=transaction)
            return await self._state(transaction, organization, gateway_id)

    async def get(self, organization: str, gateway_id: str) -> Gateway:
        """One gateway.

        Raises:
            NotFound: there is none in this organization.
        """
        rows = await self._database.fetch(_QUERIES["gateway"], organization, gateway_id)
        if not rows:
            raise NotFound("gateway", gateway_id)
        return _gateway(rows[0])

    async def ids_of(self, organization: str, names: Collection[str]) -> Mapping[str, str]:
        """The ids of the gateways of these names, by name.

        Raises:
            NotFound: there is none of some name in this organization.
        """
        if not names:
            return {}
        rows = await self._database.fetch(_QUERIES["gateways_named"], organization, as_keys(names))
        found = {str(row["name"]): str(row["id"]) for row in rows}
        if missing := set(names) - found.keys():
            raise NotFound("gateway", min(missing))
        return found

    async def page(self, organization: str, *, after: str, limit: int) -> list[Gateway]:
        """At most `limit` gateways whose names come behind `after`, in the order of names."""
        rows = await self._database.fetch(_QUERIES["gateways"], organization, after, limit)
        return [_gateway(row) for row in rows]

    async def among(self, organization: str, gateway_ids: Iterable[str]) -> frozenset[str]:
        """Those of these ids that are gateways of the organization."""
        if not (wanted := list(gateway_ids)):
            return frozenset()
        rows = await self._database.fetch(_QUERIES["gateways_among"], organization, as_keys(wanted))
        return frozenset(row["id"] for row in rows)

    async def names(self, organization: str, *, limit: int) -> list[GatewayName]:
        """At most `limit` gateways, in the order of names."""
        rows = await self._database.fetch(_QUERIES["gateway_names"], organization, limit)
        return [
            GatewayName(row["id"], row["name"], row["display_name"], row["version"], row["unrestored"]) for row in rows
        ]

    async def those(self, organization: str, gateway_ids: Iterable[str]) -> dict[str, Gateway]:
        """Those of these gateways that exist, by id."""
        rows = await self._database.fetch(_QUERIES["gateways_by_id"], organization, as_keys(gateway_ids))
        return {row["id"]: _gateway(row) for row in rows}

    async def manifest(self, organization: str, gateway_id: str) -> Mapping[str, Any] | None:
        """What a gateway said of itself: its version and its policies; None before it said what can be read back."""
        rows = await self._database.fetch(_QUERIES["manifest"], organization, gateway_id)
        return readable_manifest(rows[0]["manifest"]) if rows else None

    @whole
    async def update(
        self, organization: str, gateway_id: str, changes: Mapping[str, Any], *, version: int | None = None
    ) -> GatewayState:
        """Change the named fields, and leave the others alone.

        Raises:
            NotFound: there is no such gateway.
            StaleWrite: it is not at `version` any more.
            Conflict: the new name is taken.
            InvalidValue: a field breaks its rule; or the properties cannot be read back, and none replace them.
        """
        async with self._database.transaction() as transaction:
            if "name" in changes:
                await lock_names(transaction, organization)
            await lock_gateway(transaction, organization, gateway_id)
            gateway = await _find(transaction, organization, gateway_id)
            _check_version(gateway, version)
            for name, rule in gateway.unreadable.items():
                if name not in changes:
                    raise InvalidValue(name, f"what must {rule}", "be given, to replace what cannot be read")
            fields = replace(gateway.fields, **changes)
            if await transaction.fetch_one(_QUERIES["name_taken"], organization, fields.name, gateway_id):
                raise _name_taken(fields.name)
            await transaction.execute(
                _QUERIES["update_gateway"], organization, gateway_id, gateway.version, *_columns(fields)
            )
            return await self._state(transaction, organization, gateway_id)

    @whole
    async def delete(self, organization: str, gateway_id: str, *, version: int | None = None) -> None:
        """Delete a gateway, its tokens and its log, and close its connections everywhere.

        Raises:
            NotFound: there is no such gateway.
            StaleWrite: it is not at `version` any more.
        """
        async with self._database.transaction() as transaction:
            # Its tokens first: whoever connects now waits for this transaction, and then finds no token.
            await lock_gateway(transaction, organization, gateway_id)
            _check_version(await _find(transaction, organization, gateway_id), version)
            await transaction.execute(_QUERIES["delete_tokens"], gateway_id)
            await transaction.execute(_QUERIES["delete_gateway"], organization, gateway_id)
            await self._hub.delete_gateway(gateway_id, transaction=transaction)
        self.forget(organization, gateway_id)

    async def _state(self, transaction: Transaction, organization: str, gateway_id: str) -> GatewayState:
        """As the transaction has left it: once that is committed, nothing that fails may hide that it was done."""
        gateway = await _find(transaction, organization, gateway_id)
        row = await transaction.fetch_one(_QUERIES["manifest"], organization, gateway_id)
        status = await self._hub.storage.presence.status([gateway_id], transaction=transaction)
        manifest = readable_manifest(row["manifest"]) if row else None
        return GatewayState(gateway=gateway, manifest=manifest, status=status[gateway_id])

    async def record_manifest(self, gateway_id: str, manifest: Mapping[str, Any]) -> None:
        """Store what a gateway says of itself, and forget what was wrong with what it said before.

        Raises:
            InvalidValue: it is larger than 4 MiB, or could not be read back.
        """
        text = _bounded("manifest", encode_foreign("manifest", manifest), MAX_MANIFEST_BYTES)
        await self._database.execute(_QUERIES["record_manifest"], gateway_id, text)

    async def record_manifest_fault(self, gateway_id: str, fault: str) -> None:
        """Note why what a gateway says of itself could not be stored; what it said before stays."""
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
    """A stored manifest; None where there is none, or one of an older release that cannot be read back."""
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
    """The fields, and the rules that some break: older releases let in more, and newer ones know more."""
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


#: How to read what is more than a text, and what takes its place where that fails.
_READERS: Mapping[str, tuple[Callable[[str, str], object], object]] = {
    "type": (_member(GatewayType), GatewayType.REGULAR),
    "connection_policy": (_member(ConnectionPolicy), ConnectionPolicy.ALL),
    "properties": (read_stored, {}),
}
