"""One run: a world lives through a schedule, comes to rest, and everything has arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from gatecast.waiting import reseed
from simulation.happenings import DISASTERS, HAPPENINGS
from simulation.history import History, PromiseBroken
from simulation.rest import check_end, come_to_rest, heal
from simulation.schedule import Step, draw, write_schedule
from simulation.world import Engine, SimulatedWorld

#: No schedule takes longer, in simulated seconds; one that does hangs.
LONGEST_RUN = 7200.0


async def simulate(
    seed: int,
    *,
    steps: int = 60,
    schedule: Sequence[Step] | None = None,
    with_restores: bool | None = None,
    engine: Engine = Engine.SQL,
) -> History:
    """Live through one seed's schedule, or through this one; the seed determines whatever a schedule leaves open.

    Raises:
        PromiseBroken: a promise did not hold; the note tells how to see it again.
    """
    restores = seed % 5 == 0 if schedule is None else any(name in DISASTERS for name, _ in schedule)
    reseed(seed)
    world = SimulatedWorld(seed, with_restores=restores if with_restores is None else with_restores, engine=engine)
    try:
        with world.database.repeatable():
            await _live(world, draw(world, steps) if schedule is None else schedule)
    except BaseException as error:
        on = "" if engine is Engine.SQL else f" ENGINE={engine}"
        what = f"STEPS={steps}" if schedule is None else f"SCHEDULE={write_schedule(schedule)}"
        error.add_note(f"replay with: make simulate SEED={seed} {what}{on}")
        raise
    return world.history


async def _live(world: SimulatedWorld, schedule: Iterable[Step]) -> None:
    """Run it to its end; a broken promise comes before whatever followed from it."""
    try:
        with world.limits.of_feeds():
            async with asyncio.timeout(LONGEST_RUN):
                await _run(world, schedule)
    except Exception as error:
        if world.history.broken not in (None, error):
            raise world.history.broken from error
        if isinstance(error, TimeoutError):
            raise PromiseBroken(f"it hangs: no end within {LONGEST_RUN:,.0f} s") from error
        raise


async def _run(world: SimulatedWorld, schedule: Iterable[Step]) -> None:
    await world.start()
    try:
        for name, pause in schedule:
            await HAPPENINGS[name].happen(world)
            await asyncio.sleep(pause)
            world.look()
            world.check_alive()
        heal(world)
        await come_to_rest(world)
        await check_end(world)
    finally:
        await world.stop()
