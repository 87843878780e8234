"""Many who ask at once: how many statements answer them, and who an error concerns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gatecast.errors import StorageUnavailable, ValueRefused
from gatecast.gathering import Gathered


class _Work:
    """Doubles numbers, refuses odd ones if told so, and waits until it may go on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.refused: frozenset[int] = frozenset()
        self.is_away = False
        self.given_up = 0

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if self.is_away:
            raise StorageUnavailable("away")
        if self.refused & set(items):
            raise ValueRefused("odd")
        return [2 * item for item in items]


def test_who_asks_alone_is_asked_for_at_once_and_those_after_it_together() -> None:
    async def run() -> None:
        work = _Work()
        gathered = Gathered("numbers", work)
        assert await gathered.ask(1) == 2
        work.go_on.clear()
        asked = [asyncio.create_task(gathered.ask(number)) for number in (1, 2)]
        await asyncio.sleep(0.01)
        asked += [asyncio.create_task(gathered.ask(number)) for number in range(3, 50)]
        await asyncio.sleep(0.01)
        work.go_on.set()
        assert await asyncio.gather(*asked) == [2 * number for number in range(1, 50)]
        assert len(work.batches) <= 4, "two statements run at once, the rest goes into the next"

    asyncio.run(run())


def test_one_that_fails_fails_alone() -> None:
    async def run() -> None:
        work = _Work()
        work.refused = frozenset({3})
        gathered = Gathered("numbers", work)
        answers = await asyncio.gather(*(gathered.ask(number) for number in range(6)), return_exceptions=True)
        assert [each for each in answers if isinstance(each, int)] == [0, 2, 4, 8, 10]
        assert isinstance(answers[3], ValueRefused)
        assert await gathered.ask(5) == 10

    asyncio.run(run())


def test_without_a_database_everybody_is_told_and_the_next_asks_anew() -> None:
    async def run() -> None:
        work = _Work()
        work.is_away = True
        gathered = Gathered("numbers", work)
        answers = await asyncio.gather(*(gathered.ask(number) for number in range(6)), return_exceptions=True)
        assert all(isinstance(each, StorageUnavailable) for each in answers)
        assert len(work.batches) <= 2
        work.is_away = False
        assert await gathered.ask(5) == 10

    asyncio.run(run())


def test_who_gives_up_takes_nobody_along() -> None:
    async def run() -> None:
        work = _Work()
        work.go_on.clear()
        gathered = Gathered("numbers", work)
        first, second = (asyncio.create_task(gathered.ask(number)) for number in (1, 2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        work.go_on.set()
        assert await second == 4
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(run())


def test_a_statement_that_nobody_waits_for_is_given_up_and_the_next_asks_anew() -> None:
    """Over a wire that was cut without a word it would hold its connection for the longest time of a statement."""

    async def run() -> None:
        work = _Work()
        work.go_on.clear()
        gathered = Gathered("numbers", work)
        asked = [asyncio.create_task(gathered.ask(number)) for number in (1, 2)]
        await asyncio.sleep(0.01)
        for each in asked:
            each.cancel()
        await asyncio.sleep(0.01)
        assert work.given_up
        work.go_on.set()
        assert await gathered.ask(5) == 10

    asyncio.run(run())
