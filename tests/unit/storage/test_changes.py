from __future__ import annotations

from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest

from gatecast.storage.changes import changes_since
from gatecast.storage.contract import Changes

_EARLIER = Changes(epoch=UUID(int=1), heads={}, marker=10, server="one")


class _Log:
    """Answers the same to everybody, and remembers what it was asked."""

    def __init__(self, answer: Changes) -> None:
        self.answer = answer
        self.asked: list[int] = []

    async def changed_since(self, marker: int) -> Changes:
        self.asked.append(marker)
        return self.answer


async def _asked(answer: Changes, earlier: Changes | None) -> list[int]:
    log = _Log(answer)
    assert await changes_since(cast("Any", log), earlier) is answer
    return log.asked


async def test_what_continues_the_earlier_answer_is_asked_for_once() -> None:
    for marker in (10, 11):
        assert await _asked(replace(_EARLIER, marker=marker), _EARLIER) == [10]


async def test_without_an_earlier_answer_everything_is_asked_for() -> None:
    assert await _asked(_EARLIER, None) == [0]


@pytest.mark.parametrize("answer", [replace(_EARLIER, marker=9), replace(_EARLIER, marker=50, server="two")])
async def test_what_does_not_continue_it_is_asked_for_as_a_whole(answer: Changes) -> None:
    """A marker that went back, or another server, however far its marker is."""
    assert await _asked(answer, _EARLIER) == [10, 0]
