"""One loop and one way to halve: what fails is tried again, and keeps nobody else waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from gatecast import containment
from gatecast.containment import RetryLoop, in_halves, log_failure, typed
from gatecast.errors import GatecastError, InvariantBroken, StatementFailed, StorageUnavailable, ValueRefused
from gatecast.testing.virtual_time import run_in_virtual_time
from gatecast.waiting import Backoff

_EVERY_KIND = [StorageUnavailable("away"), StatementFailed("ZZ999"), ZeroDivisionError(), OSError(), RecursionError()]


def _run(work: Coroutine[Any, Any, None]) -> None:
    run_in_virtual_time(work)


class _Work:
    """Fails while it has a failure."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.attempts: list[float] = []
        self.rests = 0

    async def __call__(self) -> None:
        self.attempts.append(asyncio.get_running_loop().time())
        if self.failure is not None:
            raise self.failure

    async def rest(self) -> None:
        self.rests += 1
        await asyncio.sleep(1)


@pytest.mark.parametrize("failure", _EVERY_KIND, ids=lambda each: type(each).__name__)
def test_whatever_fails_a_loop_backs_off_is_alarmed_after_ten_seconds_and_goes_on(failure: Exception) -> None:
    """The clock is moved by hand: nothing is waited for."""

    async def run() -> None:
        work, loop = _Work(), RetryLoop("failed", "nothing can be done", backoff=Backoff(first=2, longest=2, factor=1))
        running = asyncio.create_task(loop.run(work, rest=work.rest))
        await asyncio.sleep(5)
        assert work.rests == 5
        assert [loop.problem, loop.alarm] == [None, None]
        work.failure = failure
        await asyncio.sleep(9)
        assert (bool(loop.problem), loop.alarm) == (True, None)
        attempts = len(work.attempts)
        await asyncio.sleep(9)
        assert loop.alarm == f"nothing can be done: {loop.problem}"
        assert len(work.attempts) > attempts
        work.failure = None
        await asyncio.sleep(5)
        assert work.rests > 5
        assert [loop.problem, loop.alarm] == [None, None]
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    _run(run())


def test_only_a_broken_invariant_ends_a_loop() -> None:
    async def run() -> None:
        work, loop = _Work(), RetryLoop("failed", "nothing can be done")
        work.failure = InvariantBroken("for a test")
        with pytest.raises(InvariantBroken):
            await loop.run(work, rest=work.rest)

    _run(run())


class _Store:
    """Refuses every batch with a culprit in it."""

    def __init__(self, failure: BaseException, *culprits: int) -> None:
        self.failure = failure
        self.culprits = set(culprits)
        self.stored: list[int] = []
        self.calls = 0

    async def __call__(self, batch: Sequence[int]) -> list[int]:
        self.calls += 1
        if self.culprits & set(batch):
            raise self.failure
        self.stored += batch
        return [number * 10 for number in batch]


@pytest.mark.parametrize("failure", [StatementFailed("ZZ999"), ValueRefused("22P05"), ZeroDivisionError()])
@pytest.mark.parametrize("culprits", [(0,), (7,), (3, 4), (499,), (0, 499)])
async def test_a_batch_is_halved_until_the_culprits_stand_alone(failure: Exception, culprits: Sequence[int]) -> None:
    """The others succeed, in order, with few statements."""
    store, numbers = _Store(failure, *culprits), range(500)
    results = await in_halves(numbers, store)
    for number, result in zip(numbers, results, strict=True):
        if number in culprits:
            assert isinstance(result, GatecastError)
        else:
            assert result == number * 10
    assert store.stored == [number for number in numbers if number not in culprits]
    assert store.calls <= 1 + 18 * len(culprits)


@pytest.mark.parametrize("failure", [StorageUnavailable("away"), ConnectionResetError()])
async def test_a_lost_connection_is_not_halved(failure: Exception) -> None:
    store = _Store(failure, 1)
    results = await in_halves(range(500), store)
    assert store.calls == 1
    assert all(isinstance(result, GatecastError) for result in results)


async def test_results_that_do_not_match_break_an_invariant() -> None:
    async def one_too_few(batch: Sequence[int]) -> Sequence[int]:
        return batch[1:]

    with pytest.raises(InvariantBroken):
        await in_halves(range(3), one_too_few)


def test_what_is_shown_of_a_failure_repeats_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of errors that are not ours may hold a secret; the place in the code is enough to find it."""
    said: list[str] = []
    logger = SimpleNamespace(warning=lambda *words, **fields: said.append(f"{words} {fields}"))
    monkeypatch.setattr(containment, "_logger", logger)
    try:
        UUID("a-secret")
    except ValueError as error:
        failure = typed(error)
        log_failure("it-failed", error)
        log_failure("it-failed", failure)
    assert str(failure) == "the database refused a statement: ValueError"
    assert len(said) == 2
    assert all("a-secret" not in each and "test_what_is_shown_of" in each for each in said)
