"""From a database URL to open storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from gatecast.storage.contract import Storage
from gatecast.storage.database_url import Backend, parse
from gatecast.storage.postgres.embedded import embedded_server
from gatecast.storage.postgres.storage import MIGRATIONS as POSTGRES_MIGRATIONS
from gatecast.storage.postgres.storage import PostgresStorage
from gatecast.storage.sqlite.storage import MIGRATIONS as SQLITE_MIGRATIONS
from gatecast.storage.sqlite.storage import SqliteStorage


@dataclass(frozen=True, slots=True)
class OpenStorage:
    """Open storage, and what it takes to reach the same database again."""

    storage: Storage
    backend: Backend
    #: The file of SQLite, or the URL of PostgreSQL.
    location: str


@asynccontextmanager
async def open_storage(
    url: str,
    *,
    send_hints: bool = True,
    extra_migrations: Sequence[str] = (),
    pooler: str = "auto",
    create: bool = True,
) -> AsyncIterator[OpenStorage]:
    """Open `sqlite:///file.db`, `postgresql://…` or `postgresql+embedded:///folder`.

    `extra_migrations` are packages with further migrations, in SQL that every database understands.

    `pooler` is the setting. With `create=False` a file or folder that is not there is not made.

    Raises:
        SettingInvalid: the URL names no database that is supported, or is malformed; does not repeat it.
        DatabaseUnsuitable: the file or folder is not there, and is not to be made.
    """
    async with AsyncExitStack() as stack:
        found = parse(url)
        if found.backend is Backend.SQLITE and found.path is not None:
            migrations = (SQLITE_MIGRATIONS, *extra_migrations)
            sqlite = SqliteStorage.open(found.path, migrations=migrations, create=create)
            yield OpenStorage(await stack.enter_async_context(sqlite), Backend.SQLITE, str(found.path))
            return
        location = found.url
        if found.path is not None:
            location = await stack.enter_async_context(embedded_server(found.path, create=create))
        migrations = (POSTGRES_MIGRATIONS, *extra_migrations)
        postgres = PostgresStorage.open(location, migrations=migrations, send_hints=send_hints, pooler=pooler)
        yield OpenStorage(await stack.enter_async_context(postgres), Backend.POSTGRESQL, location)
