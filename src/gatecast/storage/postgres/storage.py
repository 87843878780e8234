"""Opens PostgreSQL as storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from gatecast.storage.parking import StoredParking
from gatecast.storage.postgres.connection_pool import ConnectionPool
from gatecast.storage.postgres.database import STATEMENT_TIME_LIMIT, PostgresDatabase
from gatecast.storage.postgres.dialing import Dialer
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
        dial = partial(
            dialer.dial,
            url,
            timeout=_CONNECT_TIME_LIMIT,
            command_timeout=STATEMENT_TIME_LIMIT,
            server_settings={"application_name": "gatecast"},
        )
        async with ConnectionPool(dial, size=pool_size) as pool:
            yield cls(PostgresDatabase(pool, dialer, migrations), send_hints=send_hints)
