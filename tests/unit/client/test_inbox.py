"""The bounded queue between socket and user."""

from __future__ import annotations

import asyncio

import pytest

from gatecast.client.inbox import Inbox


async def test_items_come_out_in_order() -> None:
    inbox = Inbox[int](10, max_bytes=100)
    for number in range(3):
        await inbox.put(number)
    assert [await inbox.take() for _ in range(3)] == [0, 1, 2]


async def test_whoever_puts_into_a_full_inbox_waits_for_room() -> None:
    inbox = Inbox[int](1, max_bytes=100)
    await inbox.put(1)
    assert inbox.is_full
    putting = asyncio.create_task(inbox.put(2))
    assert await inbox.take() == 1
    await putting
    assert await inbox.take() == 2


async def test_it_is_also_full_when_it_holds_enough_bytes() -> None:
    """What waits for room goes in when enough was taken, however few items there are."""
    inbox = Inbox[int](10, max_bytes=100)
    await inbox.put(1, size=99)
    await inbox.put(2, size=1)
    assert inbox.is_full
    putting = asyncio.create_task(inbox.put(3, size=500))
    assert await inbox.take() == 1
    await putting
    assert inbox.is_full
    assert [await inbox.take() for _ in range(2)] == [2, 3]
    assert not inbox.is_full


async def test_clearing_makes_room_for_bytes() -> None:
    inbox = Inbox[int](10, max_bytes=100)
    await inbox.put(1, size=100)
    inbox.clear()
    assert not inbox.is_full


async def test_whoever_takes_waits_for_an_item() -> None:
    inbox = Inbox[int](1, max_bytes=100)
    taking = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    await inbox.put(1)
    assert await taking == 1


async def test_a_cancelled_take_loses_nothing() -> None:
    inbox = Inbox[int](1, max_bytes=100)
    taking = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    await inbox.put(1)
    taking.cancel()
    await asyncio.wait({taking})
    if taking.cancelled():
        assert await inbox.take() == 1
    else:
        assert taking.result() == 1


async def test_a_failure_is_raised_when_nothing_is_left_and_ever_after() -> None:
    inbox = Inbox[int](2, max_bytes=100)
    await inbox.put(1)
    inbox.fail(LookupError("gone"))
    assert await inbox.take() == 1
    for _ in range(2):
        with pytest.raises(LookupError):
            await inbox.take()


async def test_clearing_makes_room() -> None:
    inbox = Inbox[int](1, max_bytes=100)
    await inbox.put(1)
    putting = asyncio.create_task(inbox.put(2))
    await asyncio.sleep(0)
    inbox.clear()
    await putting
    assert await inbox.take() == 2


async def test_a_closed_inbox_lets_everyone_put_and_keeps_nothing() -> None:
    inbox = Inbox[int](1, max_bytes=100)
    await inbox.put(1)
    putting = asyncio.create_task(inbox.put(2))
    await asyncio.sleep(0)
    inbox.close()
    await putting
    await inbox.put(3)
    inbox.fail(LookupError())
    with pytest.raises(LookupError):
        await inbox.take()


async def test_only_one_may_take_at_a_time() -> None:
    inbox = Inbox[int](1, max_bytes=100)
    taking = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="one at a time"):
        await inbox.take()
    await inbox.put(1)
    assert await taking == 1
