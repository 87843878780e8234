"""Numbered forward migrations: which there are, and which a database still lacks. Knows no database.

A migration is a file `NNNN_what_it_does.sql` in a package. Every database has the same numbers. Each thousand is a
series of its own, so that what shares a database can grow apart: 0001 is the event log, 1001 the control plane, and
from 9001 on numbers are free for those who embed Gatecast.
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
    for earlier, later in pairwise(found):
        if earlier.number == later.number:
            raise ValueError(f"migrations {earlier.name} and {later.name} are both number {later.number}")
    return found


class SchemaNeed(Enum):
    """What a database lacks."""

    #: Nothing.
    NOTHING = "nothing"
    #: Whole series: whoever needs them has not used this database before.
    FRESH = "fresh"
    #: The newer part of a series: an older release was here.
    BEHIND = "behind"


def missing(known: Sequence[Migration], applied: Collection[int]) -> list[Migration]:
    """Those of the known migrations that are not applied yet, in order.

    Raises:
        SchemaTooNew: the database holds a newer one of a known series: a newer release was here.
    """
    for series in {_series(migration.number) for migration in known}:
        supported = max(migration.number for migration in known if _series(migration.number) == series)
        found = max((number for number in applied if _series(number) == series), default=0)
        if found > supported:
            raise SchemaTooNew(found, supported)
    return [migration for migration in known if migration.number not in applied]


def need(known: Sequence[Migration], applied: Collection[int]) -> SchemaNeed:
    """What a database with these migrations lacks.

    Raises:
        SchemaTooNew: a newer release was here.
    """
    begun = {_series(number) for number in applied}
    lacking = missing(known, applied)
    if not lacking:
        return SchemaNeed.NOTHING
    return SchemaNeed.BEHIND if any(_series(each.number) in begun for each in lacking) else SchemaNeed.FRESH


def tables(known: Sequence[Migration]) -> list[str]:
    """The tables that these migrations make, as they name them."""
    return [name for migration in known for name in _TABLE.findall(migration.text)]


def newest(applied: Collection[int]) -> int:
    """Number of the newest applied migration of the event log; 0 when there is none."""
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
