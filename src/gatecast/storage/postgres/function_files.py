"""The files of `CREATE OR REPLACE FUNCTION` in `functions/`, each applied when its text has changed.

A function's name ends with its version. A function whose arguments or meaning change gets a new name, and the old one
stays for one release, so that pods of the old release can work on the new schema. Only `gatecast.publish` and
`gatecast.register_gateway` have no version, because applications call them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import LiteralString

_PACKAGE = "gatecast.storage.postgres.functions"


@dataclass(frozen=True, slots=True)
class FunctionFile:
    """One file of functions."""

    #: The subject of its functions: the file's name without `.sql`.
    name: str
    #: The statements that create the functions.
    text: LiteralString

    @property
    def checksum(self) -> str:
        """The hex SHA-256 of the text, by which a changed file is recognized."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def function_files() -> list[FunctionFile]:
    """Every file of functions, by name."""
    files = sorted(resources.files(_PACKAGE).iterdir(), key=lambda file: file.name)
    return [
        # The text ships with the package, so it is as literal as a string in the source.
        FunctionFile(file.name.removesuffix(".sql"), file.read_text("utf-8"))
        for file in files
        if file.name.endswith(".sql")
    ]
