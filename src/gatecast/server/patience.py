"""Gateways ask once for what they need, and give up what they need it for when that fails: so they are kept waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gatecast.errors import StorageUnavailable

T = TypeVar("T")

#: So long a question is asked again while the database is away; a gateway waits 30 s, and identifies itself first.
_PATIENCE = 12.0
_PAUSE = 0.5


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again while the database is away for a moment.

    Raises:
        StorageError: it is away for longer.
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
