"""What one simulated gateway consists of, apart from its process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gatecast.testing.unmodified_gateway.database import Database
from gatecast.testing.unmodified_gateway.messages import Received
from gatecast.testing.unmodified_gateway.options import GatewayOptions
from gatecast.testing.unmodified_gateway.steps import Schedule, natural_order
from gatecast.testing.unmodified_gateway.transformation import Runtime

#: Most remembered log lines.
_LOG_LENGTH = 1000


class Records:
    """What happened, in order, for a test to compare; grows with every event."""

    def __init__(self) -> None:
        #: Each event, in the order of arrival.
        self.received: list[Received] = []
        #: The payload of each acknowledgement that went out.
        self.acks_sent: list[dict[str, str]] = []
        #: Connections that reached `connection.ack`.
        self.connections_made = 0
        #: Events whose handling has ended, whatever came of it.
        self.handled = 0
        #: How often everything that follows `connection.ack` was gone through (section 3.1).
        self.reconciliations = 0
        #: The HTTP status that ended the process, if one did.
        self.exited: int | None = None
        #: Why the process ended when it started, if it did; its exit status is 1.
        self.start_failed = ""
        #: The name of each step, in the order in which they happened.
        self.steps: list[str] = []
        #: The newest log lines.
        self.log: deque[str] = deque(maxlen=_LOG_LENGTH)
        self._changed = asyncio.Event()

    def note(self, line: str) -> None:
        """Add a log line."""
        self.log.append(line)
        self.changed()

    def changed(self) -> None:
        """Let everyone who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Return when the predicate holds; it is asked again after every change."""
        while not predicate():
            await self._changed.wait()


async def _no_delay(_artifact_id: str) -> None:
    """Downloads take no extra time unless a test says so."""


class Controls:
    """What a test may do to the gateway."""

    def __init__(self) -> None:
        #: Awaited before each download, with the artifact's id.
        self.before_download: Callable[[str], Awaitable[None]] = _no_delay
        #: Decides when a step happens.
        self.schedule: Schedule = natural_order
        #: Errors to fail the next deploys and undeploys with, in order.
        self.planned_failures: deque[str] = deque()
        #: Cleared while the gateway does not read.
        self.may_read = asyncio.Event()
        self.may_read.set()


@dataclass(frozen=True, slots=True)
class World:
    """Everything that outlives a restart."""

    #: How the gateway is set up.
    options: GatewayOptions
    #: Its database, which its replicas share.
    database: Database
    #: What happened.
    records: Records = field(default_factory=Records)
    #: What the test wants.
    controls: Controls = field(default_factory=Controls)

    #: What its process serves.
    runtime: Runtime = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "runtime", Runtime(self.records.note))
        self.database.artifacts.runtimes.append(self.runtime)

    async def step(self, name: str) -> None:
        """Return when a step is to happen."""
        await self.controls.schedule(name)
        self.records.steps.append(name)
