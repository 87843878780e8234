from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack

from gatecast.wakeup.contract import EVERYTHING, Hint
from gatecast.wakeup.in_process import InProcessBus, InProcessWakeup


class _Heard:
    """What a listener heard, and a signal for each hint."""

    def __init__(self) -> None:
        self.hints: list[Hint] = []
        self.signal = asyncio.Event()

    def __call__(self, hint: Hint) -> None:
        self.hints.append(hint)
        self.signal.set()


async def test_every_hub_on_the_bus_hears_a_hint() -> None:
    bus = InProcessBus()
    async with bus.attach() as one, bus.attach() as two:
        ears = _Heard(), _Heard()
        one.listen(ears[0])
        two.listen(ears[1])
        one.send(Hint.at(["g"]))
        for heard in ears:
            await heard.signal.wait()
            assert heard.hints == [Hint.at(["g"])]


async def test_hubs_hear_a_hint_in_the_order_in_which_they_joined() -> None:
    bus, heard = InProcessBus(), list[int]()
    async with AsyncExitStack() as stack:
        hubs = [await stack.enter_async_context(bus.attach()) for _ in range(20)]
        for number, hub in enumerate(hubs):
            hub.listen(lambda _, number=number: heard.append(number))  # type: ignore[misc]
        last = _Heard()
        hubs[-1].listen(last)
        hubs[0].send(EVERYTHING)
        await last.signal.wait()
    assert heard == list(range(19))


async def test_without_a_bus_a_hub_hears_itself_only() -> None:
    async with InProcessWakeup() as one, InProcessWakeup() as two:
        ears = _Heard(), _Heard()
        one.listen(ears[0])
        two.listen(ears[1])
        one.send(EVERYTHING)
        await ears[0].signal.wait()
        assert ears[1].hints == []


async def test_the_listener_is_not_called_while_sending() -> None:
    async with InProcessWakeup() as wakeup:
        heard = _Heard()
        wakeup.listen(heard)
        wakeup.send(EVERYTHING)
        assert heard.hints == []
        await heard.signal.wait()


async def test_hints_that_wait_are_joined() -> None:
    async with InProcessWakeup() as wakeup:
        heard = _Heard()
        wakeup.listen(heard)
        for gateway_id in ("a", "b", "a"):
            wakeup.send(Hint.at([gateway_id]))
        await heard.signal.wait()
        assert heard.hints == [Hint.at(["a", "b"])]


async def test_too_many_names_become_everything() -> None:
    async with InProcessWakeup() as wakeup:
        heard = _Heard()
        wakeup.listen(heard)
        for number in range(2_000):
            wakeup.send(Hint.at([f"gateway-{number}"]))
        await heard.signal.wait()
        assert heard.hints == [EVERYTHING]


async def test_everything_swallows_names() -> None:
    async with InProcessWakeup() as wakeup:
        heard = _Heard()
        wakeup.listen(heard)
        wakeup.send(Hint.at(["a"]))
        wakeup.send(EVERYTHING)
        wakeup.send(Hint.at(["b"]))
        await heard.signal.wait()
        assert heard.hints == [EVERYTHING]


async def test_a_closed_hub_hears_nothing_and_breaks_nothing() -> None:
    bus = InProcessBus()
    heard = _Heard()
    async with bus.attach() as one:
        assert one.connected
        async with bus.attach() as two:
            two.listen(heard)
            one.send(EVERYTHING)
        assert not two.connected
        one.send(EVERYTHING)
        await asyncio.sleep(0)
        assert heard.hints == []


async def test_hints_cross_from_thread_to_thread() -> None:
    bus = InProcessBus()

    async def send() -> None:
        async with bus.attach() as other:
            other.send(Hint.at(["g"]))

    async with bus.attach() as wakeup:
        heard = _Heard()
        wakeup.listen(heard)
        thread = threading.Thread(target=lambda: asyncio.run(send()))
        thread.start()
        await heard.signal.wait()
        thread.join()
        assert heard.hints == [Hint.at(["g"])]
