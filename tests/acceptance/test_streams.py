"""Pods as processes whose events are on NATS JetStream, and which share an outbox: one dies while entries wait."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import pytest

from gatecast.testing.eventually import PATIENCE
from gatecast.testing.nats_server import NatsServer
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
        offsets = [(await operator.publish(accesses[0].id, event_id=event_id))["offset"] for event_id in waiting]
        assert offsets == sorted(set(offsets))
        load.accepted[accesses[0].id] |= {
            offset: str(event_id) for offset, event_id in zip(offsets, waiting, strict=True)
        }
        for gateway, access in zip(gateways, accesses, strict=True):
            await operator.confirmed(access.id, len(load.accepted[access.id]))
            arrived = [(event.offset or 0, event.event_id) for event in gateway.received]
            check_delivery(arrived, load.accepted[access.id], connections=gateway.connections_made)


async def _outbox_of(operator: Operator) -> str:
    async with operator._session.get("/readyz") as reply:
        return str((await reply.json())["outbox"])


async def _accepted(operator: Operator, gateway_id: str) -> UUID:
    """The id of an event that waits in the outbox, as the answer says."""
    event_id = uuid4()
    event = {"type": "api.updated", "action": "UPDATE", "entityType": "Api", "entityId": "api-1", "data": {}}
    answer = await operator.ask("POST", f"/gateways/{gateway_id}/events", {**event, "eventId": str(event_id)})
    assert (answer["eventId"], answer["offset"], answer["state"]) == (str(event_id), None, "pending")
    return event_id
