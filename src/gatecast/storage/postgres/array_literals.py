"""Arrays of numbers as one text, which the server reads.

The driver asks of every element of an array whether it is an array itself, and that costs more than all else about it.
"""

from __future__ import annotations

from collections.abc import Sequence

_BRACKETS = str.maketrans("[]", "{}")


def array_literal(numbers: Sequence[float | Sequence[float]]) -> str:
    """The text for `$1::text::bigint[]` and the like; of lists of one length it makes an array of arrays."""
    return str(list(numbers)).translate(_BRACKETS)
