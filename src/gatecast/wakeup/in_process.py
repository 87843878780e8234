"""Hints between hubs of one process."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Self

from gatecast.background import FailureListener
from gatecast.wakeup.contract import EVERYTHING, Hint, Listener

#: Hints that wait for their listener are joined into one; past this many gateways it says EVERYTHING.
_MOST_GATEWAYS = 1_000


class InProcessBus:
    """Connects the hubs of one process, even if each runs in its own thread and event loop."""

    def __init__(self) -> None:
        self._members: tuple[InProcessWakeup, ...] = ()
        self._guard = threading.Lock()

    def attach(self) -> InProcessWakeup:
        """A wake-up for one more hub; takes part while it is open."""
        return InProcessWakeup(self)

    def join(self, member: InProcessWakeup) -> None:
        """Send hints to this member from now on."""
        with self._guard:
            self._members += (member,)

    def leave(self, member: InProcessWakeup) -> None:
        """Stop sending it hints."""
        with self._guard:
            self._members = tuple(each for each in self._members if each is not member)

    def send(self, hint: Hint) -> None:
        """Hint to every member."""
        for member in self._members:
            member.receive(hint)


class InProcessWakeup:
    """One hub's place on the bus; without a bus it hints to itself only."""

    def __init__(self, bus: InProcessBus | None = None) -> None:
        self._bus = bus or InProcessBus()
        self._listener: Listener = _ignore
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: Hint | None = None
        self._guard = threading.Lock()

    def listen(self, listener: Listener) -> None:
        """Call this listener with every hint from now on."""
        self._listener = listener

    def on_failure(self, told: FailureListener) -> None:
        """Nothing runs here that could die."""

    def send(self, hint: Hint) -> None:
        """Hint to every hub on the bus, this one included."""
        self._bus.send(hint)

    @property
    def connected(self) -> bool:
        """Whether it is open."""
        return self._loop is not None

    @property
    def problem(self) -> str | None:
        """Why it is not connected; None: it is open."""
        return None if self.connected else "it is closed"

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._bus.join(self)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._bus.leave(self)
        self._loop = None

    def receive(self, hint: Hint) -> None:
        """Take a hint, in any thread, for the listener's next turn."""
        with self._guard:
            first = self._waiting is None
            self._waiting = hint if self._waiting is None else _joined(self._waiting, hint)
            loop = self._loop
        if first and loop is not None:
            # A loop that was closed without leaving the bus needs no hints.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._guard:
            hint, self._waiting = self._waiting, None
        if hint is not None and self.connected:
            self._listener(hint)


def _joined(first: Hint, second: Hint) -> Hint:
    if first.gateways is None or second.gateways is None:
        return EVERYTHING
    gateways = first.gateways | second.gateways
    return Hint(gateways) if len(gateways) <= _MOST_GATEWAYS else EVERYTHING


def _ignore(_hint: Hint) -> None:
    """Nobody listens yet."""
