"""`gatecast bench deploy`: how long a change takes that many gateways are told of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import median
from time import perf_counter

from gatecast.cli.bench.figures import Figure, report
from gatecast.cli.bench.target import QuickFlag, Target, open_target, sample_event
from gatecast.cli.output import JsonFlag
from gatecast.controlplane.access.gateways import GatewayFields, Gateways
from gatecast.controlplane.catalog.artifact_kinds import LLM_PROVIDER
from gatecast.controlplane.control_plane import ControlPlane
from gatecast.controlplane.encryption import Encryption
from gatecast.controlplane.migrations import MIGRATIONS
from gatecast.testing.doubles.control_plane_fixture import ORGANIZATION, Site

#: What creating a provider on the most gateways may take, in milliseconds.
_AIM = 1_000.0


def deploy(*, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure how long it takes to create an LLM provider on 1, 10, 100 and 1,000 gateways.

    The yardstick is one event for each of those gateways, published in one statement.
    """
    sizes, rounds = ([1, 10], 2) if quick else ([1, 10, 100, 1_000], 5)
    report("deploy", asyncio.run(_measure(sizes, rounds)), as_json=as_json)


async def _measure(sizes: Sequence[int], rounds: int) -> list[Figure]:
    async with open_target(None, migrations=MIGRATIONS) as target:
        gateways = Gateways(target.hub)
        made = [await gateways.create(ORGANIZATION, GatewayFields(name=f"bench-{n}")) for n in range(max(sizes))]
        ids = sorted(each.gateway.id for each in made)
        control_plane = ControlPlane.on(target.hub, Encryption([bytes(32)]))
        figures = []
        for size in sizes:
            site = Site(target.hub, control_plane, ids[:size])
            figures.append(await _compare(target, site, rounds))
    return figures


async def _compare(target: Target, site: Site, rounds: int) -> Figure:
    size, event = len(site.gateways), sample_event(site.gateways[0])
    deploying, publishing = [], []
    # One more, which warms up.
    for number in range(rounds + 1):
        begun = perf_counter()
        await site.make(LLM_PROVIDER, f"On {size} {number}", context=f"/on-{size}-{number}")
        deploying.append((perf_counter() - begun) * 1e3)
        begun = perf_counter()
        await target.hub.publish([event.addressed_to(gateway_id) for gateway_id in site.gateways])
        publishing.append((perf_counter() - begun) * 1e3)
        event = sample_event(site.gateways[0])
    return Figure(
        what=f"create a provider on {size:,} gateways" if size > 1 else "create a provider on one gateway",
        unit="ms",
        rounds=deploying[1:],
        aim=_AIM,
        yardstick=median(publishing[1:]),
    )
