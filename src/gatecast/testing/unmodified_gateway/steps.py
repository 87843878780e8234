"""The order of the gateway's steps: its events run beside its start-up calls (gateway-protocol.md 3.1, section 6).

Every step has a name: `event llmprovider.deployed p-1` before an event is handled and `handled …` after it, `GET
/deployments` before a call and `answered GET /deployments` before its answer is used, `store p-1` before an event's
artifact is written, `list stores p-1` before one of the list is, and `clean up /llm-providers/api-keys` before keys
that are not listed are deleted. A schedule decides when a step happens.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeAlias

from gatecast.testing.clock import Clock

#: Awaited before a step, with its name; the step happens when it returns.
Schedule: TypeAlias = Callable[[str], Awaitable[None]]


async def natural_order(_step: str) -> None:
    """Every step happens as soon as its turn comes in the event loop."""


class ScriptedOrder:
    """Steps happen in the given order; steps that it does not name happen at once.

    What one run recorded (`gateway.records.steps`) is a script that repeats the run.
    """

    def __init__(self, order: Iterable[str]) -> None:
        self._ahead = deque(order)
        self._moved = asyncio.Event()

    @property
    def ahead(self) -> tuple[str, ...]:
        """Steps that have not happened yet."""
        return tuple(self._ahead)

    async def __call__(self, step: str) -> None:
        """Wait for the step's turn."""
        while step in self._ahead and self._ahead[0] != step:
            await self._moved.wait()
        if self._ahead and self._ahead[0] == step:
            self._ahead.popleft()
            self._moved.set()
            self._moved = asyncio.Event()


class DrawnOrder:
    """Each step waits for a time that is drawn: on a clock in virtual time, the same seed repeats the same order."""

    def __init__(self, clock: Clock, random_source: random.Random, *, pauses: tuple[float, ...]) -> None:
        self._clock = clock
        self._random = random_source
        self._pauses = pauses

    async def __call__(self, _step: str) -> None:
        """Wait for a drawn time."""
        await self._clock.sleep(self._random.choice(self._pauses))


class Gates:
    """Steps happen at once, except those that a test holds back."""

    def __init__(self) -> None:
        self._held: dict[str, _Gate] = {}

    async def __call__(self, step: str) -> None:
        """Wait while the step is held back."""
        if (gate := self._held.get(step)) is not None:
            gate.reached.set()
            await gate.opened.wait()

    def release(self, step: str) -> None:
        """Let a held step happen before its block ends."""
        self._held[step].opened.set()

    @asynccontextmanager
    async def held(self, step: str) -> AsyncIterator[asyncio.Event]:
        """Hold a step back until the block ends; yields what is set once the gateway has come that far."""
        gate = self._held[step] = _Gate()
        try:
            yield gate.reached
        finally:
            del self._held[step]
            gate.opened.set()


class _Gate:
    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
