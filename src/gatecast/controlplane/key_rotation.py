"""Encrypts again, with the newest key, what older keys encrypted, so that those keys can be thrown away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gatecast.controlplane.catalog.artifact_store import content_place, document_place, openapi_place, secret_place
from gatecast.controlplane.catalog.gateway_artifacts import import_place
from gatecast.controlplane.encryption import Encryption
from gatecast.controlplane.gateway_sync.subscriptions import record_place
from gatecast.storage.contract import Database, Row, Transaction
from gatecast.storage.queries import Queries
from gatecast.storage.repeating import whole

_QUERIES = Queries("gatecast.controlplane", "key_rotation.sql")

#: Rows encrypted again in one transaction.
_BATCH = 100


@dataclass(frozen=True, slots=True)
class _Table:
    """A table with an encrypted column."""

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


async def reseal(database: Database, encryption: Encryption) -> int:
    """Encrypt with the newest key everything that an older key encrypted; return the number of texts.

    May be interrupted and repeated, and run beside pods: a text that a pod changes meanwhile stays as the pod wrote it.

    Raises:
        SecretKeyMissing: a text was encrypted with a key that is not among those of `encryption`.
    """
    return sum([await _Rotation(database, encryption, table).run() for table in _TABLES])


class _Rotation:
    """Encrypts one table again."""

    def __init__(self, database: Database, encryption: Encryption, table: _Table) -> None:
        self._database = database
        self._encryption = encryption
        self._table = table

    async def run(self) -> int:
        """Encrypt again every text that an older key encrypted; return their number."""
        count = 0
        old = _QUERIES[f"old_{self._table.name}"]
        while rows := await self._database.fetch(old, self._encryption.newest_key_id, _BATCH):
            count += await self._replace(rows)
        return count

    @whole
    async def _replace(self, rows: Sequence[Row]) -> int:
        async with self._database.transaction() as transaction:
            return sum([await self._replace_one(transaction, row) for row in rows])

    async def _replace_one(self, transaction: Transaction, row: Row) -> int:
        keys = [row[name] for name in self._table.keys]
        place = self._table.place(*keys)
        again = self._encryption.encrypt(self._encryption.open(row["sealed"], place=place), place=place)
        return await transaction.execute(_QUERIES[f"replace_{self._table.name}"], row["sealed"], again, *keys)
