"""Artifacts that were made on a gateway itself, as far as the control plane shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from gatecast.controlplane.gateways import QUERIES
from gatecast.controlplane.rows import instant
from gatecast.controlplane.sealing import Sealer
from gatecast.errors import InvalidValue, SecretKeyMissing
from gatecast.hub import EventHub
from gatecast.storage.contract import Row, Transaction
from gatecast.storage.queries import Queries

IMPORTS = Queries("gatecast.controlplane", "imports.sql")

#: Most artifacts in one import, and of one gateway.
MAX_IMPORTED = 5_000

#: Longest text of an imported artifact that is kept in the clear, in characters.
_LONGEST_TEXT = 512

_STATUSES = ("deployed", "undeployed")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedArtifact:
    """One artifact of a gateway, without its configuration, which may hold credentials."""

    id: str
    #: The gateway's own id of it.
    local_id: str
    kind: str
    handle: str
    name: str
    #: `deployed` or `undeployed`.
    status: str
    #: As the gateway wrote it.
    deployed_at: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of one announced artifact."""

    id: str
    status: str
    #: Why it was not stored; empty when it was.
    error: str = ""


class Imports:
    """Stores what gateways announce, and lists it."""

    def __init__(self, hub: EventHub, sealer: Sealer) -> None:
        self._database = hub.storage.database
        self._sealer = sealer

    async def store(
        self, organization: str, gateway_id: str, items: Sequence[Mapping[str, Any]]
    ) -> dict[str, ImportResult]:
        """Store what a gateway announces, in one transaction; say for each of its ids what became of it.

        Raises:
            InvalidValue: there are more than 5,000.
        """
        if len(items) > MAX_IMPORTED:
            raise InvalidValue("artifacts", len(items), f"be at most {MAX_IMPORTED:,}")
        results: dict[str, ImportResult] = {}
        async with self._database.transaction() as transaction:
            # One import of a gateway at a time, so that they agree on ids.
            await transaction.execute(QUERIES["lock_gateway"], organization, gateway_id)
            rows = await transaction.fetch(IMPORTS["imported"], gateway_id)
            known = {row["local_id"]: row["id"] for row in rows}
            for item in items:
                local_id = _text(item, "dpid")
                if local_id:
                    results[local_id] = await self._store_one(transaction, gateway_id, item, known)
        return results

    async def _store_one(
        self, transaction: Transaction, gateway_id: str, item: Mapping[str, Any], known: dict[str, str]
    ) -> ImportResult:
        local_id, status = _text(item, "dpid"), _text(item, "status")
        if not self._sealer.has_key:
            return ImportResult("", status, str(SecretKeyMissing()))
        configuration = item.get("configuration")
        if not isinstance(configuration, dict) or status not in _STATUSES:
            return ImportResult("", status, "it needs a configuration, and a status that is deployed or undeployed")
        if local_id not in known and len(known) >= MAX_IMPORTED:
            return ImportResult("", status, f"a gateway shows at most {MAX_IMPORTED:,} artifacts of its own")
        artifact_id = known.setdefault(local_id, str(uuid4()))
        await transaction.execute(
            IMPORTS["store_imported"],
            gateway_id,
            local_id,
            artifact_id,
            _text(configuration, "kind"),
            _text(configuration.get("metadata"), "name"),
            _text(configuration.get("spec"), "displayName"),
            status,
            self._sealer.seal(json.dumps(configuration), place=import_place(artifact_id)),
            _text(item, "deployedAt"),
        )
        return ImportResult(artifact_id, status)

    async def of_gateway(
        self, gateway_id: str, *, after: str = "", limit: int = MAX_IMPORTED
    ) -> list[ImportedArtifact]:
        """At most `limit` artifacts that a gateway has announced and whose ids come behind `after`, by id."""
        rows = await self._database.fetch(IMPORTS["imported_page"], gateway_id, after, limit)
        return [_imported(row) for row in rows]


def import_place(artifact_id: str) -> str:
    """Where the configuration of an imported artifact is sealed for."""
    return f"import:{artifact_id}"


def _text(fields: object, name: str) -> str:
    value = fields.get(name) if isinstance(fields, Mapping) else None
    # Neither database takes NUL, and a lone surrogate is no text.
    text = value.replace("\x00", "").encode(errors="replace").decode() if isinstance(value, str) else ""
    return text[:_LONGEST_TEXT]


def _imported(row: Row) -> ImportedArtifact:
    values = {name: row[name] for name in ImportedArtifact.__slots__}
    times = {name: instant(row[name]) for name in ("created_at", "updated_at")}
    return ImportedArtifact(**values | times)
