"""The command that moves a log to a stream, in a process that is killed at one of its steps."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from gatecast.cli.move_log.moving import move
from gatecast.cli.move_log.places import opened_places
from gatecast.storage.jetstream.arrival import Arrival


def move_until_killed(holder: type, step: str, when: str, old: str, new: str) -> None:
    """Move the log, and be killed right before or after this step of one of its parts."""
    if when == "before clean-up":
        holder, step, when = Arrival, "clean_up", "before"
    real = getattr(holder, step)

    async def killed(*arguments: Any, **named: Any) -> None:  # noqa: ANN401 - the step's own
        if when == "after":
            await real(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(holder, step, killed)
    asyncio.run(_move(old, new))


async def _move(old: str, new: str) -> None:
    async with opened_places(old, new) as places:
        await move(*places)
