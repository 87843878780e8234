"""Numbered forward migrations: those that exist, and those that a database lacks. Runs no SQL.

A migration is a file `NNNN_what_it_does.sql` in a package, with the same number for every database. Each thousand is a
series of its own, so that parts that share a database can grow independently: the event log begins at 0001, the control
plane at 1001, and numbers from 9001 are free for applications that embed Gatecast.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from itertools import pairwise
from typing import LiteralString

from gatecast.errors import SchemaTooNew

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")

_TABLE = re.compile(r"^CREATE TABLE (?:IF NOT EXISTS )?([\w.]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    #: Its place in the sequence; never changes once released.
    number: int
    #: The change that it makes, in words.
    name: str
    #: Its statements.
    text: LiteralString


def available(*packages: str) -> list[Migration]:
    """The migrations in these packages, by number.

    Raises:
        ValueError: two files have the same number.
    """
    found = sorted((each for package in packages for each in _files_of(package)), key=lambda each: each.number)
    for earlier, later in pairwise(found):
        if earlier.number == later.number:
            raise ValueError(f"migrations {earlier.name} and {later.name} are both number {later.number}")
    return found


class SchemaNeed(Enum):
    """The part of the schema that a database lacks."""

    #: Nothing.
    NOTHING = "nothing"
    #: Only whole series: the parts that need them have not used this database before.
    FRESH = "fresh"
    #: Part of a series: an older release has migrated the database.
    BEHIND = "behind"


def missing(known: Sequence[Migration], applied: Collection[int]) -> list[Migration]:
    """The known migrations that are not applied, in the order given.

    Raises:
        SchemaTooNew: a newer release has applied a higher number of a known series.
    """
    for series in {_series(migration.number) for migration in known}:
        supported = max(migration.number for migration in known if _series(migration.number) == series)
        found = max((number for number in applied if _series(number) == series), default=0)
        if found > supported:
            raise SchemaTooNew(found, supported)
    return [migration for migration in known if migration.number not in applied]


def need(known: Sequence[Migration], applied: Collection[int]) -> SchemaNeed:
    """What a database with these applied migrations lacks.

    Raises:
        SchemaTooNew: a newer release has applied a higher number of a known series.
    """
    begun = {_series(number) for number in applied}
    lacking = missing(known, applied)
    if not lacking:
        return SchemaNeed.NOTHING
    return SchemaNeed.BEHIND if any(_series(each.number) in begun for each in lacking) else SchemaNeed.FRESH


def tables(known: Sequence[Migration]) -> list[str]:
    """The tables that these migrations create, each as its migration writes the name."""
    return [name for migration in known for name in _TABLE.findall(migration.text)]


def newest(applied: Collection[int]) -> int:
    """The highest applied number in the series of the event log; 0 if there is none."""
    return max((number for number in applied if _series(number) == 0), default=0)


def _series(number: int) -> int:
    return number // 1000


def _files_of(package: str) -> list[Migration]:
    return [
        # The text ships with the package, so it is as literal as a string in the source.
        Migration(int(match[1]), match[2], file.read_text("utf-8"))
        for file in resources.files(package).iterdir()
        if (match := _FILE.fullmatch(file.name))
    ]
