"""Wake-ups between pods, and what goes wrong with them."""

from __future__ import annotations

import asyncio
import random
from typing import Self

from gatecast.wakeup.contract import EVERYTHING, Hint, Listener


class SimulatedWakeup:
    """Hints that come late, or not at all."""

    def __init__(self, random_source: random.Random) -> None:
        self._random = random_source
        self._listener: Listener | None = None
        #: False: nothing is heard.
        self.connected = True

    def listen(self, listener: Listener) -> None:
        """Call this listener with what is heard."""
        self._listener = listener

    def send(self, hint: Hint) -> None:
        """The database sends hints by itself."""

    def hear(self, gateways: frozenset[str] | None) -> None:
        """A hint was sent; one in ten is lost."""
        if self.connected and self._listener is not None and self._random.random() > 0.1:
            delay = self._random.choice((0.0, 0.001, 0.05))
            asyncio.get_running_loop().call_later(delay, self._listener, Hint(gateways))

    def lose(self) -> None:
        """Hear nothing any more."""
        self.connected = False

    def regain(self) -> None:
        """Hear again, and look at everything at once."""
        self.connected = True
        if self._listener is not None:
            self._listener(EVERYTHING)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Nothing to close."""
