"""Commands clean up, whatever ends them."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
import typer

from gatecast.cli.ending import TERMINATED, run_to_its_end


def test_sigterm_ends_the_work_after_it_has_cleaned_up() -> None:
    cleaned: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(typer.Exit) as ended:
        run_to_its_end(work())
    assert (ended.value.exit_code, TERMINATED, cleaned) == (143, 143, ["up"])
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_ends_by_itself_gives_its_result() -> None:
    async def work() -> int:
        return 7

    assert run_to_its_end(work()) == 7
    # Where there are no signals.
    assert asyncio.run(_in_a_thread()) == 7


async def _in_a_thread() -> int:
    async def work() -> int:
        return 7

    return await asyncio.to_thread(lambda: run_to_its_end(work()))
