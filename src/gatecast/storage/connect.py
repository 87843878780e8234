"""From a database URL to open storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from gatecast.errors import SettingInvalid
from gatecast.storage.contract import Storage
from gatecast.storage.postgres.embedded import embedded_server
from gatecast.storage.postgres.storage import MIGRATIONS as POSTGRES_MIGRATIONS
from gatecast.storage.postgres.storage import PostgresStorage
from gatecast.storage.sqlite.storage import MIGRATIONS as SQLITE_MIGRATIONS
from gatecast.storage.sqlite.storage import SqliteStorage


class Backend(StrEnum):
    """The databases that there are."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


@dataclass(frozen=True, slots=True)
class OpenStorage:
    """Open storage, and what it takes to reach the same database again."""

    storage: Storage
    backend: Backend
    #: The file of SQLite, or the URL of PostgreSQL.
    location: str


@asynccontextmanager
async def open_storage(
    url: str, *, send_hints: bool = True, extra_migrations: Sequence[str] = ()
) -> AsyncIterator[OpenStorage]:
    """Open `sqlite:///file.db`, `postgresql://…` or `postgresql+embedded:///folder`.

    `extra_migrations` are packages with further migrations, in SQL that every database understands.

    Raises:
        SettingInvalid: the URL names no database that is supported.
    """
    async with AsyncExitStack() as stack:
        parts = urlsplit(url)
        match parts.scheme:
            case "sqlite":
                path = Path(_path(url))
                sqlite = SqliteStorage.open(path, migrations=(SQLITE_MIGRATIONS, *extra_migrations))
                yield OpenStorage(await stack.enter_async_context(sqlite), Backend.SQLITE, str(path))
                return
            case "postgresql" | "postgres":
                location = url
            case "postgresql+embedded":
                location = await stack.enter_async_context(embedded_server(Path(_path(url))))
            case _:
                raise SettingInvalid(
                    "GATECAST_DATABASE",
                    url,
                    "begin with sqlite:///, postgresql:// or postgresql+embedded:///",
                )
        migrations = (POSTGRES_MIGRATIONS, *extra_migrations)
        postgres = PostgresStorage.open(location, migrations=migrations, send_hints=send_hints)
        yield OpenStorage(await stack.enter_async_context(postgres), Backend.POSTGRESQL, location)


def _path(url: str) -> str:
    """`sqlite:///file` is relative, `sqlite:////file` is absolute, as everywhere else."""
    _, slashes, path = url.partition(":///")
    if not slashes or not path:
        raise SettingInvalid("GATECAST_DATABASE", url, "name a file or folder behind three slashes")
    return path
