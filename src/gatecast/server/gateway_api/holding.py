"""Events wait while their gateway synchronizes.

An unmodified gateway reads lists over HTTP after it has connected, from any pod, and handles events meanwhile. A list
may be older than an event that it has already handled: that would bring back a deleted artifact, or lose a key. So the
connection that its calls belong to sends no event until it has read the last list. That happens once, when it begins:
other calls with the gateway's token, such as health checks, hold nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from gatecast.controlplane.gateway_sync.synchronizations import (
    AT_MOST,
    BELONG_WITHIN,
    FIRST_CALL_WITHIN,
    QUIET_FOR,
    Call,
    Synchronization,
    Synchronizations,
)
from gatecast.delivery.delivery import Delivery
from gatecast.errors import StorageError
from gatecast.waiting import Signal

#: Seconds within which a gateway stores a list that it has read.
_STORED_WITHIN = 0.2

#: The pod that holds the connection looks so often by itself, in seconds: hints may be lost.
_LOOK_EVERY = 1.0

#: A pod notes the calls in between so often, in seconds.
_NOTE_EVERY = 1.0

#: So long the first call takes at least where another pod holds the connection: until a hint has arrived there.
_HINT_TAKES = 0.05


class Hold:
    """Whether the events of one connection wait, from values alone; all times in seconds of one monotonic clock.

    `before` is what was known of the gateway's calls when it connected: they belong to another connection.
    """

    def __init__(self, before: Synchronization | None, connected_at: float) -> None:
        #: The number of the last calls before those of this connection.
        self.number = before.number if before else 0
        #: A gateway that has made calls before will make them again: nothing is sent before the first one.
        self._expects = before is not None
        self._connected_at = self._called_at = connected_at
        self._finished_at: float | None = None
        #: True once the gateway's calls have begun.
        self.synchronizes = False

    def begin(self, now: float) -> None:
        """A first call has come."""
        if self._belongs(now):
            self.synchronizes, self._called_at, self._finished_at = True, now, None

    def note(self, seen: Synchronization, now: float) -> None:
        """Take what is known of the gateway's calls."""
        if seen.number > self.number and self._belongs(now - seen.began):
            self.synchronizes = True
            self._called_at = now - seen.called
            self._finished_at = None if seen.finished is None else now - seen.finished

    def _belongs(self, began_at: float) -> bool:
        """Whether calls that began then are those of this connection, and not of another holder of the token."""
        return began_at - self._connected_at <= BELONG_WITHIN.total_seconds()

    @property
    def ends_at(self) -> float:
        """When it is over, as far as is known now."""
        if not self.synchronizes:
            return self._connected_at + FIRST_CALL_WITHIN.total_seconds()
        if self._finished_at is not None:
            return self._finished_at + _STORED_WITHIN
        return min(self._called_at + QUIET_FOR, self._connected_at + AT_MOST)

    def holds(self, now: float) -> bool:
        """Whether events wait now."""
        return (self.synchronizes or self._expects) and now < self.ends_at


class Watch:
    """Watches the calls of one connection's gateway; opened with `Holding.watch`."""

    def __init__(self, gateway_id: str, before: Synchronization | None, calls: Synchronizations) -> None:
        self.gateway_id = gateway_id
        self._clock = asyncio.get_running_loop().time
        self._hold = Hold(before, self._clock())
        self._calls = calls
        self._signal = Signal()
        #: Done once nothing waits for the gateway's calls.
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def holds(self) -> bool:
        """Whether the events of the connection wait."""
        return not self.over.done() and self._hold.holds(self._clock())

    @property
    def synchronizes(self) -> bool:
        """True when the gateway makes its calls, or has made them."""
        return self._hold.synchronizes

    def is_alone(self, seen: Synchronization) -> bool:
        """Whether no other replica has made start-up calls since this connection began."""
        return seen.number == self._hold.number + 1

    def look(self) -> None:
        """Something may have changed: look soon."""
        self._signal.set()

    def begin(self) -> None:
        """The first call has come: nothing is sent from now on."""
        self._hold.begin(self._clock())

    async def run(self) -> None:
        """Watch until it is over."""
        while True:
            await self._signal.wait(min(_LOOK_EVERY, max(0.0, self._hold.ends_at - self._clock())))
            # Asked also when the time is over: a call may be noted whose hint was lost.
            await self._read()
            if self._clock() >= self._hold.ends_at:
                break
        self.over.set_result(None)

    async def _read(self) -> None:
        asked_at = self._clock()
        with suppress(StorageError):
            if (seen := await self._calls.of_gateway(self.gateway_id)) is not None:
                self._hold.note(seen, asked_at)


class Holding:
    """The watches of one pod."""

    def __init__(self, calls: Synchronizations, delivery: Delivery) -> None:
        self._calls = calls
        self._delivery = delivery
        self._watches: defaultdict[str, list[Watch]] = defaultdict(list)
        #: When this pod noted a call of each gateway last; emptied by the last call.
        self._noted: dict[str, float] = {}
        self._clock = asyncio.get_running_loop().time
        delivery.on_hint = self._look

    @asynccontextmanager
    async def watch(self, gateway_id: str) -> AsyncIterator[Watch]:
        """Watch a connection before it is announced, so that its gateway has not made calls for it yet."""
        before = None
        with suppress(StorageError):
            before = await self._calls.of_gateway(gateway_id)
        watch = Watch(gateway_id, before, self._calls)
        self._watches[gateway_id].append(watch)
        try:
            yield watch
        finally:
            self._watches[gateway_id].remove(watch)
            if not self._watches[gateway_id]:
                del self._watches[gateway_id]

    async def called(self, gateway_id: str, call: Call) -> None:
        """A call has reached this pod: note it, and let the pod know that holds the gateway's connection.

        Raises:
            StorageUnavailable: the database is away.
        """
        now, noted_at = self._clock(), self._noted.get(gateway_id)
        if call is Call.OTHER and noted_at is not None and now < noted_at + _NOTE_EVERY:
            return
        here = self._watches.get(gateway_id, ())
        for watch in here if call is Call.FIRST else ():
            watch.begin()
        await self._calls.note(gateway_id, call)
        self._noted[gateway_id] = now
        if call is Call.LAST:
            del self._noted[gateway_id]
        if call in (Call.FIRST, Call.LAST):
            await self._delivery.hint([gateway_id])
        if call is Call.FIRST and not here:
            await asyncio.sleep(_HINT_TAKES)

    async def secrets_read(self, gateway_id: str) -> None:
        """The gateway was given its secrets.

        Raises:
            StorageUnavailable: the database is away.
        """
        await self._calls.note_secrets_read(gateway_id)

    def _look(self, gateways: frozenset[str] | None) -> None:
        for gateway_id in self._watches.keys() if gateways is None else gateways & self._watches.keys():
            for watch in self._watches[gateway_id]:
                watch.look()
