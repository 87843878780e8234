"""One pod's way to the database, and what goes wrong on it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from gatecast.errors import StorageUnavailable

T = TypeVar("T")


class Shared(Protocol):
    """What every pod shares, as a link knows it."""

    random: random.Random


D = TypeVar("D", bound=Shared)


class Link(Generic[D]):
    """One pod's way to the database: slow at times, gone at times, and at times the answer is lost."""

    def __init__(self, database: D) -> None:
        self.database = database
        #: False: the database cannot be reached.
        self.up = True
        #: True: the pod is dead, and nothing of it reaches the database any more.
        self.dead = False
        #: How likely an answer is lost after the work was done.
        self.loss = 0.0

    async def call(self, work: Callable[[], T]) -> T:
        """Do the work in one instant, some time after the call and some time before the answer."""
        await self.travel()
        result = work()
        await self.travel()
        if self.database.random.random() < self.loss:
            raise StorageUnavailable("the answer was lost")
        return result

    async def travel(self) -> None:
        """The time that a message takes."""
        await asyncio.sleep(self.database.random.choice((0.0, 0.001, 0.003, 0.02)))
        if self.dead:
            await asyncio.Event().wait()
        if not self.up:
            raise StorageUnavailable("the link is down")
