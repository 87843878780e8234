"""However a task that must run on ends, its owner is notified."""

from __future__ import annotations

import asyncio

import pytest

from gatecast.background import BackgroundTask, run_together


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _return() -> None:
    """End by itself."""


async def _be_cancelled() -> None:
    raise asyncio.CancelledError


async def _fail() -> None:
    raise ValueError("no")


@pytest.mark.parametrize(
    ("work", "said"), [(_return, "b ended by itself"), (_be_cancelled, "b was cancelled"), (_fail, "no")]
)
async def test_when_one_ends_all_end_and_the_reason_comes_out(work: object, said: str) -> None:
    with pytest.raises((RuntimeError, ValueError), match=said):
        await run_together({"a": _for_ever, "b": work, "c": _for_ever})  # type: ignore[dict-item] # one of the above
    assert not {task.get_name() for task in asyncio.all_tasks()} & {"a", "b", "c"}


async def test_who_is_cancelled_takes_the_others_along() -> None:
    running = asyncio.create_task(run_together({"a": _for_ever, "b": _for_ever}))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not {task.get_name() for task in asyncio.all_tasks()} & {"a", "b"}


async def test_stopping_goes_on_until_the_task_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library may swallow the first cancellation; and what was stopped is no failure."""
    monkeypatch.setattr("gatecast.background._CANCEL_TIME_LIMIT", 0.001)
    swallowed = asyncio.Event()

    async def swallow_one() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()
        await asyncio.Event().wait()

    task = BackgroundTask()
    told: list[BaseException] = []
    task.on_failure(told.append)
    task.start(swallow_one(), name="stubborn")
    await asyncio.sleep(0)
    await task.stop()
    assert swallowed.is_set()
    assert not told
