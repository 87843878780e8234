from __future__ import annotations

import math

import pytest

from gatecast.storage.postgres.array_literals import array_literal


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
