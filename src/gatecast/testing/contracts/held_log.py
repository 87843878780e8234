"""A gateway's log, held by another transaction: what a long transaction of an application looks like."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import asyncpg

from gatecast.testing.eventually import eventually


class HeldLog:
    """A log in PostgreSQL that no other transaction can append to, until the block ends."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def hold(cls, url: str, gateway_id: str) -> AsyncIterator[Self]:
        """Hold it on a connection of one's own."""
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction():
                statement = "SELECT FROM gatecast.gateway_streams WHERE gateway_id = $1 FOR UPDATE"
                await connection.execute(statement, gateway_id)
                yield cls(connection)
        finally:
            await connection.close()

    async def execute(self, statement: str, *arguments: object) -> None:
        """Do something else in the same transaction."""
        await self._connection.execute(statement, *arguments)

    async def waited_for(self) -> None:
        """Return when a statement waits for it."""
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        await eventually(lambda: self._connection.fetchval(waiting))
