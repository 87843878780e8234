"""Commands that are interrupted clean up before they end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import typer

T = TypeVar("T")

#: Exit status after SIGTERM, as shells report it.
TERMINATED = 128 + signal.SIGTERM


def run_to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of the work. SIGTERM cancels it, as Ctrl-C does, so that it can clean up.

    Raises:
        Exit: SIGTERM came; the status is 143.
    """

    async def cancellable() -> T:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs
        # Only the main thread gets signals, and some platforms have none.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    before = signal.getsignal(signal.SIGTERM)
    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        raise typer.Exit(TERMINATED) from None
    finally:
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, before)
