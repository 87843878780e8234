"""Numbered forward migrations: which there are, and which a database still lacks. Knows no database.

A migration is a file `NNNN_what_it_does.sql` in a package. Every database has the same numbers; several packages
(the event log's own, the control plane's) share one sequence.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import LiteralString, cast

from gatecast.errors import SchemaTooNew

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    #: Its place in the sequence; never changes once released.
    number: int
    #: What it does.
    name: str
    #: Its statements.
    text: LiteralString


def available(*packages: str) -> list[Migration]:
    """The migrations that these packages hold, by number.

    Raises:
        ValueError: two files have the same number.
    """
    found = sorted((each for package in packages for each in _files_of(package)), key=lambda each: each.number)
    for earlier, later in zip(found, found[1:], strict=False):
        if earlier.number == later.number:
            raise ValueError(f"migrations {earlier.name} and {later.name} are both number {later.number}")
    return found


def missing(known: Sequence[Migration], applied: Collection[int]) -> list[Migration]:
    """Those of the known migrations that are not applied yet, in order.

    Raises:
        SchemaTooNew: the database holds one with a higher number than any known: a newer release was here.
    """
    supported = max((migration.number for migration in known), default=0)
    found = max(applied, default=0)
    if found > supported:
        raise SchemaTooNew(found, supported)
    return [migration for migration in known if migration.number not in applied]


def _files_of(package: str) -> list[Migration]:
    return [
        # The text ships with the package, so it is as literal as a string in the source.
        Migration(int(match[1]), match[2], cast("LiteralString", file.read_text("utf-8")))
        for file in resources.files(package).iterdir()
        if (match := _FILE.fullmatch(file.name))
    ]
