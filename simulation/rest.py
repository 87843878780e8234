"""The end of a run: faults heal, everything comes to rest, and everything has arrived."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gatecast.protocol.session import Version
from gatecast.storage.contract import OutcomeKind
from simulation.happenings import decide
from simulation.history import PromiseBroken

if TYPE_CHECKING:
    from simulation.gateways import SimulatedGateway
    from simulation.world import SimulatedWorld

#: Everything must have come to rest this long after the last fault, in simulated seconds.
REST_TIME_LIMIT = 900.0


def heal(world: SimulatedWorld) -> None:
    """End every fault that lasts."""
    for gateway in world.gateways:
        gateway.reading.set()
        gateway.pace, gateway.reluctance = 0.01, 0.0
    world.database.reachable_at = world.database.led_at = 0.0
    for pod in world.pods:
        pod.storage.link.up, pod.storage.link.loss = True, 0.0


async def come_to_rest(world: SimulatedWorld) -> None:
    """Wait until nothing is under way; operators go on deciding about what is parked."""
    deadline = asyncio.get_running_loop().time() + REST_TIME_LIMIT
    while not _at_rest(world):
        world.check_alive()
        if asyncio.get_running_loop().time() > deadline:
            _explain_unrest(world)
        await decide(world)
        await asyncio.sleep(1.0)
        _bring_what_is_held(world, deadline)


def _bring_what_is_held(world: SimulatedWorld, deadline: float) -> None:
    """Connections that have gone may have held something in spite of a decision: the next one brings it.

    The one that is there must not hold anything of which nobody can decide.
    """
    if deadline - asyncio.get_running_loop().time() > REST_TIME_LIMIT / 2:
        return
    for gateway in world.gateways:
        parked = world.database.rows.entities(gateway.gateway_id, "", OutcomeKind.PARKED).keys()
        for pod in world.pods:
            for subscription in pod.delivery.subscriptions:
                ours = subscription.connection.gateway_id == gateway.gateway_id
                if ours and (held := subscription.lot.parked - parked):
                    raise PromiseBroken(f"P3: {gateway.gateway_id} is not sent {held}, which are not parked")
        waiting = any(name == gateway.gateway_id for name, _, _ in world.database.rows.waiting())
        if waiting and not parked and gateway.wire is not None:
            gateway.wire.cut()


def _at_rest(world: SimulatedWorld) -> bool:
    rows = world.database.rows
    # Whatever was begun has ended: only the gateways themselves go on, and who watches.
    decided = not rows.waiting()
    return (
        decided
        and not _is_under_way(world)
        and len(world.tasks) == len(world.gateways) + 1
        and all(
            (cursor := rows.cursors.get((gateway.gateway_id, ""))) is not None
            and cursor.epoch == rows.epoch
            and _has_heard(world, gateway, cursor.resync_reason)
            and cursor.confirmed == rows.streams[gateway.gateway_id].head
            and world.history.has_everything(gateway.gateway_id, rows.epoch)
            for gateway in world.gateways
        )
    )


def _has_heard(world: SimulatedWorld, gateway: SimulatedGateway, resync_reason: str) -> bool:
    """Whether a gateway knows of its losses. An unmodified one never says so, and may have left before it was told."""
    if gateway.version is Version.GATEWAY_V1:
        head = world.database.rows.streams[gateway.gateway_id].head
        return not resync_reason or world.history.handled[gateway.gateway_id].through >= head
    return not resync_reason


def _is_under_way(world: SimulatedWorld) -> bool:
    """Whether a connection begins, or something was sent that nobody confirmed.

    A connection that breaks unnoticed is given up later. What came over it may have been removed meanwhile; the
    next connection is told of that.
    """
    return any(
        pod.is_greeting or any(each.progress.confirmed < each.progress.sent for each in pod.delivery.subscriptions)
        for pod in world.pods
    )


def _explain_unrest(world: SimulatedWorld) -> None:
    for gateway in world.gateways:
        world.history.check_complete(gateway.gateway_id, world.database.rows.epoch)
    if waiting := world.database.rows.waiting():
        raise PromiseBroken(f"P3: nobody decides about, or nobody sends, {waiting}")
    raise PromiseBroken(f"P4: positions did not reach the heads: {world.database.rows.cursors}")


async def check_end(world: SimulatedWorld) -> None:
    """Once nobody is connected, nobody is read for (scenario S14)."""
    for task in list(world.tasks):
        task.cancel()
    await asyncio.gather(*world.tasks, return_exceptions=True)
    for gateway in world.gateways:
        world.history.check_complete(gateway.gateway_id, world.database.rows.epoch)
        if gateway.wire is not None:
            gateway.wire.cut()
    for pod in list(world.pods):
        await pod.drain()
        if pod.delivery.reader.feeds or pod.delivery.subscriptions:
            raise PromiseBroken("S14: a feed outlived its connection")
    ours = {pod.pod_id for pod in world.pods}
    left = [row for row in world.database.rows.connections.values() if row.connection.pod_id in ours]
    if left and not world.with_restores:
        raise PromiseBroken(f"S14: {len(left)} connections are still recorded after an orderly end")
