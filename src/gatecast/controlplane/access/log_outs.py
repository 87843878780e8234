"""Logging out everywhere, for people who log in through an OIDC issuer: no pod stores their sessions."""

from __future__ import annotations

from gatecast.storage.contract import Database
from gatecast.storage.queries import Queries

_QUERIES = Queries("gatecast.controlplane.access", "log_outs.sql")


class LogOuts:
    """The present generation of each person's sessions; a session of an earlier generation has ended."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def generation(self, organization: str, subject: str) -> int:
        """The generation of sessions that this person begins now; 0 until they first log out everywhere."""
        rows = await self._database.fetch(_QUERIES["generation"], organization, subject)
        return int(rows[0]["generation"]) if rows else 0

    async def everywhere(self, organization: str, subject: str) -> None:
        """End every session of this person, on every pod."""
        await self._database.execute(_QUERIES["log_out_everywhere"], organization, subject)
