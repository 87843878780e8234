"""One run of the gateway's process: what it remembers, and its main loop (gateway-protocol.md 1.8 and 3.1)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp

from gatecast.testing.unmodified_gateway.api_keys import Dropped
from gatecast.testing.unmodified_gateway.connection import ConnectFailed, Dialer, Link
from gatecast.testing.unmodified_gateway.documents import ArtifactDownloads, NoDownloads
from gatecast.testing.unmodified_gateway.handlers import EventHandlers
from gatecast.testing.unmodified_gateway.messages import CONNECTION_ACK, Envelope, Event, Unparsable
from gatecast.testing.unmodified_gateway.rest_calls import RestCalls
from gatecast.testing.unmodified_gateway.synchronization import Synchronization
from gatecast.testing.unmodified_gateway.world import World
from gatecast.testing.unmodified_gateway.yaml_values import Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which control plane the gateway belongs to."""

    #: `name` or `name:port`.
    host: str
    #: The gateway's token.
    token: str
    #: Whether it makes REST calls.
    follow_artifacts: bool


class StartFailed(Exception):
    """The gateway's process ends with status 1 before it connects."""


class Process:
    """Everything that a restart forgets, in a world that it does not."""

    def __init__(self, session: aiohttp.ClientSession, target: Target, world: World) -> None:
        #: The present connection, once it was greeted.
        self.link: Link | None = None
        #: Gateway id and connection id of the newest `connection.ack`.
        self.identity = ("", "")
        #: Set to end the main loop at the next loss.
        self.stopping = False
        self._world = world
        self._follows = target.follow_artifacts
        self._dialer = Dialer(session, target.host, target.token, world.options)
        calls = RestCalls(session, self._dialer, target.token, step=world.step)
        self._synchronization = Synchronization(calls, world)
        self._handlers = EventHandlers(
            world,
            ArtifactDownloads(calls, self._synchronization.secrets, world.controls)
            if target.follow_artifacts
            else NoDownloads(world.controls),
        )
        self._deployments_asked = False
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Connect again after each loss, at once; what runs beside the connection becomes a task.

        Raises:
            ProcessExit: the control plane refused for good.
            StartFailed: something in the database cannot be transformed.
        """
        self._start_runtime()
        self._tasks = tasks
        while not self.stopping:
            link = await self._connect()
            try:
                self._begin(link, tasks)
                await link.serve(self._handle)
            finally:
                self.link = None
                link.socket.release()
                self._world.records.changed()

    def _start_runtime(self) -> None:
        self._world.database.own.deliver()
        skip = self._world.options.skip_invalid_deployments_on_startup
        try:
            self._world.runtime.start(self._world.database.artifacts.stored, skip_invalid=skip)
        except Rejected as problem:
            raise StartFailed(f"failed to transform startup config: {problem}") from problem

    def announce(self, local_id: str) -> None:
        """Tell the control plane what has just happened to something of the gateway itself; without a connection, wait.

        The next connection announces everything.
        """
        if self._tasks and self.link and self._follows and not self._dialer.on_premises:
            self._tasks.create_task(self._synchronization.push_own(local_id), name="import")

    async def _connect(self) -> Link:
        """Attempt until a connection was greeted, with growing pauses."""
        failures = 0
        while True:
            try:
                return await self._attempt()
            except ConnectFailed as problem:
                # The counter grows before the pause is computed: the first pause is already twice the initial one.
                failures += 1
                self._world.records.note(f"attempt failed: {problem}")
            options = self._world.options
            await options.clock.sleep(options.reconnect_pause(failures))

    async def _attempt(self) -> Link:
        socket = await self._dialer.dial()
        link = Link(socket, self._world.options, self._world.controls.may_read)
        try:
            self.identity = await link.greet()
        except BaseException:
            socket.release()
            raise
        return link

    def _begin(self, link: Link, tasks: asyncio.TaskGroup) -> None:
        self.link = link
        self._world.records.connections_made += 1
        self._world.records.changed()
        if self._follows:
            tasks.create_task(self._reconcile(tasks), name="reconcile")
            if not self._dialer.on_premises:
                tasks.create_task(self._synchronization.push_manifest(self.identity[0]), name="manifest")

    async def _reconcile(self, tasks: asyncio.TaskGroup) -> None:
        """Task A of section 3.1; on premises only its last step's first call is left."""
        synchronization = self._synchronization
        if self._dialer.on_premises:
            await synchronization.api_keys_on_premises()
            return
        await synchronization.fetch_secrets()
        if not self._deployments_asked:
            # Asked once per process, whatever the answer was.
            self._deployments_asked = True
            await synchronization.deployments()
        tasks.create_task(synchronization.push_own(), name="import")
        await synchronization.plans_subscriptions_and_keys()
        self._world.records.reconciliations += 1
        self._world.records.changed()

    async def _handle(self, text: str) -> None:
        """One text frame; whatever cannot be used is skipped."""
        envelope = Envelope.parse(text)
        if envelope is None or envelope.type == CONNECTION_ACK:
            return
        self._world.records.received.append(envelope.as_received())
        self._world.records.changed()
        name = f"{envelope.type} {envelope.entity_id}"
        await self._world.step(f"event {name}")
        try:
            await self._apply(envelope)
        except (Unparsable, Dropped) as problem:
            self._world.records.note(f"{envelope.type} dropped: {problem}")
        await self._world.step(f"handled {name}")
        self._world.records.handled += 1
        self._world.records.changed()

    async def _apply(self, envelope: Envelope) -> None:
        if not self._handlers.knows(envelope.type):
            return
        acknowledgement = await self._handlers.handle(Event(envelope))
        # Where the socket is gone, the acknowledgement is lost for good (section 1.9).
        if acknowledgement and self.link and await self.link.send(acknowledgement.encode()):
            self._world.records.acks_sent.append(acknowledgement.payload)
