"""The installation that a history happens to."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from gatecast.testing.desired_state import every_artifact
from gatecast.testing.doubles.memory_wires import MemoryConnector, Network
from gatecast.testing.operator import Operator, Refused
from gatecast.testing.unmodified_gateway import DrawnOrder, GatewayOptions, Schedule, UnmodifiedGateway
from gatecast.wakeup.in_process import InProcessBus
from simulation.histories.pods import VirtualPod
from simulation.histories.repeatable import LoopClock

#: Seconds that a step of a gateway may wait: events and start-up calls come in every order.
_STEP_PAUSES = (0.0, 0.0, 0.0, 0.001, 0.02, 0.2)

#: What an operation may end with that does not fit the present state, or comes to a pod without its database.
_REFUSALS = (404, 409, 412, 422, 503)

#: In memory where there is such a folder: every commit waits for the disk.
_FOLDER = next((each for each in ("/dev/shm",) if Path(each).is_dir()), None)  # noqa: S108 - see above


@dataclass(eq=False, slots=True, kw_only=True)
class Controller:
    """One process of a gateway."""

    gateway: UnmodifiedGateway
    #: False between its end and its next start.
    runs: bool = True
    #: True while its data differ from what it could have told anybody: until it has started again, and been answered
    #: what it should have. It asks once in its life, whatever the answer: if that was lost, nobody can know.
    blind: bool = False
    #: Whether it has started since; what it read into its memory before that stays there.
    started: bool = False

    def lose_sight(self) -> None:
        """Its data are no longer what it has told."""
        self.blind, self.started = True, False

    def step(self, name: str) -> None:
        """Its process takes this step."""
        if name == "answered GET /deployments" and self.started:
            self.blind = False


@dataclass(eq=False, slots=True, kw_only=True)
class Edge:
    """One gateway: a controller, or two on one database."""

    id: str
    #: The way that it takes to a pod.
    way: str
    controllers: list[Controller]
    #: True when it may have what the control plane has lost, until its processes have started again.
    forgotten: bool = False
    #: Applications that it was told of.
    applications: set[str] = field(default_factory=set)

    @property
    def comparable(self) -> list[Controller]:
        """Controllers whose state the control plane can know."""
        return [each for each in self.controllers if each.runs and not each.blind]


@dataclass(eq=False, slots=True)
class World:
    """Two pods, two gateways, an operator at each pod, and the wires between them."""

    random: random.Random
    network: Network
    #: Where the database is.
    file: Path
    pods: list[VirtualPod] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    #: Collection and id of everything that exists, as far as operators know.
    artifacts: list[tuple[str, str]] = field(default_factory=list)
    names: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    #: What happened, and when.
    log: list[str] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def open(cls, seed: int) -> AsyncIterator[Self]:
        """Start everything; each gateway has gone through its first synchronization."""
        source = random.Random(seed)  # noqa: S311 - repeats, guards nothing
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(TemporaryDirectory(dir=_FOLDER))
            world = cls(source, Network(source), Path(folder) / "gatecast.db")
            bus = InProcessBus()
            for number in range(2):
                pod = VirtualPod(f"pod-{number}", world.file, network=world.network, bus=bus)
                await pod.start()
                stack.push_async_callback(pod.stop)
                world.pods.append(pod)
            for number in range(2):
                world.edges.append(await stack.enter_async_context(world._edge(number)))
            yield world

    @asynccontextmanager
    async def _edge(self, number: int) -> AsyncIterator[Edge]:
        access = await self.pods[0].operator.create_gateway(f"gateway-{number}")
        way = f"way-{number}"
        self.network.ways[way] = f"pod-{number}"
        first = UnmodifiedGateway(way, access.token, follow_artifacts=True, options=self._options())
        # One gateway in four has a second controller.
        gateways = [first, *([first.replica()] if self.random.random() < 0.25 else [])]
        async with AsyncExitStack() as stack:
            controllers = [Controller(gateway=each) for each in gateways]
            for place, controller in enumerate(controllers):
                controller.gateway.schedule_steps(self._noted(f"{way}/{place}", controller))
                await stack.enter_async_context(controller.gateway)
                await controller.gateway.wait_until(_synchronized(controller.gateway), limit=60)
            yield Edge(id=access.id, way=way, controllers=controllers)

    def _noted(self, place: str, controller: Controller) -> Schedule:
        """An order that is drawn, and kept in the log."""
        drawn = DrawnOrder(LoopClock(), self.random, pauses=_STEP_PAUSES)

        async def step(name: str) -> None:
            await drawn(name)
            self.note(f"    {place} {name}")
            controller.step(name)

        return step

    def _options(self) -> GatewayOptions:
        return GatewayOptions(
            tls=False,
            clock=LoopClock(),
            random_source=self.random,
            reconnect_initial=0.05,
            reconnect_max=1.0,
            connector=lambda: MemoryConnector(self.network),
        )

    @property
    def operator(self) -> Operator:
        """An operator who talks to a randomly chosen pod."""
        return self.random.choice(self.pods).operator

    async def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """What a pod's admin API answers; a refusal changes nothing, and is None."""
        try:
            return await self.operator.ask(method, path, body)
        except Refused as refused:
            if refused.status in _REFUSALS:
                self.note(f"  refused: {refused}")
                return None
            raise

    @property
    def has_backup(self) -> bool:
        """Whether there is a copy of the database."""
        return self._backup.exists()

    @property
    def _backup(self) -> Path:
        return self.file.with_suffix(".backup")

    def back_up(self) -> None:
        """Copy the database, of which every commit is whole."""
        with closing(sqlite3.connect(self.file)) as present, closing(sqlite3.connect(self._backup)) as copy:
            present.backup(copy)

    def restore(self) -> None:
        """Put the copy in the place of the database, which no pod has open."""
        for leftover in ("-wal", "-shm"):
            self.file.with_name(f"{self.file.name}{leftover}").unlink(missing_ok=True)
        shutil.copy(self._backup, self.file)

    def note(self, line: str) -> None:
        """Remember what happens now."""
        self.log.append(f"{asyncio.get_running_loop().time():10.3f} {line}")

    async def list_artifacts(self) -> None:
        """Find out what exists."""
        every = every_artifact(self.pods[0].operator)
        self.artifacts = [(collection, item["id"]) async for collection, item in every]

    @property
    def digest(self) -> str:
        """Differs when anything happened otherwise."""
        return hashlib.sha256("\n".join(self.log).encode()).hexdigest()[:16]


def _synchronized(gateway: UnmodifiedGateway) -> Any:  # noqa: ANN401 - a predicate
    return lambda: gateway.records.reconciliations > 0
