"""Retries work for a connected gateway until the database accepts it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gatecast.containment import RetryLoop
from gatecast.errors import NotFound, SecretKeyMissing, UnknownGateway
from gatecast.waiting import Backoff

_T = TypeVar("_T")

_PAUSES = Backoff(first=1.0, longest=30.0)


async def persistently(work: Callable[[], Awaitable[_T]]) -> _T:
    """The result of the work, which is repeated until it succeeds.

    Raises:
        NotFound, UnknownGateway: the gateway is gone.
        SecretKeyMissing: the pod lacks the key to stored data, and will lack it as long as it runs.
    """
    loop = RetryLoop("comes-later", "a gateway cannot be brought up to date", backoff=_PAUSES)
    return await loop.until_done(work, final=(NotFound, UnknownGateway, SecretKeyMissing))
