"""Pods, gateways and a schedule that a seed determines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID

from gatecast.delivery.retention import clean_up
from gatecast.errors import GatecastError, StorageUnavailable
from gatecast.events import Action, Event, Position
from gatecast.protocol.session import Version
from gatecast.storage.contract import Entity, OutcomeKind, TrimPolicy
from gatecast.waiting import reseed
from simulation.database import SimulatedDatabase
from simulation.gateways import SimulatedGateway
from simulation.history import History, PromiseBroken
from simulation.isolation import LOOK_INTERVAL, Limits, Supply
from simulation.jetstream import SimulatedStream
from simulation.network import Wire
from simulation.pods import SimulatedPod

#: Everything must have come to rest this long after the last fault, in simulated seconds.
REST_TIME_LIMIT = 900.0

#: No schedule takes longer, in simulated seconds; one that does hangs.
LONGEST_RUN = 7200.0

#: What may happen, and how often it does.
HAPPENINGS = {
    "publish_one": 30,
    "publish_many": 10,
    "publish_again": 5,
    "hold_transaction": 8,
    "cut_wire": 10,
    "deafen_wire": 4,
    "connect_twice": 4,
    "take_over": 3,
    "revoke_token": 3,
    "crash_pod": 4,
    "drain_pod": 3,
    "lose_wakeups": 4,
    "lose_database": 4,
    "lose_servers": 3,
    "lose_majority": 3,
    "delete_gateway": 4,
    "lose_answers": 4,
    "block_gateway": 3,
    "slow_gateway": 4,
    "upset_gateway": 4,
    "decide": 8,
    "jump_clock": 2,
    "trim": 6,
    "restore": 1,
    "replicate": 4,
    "fail_over": 1,
}


class Engine(StrEnum):
    """What holds the log."""

    SQL = "sql"
    JETSTREAM = "jetstream"


_ENGINES: Mapping[Engine, type[SimulatedDatabase | SimulatedStream]] = {
    Engine.SQL: SimulatedDatabase,
    Engine.JETSTREAM: SimulatedStream,
}

#: What takes the database back to an older state.
_DISASTERS = ("restore", "replicate", "fail_over")

#: Seconds between two of them.
PAUSES = (0.0, 0.001, 0.01, 0.1, 1.0, 5.0)

#: Something happens, and then so many seconds pass.
Step: TypeAlias = tuple[str, float]

#: A connection whose token was revoked must have ended by then, in simulated seconds: a lost wake-up included.
REVOKED_WITHIN = 5.0

#: The same for a gateway that was deleted.
DELETED_WITHIN = REVOKED_WITHIN

#: Until then some pod has looked at a server that took over, in simulated seconds.
_SETTLED_WITHIN = 10.0

_PODS = 3
_EAGER_POLICY = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(days=1), max_events=10**6)
_RUTHLESS_POLICY = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(seconds=20), max_events=10**6)


class SimulatedWorld:
    """Three pods, four gateways, and everything that goes wrong."""

    def __init__(self, seed: int, *, with_restores: bool, engine: Engine) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 - repeats, guards nothing
        self.limits = Limits.drawn(self.random)
        self.history = History()
        self.database: Any = _ENGINES[engine](self.random, self.history, self._notify)
        self.pods: list[SimulatedPod] = []
        self.gateways = [self._gateway(number) for number in range(4)]
        self._deleted = 0
        self._supplies = [Supply(self.history, gateway.gateway_id) for gateway in self.gateways]
        self._with_restores = with_restores
        self._names = self._changes = 0
        self._tasks: dict[asyncio.Task[None], None] = {}
        #: How each gateway lives.
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._failure: BaseException | None = None
        self._backup = self._standby = self.database.backup()
        #: Nobody restores it twice before the pods have found out about the first time.
        self._settled_at = 0.0

    def next_uuid(self) -> UUID:
        """A uuid that the seed determines."""
        return UUID(int=self.random.getrandbits(128), version=4)

    def _gateway(self, number: int, name: str = "") -> SimulatedGateway:
        version = Version.GATECAST_V2 if number % 2 else Version.GATEWAY_V1
        return SimulatedGateway(
            name or f"gateway-{number}", version, random_source=self.random, history=self.history, dial=self._dial
        )

    def _notify(self, gateways: frozenset[str] | None) -> None:
        for pod in self.pods:
            pod.wakeup.hear(gateways)

    async def _dial(
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
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()

    async def _start_pod(self) -> None:
        self._names += 1
        pod = SimulatedPod(f"pod-{self._names}", self)
        if (away := max(self.database.reachable_at, self.database.led_at) - asyncio.get_running_loop().time()) > 0:
            pod.trouble(away)
        self.pods.append(pod)
        await pod.start()

    # --- the schedule -------------------------------------------------------------------------------------------

    async def run(self, schedule: Iterable[Step]) -> None:
        """Live through these happenings, come to rest, and check that everything arrived.

        Raises:
            PromiseBroken: a promise did not hold.
        """
        for gateway in self.gateways:
            await self.database.storage().log.register(gateway.gateway_id)
        self._backup = self._standby = self.database.backup()
        for _ in range(_PODS):
            await self._start_pod()
        for gateway in self.gateways:
            self._lives[gateway.gateway_id] = self.begin(gateway.run())
        self.begin(self._watch())
        try:
            for name, pause in schedule:
                await getattr(self, f"_{name}")()
                await asyncio.sleep(pause)
                self._look()
                self._check_alive()
            await self._heal()
            await self._come_to_rest()
            await self._check_end()
        finally:
            await self._stop()

    def draw(self, steps: int) -> Iterator[Step]:
        """So many happenings as the seed determines them; drawn one at a time, as they happen."""
        names = [name for name in HAPPENINGS if name not in _DISASTERS or self._with_restores]
        names = [name for name in names if name not in self.database.impossible]
        # A restore brings deleted gateways back: who restores registers and deletes them as they should be.
        names = [name for name in names if name != "delete_gateway" or not self._with_restores]
        for _ in range(steps):
            (name,) = self.random.choices(names, [HAPPENINGS[each] for each in names])
            yield name, self.random.choice(PAUSES)

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
        await self._connect_another()

    async def _take_over(self) -> None:
        """The same, of one that wants to be the only one."""
        await self._connect_another(newest_only=True)

    async def _connect_another(self, *, newest_only: bool = False) -> None:
        gateway = self._some_gateway()
        wire = await self._dial(gateway, None, twin=True, newest_only=newest_only)
        if wire is not None:
            self.begin(self._read_then_break(wire, self.random.uniform(0, 10)))

    async def _read_then_break(self, wire: Wire, duration: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(duration):
                while not wire.to_gateway.is_cut:
                    await wire.to_gateway.read()
        wire.cut()

    async def _revoke_token(self) -> None:
        """Every connection that came with the token ends soon; with its new one, the gateway comes back."""
        gateway = self._some_gateway()
        revoked, gateway.token_id = gateway.token_id, str(self.next_uuid())
        self.begin(self._revoke(revoked))

    async def _revoke(self, token_id: str) -> None:
        # Of one that is recorded meanwhile the token is looked at afterwards, which is not simulated.
        revoked = [key for key, row in self.database.rows.connections.items() if row.connection.token_id == token_id]
        await self._disconnect(token_id)
        self._notify(None)
        history = self.database.rows.epoch, self.database.place
        await asyncio.sleep(REVOKED_WITHIN)
        if history != (self.database.rows.epoch, self.database.place):
            # What is restored was not revoked.
            return
        now = asyncio.get_running_loop().time()
        for pod in self.pods:
            # Away from its database it cannot know.
            live = [one.connection.connection_id for one in pod.delivery.subscriptions if not one.closed]
            if now > pod.troubled_until and (left := set(revoked).intersection(live)):
                self.history.fail(f"P9: {len(left)} connections of a revoked token are still open on {pod.pod_id}")

    async def _disconnect(self, token_id: str) -> None:
        await self._in_any_case(lambda: self.database.storage().presence.disconnect_token(token_id))

    async def _in_any_case(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do it as an operator does: again, if the servers are away, or the stream was put back meanwhile."""
        while True:
            with suppress(StorageUnavailable):
                await work()
                return
            await asyncio.sleep(0.1)

    async def _delete_gateway(self) -> None:
        """Its connections end soon, and nobody lets it in again; a new gateway takes its place."""
        number = self.random.randrange(len(self.gateways))
        gone, self._deleted = self.gateways[number], self._deleted + 1
        new = self._gateway(number, f"gateway-{number}-{self._deleted}")
        await self._in_any_case(lambda: self.database.storage().log.register(new.gateway_id))
        self.gateways[number], self._supplies[number] = new, Supply(self.history, new.gateway_id)
        self._lives[new.gateway_id] = self.begin(new.run())
        self.begin(self._delete(gone))

    async def _delete(self, gateway: SimulatedGateway) -> None:
        await self._in_any_case(lambda: self.database.storage().log.forget(gateway.gateway_id))
        self._notify(None)
        await asyncio.sleep(DELETED_WITHIN)
        now = asyncio.get_running_loop().time()
        for pod in self.pods:
            live = [each for each in pod.delivery.subscriptions if each.connection.gateway_id == gateway.gateway_id]
            if now > pod.troubled_until and any(not each.closed for each in live):
                self.history.fail(f"P9: the deleted {gateway.gateway_id} is still connected to {pod.pod_id}")
        life = self._lives.pop(gateway.gateway_id)
        life.cancel()
        await asyncio.wait([life])
        if gateway.wire is not None:
            gateway.wire.cut()

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
        asyncio.get_running_loop().call_later(self.random.uniform(0, 10), pod.hear_again)

    async def _lose_database(self) -> None:
        pod, duration = self._some_pod(), self.random.choice((0.5, 5, 40))
        link = pod.storage.link
        link.up = False
        pod.trouble(duration)
        asyncio.get_running_loop().call_later(duration, setattr, link, "up", True)  # noqa: FBT003

    async def _lose_servers(self) -> None:
        """No pod reaches them."""
        duration = self.random.choice((0.5, 5, 40))
        self.database.reachable_at = asyncio.get_running_loop().time() + duration
        for pod in self.pods:
            pod.trouble(duration)

    async def _lose_majority(self) -> None:
        """Nothing is stored; what is left of the servers may answer with what it has."""
        duration = self.random.choice((0.5, 5, 40))
        self.database.led_at = asyncio.get_running_loop().time() + duration
        for pod in self.pods:
            pod.trouble(duration)

    async def _lose_answers(self) -> None:
        pod, duration = self._some_pod(), self.random.uniform(0, 5)
        link = pod.storage.link
        link.loss = 0.3
        pod.trouble(duration)
        asyncio.get_running_loop().call_later(duration, setattr, link, "loss", 0.0)

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
        """An operator retries or skips what is parked."""
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
        elif asyncio.get_running_loop().time() >= self._settled_at:
            self._settled_at = asyncio.get_running_loop().time() + self.database.settles_within
            self.database.restore(self._backup)
            self._standby = self.database.backup()
            for pod in self.pods:
                pod.heads_then.clear()
                if self.database.settles_within:
                    pod.trouble(self.database.settles_within)

    async def _replicate(self) -> None:
        """The standby receives what it lacks, and from now on commits may wait for it, or not."""
        self._standby = self.database.backup()
        self.database.synchronous = self.random.random() < 0.5

    async def _fail_over(self) -> None:
        """The standby takes over: with everything, if commits waited for it, else with what it has received."""
        database = self.database
        known = [pod.delivery.reader.last_sweep for pod in self.pods]
        certain = (
            database.synchronous and database.settled and all(sweep is None or sweep.synchronous for sweep in known)
        )
        heads = database.rows.heads()
        standby = database.backup() if database.counts_as_synchronous else self._standby
        database.fail_over(standby, certain=certain)
        if self.random.random() < 0.5:
            self._take_their_places(heads)
        database.synchronous = self.random.random() < 0.5
        self._standby = database.backup()
        for pod in self.pods:
            pod.trouble(_SETTLED_WITHIN)
            pod.heads_then.clear()

    def _take_their_places(self, heads: dict[str, int]) -> None:
        """As many events as were lost are published before any pod looks: every log is as long as it was."""
        for gateway_id, head in heads.items():
            missing = head - self.database.rows.streams[gateway_id].head
            if missing > 0 and not self.database.is_held(gateway_id):
                xid = self.database.begin()
                self.database.commit(xid, [self._event(gateway_id) for _ in range(missing)])
                self.database.end(xid)

    # --- what must hold all the time ------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """P7, at any time: everything is bounded, and who reads is supplied although others do not."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            self._look()

    def _look(self) -> None:
        for each in self.pods:
            each.check_bounds()
        now, epoch = asyncio.get_running_loop().time(), self.database.rows.epoch
        for gateway, supply in zip(self.gateways, self._supplies, strict=True):
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

    # --- the end ------------------------------------------------------------------------------------------------

    def _check_alive(self) -> None:
        if self.history.broken is not None:
            raise self.history.broken
        if self._failure is not None:
            raise self._failure
        for pod in self.pods:
            if pod.delivery.failure is not None:
                raise PromiseBroken(f"a background task died: {pod.delivery.failure!r}") from pod.delivery.failure

    async def _heal(self) -> None:
        for gateway in self.gateways:
            gateway.reading.set()
            gateway.pace, gateway.reluctance = 0.01, 0.0
        self.database.reachable_at = self.database.led_at = 0.0
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
        # Whatever was begun has ended: only the gateways themselves go on, and who watches.
        decided = not rows.waiting()
        return (
            decided
            and not self._is_under_way()
            and len(self._tasks) == len(self.gateways) + 1
            and all(
                (cursor := rows.cursors.get((gateway.gateway_id, ""))) is not None
                and cursor.epoch == rows.epoch
                and (not cursor.resync_reason or gateway.version is Version.GATEWAY_V1)
                and cursor.confirmed == rows.streams[gateway.gateway_id].head
                and self.history.has_everything(gateway.gateway_id, rows.epoch)
                for gateway in self.gateways
            )
        )

    def _is_under_way(self) -> bool:
        """Whether something was sent that nobody confirmed: a connection that breaks unnoticed is given up later.

        What came over it may have been removed meanwhile; the next connection is told of that.
        """
        return any(
            subscription.progress.confirmed < subscription.progress.sent
            for pod in self.pods
            for subscription in pod.delivery.subscriptions
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


async def simulate(
    seed: int,
    *,
    steps: int = 60,
    schedule: Sequence[Step] | None = None,
    with_restores: bool | None = None,
    engine: Engine = Engine.SQL,
) -> History:
    """Live through one seed's schedule, or through this one; the seed determines whatever a schedule leaves open.

    Raises:
        PromiseBroken: a promise did not hold; the note tells how to see it again.
    """
    restores = seed % 5 == 0 if schedule is None else any(name in _DISASTERS for name, _ in schedule)
    reseed(seed)
    world = SimulatedWorld(seed, with_restores=restores if with_restores is None else with_restores, engine=engine)
    try:
        with world.database.repeatable():
            await _live(world, world.draw(steps) if schedule is None else schedule)
    except BaseException as error:
        on = "" if engine is Engine.SQL else f" ENGINE={engine}"
        error.add_note(f"replay with: make simulate SEED={seed} {_written(steps, schedule)}{on}")
        raise
    return world.history


async def _live(world: SimulatedWorld, schedule: Iterable[Step]) -> None:
    """Run it to its end; a broken promise comes before whatever followed from it."""
    try:
        with world.limits.of_feeds():
            async with asyncio.timeout(LONGEST_RUN):
                await world.run(schedule)
    except Exception as error:
        if world.history.broken not in (None, error):
            raise world.history.broken from error
        if isinstance(error, TimeoutError):
            raise PromiseBroken(f"it hangs: no end within {LONGEST_RUN:,.0f} s") from error
        raise


def _written(steps: int, schedule: Sequence[Step] | None) -> str:
    if schedule is None:
        return f"STEPS={steps}"
    return f"SCHEDULE={','.join(f'{name}:{pause}' for name, pause in schedule)}"


def read_schedule(written: str) -> list[Step]:
    """The schedule that a note tells.

    Raises:
        ValueError: there is no such happening, or no such pause.
    """
    steps = [step.partition(":") for step in filter(None, written.split(","))]
    if unknown := [name for name, _, _ in steps if name not in HAPPENINGS]:
        raise ValueError(f"{unknown} cannot happen; {', '.join(HAPPENINGS)} can")
    return [(name, float(pause or 0)) for name, _, pause in steps]
