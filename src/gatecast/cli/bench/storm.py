"""`gatecast bench storm`: every gateway of a pod that dies comes to another one."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Annotated

import typer

from gatecast.cli.bench.figures import Figure, report
from gatecast.cli.bench.measured_pod import measured_pod
from gatecast.cli.bench.plain_gateways import PlainGateways
from gatecast.cli.bench.target import QuickFlag
from gatecast.cli.output import JsonFlag

#: Five thousand gateways are back in ten seconds.
_AIM = 500.0


GatewaysOption = Annotated[
    int, typer.Option(min=1, max=20_000, help="Gateways; each takes an open file here, and one of its pod.")
]


def storm(*, gateways: GatewaysOption = 500, quick: QuickFlag = False, as_json: JsonFlag = False) -> None:
    """Measure how fast gateways are back when their pod is killed and all of them connect to another one. Needs Linux.

    The yardstick is how fast they connected to the first one.
    """
    report("storm", asyncio.run(_measure(min(gateways, 50) if quick else gateways)), as_json=as_json)


async def _measure(gateways: int) -> list[Figure]:
    async with measured_pod(gateways, others=1) as pod:
        tokens = [token for _, token in pod.gateways]
        here, there = PlainGateways(pod.process.gateway_host), PlainGateways(pod.others[0].gateway_host)
        try:
            first = await _connects(here, tokens)
            pod.process.kill()
            back = await _connects(there, tokens)
        finally:
            here.drop()
            there.drop()
    return [
        Figure(
            what=f"gateways back, of {gateways:,}",
            unit="/s",
            rounds=[back],
            aim=_AIM,
            more_is_better=True,
            yardstick=first,
        )
    ]


async def _connects(gateways: PlainGateways, tokens: list[str]) -> float:
    """How many connected in a second, each with its first frame."""
    begun = perf_counter()
    await gateways.connect(tokens)
    return len(tokens) / (perf_counter() - begun)
