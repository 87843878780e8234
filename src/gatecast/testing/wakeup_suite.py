"""The contract suite for wake-ups: every sentence of `gatecast.wakeup.contract`, as a test.

Subclass `WakeupContract` in a test module, override `open_two`, and let pytest collect it. The tests are coroutines
that take pytest's `tmp_path`; a plugin or a small `conftest.py` must run them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from gatecast.testing.eventually import PATIENCE
from gatecast.wakeup.contract import EVERYTHING, Hint, Wakeup


class Heard:
    """A listener that keeps what it hears, and a way to wait for it."""

    def __init__(self) -> None:
        self.hints: list[Hint] = []
        #: The threads in which it was called.
        self.threads: set[int] = set()
        self._arrived = asyncio.Event()

    def __call__(self, hint: Hint) -> None:
        """Take a hint."""
        self.hints.append(hint)
        self.threads.add(threading.get_ident())
        self._arrived.set()

    async def until_told_of(self, *gateways: str) -> None:
        """Return once the hints that arrived, together, tell to look at all these gateways; forget those hints.

        Raises:
            TimeoutError: they do not arrive.
        """
        async with asyncio.timeout(PATIENCE):
            while not self._covers(gateways):
                self._arrived.clear()
                await self._arrived.wait()
        self.hints.clear()

    async def until_everything(self) -> None:
        """Return once a hint told to look at everything; forget the hints so far.

        Raises:
            TimeoutError: none arrives.
        """
        async with asyncio.timeout(PATIENCE):
            while EVERYTHING not in self.hints:
                self._arrived.clear()
                await self._arrived.wait()
        self.hints.clear()

    def _covers(self, gateways: Iterable[str]) -> bool:
        named = frozenset[str]().union(*(hint.gateways or () for hint in self.hints))
        return EVERYTHING in self.hints or named.issuperset(gateways)


class WakeupContract:
    """What every wake-up promises."""

    def open_two(self, tmp_path: Path) -> AbstractAsyncContextManager[tuple[Wakeup, Wakeup]]:
        """The wake-ups of two pods that share one database, able to hear."""
        raise NotImplementedError

    async def hint(self, sender: Wakeup, hint: Hint) -> None:
        """Hint from this pod; override it where the database itself sends hints."""
        sender.send(hint)

    async def send_garbage(self, tmp_path: Path) -> None:
        """Put something on the way that is no hint; where nobody else can write there, there is nothing to do."""

    @asynccontextmanager
    async def open_listening(self, tmp_path: Path) -> AsyncIterator[tuple[Wakeup, Heard, Wakeup, Heard]]:
        """Two wake-ups with a listener each, whose first hints are over."""
        async with self.open_two(tmp_path) as (one, two):
            ears = Heard(), Heard()
            for wakeup, heard in ((one, ears[0]), (two, ears[1])):
                wakeup.listen(heard)
            await self.hint(one, EVERYTHING)
            for heard in ears:
                await heard.until_everything()
            yield one, ears[0], two, ears[1]

    async def test_a_hint_reaches_every_pod_and_the_sender(self, tmp_path: Path) -> None:
        """Every pod hears it, the sender included."""
        async with self.open_listening(tmp_path) as (one, heard_by_one, two, heard_by_two):
            for number, sender in enumerate((one, two, one)):
                await self.hint(sender, Hint.at([f"gateway-{number}"]))
                for heard in (heard_by_one, heard_by_two):
                    await heard.until_told_of(f"gateway-{number}")

    async def test_names_arrive_as_they_are(self, tmp_path: Path) -> None:
        """Whatever a gateway is called."""
        names = ["ü \"'\\", "[]", "*", "null", "x" * 255, "日本"]
        async with self.open_listening(tmp_path) as (one, _, _, heard):
            for name in names:
                await self.hint(one, Hint.at([name]))
                await heard.until_told_of(name)
            await self.hint(one, Hint.at(names))
            await heard.until_told_of(*names)

    async def test_everything_arrives_as_everything(self, tmp_path: Path) -> None:
        """It is not narrowed by names that come with it."""
        async with self.open_listening(tmp_path) as (one, _, _, heard):
            await self.hint(one, Hint.at(["gateway-1"]))
            await self.hint(one, EVERYTHING)
            await self.hint(one, Hint.at(["gateway-2"]))
            await heard.until_everything()

    async def test_more_names_than_fit_are_not_lost(self, tmp_path: Path) -> None:
        """Ten thousand names arrive, or the hint to look at everything."""
        names = [f"a-gateway-with-a-long-name-{number}" for number in range(10_000)]
        async with self.open_listening(tmp_path) as (one, _, _, heard):
            await self.hint(one, Hint.at(names))
            await heard.until_told_of(*names)

    async def test_a_flood_ends_with_everybody_awake(self, tmp_path: Path) -> None:
        """However many hints come at once, the last listener to wake has heard of something."""
        async with self.open_listening(tmp_path) as (one, _, two, heard):
            for number in range(500):
                await self.hint((one, two)[number % 2], Hint.at([f"gateway-{number % 7}"]))
            await heard.until_told_of("gateway-0")

    async def test_a_listener_is_called_in_the_event_loops_thread(self, tmp_path: Path) -> None:
        """It needs no locks."""
        async with self.open_listening(tmp_path) as (one, _, _, heard):
            await self.hint(one, Hint.at(["gateway-1"]))
            await heard.until_told_of("gateway-1")
            assert heard.threads == {threading.get_ident()}

    async def test_garbage_harms_nobody(self, tmp_path: Path) -> None:
        """It is ignored or means everything; what comes after it is heard."""
        async with self.open_listening(tmp_path) as (one, _, _, heard):
            await self.send_garbage(tmp_path)
            await self.hint(one, Hint.at(["gateway-1"]))
            await heard.until_told_of("gateway-1")
            assert all(isinstance(hint, Hint) for hint in heard.hints)

    async def test_without_a_listener_hints_go_nowhere(self, tmp_path: Path) -> None:
        """A wake-up that nobody listens to yet takes hints without harm."""
        async with self.open_two(tmp_path) as (one, two):
            await self.hint(one, Hint.at(["gateway-1"]))
            heard = Heard()
            two.listen(heard)
            await self.hint(one, Hint.at(["gateway-2"]))
            await heard.until_told_of("gateway-2")

    async def test_connected_tells_whether_hints_can_arrive(self, tmp_path: Path) -> None:
        """True while it is open, False afterwards."""
        async with self.open_listening(tmp_path) as (one, _, two, _):
            assert (one.connected, two.connected) == (True, True)
        assert (one.connected, two.connected) == (False, False)

    async def test_a_closed_wakeup_hears_nothing_and_may_still_be_sent_to(self, tmp_path: Path) -> None:
        """The end of one pod disturbs no other."""
        async with self.open_listening(tmp_path) as (one, heard, _, _):
            pass
        heard.hints.clear()
        one.send(EVERYTHING)
        async with self.open_listening(tmp_path) as (_, _, other, still_heard):
            await self.hint(other, Hint.at(["gateway-1"]))
            await still_heard.until_told_of("gateway-1")
        assert heard.hints == []
