"""The gateways of an organization."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4

from gatecast.controlplane.rows import instant
from gatecast.errors import Conflict, InvalidValue, NotFound, StaleWrite
from gatecast.hub import EventHub
from gatecast.storage.contract import Row, Transaction
from gatecast.storage.queries import Queries

QUERIES = Queries("gatecast.controlplane")

#: Largest manifest and largest properties, in bytes of JSON.
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_PROPERTIES_BYTES = 16 * 1024


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
    """What an operator says of a gateway."""

    #: Unique in the organization; 2 to 120 characters.
    name: str
    display_name: str = ""
    description: str = ""
    vhost: str = ""
    type: GatewayType = GatewayType.REGULAR
    connection_policy: ConnectionPolicy = ConnectionPolicy.ALL
    #: A JSON object, at most 16 KiB.
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A registered gateway."""

    id: str
    organization: str
    fields: GatewayFields
    #: What the gateway said of itself: its version and its policies; None before it first connected.
    manifest: Mapping[str, Any] | None
    #: Rises with every change.
    version: int
    created_at: datetime
    updated_at: datetime


class Gateways:
    """Creates, finds, changes and deletes gateways. A gateway of another organization does not exist."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._database = hub.storage.database

    async def create(self, organization: str, fields: GatewayFields) -> Gateway:
        """Register a gateway, with an empty log, in one transaction.

        Raises:
            Conflict: the name is taken.
        """
        gateway_id = str(uuid4())
        async with self._database.transaction() as transaction:
            inserted = await transaction.execute(QUERIES["insert_gateway"], gateway_id, organization, *_columns(fields))
            if not inserted:
                raise _name_taken(fields.name)
            await self._hub.register_gateway(gateway_id, transaction=transaction)
            return await _find(transaction, organization, gateway_id)

    async def get(self, organization: str, gateway_id: str) -> Gateway:
        """One gateway.

        Raises:
            NotFound: there is none in this organization.
        """
        rows = await self._database.fetch(QUERIES["gateway"], organization, gateway_id)
        if not rows:
            raise NotFound("gateway", gateway_id)
        return _gateway(rows[0])

    async def page(self, organization: str, *, after: str, limit: int) -> list[Gateway]:
        """At most `limit` gateways whose names come behind `after`, in the order of names."""
        rows = await self._database.fetch(QUERIES["gateways"], organization, after, limit)
        return [_gateway(row) for row in rows]

    async def update(
        self, organization: str, gateway_id: str, changes: Mapping[str, Any], *, version: int | None = None
    ) -> Gateway:
        """Change the named fields, and leave the others alone.

        Raises:
            NotFound: there is no such gateway.
            StaleWrite: it is not at `version` any more.
            Conflict: the new name is taken.
        """
        async with self._database.transaction() as transaction:
            await transaction.execute(QUERIES["lock_gateway"], organization, gateway_id)
            gateway = await _find(transaction, organization, gateway_id)
            if version not in (None, gateway.version):
                raise StaleWrite("gateway", f'"{gateway.version}"')
            fields = replace(gateway.fields, **changes)
            if await transaction.fetch_one(QUERIES["name_taken"], organization, fields.name, gateway_id):
                raise _name_taken(fields.name)
            await transaction.execute(
                QUERIES["update_gateway"], organization, gateway_id, gateway.version, *_columns(fields)
            )
            return await _find(transaction, organization, gateway_id)

    async def delete(self, organization: str, gateway_id: str) -> None:
        """Delete a gateway, its tokens and its log, and close its connections everywhere.

        Raises:
            NotFound: there is no such gateway.
        """
        async with self._database.transaction() as transaction:
            # Its tokens first: whoever connects now waits for this transaction, and then finds no token.
            await transaction.execute(QUERIES["lock_gateway"], organization, gateway_id)
            await _find(transaction, organization, gateway_id)
            await transaction.execute(QUERIES["delete_tokens"], gateway_id)
            await transaction.execute(QUERIES["delete_gateway"], organization, gateway_id)
            await self._hub.delete_gateway(gateway_id, transaction=transaction)

    async def record_manifest(self, gateway_id: str, manifest: Mapping[str, Any]) -> None:
        """Store what a gateway says of itself.

        Raises:
            InvalidValue: it is larger than 4 MiB.
        """
        text = _bounded_json("manifest", manifest, MAX_MANIFEST_BYTES)
        async with self._database.transaction() as transaction:
            await transaction.execute(QUERIES["record_manifest"], gateway_id, text)


async def _find(transaction: Transaction, organization: str, gateway_id: str) -> Gateway:
    row = await transaction.fetch_one(QUERIES["gateway"], organization, gateway_id)
    if row is None:
        raise NotFound("gateway", gateway_id)
    return _gateway(row)


def _name_taken(name: str) -> Conflict:
    return Conflict(f'a gateway named "{name}" exists already; choose another name', field="name")


def _columns(fields: GatewayFields) -> list[str]:
    values = asdict(fields)
    values["properties"] = _bounded_json("properties", fields.properties, MAX_PROPERTIES_BYTES)
    return [str(value) for value in values.values()]


def _bounded_json(name: str, value: Mapping[str, Any], limit: int) -> str:
    try:
        text = json.dumps(dict(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (ValueError, TypeError, RecursionError):
        raise InvalidValue(name, type(value).__name__, "be expressible as JSON") from None
    if size > limit:
        raise InvalidValue(name, size, f"be at most {limit:,} bytes of JSON")
    return text


def _gateway(row: Row) -> Gateway:
    return Gateway(
        id=row["id"],
        organization=row["organization"],
        fields=GatewayFields(
            name=row["name"],
            display_name=row["display_name"],
            description=row["description"],
            vhost=row["vhost"],
            type=GatewayType(row["type"]),
            connection_policy=ConnectionPolicy(row["connection_policy"]),
            properties=json.loads(row["properties"]),
        ),
        manifest=json.loads(row["manifest"]) if row["manifest"] else None,
        version=row["version"],
        created_at=instant(row["created_at"]),
        updated_at=instant(row["updated_at"]),
    )
