"""`python -m simulation`: live through many seeds, or replay one."""

from __future__ import annotations

import logging
import time
from typing import Annotated

import typer

from gatecast.telemetry import configure_logs
from gatecast.testing.virtual_time import run_in_virtual_time
from simulation.run import simulate
from simulation.schedule import read_schedule
from simulation.world import Engine


def main(
    *,
    seed: Annotated[int | None, typer.Option(help="Replay this seed, with its log.")] = None,
    first: Annotated[int, typer.Option(help="Begin with this seed.")] = 0,
    seeds: Annotated[int, typer.Option(help="How many.")] = 20_000,
    steps: Annotated[int, typer.Option(help="Happenings in each.")] = 60,
    schedule: Annotated[str | None, typer.Option(help="What happens, as a failure tells it: name:pause,…")] = None,
    engine: Annotated[Engine, typer.Option(help="What holds the log.")] = Engine.SQL,
) -> None:
    """Check the promises over random schedules of everything that goes wrong; the first broken one ends the run."""
    configure_logs(format_name="text", pod_id="", level=logging.CRITICAL if seed is None else logging.INFO)
    began = time.monotonic()
    chosen = range(first, first + seeds) if seed is None else [seed]
    happenings = None if schedule is None else read_schedule(schedule)
    deliveries = 0
    for number in chosen:
        history = run_in_virtual_time(simulate(number, steps=steps, schedule=happenings, engine=engine))
        deliveries += history.deliveries
    seconds = time.monotonic() - began
    typer.echo(f"{len(chosen):,} seeds, {deliveries:,} deliveries, no promise broken, {seconds:.0f} s")
    if seed is not None:
        typer.echo(f"digest {history.digest}")


if __name__ == "__main__":
    typer.run(main)
