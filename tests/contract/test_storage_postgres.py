"""PostgreSQL keeps the contract of storage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from gatecast.storage.contract import Storage
from gatecast.storage.postgres import PostgresStorage
from gatecast.testing.storage_suite import StorageContract


class TestPostgresStorage(StorageContract):
    """The whole suite, each test on a database of its own."""

    _url: str

    @pytest.fixture(autouse=True)
    def _use_database(self, postgres_url: str) -> None:
        self._url = postgres_url

    @asynccontextmanager
    async def open_storage(self, tmp_path: Path) -> AsyncIterator[Storage]:  # noqa: ARG002 - other backends need it
        """The test's database."""
        async with PostgresStorage.open(self._url) as storage:
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
            self._sqlalchemy_connection(),
            self._sqlalchemy_session(),
        ]

    @asynccontextmanager
    async def _engine(self) -> AsyncIterator[AsyncEngine]:
        engine = create_async_engine(self._url.replace("postgresql://", "postgresql+asyncpg://"))
        try:
            yield engine
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def _sqlalchemy_connection(self) -> AsyncIterator[object]:
        async with self._engine() as engine, engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def _sqlalchemy_session(self) -> AsyncIterator[object]:
        async with self._engine() as engine, AsyncSession(engine) as session, session.begin():
            yield session
