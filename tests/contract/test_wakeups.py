"""Every wake-up keeps the contract of wake-ups."""

from __future__ import annotations

import socket
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from gatecast.testing.eventually import eventually
from gatecast.testing.wakeup_suite import WakeupContract
from gatecast.wakeup.contract import Hint, Wakeup
from gatecast.wakeup.datagram import DatagramWakeup
from gatecast.wakeup.in_process import InProcessBus
from gatecast.wakeup.mailbox import directory_of
from gatecast.wakeup.postgres import PostgresWakeup

_GARBAGE = ["", "]", '"a"', '{"gateways": ["a"]}', "[1, null]", "[" * 7_000, "\x00" * 3, "9" * 5_000]


class TestInProcessWakeup(WakeupContract):
    """Two hubs of one process."""

    @asynccontextmanager
    async def open_two(self, tmp_path: Path) -> AsyncIterator[tuple[Wakeup, Wakeup]]:  # noqa: ARG002 - others need it
        """Both on one bus."""
        bus = InProcessBus()
        async with bus.attach() as one, bus.attach() as two:
            yield one, two


class TestDatagramWakeup(WakeupContract):
    """Two pods on one SQLite file."""

    _file: Path

    @pytest.fixture(autouse=True)
    def _use_file(self) -> Iterator[None]:
        # A socket's path has to be short.
        with tempfile.TemporaryDirectory() as folder:
            self._file = Path(folder) / "events.db"
            with closing(sqlite3.connect(self._file)) as connection:
                connection.execute("CREATE TABLE note (number integer)")
            yield

    @asynccontextmanager
    async def open_two(self, tmp_path: Path) -> AsyncIterator[tuple[Wakeup, Wakeup]]:  # noqa: ARG002 - others need it
        """Both on one file, which nobody changes."""
        async with (
            DatagramWakeup(self._file, watch_interval=3_600) as one,
            DatagramWakeup(self._file, watch_interval=3_600) as two,
        ):
            yield one, two

    async def send_garbage(self, tmp_path: Path) -> None:  # noqa: ARG002 - others need it
        """Datagrams from a stranger."""
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as stranger:
            for mailbox in directory_of(self._file).glob("*.sock"):
                for garbage in _GARBAGE:
                    stranger.sendto(garbage.encode(), str(mailbox))


class TestPostgresWakeup(WakeupContract):
    """Two pods on one PostgreSQL, which sends the hints itself."""

    _url: str

    @pytest.fixture(autouse=True)
    def _use_database(self, postgres_url: str) -> None:
        self._url = postgres_url

    @asynccontextmanager
    async def open_two(self, tmp_path: Path) -> AsyncIterator[tuple[Wakeup, Wakeup]]:  # noqa: ARG002 - others need it
        """Each on a connection of its own."""
        async with PostgresWakeup(self._url) as one, PostgresWakeup(self._url) as two:
            for wakeup in (one, two):
                await eventually(partial(_connected, wakeup))
            yield one, two

    async def hint(self, sender: Wakeup, hint: Hint) -> None:
        """As the publishing statements do."""
        sender.send(hint)
        if hint.gateways is None:
            await self._notify("*")
        else:
            await self._execute("SELECT gatecast.hint_v1($1)", sorted(hint.gateways))

    async def send_garbage(self, tmp_path: Path) -> None:  # noqa: ARG002 - others need it
        """Notifications of a foreign program on the same channel."""
        for garbage in _GARBAGE:
            await self._notify(garbage.replace("\x00", "\x01"))

    async def _notify(self, payload: str) -> None:
        await self._execute("SELECT pg_notify('gatecast', $1)", payload)

    async def _execute(self, statement: str, argument: object) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(statement, argument)
        finally:
            await connection.close()


async def _connected(wakeup: Wakeup) -> bool:
    return wakeup.connected
