"""Arrays as one text, which the server parses.

The driver checks of every element of an array whether it is an array itself, which costs more than everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_BRACKETS = str.maketrans("[]", "{}")


def text_array(texts: Iterable[str]) -> str:
    """The text for an argument like `$1::text::text[]`; for ids as well, which the driver would look at one by one."""
    quoted = ['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts]
    return "{" + ",".join(quoted) + "}"


def array_literal(numbers: Sequence[float | Sequence[float]]) -> str:
    """The text for an argument like `$1::text::bigint[]`; lists, all of one length, become an array of arrays."""
    return str(list(numbers)).translate(_BRACKETS)
