"""PostgreSQL keeps the contract of storage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import sha256
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from gatecast.storage.contract import Storage
from gatecast.storage.postgres import PostgresStorage
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.storage_suite import StorageContract

#: A migrated, empty database that every test gets a copy of.
_TEMPLATE = "contract_template"


async def _make_template(server: PostgresServer) -> None:
    await server.create_database(_TEMPLATE)
    async with PostgresStorage.open(server.url(_TEMPLATE)) as storage:
        await storage.database.migrate()


async def _copy_template(server: PostgresServer, name: str) -> None:
    connection = await asyncpg.connect(server.url())
    try:
        databases = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
        if _TEMPLATE not in databases:
            await _make_template(server)
        if name not in databases:
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{_TEMPLATE}"')
    finally:
        await connection.close()


class TestPostgresStorage(StorageContract):
    """The whole suite, each test on a database of its own."""

    _server: PostgresServer

    @pytest.fixture(autouse=True)
    def _use_server(self, postgres: PostgresServer) -> None:
        self._server = postgres

    def url(self, tmp_path: Path) -> str:
        """The database that belongs to this test."""
        return self._server.url(f"contract_{sha256(str(tmp_path).encode()).hexdigest()[:16]}")

    @asynccontextmanager
    async def open_storage(self, tmp_path: Path) -> AsyncIterator[Storage]:
        """The test's database, copied from the template when it is first opened."""
        await _copy_template(self._server, f"contract_{sha256(str(tmp_path).encode()).hexdigest()[:16]}")
        async with PostgresStorage.open(self.url(tmp_path)) as storage:
            yield storage

    @asynccontextmanager
    async def caller_transaction(self, storage: Storage, tmp_path: Path) -> AsyncIterator[object]:  # noqa: ARG002 - other backends need it
        """A transaction on a connection of asyncpg."""
        connection = await asyncpg.connect(self.url(tmp_path))
        try:
            async with connection.transaction():
                yield connection
        finally:
            await connection.close()

    def transactions(self, storage: Storage, tmp_path: Path) -> list[AbstractAsyncContextManager[object]]:
        """One of each kind that a caller can publish in."""
        return [
            *super().transactions(storage, tmp_path),
            self._sqlalchemy_connection(tmp_path),
            self._sqlalchemy_session(tmp_path),
        ]

    @asynccontextmanager
    async def _engine(self, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
        url = self.url(tmp_path).replace("postgresql://", "postgresql+asyncpg://")
        engine = create_async_engine(url)
        try:
            yield engine
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def _sqlalchemy_connection(self, tmp_path: Path) -> AsyncIterator[object]:
        async with self._engine(tmp_path) as engine, engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def _sqlalchemy_session(self, tmp_path: Path) -> AsyncIterator[object]:
        async with self._engine(tmp_path) as engine, AsyncSession(engine) as session, session.begin():
            yield session
