"""Opens SQLite as storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Self

from gatecast.errors import DatabaseUnsuitable
from gatecast.storage.parking import StoredParking
from gatecast.storage.queries import Queries
from gatecast.storage.sqlite.connection import Clock, make_file, open_reader, open_writer, system_clock
from gatecast.storage.sqlite.connection_thread import ConnectionThread
from gatecast.storage.sqlite.database import SqliteDatabase
from gatecast.storage.sqlite.log import SqliteEventLog
from gatecast.storage.sqlite.opened_file import OpenedFile
from gatecast.storage.sqlite.outcomes import SqliteOutcomes
from gatecast.storage.sqlite.presence import SqlitePresence
from gatecast.storage.survey import StoredSurvey

#: The package with this backend's own migrations.
MIGRATIONS = "gatecast.storage.sqlite.migrations"


#: The remedy for a database that does not exist.
MISSING = "check GATECAST_DATABASE, or make a new database with `gatecast migrate`"

_PARKING = Queries("gatecast.storage.sqlite", "parking.sql")
_SURVEY = Queries("gatecast.storage.sqlite", "survey.sql")


class SqliteStorage:
    """One SQLite file, and every storage contract on it."""

    def __init__(self, database: SqliteDatabase, clock: Clock = system_clock) -> None:
        self.database = database
        self.log = SqliteEventLog(database, clock)
        self.presence = SqlitePresence(database, clock)
        self.outcomes = SqliteOutcomes(database)
        self.parking = StoredParking(database, self.log, _PARKING)
        self.survey = StoredSurvey(database, _SURVEY)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: str | PathLike[str],
        *,
        migrations: Sequence[str] = (MIGRATIONS,),
        clock: Clock = system_clock,
        create: bool = True,
    ) -> AsyncIterator[Self]:
        """Storage in this file, until the block ends; a new file is empty until `database.migrate()`.

        Raises:
            DatabaseUnsuitable: the file does not exist, and `create` is False.
            StorageUnavailable: the file cannot be created or opened, or is no database.
        """
        file = _absolute(path)
        if create:
            make_file(file)
        elif not file.exists():
            raise DatabaseUnsuitable(f"there is no file {file}", MISSING)
        opened = OpenedFile(file)
        async with (
            # The writer closes last: the last connection to close moves the write-ahead log into the file.
            ConnectionThread("gatecast-sqlite-writer", partial(open_writer, file, clock)) as writer,
            ConnectionThread("gatecast-sqlite-reader", partial(open_reader, file, clock)) as reader,
        ):
            opened.note_parts()
            database = SqliteDatabase(opened, writer=writer, reader=reader, migrations=migrations, clock=clock)
            yield cls(database, clock)


def _absolute(path: str | PathLike[str]) -> Path:
    """The absolute path, which stays right if the process changes its working directory."""
    return Path(path).absolute()
