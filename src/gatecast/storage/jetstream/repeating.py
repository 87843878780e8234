"""Does work again whose writes were stale."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gatecast.errors import StorageUnavailable
from gatecast.storage.jetstream.stream import Stale
from gatecast.waiting import Backoff

T = TypeVar("T")

#: Most attempts at one piece of work; each failed one means that another writer made progress.
_ATTEMPTS = 100

_BACKOFF = Backoff(first=0.001, longest=0.1)


async def repeated(work: Callable[[], Awaitable[T]]) -> T:
    """The result of work that reads, and then writes if nothing has changed since.

    Raises:
        StorageUnavailable: others changed the same again and again.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return await work()
        except Stale:
            await asyncio.sleep(_BACKOFF.pause(attempt))
    raise StorageUnavailable("other writers keep changing the same documents")
