"""Looks now and then whether the standbys that commits wait for are there, on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from gatecast.containment import contained
from gatecast.storage.contract import Database
from gatecast.storage.replication import Replication
from gatecast.telemetry import get_logger, metrics

#: Between two looks, in seconds: each is one small statement.
INTERVAL = 10.0

_logger = get_logger("replication")


class ReplicationWatch:
    """Knows what the database last said of its standbys, shows it as metrics, and logs what is missing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        #: The last result; None: there can be no standby, or the last look failed.
        self.seen: Replication | None = None

    async def run(self) -> NoReturn:
        """Look again and again."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """Ask once. While the database does not answer, nothing is known."""
        earlier, found = self.seen, None
        needed: int | None = None
        with contained("replication-unknown"):
            found = await self._database.replication()
            needed = found.needed if found else 0
        self.seen = found
        metrics.standbys(needed, found.in_sync if found else None)
        problem, known_problem = found and found.problem, earlier and earlier.problem
        if found and problem and not known_problem:
            _logger.warning("standby-missing", problem=problem, connected=found.connected)
        elif found and known_problem and not problem:
            _logger.info("standby-returned", replication=str(found))
