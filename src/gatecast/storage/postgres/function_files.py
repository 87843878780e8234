"""The functions that live beside the tables: files of `CREATE OR REPLACE FUNCTION`, applied when their text changed.

A function's name ends on its version: one whose arguments or meaning change gets a new name, and the old one stays for
one release, so that pods of the old release go on working on the new schema. Only `gatecast.publish` and
`gatecast.register_gateway` have none, because applications call them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import LiteralString

_PACKAGE = "gatecast.storage.postgres.functions"


@dataclass(frozen=True, slots=True)
class FunctionFile:
    """The functions of one subject."""

    #: Its subject.
    name: str
    #: Its statements.
    text: LiteralString

    @property
    def checksum(self) -> str:
        """Tells one text from another."""
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
