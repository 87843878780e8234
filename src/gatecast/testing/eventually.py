"""Waits by asking again and again for what sends no signal: the state that an HTTP API shows, for example."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

_T = TypeVar("_T")

#: What has not come by then does not come; in seconds. No promise of speed: a machine may be busy with other things.
PATIENCE = 100.0

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5


async def eventually(condition: Callable[[], Awaitable[_T]], *, within: float = PATIENCE) -> _T:
    """Ask, with growing pauses, until the answer is true in the sense of Python; return that answer.

    Raises:
        TimeoutError: it was not within `within` seconds; says what the last answer was.
    """
    answer: _T | None = None
    pause = _FIRST_PAUSE
    try:
        async with asyncio.timeout(within):
            while not (answer := await condition()):
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
    except TimeoutError:
        raise TimeoutError(f"not within {within} s; the last answer was {answer!r}") from None
    return answer
