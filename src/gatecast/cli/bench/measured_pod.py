"""A pod of its own on a temporary database, for scenarios that measure what a pod uses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from secrets import token_urlsafe

from gatecast.cli.bench.target import Target, open_target
from gatecast.controlplane.access.gateway_tokens import GatewayTokens
from gatecast.controlplane.access.gateways import GatewayFields, Gateways
from gatecast.controlplane.migrations import MIGRATIONS
from gatecast.testing.pods import Pods, RunningPod

#: Settings of a pod that take as many connections as come, from one gateway and one address.
NO_LIMITS = {
    "connect_rate": "1000000",
    "max_connections_per_gateway": "1000000",
    "max_connections_per_address": "1000000",
}

_ORGANIZATION = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPod:
    """A running pod, and what it needs."""

    process: RunningPod
    #: More pods on the same database.
    others: Sequence[RunningPod]
    target: Target
    admin_token: str
    #: Id and token of each gateway.
    gateways: Sequence[tuple[str, str]]


@asynccontextmanager
async def measured_pod(gateways: int, *, tls: str = "off", others: int = 0) -> AsyncIterator[MeasuredPod]:
    """A pod with so many gateways, on a temporary PostgreSQL, and so many more beside it; nothing of it stays."""
    admin_token = token_urlsafe(24)
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(open_target(None, migrations=MIGRATIONS))
        known = [await _register(target, f"bench-{number}") for number in range(gateways)]
        pods = await stack.enter_async_context(Pods(target.url, admin_token=admin_token, gateway_tls=tls, **NO_LIMITS))
        process, *more = await pods.start_all("measured", *(f"other-{number}" for number in range(others)))
        yield MeasuredPod(process=process, others=more, target=target, admin_token=admin_token, gateways=known)


async def _register(target: Target, name: str) -> tuple[str, str]:
    created = await Gateways(target.hub).create(_ORGANIZATION, GatewayFields(name=name))
    gateway_id = created.gateway.id
    return gateway_id, (await GatewayTokens(target.hub).issue(_ORGANIZATION, gateway_id)).token
