"""SQL kept as SQL: named blocks of a `.sql` file beside the code that runs them.

A block begins with a line `-- name: some_name`. Everything up to the next block is its text; comment lines at its
beginning describe it.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import LiteralString, cast

_BLOCK = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


class Queries:
    """The named statements of one `.sql` file."""

    def __init__(self, package: str, file: str = "queries.sql") -> None:
        text = resources.files(package).joinpath(file).read_text("utf-8")
        _, *parts = _BLOCK.split(text)
        self._statements = dict(zip(parts[::2], parts[1::2], strict=True))

    def __getitem__(self, name: str) -> LiteralString:
        # The text ships with the package, so it is as literal as a string in the source.
        return cast("LiteralString", self._statements[name])

    @property
    def names(self) -> frozenset[str]:
        """The name of every statement in the file."""
        return frozenset(self._statements)
