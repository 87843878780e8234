"""The metrics of all gateways together, kept up to date by one pod: the first live one."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable

from gatecast.containment import contained
from gatecast.hub import EventHub
from gatecast.server.probe import PREFIX, LeftProbes
from gatecast.storage.contract import DeliverySummary, GatewayCount
from gatecast.telemetry import metrics

#: How often all gateways are looked at, in seconds; so seldom that it takes a twentieth of the time, but once a minute.
INTERVAL = 15.0
_TIMES_ITS_COST = 20
_LONGEST = 60.0

#: A connected gateway that lags by this long, in seconds, counts as not confirming.
SLOW_UNTIL = 10.0


async def keep_fleet_metrics(hub: EventHub, pod_id: str) -> None:
    """Count the gateways again and again, for as long as this is the pod that does; never returns."""
    left = LeftProbes(hub)
    pause = INTERVAL
    while True:
        await asyncio.sleep(pause)
        began = time.monotonic()
        counted = await count_gateways(hub, pod_id, left)
        # The duration of a failed count does not predict the cost of the next one.
        cost = time.monotonic() - began if counted else 0.0
        pause = max(INTERVAL, min(_LONGEST, _TIMES_ITS_COST * cost))


async def count_gateways(hub: EventHub, pod_id: str, left: LeftProbes) -> bool:
    """Show the state of all gateways if this pod is the one to do so; otherwise, or if it is unknown, show nothing.

    False: it is unknown. Probes do not count as gateways; this also removes those of dead pods.
    """
    counts: Iterable[GatewayCount] = ()
    behind: Iterable[tuple[DeliverySummary | None, DeliverySummary]] = ()
    counted = False
    with contained("gateways-not-counted"):
        pods = await hub.engine.presence.pods()
        if pods and pods[0].pod_id == pod_id:
            # Counted by the database: a row for each of a hundred thousand gateways would keep all others waiting here.
            counts = await hub.engine.survey.counts(slow_after=SLOW_UNTIL, except_for=PREFIX)
            behind = await hub.behind()
            await left.remove(await hub.engine.survey.beginning_with(PREFIX), [pod.pod_id for pod in pods])
        counted = True
    numbers: Counter[str] = Counter()
    oldest: dict[bool, float] = {}
    for each in counts:
        numbers[code_of(each)] += each.gateways
        oldest[each.connected] = max(oldest.get(each.connected, 0.0), each.lag_seconds if each.lagging else 0.0)
    for before, now in behind:
        if now.gateway_id.startswith(PREFIX):
            continue
        if before is not None:
            numbers[code_of(before)] -= 1
        numbers[code_of(now)] += 1
        oldest[now.connected] = max(oldest.get(now.connected, 0.0), now.lag_seconds)
    # A gateway may have changed between the two looks.
    metrics.gateways(+numbers, oldest)
    return counted


def code_of(standing: DeliverySummary | GatewayCount) -> str:
    """Why the gateway is, or is not, up to date: the codes of `GET …/why` that one look at all gateways can tell."""
    if standing.resynchronizing:
        return "resync-needed"
    if standing.parked:
        return "rejected"
    if not standing.connected:
        return "offline"
    if not standing.lagging:
        return "current"
    return "slow" if standing.lag_seconds < SLOW_UNTIL else "not-confirming"
