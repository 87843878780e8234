"""Pods, gateways and a schedule that a seed determines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Self, cast
from uuid import UUID

from aiohttp import web

from gatecast.delivery.delivery import Delivery, DeliveryOptions
from gatecast.delivery.resume import PARKED
from gatecast.delivery.retention import clean_up
from gatecast.errors import GatecastError
from gatecast.events import Action, Event, Position
from gatecast.protocol.session import SessionLimits, Version
from gatecast.server.gateway_socket import GatewaySocket, open_session
from gatecast.storage.contract import Connection, Entity, OutcomeKind, TrimPolicy
from gatecast.testing.simulation.database import SimulatedDatabase, SimulatedStorage
from gatecast.testing.simulation.gateways import SimulatedGateway
from gatecast.testing.simulation.history import History, PromiseBroken
from gatecast.testing.simulation.network import Wire
from gatecast.waiting import reseed
from gatecast.wakeup.contract import EVERYTHING, Hint, Listener

#: Everything must have come to rest this long after the last fault, in simulated seconds.
REST_TIME_LIMIT = 900.0

#: No schedule takes longer, in simulated seconds; one that does hangs.
LONGEST_RUN = 7200.0

_PODS = 3
_LAZY_POLICY = TrimPolicy(keep_confirmed=timedelta(hours=1), keep_at_most=timedelta(days=1), max_events=10**6)
_EAGER_POLICY = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(days=1), max_events=10**6)
_RUTHLESS_POLICY = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(seconds=20), max_events=10**6)


class SimulatedWakeup:
    """Hints that come late, or not at all."""

    def __init__(self, random_source: random.Random) -> None:
        self._random = random_source
        self._listener: Listener | None = None
        #: False: nothing is heard.
        self.connected = True

    def listen(self, listener: Listener) -> None:
        """Call this listener with what is heard."""
        self._listener = listener

    def send(self, hint: Hint) -> None:
        """The database sends hints by itself."""

    def hear(self, gateways: frozenset[str] | None) -> None:
        """A hint was sent; one in ten is lost."""
        if self.connected and self._listener is not None and self._random.random() > 0.1:
            delay = self._random.choice((0.0, 0.001, 0.05))
            asyncio.get_running_loop().call_later(delay, self._listener, Hint(gateways))

    def lose(self) -> None:
        """Hear nothing any more."""
        self.connected = False

    def regain(self) -> None:
        """Hear again, and look at everything at once."""
        self.connected = True
        if self._listener is not None:
            self._listener(EVERYTHING)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Nothing to close."""


class SimulatedPod:
    """One replica with the real delivery inside."""

    def __init__(self, pod_id: str, world: SimulatedWorld) -> None:
        self.pod_id = pod_id
        self._world = world
        self.storage = SimulatedStorage(world.database)
        self.wakeup = SimulatedWakeup(world.random)
        options = DeliveryOptions(
            pod_id=pod_id, poll_interval=0.5, trim_policy=_LAZY_POLICY, random_source=world.random
        )
        self.delivery = Delivery(cast("Any", self.storage), self.wakeup, options)
        # Dictionaries, because they keep their order: a seed must repeat exactly.
        self._serving: dict[asyncio.Task[None], None] = {}
        self._wires: dict[Wire, None] = {}
        self.accepting = False

    async def start(self) -> None:
        """Begin to serve."""
        await self.delivery.__aenter__()
        self.accepting = True

    async def drain(self) -> None:
        """Stop in an orderly way."""
        self.accepting = False
        self.delivery.dismiss_all("restarting")
        with suppress(TimeoutError):
            async with asyncio.timeout(20):
                await asyncio.gather(*self._serving, return_exceptions=True)
                await self.delivery.drain()
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

    def accept(self, gateway: SimulatedGateway, after: Position | None, *, twin: bool) -> Wire:
        """Take a gateway's connection and speak with it; a twin's is a second one beside its own."""
        wire = Wire(self._world.random, on_end=lambda ended: self._wires.pop(ended, None))
        self._wires[wire] = None
        task = asyncio.create_task(self._serve(gateway, wire, after, twin=twin))
        self._serving[task] = None
        task.add_done_callback(lambda ended: self._serving.pop(ended, None))
        return wire

    async def _serve(self, gateway: SimulatedGateway, wire: Wire, after: Position | None, *, twin: bool) -> None:
        connection = Connection(
            connection_id=str(self._world.next_uuid()),
            gateway_id=gateway.gateway_id,
            replica="",
            pod_id=self.pod_id,
            protocol=gateway.version,
            remote="simulated",
            token_id=None,
        )
        try:
            async with asyncio.timeout(8):
                subscription = await self.delivery.subscribe(connection, after=after)
        except (GatecastError, TimeoutError):
            wire.cut()
            return
        try:
            if subscription.start.lost and gateway.version is Version.GATEWAY_V1 and not twin:
                # The control plane sends the desired state: the gateway misses nothing up to here.
                start = subscription.start.position
                self._world.history.resynchronized(gateway.gateway_id, start.epoch, start.offset)
            session = open_session(subscription, gateway.version, SessionLimits())
            conversation = GatewaySocket(
                cast("web.WebSocketResponse", wire),
                session,
                subscription,
                transport=cast("asyncio.Transport", wire),
                delivery=self.delivery,
            )
            await conversation.run(session.start(datetime.now(UTC)))
        finally:
            subscription.close()
            wire.cut()


class SimulatedWorld:
    """Three pods, four gateways, and everything that goes wrong."""

    def __init__(self, seed: int, *, with_restores: bool) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 - repeats, guards nothing
        self.history = History()
        self.database = SimulatedDatabase(self.random, self.history, self._notify)
        self.pods: list[SimulatedPod] = []
        self.gateways = [self._gateway(number) for number in range(4)]
        self._with_restores = with_restores
        self._names = self._changes = 0
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._failure: BaseException | None = None
        self._backup = self.database.backup()

    def next_uuid(self) -> UUID:
        """A uuid that the seed determines."""
        return UUID(int=self.random.getrandbits(128), version=4)

    def _gateway(self, number: int) -> SimulatedGateway:
        version = Version.GATECAST_V2 if number % 2 else Version.GATEWAY_V1
        return SimulatedGateway(
            f"gateway-{number}", version, random_source=self.random, history=self.history, dial=self._dial
        )

    def _notify(self, gateways: frozenset[str] | None) -> None:
        for pod in self.pods:
            pod.wakeup.hear(gateways)

    async def _dial(self, gateway: SimulatedGateway, after: Position | None, *, twin: bool = False) -> Wire | None:
        """A load balancer: any pod that accepts."""
        await asyncio.sleep(self.random.choice((0.0, 0.002, 0.05)))
        accepting = [pod for pod in self.pods if pod.accepting]
        return self.random.choice(accepting).accept(gateway, after, twin=twin) if accepting else None

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the schedule; a broken promise in it ends the run."""
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()

    async def _start_pod(self) -> None:
        self._names += 1
        pod = SimulatedPod(f"pod-{self._names}", self)
        self.pods.append(pod)
        await pod.start()

    # --- the schedule -------------------------------------------------------------------------------------------

    async def run(self, steps: int) -> None:
        """Live through `steps` random happenings, come to rest, and check that everything arrived.

        Raises:
            PromiseBroken: a promise did not hold.
        """
        for gateway in self.gateways:
            await SimulatedStorage(self.database).log.register(gateway.gateway_id)
        self._backup = self.database.backup()
        for _ in range(_PODS):
            await self._start_pod()
        for gateway in self.gateways:
            self.begin(gateway.run())
        try:
            for _ in range(steps):
                await self.random.choices(*zip(*self._happenings(), strict=True))[0]()
                await asyncio.sleep(self.random.choice((0.0, 0.001, 0.01, 0.1, 1.0, 5.0)))
                self._check_alive()
            await self._heal()
            await self._come_to_rest()
            await self._check_end()
        finally:
            await self._stop()

    def _happenings(self) -> list[tuple[Callable[[], Awaitable[None]], int]]:
        """What may happen, and how often it does."""
        return [
            (self._publish_one, 30),
            (self._publish_many, 10),
            (self._publish_again, 5),
            (self._hold_transaction, 8),
            (self._cut_wire, 10),
            (self._deafen_wire, 4),
            (self._connect_twice, 4),
            (self._crash_pod, 4),
            (self._drain_pod, 3),
            (self._lose_wakeups, 4),
            (self._lose_database, 4),
            (self._lose_answers, 4),
            (self._block_gateway, 3),
            (self._slow_gateway, 4),
            (self._upset_gateway, 4),
            (self._decide, 8),
            (self._jump_clock, 2),
            (self._trim, 6),
            (self._restore, 1 if self._with_restores else 0),
        ]

    def _event(self, gateway_id: str, event_id: UUID | None = None) -> Event:
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

    def _some_gateway(self) -> SimulatedGateway:
        return self.random.choice(self.gateways)

    def _some_pod(self) -> SimulatedPod:
        return self.random.choice(self.pods)

    async def _publish_one(self) -> None:
        self.begin(self._some_pod().publish([self._event(self._some_gateway().gateway_id)]))

    async def _publish_many(self) -> None:
        gateways = [self._some_gateway().gateway_id for _ in range(self.random.choice((2, 5, 100)))]
        self.begin(self._some_pod().publish([self._event(gateway_id) for gateway_id in gateways]))

    async def _publish_again(self) -> None:
        event = self._event(self._some_gateway().gateway_id)
        for _ in range(2):
            self.begin(self._some_pod().publish([event]))

    async def _hold_transaction(self) -> None:
        self.begin(self._transaction(self._some_gateway().gateway_id, self.random.uniform(0, 8)))

    async def _transaction(self, gateway_id: str, duration: float) -> None:
        """A caller's own transaction: it may have begun long before it publishes, and commits or rolls back late."""
        xid = self.database.begin()
        try:
            await asyncio.sleep(self.random.uniform(0, duration))
            await self.database.lock([gateway_id])
            try:
                await asyncio.sleep(self.random.uniform(0, duration))
                if self.random.random() < 0.7:
                    self.database.commit(xid, [self._event(gateway_id)])
            finally:
                self.database.unlock([gateway_id])
        finally:
            self.database.end(xid)

    async def _cut_wire(self) -> None:
        if (wire := self._some_gateway().wire) is not None:
            wire.cut()

    async def _deafen_wire(self) -> None:
        if (wire := self._some_gateway().wire) is not None:
            wire.deafen()

    async def _connect_twice(self) -> None:
        """A second connection of the same gateway, which reads for a while and then breaks."""
        gateway = self._some_gateway()
        wire = await self._dial(gateway, None, twin=True)
        if wire is not None:
            self.begin(self._read_then_break(wire, self.random.uniform(0, 10)))

    async def _read_then_break(self, wire: Wire, duration: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(duration):
                while not wire.to_gateway.is_cut:
                    await wire.to_gateway.read()
        wire.cut()

    async def _crash_pod(self) -> None:
        pod = self._some_pod()
        # At once: one that is draining is removed at its end, too, perhaps meanwhile.
        self.pods.remove(pod)
        await pod.crash(silently=self.random.random() < 0.3)
        await self._start_pod()

    async def _drain_pod(self) -> None:
        pod = self._some_pod()
        self.begin(self._replace(pod))

    async def _replace(self, pod: SimulatedPod) -> None:
        if pod.accepting:
            pod.accepting = False
            await self._start_pod()
            await pod.drain()
            if pod in self.pods:
                self.pods.remove(pod)

    async def _lose_wakeups(self) -> None:
        pod = self._some_pod()
        pod.wakeup.lose()
        asyncio.get_running_loop().call_later(self.random.uniform(0, 10), pod.wakeup.regain)

    async def _lose_database(self) -> None:
        link = self._some_pod().storage.link
        link.up = False
        asyncio.get_running_loop().call_later(self.random.choice((0.5, 5, 40)), setattr, link, "up", True)  # noqa: FBT003

    async def _lose_answers(self) -> None:
        link = self._some_pod().storage.link
        link.loss = 0.3
        asyncio.get_running_loop().call_later(self.random.uniform(0, 5), setattr, link, "loss", 0.0)

    async def _block_gateway(self) -> None:
        gateway = self._some_gateway()
        gateway.reading.clear()
        asyncio.get_running_loop().call_later(self.random.choice((2, 50)), gateway.reading.set)

    async def _slow_gateway(self) -> None:
        self._some_gateway().pace = self.random.choice((0.0, 0.01, 0.5))

    async def _upset_gateway(self) -> None:
        """It refuses some of what it gets, for a while."""
        gateway = self._some_gateway()
        if gateway.version is Version.GATECAST_V2:
            gateway.reluctance = 0.3
            asyncio.get_running_loop().call_later(self.random.uniform(0, 20), setattr, gateway, "reluctance", 0.0)

    async def _decide(self) -> None:
        """Somebody tries what is parked again, or leaves it out."""
        for gateway in self.gateways:
            for entity in self.database.rows.entities(gateway.gateway_id, "", OutcomeKind.PARKED):
                retry = self.random.random() < 0.5
                self.begin(self._resolve(self._some_pod(), gateway.gateway_id, entity, retry=retry))

    async def _resolve(self, pod: SimulatedPod, gateway_id: str, entity: Entity, *, retry: bool) -> None:
        with suppress(GatecastError, TimeoutError):
            async with asyncio.timeout(30):
                await pod.delivery.resolve(gateway_id, "", entity, retry=retry)

    async def _jump_clock(self) -> None:
        self.database.clock_error += timedelta(seconds=self.random.choice((-3, 5, 20)))

    async def _trim(self) -> None:
        policy = _RUTHLESS_POLICY if self.random.random() < 0.3 else _EAGER_POLICY
        self.begin(self._clean_up(self._some_pod(), policy))

    async def _clean_up(self, pod: SimulatedPod, policy: TrimPolicy) -> None:
        """Retention on a pod that may die meanwhile."""
        with suppress(GatecastError, TimeoutError):
            async with asyncio.timeout(30):
                await clean_up(pod.storage.log, policy)

    async def _restore(self) -> None:
        if self.random.random() < 0.5:
            self._backup = self.database.backup()
        else:
            self.database.restore(self._backup)

    # --- the end ------------------------------------------------------------------------------------------------

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise self._failure
        for pod in self.pods:
            if pod.delivery.failure is not None:
                raise PromiseBroken(f"a background task died: {pod.delivery.failure!r}") from pod.delivery.failure

    async def _heal(self) -> None:
        for gateway in self.gateways:
            gateway.reading.set()
            gateway.pace, gateway.reluctance = 0.01, 0.0
        for pod in self.pods:
            pod.storage.link.up, pod.storage.link.loss = True, 0.0

    async def _come_to_rest(self) -> None:
        deadline = asyncio.get_running_loop().time() + REST_TIME_LIMIT
        while not self._at_rest():
            self._check_alive()
            if asyncio.get_running_loop().time() > deadline:
                self._explain_unrest()
            await self._decide()
            await asyncio.sleep(1.0)
            self._bring_what_is_held(deadline)

    def _bring_what_is_held(self, deadline: float) -> None:
        """Connections that have gone may have held something in spite of a decision: the next one brings it.

        The one that is there must not hold anything of which nobody can decide.
        """
        if deadline - asyncio.get_running_loop().time() > REST_TIME_LIMIT / 2:
            return
        for gateway in self.gateways:
            parked = self.database.rows.entities(gateway.gateway_id, "", OutcomeKind.PARKED).keys()
            for pod in self.pods:
                for subscription in pod.delivery.subscriptions:
                    ours = subscription.connection.gateway_id == gateway.gateway_id
                    if ours and (held := subscription.lot.parked - parked):
                        raise PromiseBroken(f"P3: {gateway.gateway_id} is not sent {held}, which are not parked")
            waiting = any(name == gateway.gateway_id for name, _, _ in self.database.rows.waiting())
            if waiting and not parked and gateway.wire is not None:
                gateway.wire.cut()

    def _at_rest(self) -> bool:
        rows = self.database.rows
        # Whatever was begun has ended: only the gateways themselves go on.
        decided = not rows.waiting()
        return (
            decided
            and len(self._tasks) == len(self.gateways)
            and all(
                (cursor := rows.cursors.get((gateway.gateway_id, ""))) is not None
                and cursor.epoch == rows.epoch
                and (cursor.resync_reason != PARKED or gateway.version is Version.GATEWAY_V1)
                and cursor.confirmed == rows.streams[gateway.gateway_id].head
                and self.history.has_everything(gateway.gateway_id, rows.epoch)
                for gateway in self.gateways
            )
        )

    def _explain_unrest(self) -> None:
        for gateway in self.gateways:
            self.history.check_complete(gateway.gateway_id, self.database.rows.epoch)
        if waiting := self.database.rows.waiting():
            raise PromiseBroken(f"P3: nobody decides about, or nobody sends, {waiting}")
        raise PromiseBroken(f"P4: positions did not reach the heads: {self.database.rows.cursors}")

    async def _check_end(self) -> None:
        """Once nobody is connected, nobody is read for (scenario S14)."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for gateway in self.gateways:
            self.history.check_complete(gateway.gateway_id, self.database.rows.epoch)
            if gateway.wire is not None:
                gateway.wire.cut()
        for pod in list(self.pods):
            await pod.drain()
            if pod.delivery.reader.feeds or pod.delivery.subscriptions:
                raise PromiseBroken("S14: a feed outlived its connection")
        ours = {pod.pod_id for pod in self.pods}
        left = [row for row in self.database.rows.connections.values() if row.connection.pod_id in ours]
        if left and not self._with_restores:
            raise PromiseBroken(f"S14: {len(left)} connections are still recorded after an orderly end")

    async def _stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pod in self.pods:
            await pod.crash()


async def simulate(seed: int, *, steps: int = 60, with_restores: bool | None = None) -> History:
    """Live through one seed's schedule.

    Raises:
        PromiseBroken: a promise did not hold; the note names the seed.
    """
    restores = seed % 5 == 0 if with_restores is None else with_restores
    reseed(seed)
    world = SimulatedWorld(seed, with_restores=restores)
    try:
        async with asyncio.timeout(LONGEST_RUN):
            await world.run(steps)
    except BaseException as error:
        error.add_note(f"replay with: make simulate SEED={seed} STEPS={steps}")
        raise
    return world.history
