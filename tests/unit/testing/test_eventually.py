"""Asking until the answer is the wanted one."""

from __future__ import annotations

import pytest

from gatecast.testing.eventually import eventually


async def test_the_first_true_answer_is_returned() -> None:
    """Earlier answers are asked again."""
    answers = iter(["", "", "here", "never"])

    async def ask() -> str:
        return next(answers)

    assert await eventually(ask, within=5) == "here"


async def test_the_last_answer_is_told_when_time_is_up() -> None:
    """So that a failure explains itself."""

    async def ask() -> list[str]:
        return []

    with pytest.raises(TimeoutError, match=r"not within 0\.05 s; the last answer was \[\]"):
        await eventually(ask, within=0.05)
