"""Replicas that run the real delivery."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from gatecast.delivery.delivery import Delivery, DeliveryOptions
from gatecast.delivery.feed import Feed
from gatecast.errors import GatecastError
from gatecast.events import Event, Position
from gatecast.protocol.session import ServerSession, Version
from gatecast.server.gateway_api.gateway_socket import GatewaySocket, open_session
from gatecast.storage.contract import Connection, Progress, TrimPolicy
from simulation.database import LOOKED_UP
from simulation.gateways import SimulatedGateway
from simulation.isolation import PATIENCE, Source
from simulation.network import Wire
from simulation.wakeup import SimulatedWakeup

if TYPE_CHECKING:
    from simulation.world import SimulatedWorld

_LAZY_POLICY = TrimPolicy(keep_confirmed=timedelta(hours=1), keep_at_most=timedelta(days=1), max_events=10**6)


class SimulatedPod:
    """One replica with the real delivery inside."""

    def __init__(self, pod_id: str, world: SimulatedWorld) -> None:
        self.pod_id = pod_id
        self._world = world
        self.storage = world.database.storage()
        self.wakeup = SimulatedWakeup(world.random)
        options = DeliveryOptions(
            pod_id=pod_id,
            poll_interval=world.limits.poll_interval,
            trim_policy=_LAZY_POLICY,
            random_source=world.random,
        )
        self.delivery = Delivery(cast("Any", self.storage), self.wakeup, options)
        # Dictionaries, because they keep their order: a seed must repeat exactly.
        self._serving: dict[asyncio.Task[None], None] = {}
        self._wires: dict[Wire, None] = {}
        self.accepting = False
        #: The open conversations, with the names of their gateways.
        self.sessions: dict[ServerSession, str] = {}
        #: How far each connection had come that ended here.
        self._left: list[Progress] = []
        #: Something of its own may keep it from reading until then.
        self.troubled_until = 0.0
        #: When it heard wake-ups again, and how far the logs went then.
        self.heard_since = 0.0
        self.heads_then: dict[str, int] = {}

    def serves(self, wire: Wire) -> bool:
        """Whether this pod speaks over this wire, and goes on."""
        return self.accepting and wire in self._wires

    def trouble(self, duration: float) -> None:
        """Its database is away for so long, and then it may pause for a while."""
        # What it has asked last waits for its answer first.
        pause = self._world.database.answers_within + self._world.limits.longest_pause
        self.troubled_until = max(self.troubled_until, asyncio.get_running_loop().time() + duration + pause)

    def hear_again(self) -> None:
        """Wake-ups come through again."""
        rows = self._world.database.rows
        self.heard_since = asyncio.get_running_loop().time()
        self.heads_then = {name: stream.head for name, stream in rows.streams.items()}
        self.wakeup.regain()

    def as_source(self, gateway_id: str) -> Source:
        """What this gateway can expect of it."""
        limits = self._world.limits
        others_full = any(limits.is_full(feed) for feed in self._feeds() if feed.gateway_id != gateway_id)
        return Source(
            now=asyncio.get_running_loop().time(),
            patience=PATIENCE + limits.poll_interval,
            heard_since=self.heard_since,
            head_then=self.heads_then.get(gateway_id, 0),
            promise="P7" if others_full else "P3",
        )

    def _feeds(self) -> list[Feed]:
        return self.delivery.reader._all_feeds()  # noqa: SLF001 - nothing else tells what they hold

    def check_bounds(self) -> None:
        """P7: nothing grows with what a gateway does not read."""
        history, limits = self._world.history, self._world.limits
        for feed in self._feeds():
            limits.check_feed(history, feed)
        for session, gateway_id in self.sessions.items():
            limits.check_window(history, gateway_id, session)

    async def start(self) -> None:
        """Begin to serve."""
        await self.delivery.__aenter__()
        self.accepting = True

    @property
    def is_greeting(self) -> bool:
        """Whether a connection begins: its gateway has not been told yet where it continues."""
        return len(self._serving) > len(self.sessions)

    async def drain(self) -> None:
        """Stop in an orderly way."""
        self.accepting = False
        self.delivery.end_all("restarting")
        with suppress(TimeoutError):
            async with asyncio.timeout(20):
                await asyncio.gather(*self._serving, return_exceptions=True)
                await self.delivery.drain()
                if self.delivery.failure is None:
                    self._world.history.drained(self.pod_id, self._world.database.rows.epoch, self._left)
        await self.crash()

    async def crash(self, *, silently: bool = False) -> None:
        """Die at once: nothing more reaches the database, and the gateways' sockets break, or just fall silent."""
        self.accepting = False
        self.storage.link.dead = True
        for wire in list(self._wires):
            wire.deafen() if silently else wire.cut()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self.delivery.__aexit__(None, None, None)

    async def publish(self, events: list[Event]) -> None:
        """Publish, and hold the pod to what it says about it."""
        try:
            receipts = await self.delivery.publish(events)
        except GatecastError:
            return
        for receipt in receipts:
            position = receipt.position
            self._world.history.acknowledged(receipt.gateway_id, receipt.event_id, position.epoch, position.offset)

    def accept(
        self, gateway: SimulatedGateway, after: Position | None, *, twin: bool, newest_only: bool = False
    ) -> Wire:
        """Take a gateway's connection and speak with it; a twin's is a second one beside its own, or instead of it."""
        wire = Wire(self._world.random, on_end=lambda ended: self._wires.pop(ended, None))
        self._wires[wire] = None
        task = asyncio.create_task(self._serve(gateway, wire, after, twin=twin, newest_only=newest_only))
        self._serving[task] = None
        task.add_done_callback(lambda ended: self._serving.pop(ended, None))
        return wire

    async def _serve(
        self, gateway: SimulatedGateway, wire: Wire, after: Position | None, *, twin: bool, newest_only: bool
    ) -> None:
        connection = Connection(
            connection_id=str(self._world.next_uuid()),
            gateway_id=gateway.gateway_id,
            replica="",
            pod_id=self.pod_id,
            protocol=gateway.version,
            remote="simulated",
            token_id=gateway.token_id,
        )
        try:
            async with asyncio.timeout(8):
                subscription = await self.delivery.subscribe(connection, after=after, newest_only=newest_only)
        except (GatecastError, TimeoutError):
            wire.cut()
            return
        self._world.history.began(gateway.gateway_id, LOOKED_UP.get(), after, subscription.start)
        wire.begins_behind = subscription.start.position.offset
        session = open_session(
            subscription,
            gateway.version,
            self._world.limits.session,
            batch_bytes=self._world.random.choice((0, 600, 100_000)),
        )
        self.sessions[session] = gateway.gateway_id
        try:
            # One that has hung up, and reads on another connection by now, is not sent it here.
            is_heard = not twin and gateway.wire in (wire, None)
            if subscription.start.lost and gateway.version is Version.GATEWAY_V1 and is_heard:
                # The control plane sends the desired state: the gateway misses nothing up to here.
                start = subscription.start.position
                self._world.history.resynchronized(gateway.gateway_id, start.epoch, start.offset)
            conversation = GatewaySocket(
                wire,
                session,
                subscription,
                delivery=self.delivery,
            )
            await conversation.run(session.start(datetime.now(UTC)))
        finally:
            del self.sessions[session]
            if not subscription.was_closed_here:
                self._left.append(subscription.progress)
            subscription.close()
            wire.cut()
