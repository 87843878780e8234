"""Gateway-owned artifacts: made on a gateway itself, and announced by it (gateway-protocol.md 3.7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from gatecast.controlplane.documents.routes import Route, announced_routes
from gatecast.controlplane.encryption import Encryption
from gatecast.controlplane.transactions.locks import lock_gateway
from gatecast.controlplane.transactions.timestamps import instant
from gatecast.errors import InvalidValue, SecretKeyMissing
from gatecast.events.json_values import encode_foreign
from gatecast.hub import EventHub
from gatecast.storage.contract import Row, Transaction
from gatecast.storage.queries import Queries
from gatecast.storage.repeating import whole
from gatecast.storage.rows import as_rows

_QUERIES = Queries("gatecast.controlplane.catalog", "gateway_artifacts.sql")

#: Most artifacts in one import, and most that one gateway owns.
MAX_IMPORTED = 5_000

#: Longest text field of an imported artifact that is stored unencrypted, in characters; the rest is cut off.
_LONGEST_TEXT = 512

_DEPLOYED = "deployed"
_STATUSES = (_DEPLOYED, "undeployed")

#: Templates come with the gateway: the same one under another id comes from another database.
_TEMPLATE = "LlmProviderTemplate"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOwnedArtifact:
    """One gateway-owned artifact, without its configuration, which may hold credentials."""

    #: Assigned here.
    id: str
    #: Assigned by the gateway.
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
    """The result for one announced artifact."""

    #: Its id in the control plane; empty if it was not stored.
    id: str
    #: As announced.
    status: str
    #: Why it was not stored; empty if it was.
    error: str = ""


class GatewayOwnedArtifacts:
    """The artifacts that gateways have announced as their own."""

    def __init__(self, hub: EventHub, encryption: Encryption) -> None:
        self._database = hub.database
        self._encryption = encryption

    @whole
    async def store(
        self, organization: str, gateway_id: str, items: Sequence[Mapping[str, Any]]
    ) -> dict[str, ImportResult]:
        """The result for each announced artifact, by the gateway's own id; all are stored in one transaction.

        An item without an id has no result. An artifact that the control plane has deployed to this gateway is answered
        with its own id, and not stored as gateway-owned. A `configuration` that could not be read is passed as the
        error that says why.

        If a deployed template appears under another id, the gateway has a new database. This is recorded, unless the
        gateway has received everything since it began anew, so that it is reconciled.

        Raises:
            InvalidValue: there are more than 5,000 artifacts.
        """
        if len(items) > MAX_IMPORTED:
            raise InvalidValue("artifacts", len(items), f"be at most {MAX_IMPORTED:,}")
        results: dict[str, ImportResult] = {}
        async with self._database.transaction() as transaction:
            # One import of a gateway at a time, so that two agree on ids.
            await lock_gateway(transaction, organization, gateway_id)
            own = {row["artifact_id"] for row in await transaction.fetch(_QUERIES["own_artifacts"], gateway_id)}
            known = _Known(await transaction.fetch(_QUERIES["imported"], gateway_id))
            # Deployed artifacts last, so that they replace those announced as undeployed.
            for item in sorted(items, key=lambda each: _text(each, "status") == _DEPLOYED):
                local_id = _text(item, "dpid")
                if local_id in own:
                    results[local_id] = ImportResult(local_id, _text(item, "status"))
                elif local_id:
                    results[local_id] = await self._store_one(transaction, gateway_id, item, known)
            if known.other_database:
                await transaction.execute(_QUERIES["note_new_database"], gateway_id)
        return results

    async def _store_one(
        self, transaction: Transaction, gateway_id: str, item: Mapping[str, Any], known: _Known
    ) -> ImportResult:
        local_id, status = _text(item, "dpid"), _text(item, "status")
        if not self._encryption.has_key:
            return ImportResult("", status, str(SecretKeyMissing()))
        configuration = item.get("configuration")
        if isinstance(configuration, InvalidValue):
            return ImportResult("", status, str(configuration))
        if not isinstance(configuration, dict) or status not in _STATUSES:
            return ImportResult("", status, "it needs a configuration, and a status that is deployed or undeployed")
        try:
            text = encode_foreign("configuration", configuration)
        except InvalidValue as error:
            return ImportResult("", status, str(error))
        kind, handle = _text(configuration, "kind"), _text(configuration.get("metadata"), "name")
        for replaced in known.replaced_by(local_id, kind, handle):
            await transaction.execute(_QUERIES["forget_imported"], gateway_id, replaced)
        if known.is_full(local_id):
            await self._make_room(transaction, gateway_id, known)
        artifact_id = known.id_of(local_id, kind, handle, status)
        if artifact_id is None:
            return ImportResult("", status, f"a gateway shows at most {MAX_IMPORTED:,} artifacts of its own")
        await transaction.execute(
            _QUERIES["store_imported"],
            gateway_id,
            local_id,
            artifact_id,
            kind,
            handle,
            _text(configuration.get("spec"), "displayName"),
            _text(configuration.get("spec"), "version"),
            status,
            self._encryption.encrypt(text, place=import_place(artifact_id)),
            _text(item, "deployedAt"),
        )
        await _store_routes(transaction, (gateway_id, local_id), kind, configuration.get("spec"))
        return ImportResult(artifact_id, status)

    async def _make_room(self, transaction: Transaction, gateway_id: str, known: _Known) -> None:
        """Forget the artifact that was undeployed longest ago: gateways announce a deleted one as undeployed, too."""
        row = await transaction.fetch_one(_QUERIES["oldest_undeployed"], gateway_id)
        if row is not None:
            known.forget(row["local_id"])
            await transaction.execute(_QUERIES["forget_imported"], gateway_id, row["local_id"])

    async def of_gateway(
        self, gateway_id: str, *, after: str = "", limit: int = MAX_IMPORTED
    ) -> list[GatewayOwnedArtifact]:
        """At most `limit` artifacts of a gateway whose ids come after `after`, by id."""
        rows = await self._database.fetch(_QUERIES["imported_page"], gateway_id, after, limit)
        return [_imported(row) for row in rows]


class _Known:
    """The artifacts that a gateway has announced so far, by its own ids.

    A gateway has one artifact of each kind and handle. If it announces the same kind and handle under another id, the
    earlier artifact is gone: a gateway that does not keep its database assigns new ids at every start.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._ids: dict[str, str] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._local_ids: dict[tuple[str, str], set[str]] = {}
        self._deployed: set[str] = set()
        #: True once a template has replaced one that the gateway had announced as deployed.
        self.other_database = False
        for row in rows:
            self._add(row["local_id"], row["id"], (row["kind"], row["handle"]), row["status"])

    def replaced_by(self, local_id: str, kind: str, handle: str) -> list[str]:
        """The gateway's ids of the artifacts that this one replaces; they are forgotten here."""
        replaced = self._local_ids.get((kind, handle), set()) - {local_id} if handle else set()
        self.other_database |= kind == _TEMPLATE and not replaced.isdisjoint(self._deployed)
        for each in replaced:
            self.forget(each)
        return sorted(replaced)

    def forget(self, local_id: str) -> None:
        """Remove an artifact that the gateway no longer has."""
        self._local_ids[self._names.pop(local_id)].discard(local_id)
        self._deployed.discard(local_id)
        del self._ids[local_id]

    def is_full(self, local_id: str) -> bool:
        """Whether there is no room for this artifact."""
        return local_id not in self._ids and len(self._ids) >= MAX_IMPORTED

    def id_of(self, local_id: str, kind: str, handle: str, status: str) -> str | None:
        """The control plane's id of an artifact, assigned now if it is new; None if the gateway has too many."""
        if self.is_full(local_id):
            return None
        before = self._names.get(local_id)
        if before is not None:
            self._local_ids[before].discard(local_id)
        self._add(local_id, self._ids.get(local_id) or str(uuid4()), (kind, handle), status)
        return self._ids[local_id]

    def _add(self, local_id: str, artifact_id: str, name: tuple[str, str], status: str) -> None:
        self._ids[local_id] = artifact_id
        (self._deployed.add if status == _DEPLOYED else self._deployed.discard)(local_id)
        self._names[local_id] = name
        self._local_ids.setdefault(name, set()).add(local_id)


async def _store_routes(transaction: Transaction, ids: tuple[str, str], kind: str, specification: object) -> None:
    routes = announced_routes(kind, specification) if isinstance(specification, Mapping) else frozenset[Route]()
    await transaction.execute(_QUERIES["forget_routes"], *ids)
    rows = as_rows({"host": each.host, "context": each.context} for each in sorted(routes))
    await transaction.execute(_QUERIES["insert_routes"], *ids, rows)


async def knows_template(transaction: Transaction, organization: str, handle: str) -> bool:
    """Whether the organization has a template of this handle, or one of its gateways announced one as deployed."""
    return await transaction.fetch_one(_QUERIES["known_template"], organization, handle) is not None


async def routes_made_there(
    transaction: Transaction, gateways: str, context: str, hosts: str, besides: str
) -> Sequence[Row]:
    """The deployed gateway-owned artifacts at this context on one of these hosts, except the one with id `besides`.

    `gateways` and `hosts` are keys as in `gatecast.storage.rows`. The columns are gateway_id, kind, handle, host and
    context.
    """
    return await transaction.fetch(_QUERIES["routes_on_gateways"], gateways, context, hosts, besides)


async def namesakes_made_there(
    transaction: Transaction, gateways: str, *, kind: str, besides: str, names: tuple[str, str, str]
) -> Mapping[str, str]:
    """The handle of a deployed gateway-owned artifact with this handle, or this name and version, by gateway.

    `gateways` are keys as in `gatecast.storage.rows`; `names` are handle, name and version; `besides` is the id of the
    artifact that has these names itself. Gateways without such an artifact are left out.
    """
    rows = await transaction.fetch(_QUERIES["namesakes"], gateways, kind, besides, *names)
    return {row["gateway_id"]: row["handle"] for row in reversed(rows)}


def import_place(artifact_id: str) -> str:
    """The place that the configuration of an imported artifact is encrypted for."""
    return f"import:{artifact_id}"


def _text(fields: object, name: str) -> str:
    value = fields.get(name) if isinstance(fields, Mapping) else None
    # PostgreSQL stores no NUL, and neither database a lone surrogate.
    text = value.replace("\x00", "").encode(errors="replace").decode() if isinstance(value, str) else ""
    return text[:_LONGEST_TEXT]


def _imported(row: Row) -> GatewayOwnedArtifact:
    values = {name: row[name] for name in GatewayOwnedArtifact.__slots__}
    times = {name: instant(row[name]) for name in ("created_at", "updated_at")}
    return GatewayOwnedArtifact(**values | times)
