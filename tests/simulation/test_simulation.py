"""The promises P1-P7 over random schedules of everything that goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gatecast.testing.virtual_time import run_in_virtual_time
from simulation.run import simulate

#: A short run for every day; `make simulate` runs as many as one likes.
SEEDS = range(60)


@pytest.mark.parametrize("first", range(SEEDS.start, SEEDS.stop, 20))
def test_every_schedule_keeps_every_promise(first: int) -> None:
    """Whatever fails in between, each gateway ends with exactly the committed log."""
    delivered = sum(run_in_virtual_time(simulate(seed)).deliveries for seed in range(first, first + 20))
    assert delivered > 1_000


@pytest.mark.parametrize("seed", [605830])
def test_schedules_that_found_a_mistake_keep_every_promise(seed: int) -> None:
    """605830: a pod sent an event that retention had removed before a standby took over that lacked nothing."""
    run_in_virtual_time(simulate(seed))


def test_a_seed_repeats_exactly() -> None:
    """A failure that a seed found can be looked at again."""
    first, second = (run_in_virtual_time(simulate(7)) for _ in range(2))
    assert first.digest == second.digest


@pytest.mark.parametrize("seed", [0, 18])
def test_a_seed_repeats_exactly_in_another_process(seed: int) -> None:
    """Nothing depends on how names are hashed, which differs from process to process."""
    digests = {_replay(seed, hash_seed=hash_seed) for hash_seed in ("1", "3")}
    assert len(digests) == 1


def _replay(seed: int, *, hash_seed: str) -> str:
    command = [sys.executable, "-m", "simulation", "--seed", str(seed)]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return next(line for line in done.stdout.splitlines() if line.startswith("digest"))


def test_a_failure_names_the_seed_that_replays_it() -> None:
    """The note on the error is the command to repeat it."""
    with pytest.raises(ZeroDivisionError) as failure:
        run_in_virtual_time(simulate(3, steps=_Broken()))  # type: ignore[arg-type]
    assert failure.value.__notes__ == ["replay with: make simulate SEED=3 STEPS=broken"]


class _Broken:
    def __index__(self) -> int:
        raise ZeroDivisionError

    def __str__(self) -> str:
        return "broken"
