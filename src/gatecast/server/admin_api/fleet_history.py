"""`/api/v1/fleet/history`, and what measures for it: how the delivery to all gateways went in the last hours."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, NoReturn

from fastapi import APIRouter, Query
from pydantic import Field

from gatecast.containment import contained
from gatecast.controlplane.fleet_samples import INTERVAL, KEPT_FOR, FleetSamples, Sample
from gatecast.server.admin_api.context import Context, Organization
from gatecast.server.admin_api.fleet import Fleets
from gatecast.server.admin_api.models import WHOLE, Model
from gatecast.storage.contract import Survey

router = APIRouter(prefix="/api/v1", tags=["fleet"])

#: An organization that nobody has looked at for this long is no longer measured; in seconds.
ASKED_WITHIN = 24 * 60 * 60.0

#: Most gateways whose latest confirmations are looked at in one measurement.
_MEASURED = 2_000


class FleetMoment(Model):
    """How delivery went between one measurement and the next."""

    at: datetime = Field(description="The end of it.")
    recorded_per_second: float = Field(description="Events that were published.")
    confirmed_per_second: float
    lag_seconds: float = Field(description="Age of the oldest event that a gateway has not confirmed.")
    confirmed_after_p50: float | None = Field(
        description="Seconds from publishing to confirmation, for half of the events; null: none was confirmed."
    )
    confirmed_after_p99: float | None = Field(description="The same for 99 of 100 events.")


class FleetHistory(Model):
    """How delivery went, measured every 15 seconds."""

    items: list[FleetMoment]
    next: Annotated[None, Field(description=WHOLE)] = None


@router.get("/fleet/history")
async def show_fleet_history(
    context: Context,
    organization: Organization,
    minutes: Annotated[int, Query(ge=1, le=KEPT_FOR // 60, description="How far back.")] = 60,
) -> FleetHistory:
    """Throughput, lag and latency over all of your gateways.

    Measured every 15 seconds and kept for 3 hours, for organizations that used the API or the console within the last
    day. The latency is that of the gateways' latest confirmations.
    """
    samples = FleetSamples(context.hub.database)
    await context.fleets.look(organization)
    begin = await samples.now() - minutes * 60 - INTERVAL
    return FleetHistory(items=_moments(await samples.since(organization, begin)))


def _moments(samples: Sequence[Sample]) -> list[FleetMoment]:
    return [
        FleetMoment(
            at=datetime.fromtimestamp(later.measured_at, UTC),
            recorded_per_second=_rate(earlier, later, later.recorded - earlier.recorded),
            confirmed_per_second=_rate(earlier, later, later.confirmed - earlier.confirmed),
            lag_seconds=round(later.lag, 3),
            confirmed_after_p50=_known(later.median),
            confirmed_after_p99=_known(later.slowest),
        )
        for earlier, later in pairwise(samples)
    ]


def _rate(earlier: Sample, later: Sample, number: int) -> float:
    """So many in each second; where gateways were deleted there are fewer in all, which is no rate."""
    return round(max(0, number) / max(1.0, later.measured_at - earlier.measured_at), 3)


def _known(seconds: float) -> float | None:
    return None if seconds < 0 else round(seconds, 6)


class FleetMeter:
    """Measures the organizations that are being looked at."""

    def __init__(self, fleets: Fleets, survey: Survey, samples: FleetSamples) -> None:
        self._fleets = fleets
        self._survey = survey
        self._samples = samples

    async def run(self) -> NoReturn:
        """Measure in each interval, until it is cancelled."""
        while True:
            for organization in self._fleets.looked_at(within=ASKED_WITHIN):
                with contained("fleet-not-measured", organization=organization):
                    await self.measure(organization)
            await asyncio.sleep(INTERVAL)

    async def measure(self, organization: str) -> None:
        """Take the measurement of this interval, unless another pod does."""
        now = await self._samples.now()
        if not await self._samples.claim(organization, now):
            return
        summaries = [each.summary for each in (await self._fleets.seen(organization)).standings]
        lately = [each.gateway_id for each in summaries if (each.last_seen or 0.0) >= now - INTERVAL]
        latencies = sorted(await self._survey.latencies(lately[:_MEASURED], since=now - INTERVAL)) if lately else []
        sample = Sample(
            measured_at=now,
            recorded=sum(each.head for each in summaries),
            confirmed=sum(each.head - each.lag for each in summaries),
            lag=max((each.lag_seconds for each in summaries), default=0.0),
            median=_share(latencies, 0.5),
            slowest=_share(latencies, 0.99),
        )
        await self._samples.store(organization, sample)


def _share(latencies: Sequence[float], share: float) -> float:
    """The value that this share of them stays below; -1: there are none."""
    return latencies[min(len(latencies) - 1, int(len(latencies) * share))] if latencies else -1.0
