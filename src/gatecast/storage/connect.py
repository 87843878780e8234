"""Opens the storage that a database URL names."""

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
    """Open storage, and where its database is."""

    storage: Storage
    backend: Backend
    #: The path of the SQLite file, or the URL of the PostgreSQL server, which may hold a password.
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
    """The storage at `sqlite:///file.db`, `postgresql://…` or `postgresql+embedded:///folder`, until the block ends.

    `extra_migrations` names packages with more migrations, in SQL that both databases understand. `pooler` is the value
    of the setting of that name. A PostgreSQL server is not contacted before the first statement.

    Raises:
        SettingInvalid: the URL is malformed or names no supported database, or the extra `embedded` is not installed.
            The error does not repeat the URL, which may hold a password.
        DatabaseUnsuitable: the file or folder does not exist, and `create` is False.
        StorageUnavailable: the file cannot be opened, or is no database.
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
