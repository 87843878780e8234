"""The metrics of all gateways together, kept up to date by one pod: the first live one."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from gatecast.containment import contained
from gatecast.hub import EventHub
from gatecast.server.probe import LeftProbes, is_probe
from gatecast.storage.contract import DeliverySummary
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
    summaries: Sequence[DeliverySummary] = ()
    counted = False
    with contained("gateways-not-counted"):
        pods = await hub.engine.presence.pods()
        if pods and pods[0].pod_id == pod_id:
            heads = (await hub.engine.log.changed_since(0)).heads
            summaries = await hub.engine.survey.summaries([each for each in heads if not is_probe(each)])
            await left.remove(heads, [pod.pod_id for pod in pods])
        counted = True
    oldest: dict[bool, float] = {}
    for each in summaries:
        connected = bool(each.pods)
        oldest[connected] = max(oldest.get(connected, 0.0), each.lag_seconds if each.lag else 0.0)
    metrics.gateways(Counter(map(code_of, summaries)), oldest)
    return counted


def code_of(summary: DeliverySummary) -> str:
    """Why the gateway is, or is not, up to date: the codes of `GET …/why` that one look at all gateways can tell."""
    if summary.resync_reason:
        return "resync-needed"
    if summary.parked:
        return "rejected"
    if not summary.pods:
        return "offline"
    if not summary.lag:
        return "current"
    return "slow" if summary.lag_seconds < SLOW_UNTIL else "not-confirming"
