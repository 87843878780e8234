"""Temporary databases for one command, and databases with a prepared schema."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gatecast.controlplane.migrations import MIGRATIONS
from gatecast.outbox.outbox import refuse_log
from gatecast.outbox.records import MIGRATIONS as OUTBOX_MIGRATIONS
from gatecast.settings import Settings
from gatecast.storage.connect import OpenStorage, open_engine, open_storage
from gatecast.storage.database_url import parse
from gatecast.storage.postgres.embedded import embedded_server

_EMBEDDED = "postgresql+embedded"


@asynccontextmanager
async def temporary_database(database: str) -> AsyncIterator[str]:
    """The URL of an empty `sqlite` or `postgresql+embedded`; any other URL is used as it is.

    Raises:
        SettingInvalid: it is neither of these nor the URL of a database.
    """
    if database not in ("sqlite", _EMBEDDED):
        parse(database)
        yield database
        return
    with tempfile.TemporaryDirectory(prefix="gatecast-", ignore_cleanup_errors=True) as folder:
        if database == "sqlite":
            yield f"sqlite:///{folder}/gatecast.db"
            return
        # The server belongs to the command and not to a pod: pods get killed.
        async with embedded_server(Path(folder) / "postgresql") as url:
            yield url


async def prepare(database: str, *, pooler: str = "auto") -> list[int]:
    """Create or update the schema; return the numbers of the migrations that were applied.

    Raises:
        StorageError: the database is not there, or refuses; a pod would wait for it.
    """
    async with open_storage(database, extra_migrations=MIGRATIONS, pooler=pooler) as opened:
        return list(await opened.storage.database.migrate())


async def prepare_outbox(outbox: str, *, pooler: str = "auto", for_pods: bool = False) -> list[int]:
    """Create or update the schema of an outbox; return the numbers of the migrations that were applied.

    `for_pods`: with the tables that pods keep.

    Raises:
        StorageError: the database is not there, refuses, or holds a log.
    """
    migrations = (OUTBOX_MIGRATIONS, *(MIGRATIONS if for_pods else ()))
    async with open_storage(outbox, extra_migrations=migrations, pooler=pooler) as opened:
        await refuse_log(opened.storage)
        return list(await opened.storage.database.migrate())


async def prepare_stream(url: str) -> None:
    """Create the stream if it is missing.

    Raises:
        StorageError: no server can be reached, or the stream does not suit.
    """
    async with open_engine(url):
        return


@asynccontextmanager
async def open_tables(settings: Settings, *, send_hints: bool = True) -> AsyncIterator[OpenStorage]:
    """The existing SQL database in which pods keep their tables: a mistyped address creates no new one."""
    migrations = (*MIGRATIONS, *((OUTBOX_MIGRATIONS,) if settings.outbox else ()))
    opening = open_storage(
        settings.tables, extra_migrations=migrations, pooler=settings.pooler, create=False, send_hints=send_hints
    )
    async with opening as opened:
        yield opened
