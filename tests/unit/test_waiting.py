from __future__ import annotations

import pytest

from gatecast.testing.virtual_time import run_in_virtual_time
from gatecast.waiting import Backoff, Signal, random_source, reseed


def test_a_signal_ends_one_wait_however_often_it_was_set() -> None:
    async def run() -> list[bool]:
        signal = Signal()
        signal.set()
        signal.set()
        return [await signal.wait(1), await signal.wait(1)]

    assert run_in_virtual_time(run()) == [True, False]


@pytest.mark.parametrize(("attempt", "limit"), [(1, 0.1), (2, 0.2), (7, 5.0), (10_000, 5.0)])
def test_pauses_grow_up_to_a_limit_and_are_never_nothing(attempt: int, limit: float) -> None:
    pauses = [Backoff().pause(attempt) for _ in range(100)]
    assert limit / 10 <= min(pauses) <= max(pauses) <= limit


def test_pauses_repeat_after_the_same_seed() -> None:
    """Those of every source, or a simulation would not repeat in the process that ran another one before."""

    def drawn() -> tuple[float, float]:
        reseed(7)
        return random_source().random(), random_source().random()

    first, second = drawn()
    assert (first, second) == drawn()
    assert first != second
