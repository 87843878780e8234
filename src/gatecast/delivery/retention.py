"""Removes old events now and then."""

from __future__ import annotations

import asyncio
import random

from gatecast.containment import RetryLoop
from gatecast.storage.contract import EventLog, TrimPass, TrimPolicy
from gatecast.telemetry import get_logger, metrics

#: Pause between two clean-ups, in seconds; spread by half, so that pods take turns.
_INTERVAL = 60.0

#: Pause between two chunks, in seconds: publishers come first.
CHUNK_PAUSE = 0.05

_logger = get_logger("retention")


async def clean_up(log: EventLog, policy: TrimPolicy) -> int:
    """Remove what may go now, chunk by chunk, in one pass over the logs; return how many events went.

    One pass, and not until nothing is left: logs at their cap have a little more to remove after every publish, and a
    publisher waits for each removal from its log.
    """
    total, trim_pass = 0, TrimPass()
    while True:
        removed = await log.trim(policy, trim_pass)
        total += removed
        metrics.removed(removed)
        if trim_pass.is_done:
            return total
        await asyncio.sleep(CHUNK_PAUSE)


async def run_retention(log: EventLog, policy: TrimPolicy, *, random_source: random.Random, loop: RetryLoop) -> None:
    """Clean up until cancelled."""

    async def work() -> None:
        if removed := await clean_up(log, policy):
            _logger.info("cleaned-up", events=removed)

    async def rest() -> None:
        await asyncio.sleep(_INTERVAL * random_source.uniform(0.5, 1.5))

    await rest()
    await loop.run(work, rest=rest)
