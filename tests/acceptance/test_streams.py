"""Pods as processes whose events are on NATS JetStream, and which share an outbox: a pod dies, or a disk is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from gatecast.errors import DatabaseUnsuitable, StorageError
from gatecast.storage.connect import open_engine
from gatecast.testing import slow_disk
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.nats_server import NatsServer, nats_cluster
from gatecast.testing.operator import Operator
from gatecast.testing.processes.deployment import Deployment, Site
from gatecast.testing.processes.load import Load, check_delivery
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.testing.unmodified_gateway import UnmodifiedGateway

pytestmark = pytest.mark.acceptance

_GATEWAYS = 5
_ROUNDS = 20
_WAITING = 10


async def test_p3_the_pod_that_forwards_is_killed_while_events_wait_and_none_is_lost_doubled_or_reordered(
    nats: NatsServer, stream_site: Site
) -> None:
    """The log is away for a while, under load from both pods; what both have accepted, the other pod forwards."""
    async with AsyncExitStack() as stack:
        way = await stack.enter_async_context(TcpProxy(nats.socket))
        site = Site(database=stream_site.database.replace(nats.address, way.address), outbox=stream_site.outbox)
        deployment = await stack.enter_async_context(Deployment(site))
        [dying] = await deployment.start("dying")
        [staying] = await deployment.start("staying")
        operators = one, operator = await deployment.operators(dying, staying)
        assert await _outbox_of(one) == "connected; this pod forwards"
        accesses = [await operator.create_gateway(f"gateway-{number}") for number in range(_GATEWAYS)]
        gateways = [
            await stack.enter_async_context(UnmodifiedGateway(staying.gateway_host, access.token))
            for access in accesses
        ]
        load = Load(await deployment.publishers(dying, staying), [access.id for access in accesses])
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            tasks.create_task(load.publish(_ROUNDS))
            await load.reached(_GATEWAYS * _ROUNDS // 3)
            way.cut()
            waiting = [await _accepted(operators[number % 2], accesses[0].id) for number in range(_WAITING)]
            dying.kill()
            await dying.ended()
            way.heal()
        await _note(load, operator, accesses[0].id, waiting)
        for gateway, access in zip(gateways, accesses, strict=True):
            await operator.confirmed(access.id, len(load.accepted[access.id]))
            arrived = [(event.offset or 0, event.event_id) for event in gateway.received]
            check_delivery(arrived, load.accepted[access.id], connections=gateway.connections_made)


async def test_p10_a_disk_that_becomes_slow_loses_and_reorders_nothing_and_every_publish_is_answered(
    tmp_path: Path, postgres_url: str
) -> None:
    """The disk of the server that leads: each of its fsyncs takes 0.1 s, and then longer than anybody waits.

    The time is that of real calls, which the system holds for this server alone (`gatecast.testing.slow_disk`). Reads
    and writes to the system's cache are as fast as ever, and the other servers' disks are.
    """
    if not slow_disk.is_available():
        pytest.skip("this system cannot hold a program's fsyncs")
    with nats_cluster(tmp_path, slow_disks=True) as servers:
        site = Site(database=f"nats://{','.join(each.address for each in servers)}/SLOW", outbox=postgres_url)
        await eventually(lambda: _has_leader(site))
        async with Deployment(site) as deployment, AsyncExitStack() as stack:
            pods = await deployment.start("one", "two")
            operators = await deployment.operators(*pods)
            accesses = [await operators[0].create_gateway(f"gateway-{number}") for number in range(2)]
            gateways = [
                await stack.enter_async_context(UnmodifiedGateway(pod.gateway_host, access.token))
                for pod, access in zip(pods, accesses, strict=True)
            ]
            load = Load(await deployment.publishers(*pods), [access.id for access in accesses])
            for delay in (0.1, 5.0):
                disk = servers[await _leader(site)].disk
                assert disk is not None
                disk.delay, before = delay, disk.syncs
                async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
                    publishing = tasks.create_task(load.publish(2))
                    await eventually(partial(_has_synced, disk, before))
                    # What cannot be forwarded now is accepted, so both are ready.
                    answered = [(await _published(each, accesses[0].id))[0] for each in operators]
                    for operator in operators:
                        await _outbox_of(operator)
                    if delay < 1:
                        await publishing
                    disk.delay = 0.0
                await _note(load, operators[0], accesses[0].id, answered)
            for gateway, access in zip(gateways, accesses, strict=True):
                await operators[0].confirmed(access.id, len(load.accepted[access.id]))
                arrived = [(event.offset or 0, event.event_id) for event in gateway.received]
                check_delivery(arrived, load.accepted[access.id], connections=gateway.connections_made)


async def _leader(site: Site) -> int:
    """The number of the server that leads the stream."""
    async with open_engine(site.database) as opened:
        stream = opened.engine.log._stream  # type: ignore[attr-defined] # looks inside
        answer = await stream.connection.ask(f"$JS.API.STREAM.INFO.{stream.subjects.name}", {})
    return int(answer["cluster"]["leader"].rpartition("-")[2])


async def _has_leader(site: Site) -> bool:
    """False while the servers have not found each other yet."""
    with suppress(StorageError, DatabaseUnsuitable):
        return await _leader(site) >= 0
    return False


async def _outbox_of(operator: Operator) -> str:
    async with operator._session.get("/readyz") as reply:
        assert reply.status == 200
        return str((await reply.json())["outbox"])


async def _accepted(operator: Operator, gateway_id: str) -> UUID:
    """The id of an event that waits in the outbox, as the answer says."""
    event_id, answer = await _published(operator, gateway_id)
    assert (answer["eventId"], answer["offset"], answer["state"]) == (str(event_id), None, "pending")
    return event_id


async def _published(operator: Operator, gateway_id: str) -> tuple[UUID, dict[str, Any]]:
    """The id of a new event, and the answer."""
    event_id = uuid4()
    event = {"type": "api.updated", "action": "UPDATE", "entityType": "Api", "entityId": "api-1", "data": {}}
    return event_id, await operator.ask("POST", f"/gateways/{gateway_id}/events", {**event, "eventId": str(event_id)})


async def _note(load: Load, operator: Operator, gateway_id: str, event_ids: Sequence[UUID]) -> None:
    """Note where these events of one gateway are, which were published in this order."""
    offsets = [(await operator.publish(gateway_id, event_id=event_id))["offset"] for event_id in event_ids]
    assert offsets == sorted(set(offsets))
    load.accepted[gateway_id] |= dict(zip(offsets, map(str, event_ids), strict=True))


async def _has_synced(disk: slow_disk.SlowDisk, before: int) -> bool:
    return disk.syncs > before
