"""How long a look holds: about as long as it is cheap to look again, and never long."""

from __future__ import annotations

import asyncio

import pytest

from gatecast.server.admin_api.shared_looks import SharedLooks


@pytest.mark.parametrize(("took", "holds"), [(0.01, 1.0), (0.5, 2.5), (1.0, 5.0), (30.0, 5.0)])
async def test_a_look_holds_for_a_second_or_as_its_cost_demands_but_never_longer_than_five(
    took: float, holds: float
) -> None:
    now = 0.0
    looks = 0

    async def look(_organization: str) -> int:
        nonlocal now, looks
        await asyncio.sleep(0)
        now += took
        looks += 1
        return looks

    shared = SharedLooks(look, name="test", clock=lambda: now)
    assert await shared.of("one") == 1
    # What happens when a task ends happens in a later turn of the loop.
    await asyncio.sleep(0)
    now += holds - 0.001
    assert await shared.of("one") == 1
    now += 0.002
    assert await shared.of("one") == 2


async def test_callers_after_a_change_share_one_look_that_begins_after_it() -> None:
    """However often something changes, each organization is looked at once at a time."""
    changes = {"one": 0, "other": 0}
    going, most, seen = 0, 0, asyncio.Event()

    async def look(organization: str) -> int:
        nonlocal going, most
        going, begun_after = going + 1, changes[organization]
        most = max(most, going)
        await seen.wait()
        going -= 1
        return begun_after

    shared = SharedLooks(look, name="test", clock=lambda: 0.0, last_change=lambda each: changes[each])
    first = asyncio.ensure_future(shared.of("one"))
    await asyncio.sleep(0)
    later = []
    for number in (1, 2, 3):
        changes["one"] = number
        later.append(asyncio.ensure_future(shared.of("one")))
        await asyncio.sleep(0)
    seen.set()
    assert await first == 0
    assert await asyncio.gather(*later) == [3, 3, 3]
    changes["other"] = 1
    assert await shared.of("one") == 3
    assert most == 1
