"""The rules of the SQL function are those of the library, character by character."""

from __future__ import annotations

from typing import Any

import asyncpg

from gatecast.events.grammar import is_printable

#: All that PostgreSQL has: NUL and surrogates are none of them.
_POINTS = [point for point in range(1, 0x110000) if not 0xD800 <= point <= 0xDFFF]


async def test_the_same_characters_are_trimmed_and_refused(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        source = await connection.fetchval("SELECT prosrc FROM pg_proc WHERE proname = 'clean_identifier_v1'")
        assert await _in_class(connection, source, "unprintable") == [
            point for point in _POINTS if not is_printable(chr(point))
        ]
        assert await _in_class(connection, source, "blanks") == [point for point in _POINTS if chr(point).isspace()]
    finally:
        await connection.close()


async def _in_class(connection: asyncpg.Connection[Any], source: str, name: str) -> list[int]:
    """The characters in a class that is a constant of the function."""
    literal = source.partition(f"{name} constant text := ")[2].partition(";")[0]
    query = f"SELECT point FROM unnest($1::integer[]) AS point WHERE chr(point) ~ ('[' || {literal} || ']') ORDER BY 1"
    return [row["point"] for row in await connection.fetch(query, _POINTS)]
