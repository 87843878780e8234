"""Databases that live as long as a command, and databases made ready."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gatecast.outbox.outbox import refuse_log
from gatecast.outbox.records import MIGRATIONS as OUTBOX_MIGRATIONS
from gatecast.server.pod import MIGRATIONS
from gatecast.storage.connect import open_storage
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
        StorageError: the database is not there, or refuses; pods would wait for it.
    """
    async with open_storage(database, extra_migrations=MIGRATIONS, pooler=pooler) as opened:
        return list(await opened.storage.database.migrate())


async def prepare_outbox(outbox: str, *, pooler: str = "auto") -> list[int]:
    """Create or update the schema of an outbox; return the numbers of the migrations that were applied.

    Raises:
        StorageError: the database is not there, refuses, or holds a log.
    """
    async with open_storage(outbox, extra_migrations=(OUTBOX_MIGRATIONS,), pooler=pooler) as opened:
        await refuse_log(opened.storage)
        return list(await opened.storage.database.migrate())
