"""Sealing anew what older keys sealed, so that those keys can be thrown away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gatecast.controlplane.catalog.artifact_store import content_place, document_place, openapi_place, secret_place
from gatecast.controlplane.catalog.gateway_artifacts import import_place
from gatecast.controlplane.encryption import Sealer
from gatecast.controlplane.gateway_sync.subscriptions import record_place
from gatecast.storage.contract import Database
from gatecast.storage.queries import Queries

_QUERIES = Queries("gatecast.controlplane", "key_rotation.sql")

#: So many are sealed anew in one transaction.
_BATCH = 100


@dataclass(frozen=True, slots=True)
class _Table:
    """What is sealed in one table."""

    name: str
    keys: tuple[str, ...]
    place: Callable[..., str]


_TABLES = (
    _Table("documents", ("id",), document_place),
    _Table("secrets", ("handle",), secret_place),
    _Table("contents", ("id",), content_place),
    _Table("openapi", ("id",), openapi_place),
    _Table("imports", ("id",), import_place),
    _Table("records", ("gateway_id", "kind", "id"), record_place),
)


async def reseal(database: Database, sealer: Sealer) -> int:
    """Seal everything with the newest key that an older one sealed; return how much that was.

    May be interrupted and repeated, and run beside pods: what one of them changes meanwhile is left as it wrote it.

    Raises:
        SecretKeyMissing: something was sealed with a key that is not among the sealer's.
    """
    return sum([await _reseal_table(database, sealer, table) for table in _TABLES])


async def _reseal_table(database: Database, sealer: Sealer, table: _Table) -> int:
    count = 0
    while rows := await database.fetch(_QUERIES[f"old_{table.name}"], sealer.newest_key_id, _BATCH):
        async with database.transaction() as transaction:
            for row in rows:
                keys = [row[name] for name in table.keys]
                text = sealer.open(row["sealed"], place=table.place(*keys))
                again = sealer.seal(text, place=table.place(*keys))
                count += await transaction.execute(_QUERIES[f"replace_{table.name}"], row["sealed"], again, *keys)
    return count
