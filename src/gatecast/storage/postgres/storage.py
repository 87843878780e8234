"""Opens PostgreSQL as storage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from gatecast.storage.parking import StoredParking
from gatecast.storage.postgres.database import STATEMENT_TIME_LIMIT, PostgresDatabase
from gatecast.storage.postgres.dialing import Dialer
from gatecast.storage.postgres.driver_errors import translated
from gatecast.storage.postgres.log import PostgresEventLog
from gatecast.storage.postgres.outcomes import PostgresOutcomes
from gatecast.storage.postgres.presence import PostgresPresence
from gatecast.storage.queries import Queries
from gatecast.storage.survey import StoredSurvey

#: The package with this backend's own migrations.
MIGRATIONS = "gatecast.storage.postgres.migrations"

#: Most connections in a pod's pool: publishing needs one, reading one, held logs two, administration the rest.
POOL_SIZE = 8

#: How long one attempt to connect may take, in seconds.
_CONNECT_TIME_LIMIT = 5.0

#: How long closing the pool may take, in seconds.
_GOODBYE_TIME_LIMIT = 2.0


_PARKING = Queries("gatecast.storage.postgres", "parking.sql")
_SURVEY = Queries("gatecast.storage.postgres", "survey.sql")


class PostgresStorage:
    """One PostgreSQL database, and every storage contract on it."""

    def __init__(self, database: PostgresDatabase, *, send_hints: bool = True) -> None:
        self.database = database
        self.log = PostgresEventLog(database, send_hints=send_hints)
        self.presence = PostgresPresence(database)
        self.outcomes = PostgresOutcomes(database)
        self.parking = StoredParking(database, self.log, _PARKING)
        self.survey = StoredSurvey(database, _SURVEY)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        migrations: Sequence[str] = (MIGRATIONS,),
        pool_size: int = POOL_SIZE,
        send_hints: bool = True,
        pooler: str = "auto",
    ) -> AsyncIterator[PostgresStorage]:
        """Storage on the server at `postgresql://…`, until the block ends.

        Connections are opened when they are first needed, so a wrong URL or server shows with the first statement.
        `pooler` is the setting: `auto`, `on` or `off`. Without `send_hints`, a publish sends no wake-ups.
        """
        dialer = Dialer(pooler)
        with translated():
            pool = asyncpg.create_pool(
                url,
                min_size=0,
                max_size=pool_size,
                # The default reset costs a round trip at every release, and our statements leave nothing to reset.
                reset=_keep,
                max_queries=2**31,
                connect=dialer.dial,
                timeout=_CONNECT_TIME_LIMIT,
                command_timeout=STATEMENT_TIME_LIMIT,
                server_settings={"application_name": "gatecast"},
            )
            await pool
        try:
            yield cls(PostgresDatabase(pool, dialer, migrations), send_hints=send_hints)
        finally:
            await _close(pool)


async def _close(pool: asyncpg.Pool[Any]) -> None:
    """Close the pool politely, or after 2 seconds abruptly: a database that hangs must not keep the pod from ending."""
    try:
        async with asyncio.timeout(_GOODBYE_TIME_LIMIT):
            await pool.close()
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pool.terminate()


async def _keep(_connection: Any) -> None:  # noqa: ANN401 - the driver's own type
    """Reset nothing when a connection returns to the pool."""
