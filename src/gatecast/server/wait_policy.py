"""How long a pod waits for a database that is briefly unavailable.

Gateways do not repeat a failed request, and drop what they needed the answer for; so their requests wait. A pod that
starts together with its database waits for it, too.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import TypeVar

from gatecast.errors import StorageUnavailable
from gatecast.telemetry import get_logger
from gatecast.waiting import Backoff

T = TypeVar("T")

#: A request is repeated for this long while the database is away. A gateway waits 30 s, including its authentication.
_PATIENCE = 12.0
_PAUSE = 0.5

_START_PAUSES = Backoff(first=0.5, longest=5.0)

_logger = get_logger("start")


async def with_waiting(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask the database, and ask again while it is briefly unavailable.

    Raises:
        StorageError: it was unavailable for too long.
    """
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + _PATIENCE
    while True:
        try:
            return await ask()
        except StorageUnavailable:
            if clock() + _PAUSE >= give_up_at:
                raise
            await asyncio.sleep(_PAUSE)


@asynccontextmanager
async def opened_with_waiting(
    opening: Callable[[], AbstractAsyncContextManager[T]], stop: asyncio.Event, seconds: float
) -> AsyncIterator[T | None]:
    """The value that `opening` opens, retried for `seconds` while the database is away; None if `stop` was set first.

    Raises:
        StorageUnavailable: the database did not become available in time.
    """
    clock = asyncio.get_running_loop().time
    give_up_at, opened = clock() + seconds, None
    async with AsyncExitStack() as stack:
        for attempt in itertools.count(1):
            try:
                opened = await stack.enter_async_context(opening())
                break
            except StorageUnavailable as error:
                remaining = give_up_at - clock()
                if remaining <= 0:
                    raise
                _logger.warning("waiting-for-the-database", error=str(error), gives_up_in=round(remaining))
            with suppress(TimeoutError):
                async with asyncio.timeout(min(remaining, _START_PAUSES.pause(attempt))):
                    await stop.wait()
            if stop.is_set():
                break
        yield opened
