"""Counts what an operation reads from PostgreSQL: whether a statement keeps to its indexes shows in the rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg

from gatecast.storage.postgres import PostgresStorage

_COUNTS = """
SELECT t.relname AS name, t.seq_scan, t.seq_tup_read + coalesce(sum(i.idx_tup_read), 0) AS rows
FROM pg_stat_user_tables t LEFT JOIN pg_stat_user_indexes i USING (relid) WHERE t.schemaname IN ('gatecast', 'public')
GROUP BY t.relname, t.seq_scan, t.seq_tup_read
"""


@dataclass(frozen=True, slots=True)
class TableReads:
    """How a table was read."""

    #: Scans of the whole table.
    scans: int
    #: Rows and index entries that were read.
    rows: int


async def table_reads(url: str) -> dict[str, TableReads]:
    """What every connection that has ended, or was told to report, has read so far from each table."""
    connection = await asyncpg.connect(url)
    try:
        return await _counts(connection)
    finally:
        await connection.close()


async def reads_of(url: str, work: Callable[[PostgresStorage], Awaitable[Any]]) -> dict[str, TableReads]:
    """What the work reads from each table, while nobody else uses the database."""
    before = await table_reads(url)
    async with PostgresStorage.open(url, pool_size=1) as storage:
        await work(storage)
        # A backend tells its statistics about once a second, or when it is asked to.
        await storage.database.fetch("SELECT pg_stat_force_next_flush()")
    after = await table_reads(url)
    return {
        name: TableReads(reads.scans - before[name].scans, reads.rows - before[name].rows)
        for name, reads in after.items()
    }


async def _counts(connection: asyncpg.Connection[Any]) -> dict[str, TableReads]:
    rows = await connection.fetch(_COUNTS)
    return {row["name"]: TableReads(row["seq_scan"], int(row["rows"])) for row in rows}
