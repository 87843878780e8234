"""Pods and gateways, and what they live in."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from gatecast.errors import StorageUnavailable
from gatecast.events import Action, Event, Position
from gatecast.protocol.session import Version
from simulation.database import SimulatedDatabase
from simulation.gateways import SimulatedGateway
from simulation.history import History, PromiseBroken
from simulation.isolation import LOOK_INTERVAL, Limits, Supply
from simulation.jetstream import SimulatedStream
from simulation.network import Wire
from simulation.pods import SimulatedPod


class Engine(StrEnum):
    """What holds the log."""

    SQL = "sql"
    JETSTREAM = "jetstream"


_ENGINES: Mapping[Engine, type[SimulatedDatabase | SimulatedStream]] = {
    Engine.SQL: SimulatedDatabase,
    Engine.JETSTREAM: SimulatedStream,
}

_PODS = 3


class SimulatedWorld:
    """Three pods, four gateways, and everything that goes wrong."""

    def __init__(self, seed: int, *, with_restores: bool, engine: Engine) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 - repeats, guards nothing
        self.limits = Limits.drawn(self.random)
        self.history = History()
        self.database: Any = _ENGINES[engine](self.random, self.history, self.notify)
        self.pods: list[SimulatedPod] = []
        self.gateways = [self.new_gateway(number) for number in range(4)]
        #: How many gateways were deleted: their names are not used again.
        self.deleted = 0
        self.supplies = [Supply(self.history, gateway.gateway_id) for gateway in self.gateways]
        self.with_restores = with_restores
        self._names = self._changes = 0
        #: What runs beside the schedule.
        self.tasks: dict[asyncio.Task[None], None] = {}
        #: How each gateway lives.
        self.lives: dict[str, asyncio.Task[None]] = {}
        self._failure: BaseException | None = None
        #: What a restore goes back to, and what a failover does.
        self.backup = self.standby = self.database.backup()
        #: Nobody restores it twice before the pods have found out about the first time.
        self.settled_at = 0.0

    def next_uuid(self) -> UUID:
        """A uuid that the seed determines."""
        return UUID(int=self.random.getrandbits(128), version=4)

    def new_gateway(self, number: int, name: str = "") -> SimulatedGateway:
        """A gateway, unmodified or speaking `gatecast.v2`, that has not begun to live."""
        version = Version.GATECAST_V2 if number % 2 else Version.GATEWAY_V1
        return SimulatedGateway(
            name or f"gateway-{number}", version, random_source=self.random, history=self.history, dial=self.dial
        )

    def notify(self, gateways: frozenset[str] | None) -> None:
        """Wake every pod for these gateways; for all and for what is no event, with None."""
        for pod in self.pods:
            pod.wakeup.hear(gateways)

    async def dial(
        self, gateway: SimulatedGateway, after: Position | None, *, twin: bool = False, newest_only: bool = False
    ) -> Wire | None:
        """A load balancer: any pod that accepts."""
        await asyncio.sleep(self.random.choice((0.0, 0.002, 0.05)))
        accepting = [pod for pod in self.pods if pod.accepting]
        if not accepting:
            return None
        return self.random.choice(accepting).accept(gateway, after, twin=twin, newest_only=newest_only)

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside the schedule; a broken promise in it ends the run."""
        task = asyncio.create_task(work)
        self.tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()

    async def start(self) -> None:
        """Register the gateways, and begin to live."""
        for gateway in self.gateways:
            await self.database.storage().log.register(gateway.gateway_id)
        self.backup = self.standby = self.database.backup()
        for _ in range(_PODS):
            await self.start_pod()
        for gateway in self.gateways:
            self.lives[gateway.gateway_id] = self.begin(gateway.run())
        self.begin(self._watch())

    async def start_pod(self) -> None:
        """Add a replica, which is as cut off as the others while the servers are away."""
        self._names += 1
        pod = SimulatedPod(f"pod-{self._names}", self)
        if (away := max(self.database.reachable_at, self.database.led_at) - asyncio.get_running_loop().time()) > 0:
            pod.trouble(away)
        self.pods.append(pod)
        await pod.start()

    # --- what happenings draw from it -----------------------------------------------------------------------------

    def event(self, gateway_id: str, event_id: UUID | None = None) -> Event:
        """A change of one of three entities."""
        kind = self.random.choice(("llmprovider.deployed", "apikey.created", "api.undeployed"))
        return Event(
            gateway_id=gateway_id,
            type=kind,
            action=Action.UPDATE,
            entity_type="thing",
            entity_id=self.random.choice(("one", "two", "three")),
            data={"providerId": "p", "deploymentId": "d", "number": self._next_number()},
            event_id=event_id or self.next_uuid(),
            originated_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self.random.randint(-9, 9)),
        )

    def _next_number(self) -> int:
        self._changes += 1
        return self._changes

    def some_gateway(self) -> SimulatedGateway:
        """Any gateway."""
        return self.random.choice(self.gateways)

    def some_pod(self) -> SimulatedPod:
        """Any pod."""
        return self.random.choice(self.pods)

    async def in_any_case(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do it as an operator does: again, if the servers are away, or the stream was put back meanwhile."""
        while True:
            with suppress(StorageUnavailable):
                await work()
                return
            await asyncio.sleep(0.1)

    # --- what must hold all the time ------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """P7, at any time: everything is bounded, and who reads is supplied although others do not."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            self.look()

    def look(self) -> None:
        """P7, now: what waits is bounded, and each gateway that reads is supplied."""
        for each in self.pods:
            each.check_bounds()
        now, epoch = asyncio.get_running_loop().time(), self.database.rows.epoch
        for gateway, supply in zip(self.gateways, self.supplies, strict=True):
            pod = self._undisturbed(gateway, now)
            supply.look(epoch, now=now, hindered=pod is None)
            if pod is not None:
                supply.check(epoch, pod.as_source(gateway.gateway_id))

    def _undisturbed(self, gateway: SimulatedGateway, now: float) -> SimulatedPod | None:
        """The pod that this gateway reads from, if nothing of their own is in the way of its events."""
        wire = gateway.wire
        if wire is None or not (wire.works and gateway.greeted and gateway.reading.is_set()):
            return None
        return next((pod for pod in self.pods if pod.serves(wire) and now > pod.troubled_until), None)

    def check_alive(self) -> None:
        """Raise what has gone wrong: a broken promise first."""
        if self.history.broken is not None:
            raise self.history.broken
        if self._failure is not None:
            raise self._failure
        for pod in self.pods:
            if pod.delivery.failure is not None:
                raise PromiseBroken(f"a background task died: {pod.delivery.failure!r}") from pod.delivery.failure

    # --- its end ---------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End everything that runs, in whatever state it is."""
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for pod in self.pods:
            await pod.crash()
