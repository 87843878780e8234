"""Opens the engine, or the SQL storage, that a database URL names."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from gatecast.errors import DatabaseUnsuitable
from gatecast.storage.contract import Engine, Storage
from gatecast.storage.database_url import Backend, invalid, parse
from gatecast.storage.postgres.embedded import embedded_server
from gatecast.storage.postgres.storage import MIGRATIONS as POSTGRES_MIGRATIONS
from gatecast.storage.postgres.storage import PostgresStorage
from gatecast.storage.sqlite.storage import MIGRATIONS as SQLITE_MIGRATIONS
from gatecast.storage.sqlite.storage import MISSING, SqliteStorage
from gatecast.storage.stream_url import StreamUrl, parse_stream

if TYPE_CHECKING:
    from gatecast.storage.jetstream import JetStreamEngine, StreamFacts


@dataclass(frozen=True, slots=True)
class OpenStorage:
    """Open storage, and where its database is."""

    storage: Storage
    backend: Backend
    #: The path of the SQLite file, or the URL of the PostgreSQL server, which may hold a password.
    location: str

    @property
    def engine(self) -> Engine:
        """The log on that database."""
        return self.storage


@dataclass(frozen=True, slots=True)
class OpenStream:
    """An open stream of NATS JetStream."""

    engine: JetStreamEngine


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


@asynccontextmanager
async def open_engine(
    url: str,
    *,
    send_hints: bool = True,
    extra_migrations: Sequence[str] = (),
    pooler: str = "auto",
    create: bool = True,
) -> AsyncIterator[OpenStorage | OpenStream]:
    """The engine at `nats://…`, or the storage at any URL that `open_storage` takes, until the block ends.

    A stream that is missing is made, unless `create` is False.

    Raises:
        SettingInvalid: as `open_storage`; or there are extra migrations, which a stream cannot have; or the extra
            `jetstream` is not installed.
        DatabaseUnsuitable: the stream keeps fewer copies than the URL asks for, or was edited; or what the URL names
            does not exist, and `create` is False.
        StorageUnavailable: no server can be reached, or the file cannot be opened.
    """
    stream = parse_stream(url)
    async with AsyncExitStack() as stack:
        if stream is None:
            storage = open_storage(
                url, send_hints=send_hints, extra_migrations=extra_migrations, pooler=pooler, create=create
            )
            yield await stack.enter_async_context(storage)
            return
        if extra_migrations:
            raise invalid("name an SQL database: pods and migrations keep tables, and NATS JetStream has none")
        if not create and await stream_facts(url) is None:
            raise DatabaseUnsuitable(f"there is no stream {stream.stream}", MISSING)
        yield OpenStream(await stack.enter_async_context(_open_stream(stream)))


async def stream_facts(url: str) -> StreamFacts | None:
    """The facts about the stream at `nats://…`; None if there is none. Creates no stream.

    Raises:
        SettingInvalid: the URL names no stream, or the extra `jetstream` is not installed.
        DatabaseUnsuitable: the stream keeps fewer copies than the URL asks for, or was edited.
        StorageUnavailable: no server can be reached.
    """
    found = parse_stream(url)
    if found is None:
        raise invalid("be written nats://host:4222/STREAM")
    facts: StreamFacts | None = await _package().look(
        found.servers, found.stream, replicas=found.replicas, user=found.user, password=found.password
    )
    return facts


def place_of(url: str) -> str:
    """Where the log at a URL is, for people: the URL with a whole path, and without user, password and parameters.

    Raises:
        SettingInvalid: it names no log.
    """
    if (stream := parse_stream(url)) is not None:
        hosts = ",".join(server.removeprefix("nats://") for server in stream.servers)
        return f"nats://{hosts}/{stream.stream}"
    found = parse(url)
    if found.path is not None:
        scheme = "sqlite" if found.backend is Backend.SQLITE else "postgresql+embedded"
        return f"{scheme}:///{found.path.absolute()}"
    scheme, _, rest = found.url.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


@asynccontextmanager
async def _open_stream(url: StreamUrl) -> AsyncIterator[JetStreamEngine]:
    opening: AbstractAsyncContextManager[JetStreamEngine] = _package().JetStreamEngine.open(
        url.servers, url.stream, replicas=url.replicas, user=url.user, password=url.password
    )
    async with opening as engine:
        yield engine


def _package() -> ModuleType:
    try:
        return importlib.import_module("gatecast.storage.jetstream")
    except ModuleNotFoundError as error:
        if error.name != "nats":
            raise
        raise invalid(
            "name a database that is installed; for this one run `pip install 'gatecast[jetstream]'`"
        ) from None
