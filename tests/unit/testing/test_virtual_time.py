from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from gatecast.testing.virtual_time import Stalled, run_in_virtual_time


def test_hours_pass_at_once_and_exactly() -> None:
    async def sleep_for_days() -> list[float]:
        clock = asyncio.get_running_loop().time
        moments = [clock()]
        for pause in (0.001, 3_600, 100 * 86_400, 0):
            await asyncio.sleep(pause)
            moments.append(clock())
        return moments

    began = time.monotonic()
    moments = run_in_virtual_time(sleep_for_days())
    assert time.monotonic() - began < 30
    assert moments == pytest.approx([0, 0.001, 3_600.001, 8_643_600.001, 8_643_600.001])


def test_timers_ring_in_the_order_of_their_times() -> None:
    rang: list[str] = []

    async def ring(name: str, after: float) -> None:
        await asyncio.sleep(after)
        rang.append(name)

    async def run() -> None:
        await asyncio.gather(ring("last", 3), ring("first", 1), ring("second", 2), ring("also second", 2))

    run_in_virtual_time(run())
    assert rang == ["first", "second", "also second", "last"]


def test_time_stands_still_while_somebody_works() -> None:
    async def run() -> float:
        for _ in range(1_000):
            await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(run()) < 1e-6


def test_whoever_is_woken_a_moment_too_early_is_not_woken_for_ever() -> None:
    async def run() -> float:
        due = 0.1 + 0.2
        await asyncio.sleep(0.3 - 1e-7)
        while (rest := due - asyncio.get_running_loop().time()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert 0.3 <= run_in_virtual_time(run()) < 0.3001


def test_a_time_limit_rings_before_what_takes_longer() -> None:
    async def run() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.sleep(5.5)
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(run()) == pytest.approx(5)


def test_a_time_limit_spares_what_is_over_in_time() -> None:
    async def run() -> None:
        async with asyncio.timeout(5):
            await asyncio.sleep(4.5)

    run_in_virtual_time(run())


@pytest.mark.parametrize("seconds", [1e-9, 0.1 + 0.2, 1 / 3, 1e7 + 1e-3])
def test_rounding_never_keeps_a_timer_from_ringing(seconds: float) -> None:
    async def run() -> None:
        for _ in range(100):
            await asyncio.sleep(seconds)

    run_in_virtual_time(run())


def test_waiting_for_what_never_happens_is_told() -> None:
    """A deadlock fails at once, and the tasks that hang are cancelled, so that their clean-up runs."""
    cleaned_up: list[str] = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.append("yes")

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hang())
            tasks.create_task(hang())

    with pytest.raises(Stalled, match="no timer is left"):
        run_in_virtual_time(run())
    assert cleaned_up == ["yes", "yes"]


def test_a_failure_comes_out_as_it_is() -> None:
    async def fail() -> None:
        await asyncio.sleep(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_in_virtual_time(fail())


def test_the_same_work_takes_the_same_course() -> None:
    async def run() -> list[tuple[float, int]]:
        course: list[tuple[float, int]] = []
        lock = asyncio.Lock()

        async def work(number: int) -> None:
            for _ in range(3):
                await asyncio.sleep((number * 7 % 5) / 10)
                async with lock:
                    await asyncio.sleep(0.01)
                    course.append((asyncio.get_running_loop().time(), number))

        await asyncio.gather(*map(work, range(10)))
        return course

    assert run_in_virtual_time(run()) == run_in_virtual_time(run())
