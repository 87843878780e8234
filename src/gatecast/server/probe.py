"""Each pod's probe: a hidden gateway of its own, and an event every few seconds to that of the next pod.

An event goes the whole way that events of gateways go: it is published, recorded, picked up by another pod, sent and
confirmed. The hops that the database records show how long that took, on one clock, and whether it happened.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from statistics import median
from uuid import uuid4

from gatecast.background import run_together
from gatecast.containment import contained
from gatecast.errors import GatecastError, UnknownGateway
from gatecast.events import Action, Event
from gatecast.hub import EventHub, HubSubscription
from gatecast.settings import Settings
from gatecast.storage.contract import Connection, ReadRequest, Receipt
from gatecast.storage.hops import Hop
from gatecast.telemetry import metrics

#: A pod publishes this often, in seconds: less than is left of a lease that is being renewed, so that a pod that
#: freezes misses one event at least before the others leave it out. What has not arrived by the next one is missing.
INTERVAL = 3.0

#: What was published counts as late after this part of the poll interval, or after this many seconds if that is
#: longer: with wake-ups it takes milliseconds, and without them half of the poll interval on average.
_PART_OF_POLL_INTERVAL = 0.5
_LEAST_ON_TIME = 0.1

#: A log is replaced after this many events, so that a pod keeps no more of them.
MOST_EVENTS = 1_000

#: Number of events kept for people to see, and the number published in the time they are kept: five minutes.
_REMEMBERED = 100

#: Pause after a failure, or before starting over, in seconds.
_PAUSE = 1.0

#: What the ids of probes' gateways begin with; gateways of organizations have ids of another form.
PREFIX = "gatecast-probe:"

_PROTOCOL = "probe"


def log_of(pod_id: str) -> str:
    """The gateway id of a pod's probe. It belongs to no organization, so that no API lists it or publishes to it."""
    return PREFIX + sha256(pod_id.encode()).hexdigest()


def is_probe(gateway_id: str) -> bool:
    """Whether this is the gateway of a probe."""
    return gateway_id.startswith(PREFIX)


def next_pod(pods: Iterable[str], pod_id: str) -> str:
    """The pod after this one in the order of their ids, the first after the last; itself if it is alone."""
    others = sorted(set(pods) - {pod_id})
    return next((each for each in others if each > pod_id), others[0] if others else pod_id)


class Probe:
    """The probe of one pod."""

    def __init__(self, hub: EventHub, settings: Settings) -> None:
        self._hub = hub
        self._pod_id = settings.pod_id
        self._log = log_of(settings.pod_id)
        poll_interval = settings.poll_interval.total_seconds()
        #: An event that takes longer, in seconds, is late.
        self.on_time = max(_LEAST_ON_TIME, _PART_OF_POLL_INTERVAL * poll_interval)
        if not settings.notifications:
            self.on_time += poll_interval
        self._receipt: Receipt | None = None
        #: Result of the last events, their seconds to arrival, and when that was known.
        self._noted: deque[tuple[str, float | None, float]] = deque(maxlen=_REMEMBERED)

    async def run(self) -> None:
        """Be a gateway, and publish to the next pod's, until cancelled; then take the gateway away."""
        try:
            await run_together({"probe-receive": self._receive_always, "probe-publish": self._publish_always})
        finally:
            with suppress(GatecastError, TimeoutError):
                async with asyncio.timeout(_PAUSE):
                    await self._hub.delete_gateway(self._log)

    async def _receive_always(self) -> None:
        while True:
            with contained("probe-receives-nothing"):
                await self.receive()
            await asyncio.sleep(_PAUSE)

    async def _publish_always(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            with contained("probe-not-published"):
                await self.step()

    # --- the gateway --------------------------------------------------------------------------------------------

    async def receive(self) -> None:
        """Confirm what arrives in a new log, until it has its most events."""
        await self._hub.delivery.presence.until_known()
        await self._hub.delete_gateway(self._log)
        await self._hub.register_gateway(self._log)
        async with HubSubscription(self._hub.delivery, self._connection(), None) as subscription:
            async for event in subscription:
                subscription.acknowledge(event)
                if event.offset >= MOST_EVENTS:
                    return

    def _connection(self) -> Connection:
        return Connection(
            connection_id=str(uuid4()),
            gateway_id=self._log,
            replica="",
            pod_id=self._pod_id,
            protocol=_PROTOCOL,
            remote="local",
            token_id=None,
        )

    # --- the publisher ------------------------------------------------------------------------------------------

    async def step(self) -> None:
        """Say what became of the event that was published last, and publish the next one."""
        receipt, self._receipt = self._receipt, None
        try:
            if receipt is not None:
                async with asyncio.timeout(INTERVAL):
                    await self._judge(receipt)
            async with asyncio.timeout(INTERVAL):
                self._receipt = await self._publish()
        except (GatecastError, TimeoutError):
            # An event that could not be published or looked up in this time counts as not arrived.
            self._note(None)
            raise

    async def _publish(self) -> Receipt | None:
        """The receipt of an event to the next pod; None: that pod has no probe now."""
        pods = [pod.pod_id for pod in await self._hub.engine.presence.pods()]
        event = Event(
            gateway_id=log_of(next_pod(pods, self._pod_id)),
            type="gatecast.probe",
            action=Action.UPDATE,
            entity_type="Probe",
            entity_id="probe",
            trace_parent=None,
        )
        with suppress(UnknownGateway):
            [receipt] = await self._hub.append([event])
            return receipt
        return None

    async def _judge(self, receipt: Receipt) -> None:
        engine, offset = self._hub.engine, receipt.position.offset
        # In this order: a pod that left in between, in order, took its log with it, and nothing is missing.
        deliveries = await engine.outcomes.deliveries(receipt.gateway_id, offset)
        request = ReadRequest(gateway_id=receipt.gateway_id, after=offset - 1, max_events=1, max_bytes=1)
        [found] = await engine.log.read([request])
        if found is None or not found.events or found.events[0].event_id != receipt.event_id:
            return
        confirmed = [each.hops[Hop.CONFIRMED].at for each in deliveries if Hop.CONFIRMED in each.hops]
        if not confirmed:
            self._note(None)
            return
        self._note(max(0.0, (min(confirmed) - found.events[0].recorded_at).total_seconds()))

    def _note(self, seconds: float | None) -> None:
        """Count an event that took this many seconds; None: it is missing."""
        result = "missing" if seconds is None else "on-time" if seconds <= self.on_time else "late"
        metrics.probed(result, seconds)
        self._noted.append((result, seconds, time.monotonic()))

    # --- for people ---------------------------------------------------------------------------------------------

    def _remembered(self) -> Iterator[tuple[str, float | None]]:
        """The results of the last five minutes: older ones say nothing about now."""
        oldest = time.monotonic() - _REMEMBERED * INTERVAL
        return ((result, seconds) for result, seconds, at in self._noted if at >= oldest)

    @property
    def recent(self) -> Mapping[str, int]:
        """How many of the last events were on time, late and missing."""
        counts = Counter(result for result, _ in self._remembered())
        return {result: counts[result] for result in metrics.PROBE_RESULTS}

    @property
    def usual_seconds(self) -> float | None:
        """How long half of the last events that arrived took at most; None: none arrived."""
        arrived = [seconds for _, seconds in self._remembered() if seconds is not None]
        return median(arrived) if arrived else None


class LeftProbes:
    """Removes the logs that the probes of dead pods have left."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._suspected: frozenset[str] = frozenset()

    async def remove(self, logs: Iterable[str], pods: Sequence[str]) -> None:
        """Remove the logs whose pods are not among `pods`, now and at the previous call.

        Twice, because a pod may have begun between the two questions, and because the others still judge by the log
        of one that has just died.
        """
        left = frozenset(log for log in logs if is_probe(log)) - {log_of(pod_id) for pod_id in pods}
        for log in left & self._suspected:
            await self._hub.delete_gateway(log)
        self._suspected = left
