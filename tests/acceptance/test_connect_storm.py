"""A pod dies and everybody who was on it connects elsewhere at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from gatecast.testing.deployment import Deployment, gateway_address
from gatecast.testing.load import Load, check_delivery
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.recording_gateway import RecordingGateway

pytestmark = pytest.mark.acceptance

NewDatabase = Callable[[], Awaitable[str]]

_GATEWAYS = 500


async def test_s30_a_connect_storm_after_the_death_of_a_pod_resumes_everyone_without_a_gap(
    postgres: PostgresServer, new_database: NewDatabase
) -> None:
    """Five hundred gateways, with events before the crash, after it, and while they come back."""
    async with Deployment(postgres.url(await new_database())) as deployment, AsyncExitStack() as stack:
        dying, staying = await deployment.start("dying", "staying")
        operator = await deployment.operator(staying)
        accesses = [await operator.create_gateway(f"gateway-{number}") for number in range(_GATEWAYS)]
        balancer = await deployment.balancer(dying)
        url = f"https://{balancer.address}"
        gateways = [await stack.enter_async_context(RecordingGateway(url, access.token)) for access in accesses]
        load = Load(await deployment.publishers(staying), [access.id for access in accesses])
        await load.publish(1, workers=16)
        await asyncio.gather(*(gateway.until(1) for gateway in gateways))
        dying.kill()
        await dying.ended()
        balancer.retarget(gateway_address(staying))
        await load.publish(1, workers=16)
        await asyncio.gather(*(gateway.until(2) for gateway in gateways))
        for gateway, access in zip(gateways, accesses, strict=True):
            check_delivery(gateway.received, load.accepted[access.id], connections=1)
