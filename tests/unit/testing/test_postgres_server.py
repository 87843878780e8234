"""A PostgreSQL of one's own starts, crashes and recovers."""

from __future__ import annotations

import asyncpg

from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.tcp_proxy import TcpProxy


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
