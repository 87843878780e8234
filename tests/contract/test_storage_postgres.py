"""PostgreSQL keeps the contract of storage: the version that the suite runs on, and others that are at hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import asyncpg
import psycopg
import pytest
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlmodel.ext.asyncio.session import AsyncSession as SqlModelSession

from gatecast.storage.contract import Storage
from gatecast.storage.postgres import PostgresStorage
from gatecast.testing.contracts.backend import (
    ALIVE,
    GATEWAY,
    OTHER_GATEWAY,
    POD,
    confirm,
    connect,
    ids_of,
    make_connection,
    make_event,
    publish,
)
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.given_server import installed_servers
from gatecast.testing.storage_suite import StorageContract
from tests.database_copies import NewDatabase, copies_on


class TestPostgresStorage(StorageContract):
    """The whole suite, each test on a database of its own."""

    count_passages = "SELECT count(*) AS number FROM gatecast.passages"

    _url: str

    @pytest.fixture(autouse=True)
    def _use_database(self, postgres_url: str) -> None:
        self._url = postgres_url

    @asynccontextmanager
    async def open_storage(self, tmp_path: Path) -> AsyncIterator[Storage]:  # noqa: ARG002 - other backends need it
        """The test's database. There is no pooler, and detecting one costs a connection for each test."""
        async with PostgresStorage.open(self._url, pooler="off") as storage:
            yield storage

    @asynccontextmanager
    async def caller_transaction(self, storage: Storage, tmp_path: Path) -> AsyncIterator[object]:  # noqa: ARG002 - other backends need it
        """A transaction on a connection of asyncpg."""
        connection = await asyncpg.connect(self._url)
        try:
            async with connection.transaction():
                yield connection
        finally:
            await connection.close()

    def transactions(self, storage: Storage, tmp_path: Path) -> list[AbstractAsyncContextManager[object]]:
        """One of each kind that a caller can publish in."""
        return [
            *super().transactions(storage, tmp_path),
            self._sqlalchemy_connection("asyncpg"),
            self._sqlalchemy_session("asyncpg"),
            self._scoped_session(),
            self._psycopg_connection(),
            self._sqlalchemy_session("psycopg"),
        ]

    @asynccontextmanager
    async def _engine(self, driver: str) -> AsyncIterator[AsyncEngine]:
        engine = create_async_engine(self._url.replace("postgresql://", f"postgresql+{driver}://"))
        try:
            yield engine
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def _psycopg_connection(self) -> AsyncIterator[object]:
        async with await psycopg.AsyncConnection.connect(self._url) as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def _scoped_session(self) -> AsyncIterator[object]:
        """A session of SQLModel, out of a registry."""
        async with self._engine("asyncpg") as engine:
            maker = async_sessionmaker(engine, class_=SqlModelSession)
            scoped = async_scoped_session(maker, scopefunc=asyncio.current_task)
            async with scoped.begin():
                yield scoped
            await scoped.remove()

    @asynccontextmanager
    async def _sqlalchemy_connection(self, driver: str) -> AsyncIterator[object]:
        async with self._engine(driver) as engine, engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def _sqlalchemy_session(self, driver: str) -> AsyncIterator[object]:
        async with self._engine(driver) as engine, AsyncSession(engine) as session, session.begin():
            yield session


def _of_the_package(version: int) -> PostgresServer:
    """Reckless, because nobody pulls its plug; with defaults that our transactions must not follow."""
    return PostgresServer(
        version=version, fsync="off", synchronous_commit="off", default_transaction_isolation="repeatable read"
    )


def _of_the_system(programs: Path) -> PostgresServer:
    """As above, and eager to compile just in time; it says what it has compiled."""
    return PostgresServer(
        programs=programs,
        fsync="off",
        synchronous_commit="off",
        default_transaction_isolation="serializable",
        jit="on",
        jit_above_cost="1000",
        shared_preload_libraries="pg_stat_statements",
    )


#: The oldest that the package carries, and those of the operating system.
_OTHERS: dict[str, Callable[[], PostgresServer]] = {
    "16": partial(_of_the_package, 16),
    **{f"installed-{version}": partial(_of_the_system, programs) for version, programs in installed_servers().items()},
}


@pytest.fixture(scope="module", params=_OTHERS)
def other_server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server of another version, with a database to make copies of."""
    with _OTHERS[request.param]() as server:
        asyncio.run(_make_template(server))
        yield server


@pytest.fixture(scope="module")
def new_database(other_server: PostgresServer) -> Iterator[NewDatabase]:
    """Makes copies of it."""
    with copies_on(other_server) as new_database:
        yield new_database


async def _make_template(server: PostgresServer) -> None:
    await server.create_database("template")
    async with PostgresStorage.open(server.url("template")) as storage:
        await storage.database.migrate()
    # The first to connect writes down what PostgreSQL must know of the tables; the copies have that file, too.
    await (await asyncpg.connect(server.url("template"))).close()


class TestOtherVersions(TestPostgresStorage):
    """The whole suite once more on each."""

    @pytest.fixture(autouse=True)
    def _use_database(self, new_database: NewDatabase) -> Iterator[None]:
        with new_database("template") as self._url:
            yield


@pytest.mark.parametrize("other_server", [each for each in _OTHERS if each != "16"], indirect=True)
async def test_nothing_of_ours_is_ever_compiled(other_server: PostgresServer) -> None:
    """A server that compiles whatever it can says what it has compiled (from 15 on)."""
    await other_server.create_database("compiled")
    url = other_server.url("compiled")
    await other_server.execute("ALTER DATABASE compiled SET jit_above_cost = 0")
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE EXTENSION pg_stat_statements")
    async with PostgresStorage.open(url) as storage:
        await storage.database.migrate()
        for gateway in (GATEWAY, OTHER_GATEWAY):
            await storage.log.register(gateway)
        await storage.presence.renew_lease(POD, ALIVE)
        await publish(storage, make_event(GATEWAY))
        await publish(storage, make_event(GATEWAY), make_event(OTHER_GATEWAY))
        await connect(storage, make_connection())
        await confirm(storage, make_connection(), 1)
        await storage.presence.status([GATEWAY, OTHER_GATEWAY])
        await ids_of(storage)
        await connection.execute("SELECT gatecast.publish('gateway-1', 'api.deployed', 'CREATE', 'Api', 'api-1')")
    compiled = await connection.fetch(
        "SELECT query FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid "
        "WHERE d.datname = current_database() AND to_jsonb(s) ->> 'jit_functions' > '0' AND query ~ 'gatecast|_v1'"
    )
    await connection.close()
    # What the caller's own session sends is the caller's: the statement around the call, and not what it does.
    assert [row["query"] for row in compiled if "gatecast.publish(" not in row["query"]] == []
