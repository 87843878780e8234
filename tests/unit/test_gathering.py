"""Many who ask at once: how many statements answer them, and who an error concerns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gatecast import gathering
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


@pytest.fixture
def never_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is."""
    monkeypatch.setattr(gathering, "_LATE", 3_600)


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
        assert len(work.batches) <= 3, "the rest goes into the next"

    asyncio.run(run())


def test_one_that_is_late_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Perhaps its database has gone without a word. A third one is not begun: that may be true of all."""
    monkeypatch.setattr(gathering, "_LATE", 0)

    async def run() -> None:
        work = _Work()
        work.go_on.clear()
        gathered = Gathered("numbers", work)
        asked = []
        for number in range(5):
            asked.append(asyncio.create_task(gathered.ask(number)))
            await asyncio.sleep(0.01)
        assert work.batches == [[0], [1]]
        work.go_on.set()
        assert await asyncio.gather(*asked) == [0, 2, 4, 6, 8]
        assert work.batches == [[0], [1], [2, 3, 4]]

    asyncio.run(run())


@pytest.mark.usefixtures("never_late")
def test_who_asks_while_a_statement_runs_is_answered_by_the_next() -> None:
    async def run() -> None:
        work = _Work()
        work.go_on.clear()
        gathered = Gathered("numbers", work)
        asked = []
        for number in range(5):
            asked.append(asyncio.create_task(gathered.ask(number)))
            await _turns()
        work.go_on.set()
        await asyncio.gather(*asked)
        assert work.batches == [[0], [1, 2, 3, 4]]

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


def test_who_gives_up_what_is_being_written_leaves_once_it_is_known() -> None:
    """Whatever it undoes then is not written after that; a second cancellation does not hurry it."""

    async def run() -> None:
        work = _Work()
        work.go_on.clear()
        gathered = Gathered("numbers", work, writes=True)
        first, second = (asyncio.create_task(gathered.ask(number)) for number in (1, 2))
        await _turns()
        for _ in range(2):
            first.cancel()
            await _turns()
            assert not first.done()
        work.go_on.set()
        assert await second == 4
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(run())


def test_what_is_being_written_for_nobody_is_given_up() -> None:
    async def run() -> None:
        work = _Work()
        work.go_on.clear()
        gathered = Gathered("numbers", work, writes=True)
        asked = [asyncio.create_task(gathered.ask(number)) for number in (1, 2)]
        await _turns()
        for each in asked:
            each.cancel()
        assert all(
            isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(*asked, return_exceptions=True)
        )
        assert work.given_up == len(work.batches)

    asyncio.run(run())


@pytest.mark.usefixtures("never_late")
def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    async def run() -> None:
        work = _Work()
        work.go_on.clear()
        gathered = Gathered("numbers", work, writes=True)
        asked = [asyncio.create_task(gathered.ask(number)) for number in range(2)]
        await _turns()
        late = asyncio.create_task(gathered.ask(5))
        await _turns()
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        work.go_on.set()
        await asyncio.gather(*asked)
        assert all(5 not in batch for batch in work.batches)

    asyncio.run(run())


async def _turns() -> None:
    """Let everybody go as far as they can."""
    for _ in range(5):
        await asyncio.sleep(0)
