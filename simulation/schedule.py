"""Schedules: what happens one after the other, drawn by a seed or written down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from simulation.happenings import DISASTERS, HAPPENINGS

if TYPE_CHECKING:
    from simulation.world import SimulatedWorld

#: Something happens, and then so many seconds pass.
Step: TypeAlias = tuple[str, float]

#: Seconds between two of them.
PAUSES = (0.0, 0.001, 0.01, 0.1, 1.0, 5.0)


def draw(world: SimulatedWorld, steps: int) -> Iterator[Step]:
    """So many happenings as the seed determines them; drawn one at a time, as they happen."""
    names = [name for name in HAPPENINGS if name not in DISASTERS or world.with_restores]
    names = [name for name in names if name not in world.database.impossible]
    # A restore brings deleted gateways back: who restores registers and deletes them as they should be.
    names = [name for name in names if name != "delete_gateway" or not world.with_restores]
    for _ in range(steps):
        (name,) = world.random.choices(names, [HAPPENINGS[each].weight for each in names])
        yield name, world.random.choice(PAUSES)


def write_schedule(schedule: Sequence[Step]) -> str:
    """The schedule in one word, as a failure tells it."""
    return ",".join(f"{name}:{pause}" for name, pause in schedule)


def read_schedule(written: str) -> list[Step]:
    """The schedule that a note tells.

    Raises:
        ValueError: there is no such happening, or no such pause.
    """
    steps = [step.partition(":") for step in filter(None, written.split(","))]
    if unknown := [name for name, _, _ in steps if name not in HAPPENINGS]:
        raise ValueError(f"{unknown} cannot happen; {', '.join(HAPPENINGS)} can")
    return [(name, float(pause or 0)) for name, _, pause in steps]
