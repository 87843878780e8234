"""What may happen in a simulated world, and how often it does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from gatecast.delivery.retention import clean_up
from gatecast.errors import GatecastError
from gatecast.protocol.session import Version
from gatecast.storage.contract import Entity, OutcomeKind, TrimPolicy
from simulation.gateways import SimulatedGateway
from simulation.isolation import Supply
from simulation.network import Wire
from simulation.pods import SimulatedPod

if TYPE_CHECKING:
    from simulation.world import SimulatedWorld

#: A connection whose token was revoked must have ended by then, in simulated seconds: a lost wake-up included.
REVOKED_WITHIN = 5.0

#: The same for a gateway that was deleted.
DELETED_WITHIN = REVOKED_WITHIN

#: Until then some pod has looked at a server that took over, in simulated seconds.
_SETTLED_WITHIN = 10.0

EAGER_POLICY = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(days=1), max_events=10**6)
_RUTHLESS_POLICY = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(seconds=20), max_events=10**6)

_Happen: TypeAlias = Callable[["SimulatedWorld"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that may happen."""

    happen: _Happen
    #: How often, in proportion to the others.
    weight: int


#: Everything that may happen, by name. What a seed means depends on their order.
HAPPENINGS: dict[str, Happening] = {}

#: What takes the database back to an older state.
DISASTERS = ("restore", "replicate", "fail_over")


def happens(weight: int) -> Callable[[_Happen], _Happen]:
    """Have a function be one of the things that may happen."""

    def added(happen: _Happen) -> _Happen:
        HAPPENINGS[happen.__name__] = Happening(happen, weight)
        return happen

    return added


@happens(30)
async def publish_one(world: SimulatedWorld) -> None:
    """One event for one gateway."""
    world.begin(world.some_pod().publish([world.event(world.some_gateway().gateway_id)]))


@happens(10)
async def publish_many(world: SimulatedWorld) -> None:
    """One group of events, several of them perhaps for the same gateway."""
    gateways = [world.some_gateway().gateway_id for _ in range(world.random.choice((2, 5, 100)))]
    world.begin(world.some_pod().publish([world.event(gateway_id) for gateway_id in gateways]))


@happens(5)
async def publish_again(world: SimulatedWorld) -> None:
    """The same event twice at once."""
    event = world.event(world.some_gateway().gateway_id)
    for _ in range(2):
        world.begin(world.some_pod().publish([event]))


@happens(8)
async def hold_transaction(world: SimulatedWorld) -> None:
    """A caller's transaction that publishes."""
    world.begin(_transaction(world, world.some_gateway().gateway_id, world.random.uniform(0, 8)))


async def _transaction(world: SimulatedWorld, gateway_id: str, duration: float) -> None:
    """A caller's own transaction: it may have begun long before it publishes, and commits or rolls back late."""
    xid = world.database.begin()
    try:
        await asyncio.sleep(world.random.uniform(0, duration))
        await world.database.lock([gateway_id])
        try:
            await asyncio.sleep(world.random.uniform(0, duration))
            if world.random.random() < 0.7:
                world.database.commit(xid, [world.event(gateway_id)])
        finally:
            world.database.unlock([gateway_id])
    finally:
        world.database.end(xid)


@happens(10)
async def cut_wire(world: SimulatedWorld) -> None:
    """A connection breaks, which both ends notice."""
    if (wire := world.some_gateway().wire) is not None:
        wire.cut()


@happens(4)
async def deafen_wire(world: SimulatedWorld) -> None:
    """A connection falls silent, which nobody notices."""
    if (wire := world.some_gateway().wire) is not None:
        wire.deafen()


@happens(4)
async def connect_twice(world: SimulatedWorld) -> None:
    """A second connection of the same gateway, which reads for a while and then breaks."""
    await _connect_another(world)


@happens(3)
async def take_over(world: SimulatedWorld) -> None:
    """The same, of one that wants to be the only one."""
    await _connect_another(world, newest_only=True)


async def _connect_another(world: SimulatedWorld, *, newest_only: bool = False) -> None:
    gateway = world.some_gateway()
    wire = await world.dial(gateway, None, twin=True, newest_only=newest_only)
    if wire is not None:
        world.begin(_read_then_break(wire, world.random.uniform(0, 10)))


async def _read_then_break(wire: Wire, duration: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(duration):
            while not wire.to_gateway.is_cut:
                await wire.to_gateway.read()
    wire.cut()


@happens(3)
async def revoke_token(world: SimulatedWorld) -> None:
    """Every connection that came with the token ends soon; with its new one, the gateway comes back."""
    gateway = world.some_gateway()
    revoked, gateway.token_id = gateway.token_id, str(world.next_uuid())
    world.begin(_revoke(world, revoked))


async def _revoke(world: SimulatedWorld, token_id: str) -> None:
    # Of one that is recorded meanwhile the token is looked at afterwards, which is not simulated.
    revoked = [key for key, row in world.database.rows.connections.items() if row.connection.token_id == token_id]
    await _disconnect(world, token_id)
    world.notify(None)
    history = world.database.rows.epoch, world.database.place
    await asyncio.sleep(REVOKED_WITHIN)
    if history != (world.database.rows.epoch, world.database.place):
        # What is restored was not revoked.
        return
    now = asyncio.get_running_loop().time()
    for pod in world.pods:
        # Away from its database it cannot know.
        live = [one.connection.connection_id for one in pod.delivery.subscriptions if not one.closed]
        if now > pod.troubled_until and (left := set(revoked).intersection(live)):
            world.history.fail(f"P9: {len(left)} connections of a revoked token are still open on {pod.pod_id}")


async def _disconnect(world: SimulatedWorld, token_id: str) -> None:
    await world.in_any_case(lambda: world.database.storage().presence.disconnect_token(token_id))


@happens(4)
async def crash_pod(world: SimulatedWorld) -> None:
    """A pod dies at once, and another takes its place."""
    pod = world.some_pod()
    # At once: one that is draining is removed at its end, too, perhaps meanwhile.
    world.pods.remove(pod)
    await pod.crash(silently=world.random.random() < 0.3)
    await world.start_pod()


@happens(3)
async def drain_pod(world: SimulatedWorld) -> None:
    """A pod is replaced in an orderly way."""
    pod = world.some_pod()
    world.begin(_replace(world, pod))


async def _replace(world: SimulatedWorld, pod: SimulatedPod) -> None:
    if pod.accepting:
        pod.accepting = False
        await world.start_pod()
        await pod.drain()
        if pod in world.pods:
            world.pods.remove(pod)


@happens(4)
async def lose_wakeups(world: SimulatedWorld) -> None:
    """A pod hears of nothing for a while."""
    pod = world.some_pod()
    pod.wakeup.lose()
    asyncio.get_running_loop().call_later(world.random.uniform(0, 10), pod.hear_again)


@happens(4)
async def lose_database(world: SimulatedWorld) -> None:
    """A pod does not reach its database for a while."""
    pod, duration = world.some_pod(), world.random.choice((0.5, 5, 40))
    link = pod.storage.link
    link.up = False
    pod.trouble(duration)
    asyncio.get_running_loop().call_later(duration, setattr, link, "up", True)  # noqa: FBT003


@happens(3)
async def lose_servers(world: SimulatedWorld) -> None:
    """No pod reaches them."""
    duration = world.random.choice((0.5, 5, 40))
    world.database.reachable_at = asyncio.get_running_loop().time() + duration
    for pod in world.pods:
        pod.trouble(duration)


@happens(3)
async def lose_majority(world: SimulatedWorld) -> None:
    """Nothing is stored; what is left of the servers may answer with what it has."""
    duration = world.random.choice((0.5, 5, 40))
    world.database.led_at = asyncio.get_running_loop().time() + duration
    for pod in world.pods:
        pod.trouble(duration)


@happens(4)
async def delete_gateway(world: SimulatedWorld) -> None:
    """Its connections end soon, and nobody lets it in again; a new gateway takes its place."""
    number = world.random.randrange(len(world.gateways))
    gone, world.deleted = world.gateways[number], world.deleted + 1
    new = world.new_gateway(number, f"gateway-{number}-{world.deleted}")
    await world.in_any_case(lambda: world.database.storage().log.register(new.gateway_id))
    world.gateways[number], world.supplies[number] = new, Supply(world.history, new.gateway_id)
    world.lives[new.gateway_id] = world.begin(new.run())
    world.begin(_delete(world, gone))


async def _delete(world: SimulatedWorld, gateway: SimulatedGateway) -> None:
    await world.in_any_case(lambda: world.database.storage().log.forget(gateway.gateway_id))
    world.notify(None)
    await asyncio.sleep(DELETED_WITHIN)
    now = asyncio.get_running_loop().time()
    for pod in world.pods:
        live = [each for each in pod.delivery.subscriptions if each.connection.gateway_id == gateway.gateway_id]
        if now > pod.troubled_until and any(not each.closed for each in live):
            world.history.fail(f"P9: the deleted {gateway.gateway_id} is still connected to {pod.pod_id}")
    life = world.lives.pop(gateway.gateway_id)
    life.cancel()
    await asyncio.wait([life])
    if gateway.wire is not None:
        gateway.wire.cut()


@happens(4)
async def lose_answers(world: SimulatedWorld) -> None:
    """A pod does not get some of the answers of its database."""
    pod, duration = world.some_pod(), world.random.uniform(0, 5)
    link = pod.storage.link
    link.loss = 0.3
    pod.trouble(duration)
    asyncio.get_running_loop().call_later(duration, setattr, link, "loss", 0.0)


@happens(3)
async def block_gateway(world: SimulatedWorld) -> None:
    """A gateway reads nothing for a while."""
    gateway = world.some_gateway()
    gateway.reading.clear()
    asyncio.get_running_loop().call_later(world.random.choice((2, 50)), gateway.reading.set)


@happens(4)
async def slow_gateway(world: SimulatedWorld) -> None:
    """A gateway takes another time for each event from now on."""
    world.some_gateway().pace = world.random.choice((0.0, 0.01, 0.5))


@happens(4)
async def upset_gateway(world: SimulatedWorld) -> None:
    """It refuses some of what it gets, for a while."""
    gateway = world.some_gateway()
    if gateway.version is Version.GATECAST_V2:
        gateway.reluctance = 0.3
        asyncio.get_running_loop().call_later(world.random.uniform(0, 20), setattr, gateway, "reluctance", 0.0)


@happens(8)
async def decide(world: SimulatedWorld) -> None:
    """An operator retries or skips what is parked."""
    for gateway in world.gateways:
        for entity in world.database.rows.entities(gateway.gateway_id, "", OutcomeKind.PARKED):
            retry = world.random.random() < 0.5
            world.begin(_resolve(world.some_pod(), gateway.gateway_id, entity, retry=retry))


async def _resolve(pod: SimulatedPod, gateway_id: str, entity: Entity, *, retry: bool) -> None:
    with suppress(GatecastError, TimeoutError):
        async with asyncio.timeout(30):
            await pod.delivery.resolve(gateway_id, "", entity, retry=retry)


@happens(2)
async def jump_clock(world: SimulatedWorld) -> None:
    """The database's clock is set."""
    world.database.clock_error += timedelta(seconds=world.random.choice((-3, 5, 20)))


@happens(6)
async def trim(world: SimulatedWorld) -> None:
    """Retention, of some pod."""
    policy = _RUTHLESS_POLICY if world.random.random() < 0.3 else EAGER_POLICY
    world.begin(_clean_up(world.some_pod(), policy))


async def _clean_up(pod: SimulatedPod, policy: TrimPolicy) -> None:
    """Retention on a pod that may die meanwhile."""
    with suppress(GatecastError, TimeoutError):
        async with asyncio.timeout(30):
            await clean_up(pod.storage.log, policy)


@happens(1)
async def restore(world: SimulatedWorld) -> None:
    """A backup is made, or the last one is restored."""
    if world.random.random() < 0.5:
        world.backup = world.database.backup()
    elif asyncio.get_running_loop().time() >= world.settled_at:
        world.settled_at = asyncio.get_running_loop().time() + world.database.settles_within
        world.database.restore(world.backup)
        world.standby = world.database.backup()
        for pod in world.pods:
            pod.heads_then.clear()
            if world.database.settles_within:
                pod.trouble(world.database.settles_within)


@happens(4)
async def replicate(world: SimulatedWorld) -> None:
    """The standby receives what it lacks, and from now on commits may wait for it, or not."""
    world.standby = world.database.backup()
    world.database.synchronous = world.random.random() < 0.5


@happens(1)
async def fail_over(world: SimulatedWorld) -> None:
    """The standby takes over: with everything, if commits waited for it, else with what it has received."""
    database = world.database
    known = [pod.delivery.reader.last_sweep for pod in world.pods]
    certain = database.synchronous and database.settled and all(sweep is None or sweep.synchronous for sweep in known)
    heads = database.rows.heads()
    standby = database.backup() if database.counts_as_synchronous else world.standby
    database.fail_over(standby, certain=certain)
    if world.random.random() < 0.5:
        _take_their_places(world, heads)
    database.synchronous = world.random.random() < 0.5
    world.standby = database.backup()
    for pod in world.pods:
        pod.trouble(_SETTLED_WITHIN)
        pod.heads_then.clear()


def _take_their_places(world: SimulatedWorld, heads: dict[str, int]) -> None:
    """As many events as were lost are published before any pod looks: every log is as long as it was."""
    for gateway_id, head in heads.items():
        missing = head - world.database.rows.streams[gateway_id].head
        if missing > 0 and not world.database.is_held(gateway_id):
            xid = world.database.begin()
            world.database.commit(xid, [world.event(gateway_id) for _ in range(missing)])
            world.database.end(xid)
