"""`python -m simulation.histories`: live through many seeds, or replay one."""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from typing import Annotated

import typer

from gatecast.telemetry import configure_logs
from simulation.histories.history import Broken, live_through

#: Lines of its log that are shown of a broken history; with one seed, all.
_SHOWN = 12

#: How far it is, is said after so many.
_SAID_EVERY = 100


def main(
    *,
    seed: Annotated[int | None, typer.Option(help="Replay this seed, with its log.")] = None,
    first: Annotated[int, typer.Option(help="Begin with this seed.")] = 0,
    seeds: Annotated[int, typer.Option(help="How many.")] = 2_000,
    operations: Annotated[int, typer.Option(help="Operations in each.")] = 60,
    compare_every: Annotated[int, typer.Option(help="Compare after so many operations, and at the end.")] = 20,
    keep_on: Annotated[bool, typer.Option(help="Go on after a broken history.")] = False,
) -> None:
    """Compare what is shown with what gateways have, in random histories; the first difference ends the run."""
    configure_logs(format_name="text", pod_id="", level=logging.CRITICAL if seed is None else logging.INFO)
    # Nothing that was imported is looked through again, and what a history makes goes away with it.
    gc.freeze()
    gc.set_threshold(50_000)
    began, broken, events = time.monotonic(), 0, 0
    chosen = range(first, first + seeds) if seed is None else [seed]
    for number in chosen:
        try:
            outcome = live_through(number, operations=operations, compare_every=compare_every)
        except Broken as problem:
            broken += 1
            typer.echo(f"{problem}")
            if seed is not None or not keep_on:
                typer.echo("\n".join(problem.log[-_SHOWN:] if seed is None else problem.log))
                raise typer.Exit(1) from None
        else:
            events += outcome.events
        if (number - first + 1) % _SAID_EVERY == 0:
            typer.echo(f"{number - first + 1:,} of {len(chosen):,} so far, {broken} broken")
    seconds = time.monotonic() - began
    typer.echo(f"{len(chosen):,} histories, {events:,} events, {broken} broken, {seconds:.0f} s")
    if seed is not None:
        typer.echo(f"digest {outcome.digest}")
    raise typer.Exit(1 if broken else 0)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of texts differs between processes otherwise, and a seed would not repeat.
        arguments = [sys.executable, "-m", "simulation.histories", *sys.argv[1:]]
        os.execve(sys.executable, arguments, {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606 - this program again
    typer.run(main)
