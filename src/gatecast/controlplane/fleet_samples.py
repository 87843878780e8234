"""How the delivery to all gateways of an organization went in the last hours: a measurement every few seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gatecast.controlplane.transactions.clock import database_time
from gatecast.storage.contract import Database
from gatecast.storage.queries import Queries

_QUERIES = Queries("gatecast.controlplane", "fleet_samples.sql")

#: A measurement is taken this often, in seconds.
INTERVAL = 15

#: Measurements are kept for this long, in seconds.
KEPT_FOR = 3 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement."""

    #: When, in seconds since 1970 by the database's clock.
    measured_at: float
    #: Events in all logs, and the confirmed ones of them, since the logs began.
    recorded: int
    confirmed: int
    #: The age of the oldest event that some gateway has not confirmed, in seconds.
    lag: float
    #: From record to confirmation, in seconds, of half of the events and of 99 of 100; -1: none was confirmed.
    median: float
    slowest: float


class FleetSamples:
    """Keeps measurements of organizations; of several pods one measures."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> float:
        """The time of the database, in seconds since 1970."""
        return (await database_time(self._database)).timestamp()

    async def claim(self, organization: str, now: float) -> bool:
        """Whether the caller is to measure; false: another pod does, or did in this interval."""
        return bool(await self._database.execute(_QUERIES["claim"], organization, _interval(now)))

    async def store(self, organization: str, sample: Sample) -> None:
        """Keep what was measured, and remove what is too old."""
        values = (sample.measured_at, sample.recorded, sample.confirmed, sample.lag, sample.median, sample.slowest)
        await self._database.execute(_QUERIES["store"], organization, _interval(sample.measured_at), *values)
        await self._database.execute(_QUERIES["forget"], organization, _interval(sample.measured_at) - KEPT_FOR)

    async def since(self, organization: str, begin: float) -> Sequence[Sample]:
        """The measurements of an organization from `begin` on, in their order."""
        rows = await self._database.fetch(_QUERIES["samples"], organization, int(begin))
        return [
            Sample(**{name: row[name] for name in ("measured_at", "recorded", "confirmed", "lag", "median", "slowest")})
            for row in rows
        ]


def _interval(now: float) -> int:
    return int(now) // INTERVAL * INTERVAL
