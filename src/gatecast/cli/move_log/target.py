"""The PostgreSQL database that a log is moved to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from gatecast.cli.move_log.tables import Table, passed_as
from gatecast.errors import DatabaseUnsuitable
from gatecast.storage.postgres.database import PostgresDatabase, PostgresTransaction
from gatecast.storage.postgres.driver_errors import translated

#: A database in which one of these has rows is in use.
_SHOW_USE = ("gatecast.gateway_streams", "gatecast_gateways", "gatecast_artifacts", "gatecast_admin_tokens")

_COLUMNS = """
SELECT column_name, data_type FROM information_schema.columns
WHERE table_schema = coalesce($1, current_schema()) AND table_name = $2 ORDER BY ordinal_position
"""

_ADOPT = """
UPDATE gatecast.epoch SET current = $1, begun_at = $2, written_by = pg_current_xact_id(),
    cluster = NULL, timeline = NULL, lineage = '{}'
"""


class Target:
    """One transaction of a PostgreSQL database, which receives everything at once."""

    def __init__(self, transaction: PostgresTransaction) -> None:
        self._connection = transaction.connection

    @classmethod
    @asynccontextmanager
    async def open(cls, database: PostgresDatabase) -> AsyncIterator[Target]:
        """The database; unchanged unless the block ends without an error. One move runs at a time."""
        async with database.transaction() as transaction:
            with translated():
                # A pod that asks for the epoch meanwhile waits until this transaction commits or rolls back.
                await transaction.connection.execute("LOCK TABLE gatecast.epoch IN ACCESS EXCLUSIVE MODE")
            yield cls(transaction)

    async def epoch(self) -> UUID:
        """The identity of its history."""
        with translated():
            found: UUID = await self._connection.fetchval("SELECT current FROM gatecast.epoch")
            return found

    async def name(self, in_file: UUID | None) -> UUID:
        """The name by which a file that is being moved refers to it, until its history changes.

        A copy of the database, as `CREATE DATABASE … TEMPLATE` makes one, has the same epoch and another name. A file
        blocked by an earlier release uses the epoch as the name.
        """
        epoch = await self.epoch()
        if in_file == epoch:
            return epoch
        with translated():
            cluster: str = await self._connection.fetchval("SELECT cluster FROM gatecast.lineage_v1()")
        return uuid5(epoch, cluster)

    async def check_unused(self) -> None:
        """Return if it is unused.

        Raises:
            DatabaseUnsuitable: it holds gateways, artifacts or tokens, or pods run on it.
        """
        with translated():
            for table in _SHOW_USE:
                if await self._connection.fetchval(f"SELECT EXISTS (SELECT FROM {table})"):
                    raise DatabaseUnsuitable(f"the new database has rows in {table}", "name an empty database")
            pods = await self._connection.fetch("SELECT pod_id FROM gatecast.pods WHERE lease_until > now()")
        if pods:
            names = ", ".join(sorted(row["pod_id"] for row in pods))
            raise DatabaseUnsuitable(f"pods run on the new database: {names}", "stop them until the log is there")

    async def types(self, table: str) -> dict[str, str]:
        """The types of a table's columns, by name; empty: there is no such table."""
        schema, _, name = table.rpartition(".")
        with translated():
            rows = await self._connection.fetch(_COLUMNS, schema or None, name)
        return {row["column_name"]: row["data_type"] for row in rows}

    async def clear(self, tables: Sequence[Table]) -> None:
        """Remove rows that migrations, and pods without gateways, have added to these tables."""
        with translated():
            for table in reversed(tables):
                await self._connection.execute(f"DELETE FROM {table.name}")

    async def add(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """Add these rows, each with the table's columns in their order."""
        columns = ", ".join(f'"{name}"' for name in table.types)
        values = ", ".join(f"${number}::{passed_as(kind)}[]" for number, kind in enumerate(table.types.values(), 1))
        cast = ", ".join(f"v{number}::{kind}" for number, kind in enumerate(table.types.values(), 1))
        names = ", ".join(f"v{number}" for number in range(1, len(table.types) + 1))
        with translated():
            await self._connection.execute(
                f"INSERT INTO {table.name} ({columns}) OVERRIDING SYSTEM VALUE "
                f"SELECT {cast} FROM unnest({values}) AS v({names})",
                *zip(*rows, strict=True),
            )

    async def go_on_counting(self, table: str, column: str, after: int) -> None:
        """Number the next added row after this one, and after those that exist."""
        with translated():
            await self._connection.execute(
                f"SELECT setval(pg_get_serial_sequence($1, $2), greatest(1, $3, (SELECT max({column}) FROM {table})))",
                table,
                column,
                after,
            )

    async def adopt(self, epoch: UUID, begun_at: datetime) -> None:
        """Continue this history. The first pod records where it lives."""
        with translated():
            await self._connection.execute(_ADOPT, epoch, begun_at)
