"""Rows that many callers ask for at once, each by a key of its own."""

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
    """Asks for the rows in which `column` is one of the keys that `$1` names, as in `gatecast.storage.rows`.

    `arguments` are the others, made anew for each statement.
    """

    async def rows_of(keys: Sequence[str]) -> list[Sequence[Row]]:
        found: defaultdict[str, list[Row]] = defaultdict(list)
        for row in await database.fetch(query, as_keys(keys), *arguments()):
            found[row[column]].append(row)
        return [found[key] for key in keys]

    return Gathered(f"rows-by-{column}", rows_of)
