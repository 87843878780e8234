"""A PostgreSQL of one's own starts, crashes and recovers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from pathlib import Path

import asyncpg
import pytest

from gatecast.testing.eventually import eventually
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.tcp_proxy import TcpProxy

pytestmark = pytest.mark.slow


async def test_what_was_committed_survives_a_crash() -> None:
    """Killed and started again it has everything, and serves under the same address."""
    with PostgresServer() as server:
        await server.create_database("survivor")
        connection = await asyncpg.connect(server.url("survivor"))
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        server.kill()
        connection.terminate()
        server.start()
        async with TcpProxy(server.socket) as proxy:
            connection = await asyncpg.connect(server.url("survivor", address=proxy.address))
            assert await connection.fetchval("SELECT answer FROM kept") == 42
            await connection.close()


async def test_the_next_statement_of_each_session_finds_what_was_configured() -> None:
    with PostgresServer() as server:
        connection = await asyncpg.connect(server.url())
        for value in ("11ms", "12ms", "13ms", "14ms", "15ms"):
            await server.configure(deadlock_timeout=value)
            assert await connection.fetchval("SELECT current_setting('deadlock_timeout')") == value
            assert await server.fetch_value("SELECT current_setting('deadlock_timeout')") == value
        await connection.close()


async def test_once_it_was_killed_nobody_of_it_commits() -> None:
    """A process that serves a client outlives the server for as long as it computes, and would commit what it has."""
    with PostgresServer() as server:
        connection = await asyncpg.connect(server.url())
        pid = connection.get_server_pid()
        computing = asyncio.create_task(connection.execute("DO $$ BEGIN LOOP NULL; END LOOP; END $$"))
        active = f"SELECT state = 'active' FROM pg_stat_activity WHERE pid = {pid}"
        await eventually(lambda: server.fetch_value(active))
        server.kill()
        assert not _runs(pid)
        with pytest.raises(asyncpg.PostgresConnectionError):
            await computing


def _runs(process: int) -> bool:
    """Whether it is there, and not only remembered by the process that adopted it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


_OPEN_AND_WAIT = """
import time
from gatecast.testing.postgres_server import PostgresServer

with PostgresServer() as server:
    print(server.socket.parent, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_nothing_is_left_of_it_when_whoever_opened_it_is_killed(number: signal.Signals) -> None:
    """Its process ends, and its folder goes."""
    opener = await create_subprocess_exec(sys.executable, "-c", _OPEN_AND_WAIT, stdout=PIPE)
    assert opener.stdout is not None
    folder = Path((await opener.stdout.readline()).decode().strip())
    server = int((folder / "postmaster.pid").read_text().splitlines()[0])
    opener.send_signal(number)
    await opener.wait()

    async def is_gone() -> bool:
        return not folder.exists() and not _exists(server)

    await eventually(is_gone)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
