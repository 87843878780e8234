"""Rows that many callers ask for at the same time, each by one key, read in one statement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import LiteralString, TypeAlias

from gatecast.gathering import Gathered
from gatecast.storage.contract import Database, Row
from gatecast.storage.rows import as_keys

#: The rows of a key, in the order of the statement.
GatheredRows: TypeAlias = Gathered[str, Sequence[Row]]


def gathered_rows(
    database: Database, query: LiteralString, column: str, arguments: Callable[[], Sequence[object]] = tuple
) -> GatheredRows:
    """Where to ask for the rows whose `column` has a given key; keys asked for at the same time share a statement.

    `$1` of the query is the keys, as in `gatecast.storage.rows`. `arguments` returns the values of `$2` and later, and
    is called for each statement.
    """

    async def rows_of(keys: Sequence[str]) -> list[Sequence[Row]]:
        found: defaultdict[str, list[Row]] = defaultdict(list)
        for row in await database.fetch(query, as_keys(keys), *arguments()):
            found[row[column]].append(row)
        return [found[key] for key in keys]

    return Gathered(f"rows-by-{column}", rows_of)
