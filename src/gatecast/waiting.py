"""How every part waits: for a signal, for a time, or until it is cancelled. Never by polling a flag."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


class Signal:
    """Many may set it, one waits for it; setting it again before the wait changes nothing."""

    __slots__ = ("_is_set", "_waiter", "on_set")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None
        #: Called by `set` instead of waking a waiter; must not block or raise.
        self.on_set: Callable[[], None] | None = None

    def set(self) -> None:
        """Let the present or next wait end at once."""
        if self.on_set is not None:
            self.on_set()
            return
        self._is_set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the time limit is what it is for
        """Wait for the signal and consume it; False when `timeout` seconds passed first."""
        if not self._is_set:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                if timeout is None:
                    await self._waiter
                else:
                    async with asyncio.timeout(timeout):
                        await self._waiter
            except TimeoutError:
                return False
            finally:
                self._waiter = None
        self._is_set = False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Growing pauses between attempts, with full jitter, so that many waiters do not come back together."""

    #: Upper bound of the first pause, in seconds.
    first: float = 0.1
    #: Upper bound of any pause, in seconds.
    longest: float = 5.0
    #: Each upper bound is this many times the previous one.
    factor: float = 2.0

    def pause(self, attempt: int) -> float:
        """How long to wait before attempt number `attempt`, counted from 1; in seconds."""
        limit = min(self.longest, self.first * self.factor ** min(attempt - 1, 64))
        return _RANDOM.uniform(limit / 10, limit)


_RANDOM = random.Random()  # noqa: S311 - spreads load, guards nothing


def random_source() -> random.Random:
    """A source of random numbers for pauses, which repeats after `reseed`."""
    return random.Random(_RANDOM.random())  # noqa: S311 - as above


def reseed(seed: int) -> None:
    """Make every pause from here on repeat: for simulations."""
    _RANDOM.seed(seed)


async def together(work: Iterable[Awaitable[T]]) -> list[T]:
    """The results, in order, once all of it has ended; then the first failure is raised, if there is one."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
