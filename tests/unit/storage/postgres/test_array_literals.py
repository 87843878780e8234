from __future__ import annotations

import math

import asyncpg
import pytest

from gatecast.storage.postgres.array_literals import array_literal, text_array


@pytest.mark.parametrize(
    ("numbers", "literal"),
    [
        ([], "{}"),
        ([1, -(2**63)], "{1, -9223372036854775808}"),
        ([[0, 1], [2, 3]], "{{0, 1}, {2, 3}}"),
        ([0.5, 1e300, math.inf], "{0.5, 1e+300, inf}"),
    ],
)
def test_numbers_are_written_as_the_server_reads_arrays(numbers: list[float], literal: str) -> None:
    assert array_literal(numbers) == literal


async def test_texts_arrive_as_they_are(postgres_url: str) -> None:
    """Whatever stands in them: quotes, brackets, what looks like no value, and nothing at all."""
    texts = ["", "NULL", "null", '"', "\\", '\\"', "{a,b}", "a,b", " a ", "\n\t\x7f", "grün", "\U0001f600", "''", "$1"]
    connection = await asyncpg.connect(postgres_url)
    try:
        for sent in ([], texts, *([text] for text in texts)):
            assert await connection.fetchval("SELECT $1::text::text[]", text_array(sent)) == sent
    finally:
        await connection.close()
