"""A stream with an outbox keeps the contract of transactions, which a stream alone cannot keep."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from gatecast.outbox.outbox import Outbox, OutboxOptions
from gatecast.outbox.records import MIGRATIONS
from gatecast.storage.connect import open_storage
from gatecast.storage.contract import Database, EventLog, Outcomes, Parking, Presence, Receipt, Storage, Survey
from gatecast.storage.jetstream import JetStreamEngine
from gatecast.testing.nats_server import NatsServer
from gatecast.testing.storage_suite import TransactionContract
from gatecast.wakeup.in_process import InProcessWakeup

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True, kw_only=True)
class _StreamWithOutbox:
    """The engine of a stream whose changes go through an outbox, and the database of that outbox."""

    log: EventLog
    presence: Presence
    outcomes: Outcomes
    parking: Parking
    survey: Survey
    database: Database
    outbox: Outbox


def _outbox(storage: Storage) -> Outbox:
    assert isinstance(storage, _StreamWithOutbox)
    return storage.outbox


class _OutboxContract(TransactionContract):
    """The suite, after waiting until the outbox is empty."""

    _outbox_url: str

    @pytest.fixture(autouse=True)
    def _on(self, server: NatsServer) -> None:
        self._address = server.address

    @asynccontextmanager
    async def open_storage(self, tmp_path: Path) -> AsyncIterator[Storage]:
        """The stream and the outbox that belong to `tmp_path`; every process that opens them may forward."""
        name = f"T{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]}"
        async with AsyncExitStack() as stack:
            opened = await stack.enter_async_context(open_storage(self._outbox_url, extra_migrations=(MIGRATIONS,)))
            await opened.storage.database.migrate()
            stream = JetStreamEngine.open([f"nats://{self._address}"], name, replicas=1)
            engine = await stack.enter_async_context(stream)
            wakeup = await stack.enter_async_context(InProcessWakeup())
            options = OutboxOptions(pod_id="pod", poll_interval=0.05)
            opening = Outbox.open(opened.storage, opened.backend, engine.log, wakeup, options)
            outbox = await stack.enter_async_context(opening)
            changing = outbox.engine(engine)
            yield _StreamWithOutbox(
                log=changing.log,
                presence=changing.presence,
                outcomes=changing.outcomes,
                parking=changing.parking,
                survey=changing.survey,
                database=opened.storage.database,
                outbox=outbox,
            )

    async def caught_up(self, storage: Storage) -> None:
        """Wait until the outbox is empty."""
        await _outbox(storage).wait_until_empty()

    async def offsets(self, storage: Storage, receipts: Sequence[Receipt]) -> list[int]:
        """Found by the ids of the events."""
        assert all(receipt.pending for receipt in receipts)
        await self.caught_up(storage)
        return [(await _outbox(storage).wait_until_forwarded(receipt)).offset for receipt in receipts]


class TestOutboxOnSqlite(_OutboxContract):
    """The application's database is a file."""

    commits_overlap = False

    @pytest.fixture(autouse=True)
    def _use_file(self, tmp_path: Path) -> None:
        self._outbox_url = f"sqlite:///{tmp_path}/application.db"

    @asynccontextmanager
    async def caller_transaction(self, storage: Storage, tmp_path: Path) -> AsyncIterator[object]:  # noqa: ARG002 - other backends need it
        """A transaction of the standard library's driver."""
        with closing(sqlite3.connect(tmp_path / "application.db")) as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection


class TestOutboxOnPostgres(_OutboxContract):
    """The application's database is PostgreSQL."""

    @pytest.fixture(autouse=True)
    def _use_database(self, empty_postgres_url: str) -> None:
        self._outbox_url = empty_postgres_url

    @asynccontextmanager
    async def caller_transaction(self, storage: Storage, tmp_path: Path) -> AsyncIterator[object]:  # noqa: ARG002 - other backends need it
        """A transaction on a connection of asyncpg."""
        connection = await asyncpg.connect(self._outbox_url)
        try:
            async with connection.transaction():
                yield connection
        finally:
            await connection.close()
