"""Limits of one listener: how many connections it holds, and how long each may keep the pod waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

#: Longest time from the opening of a connection to the end of its first head, and from the first byte of a later head;
#: in seconds.
HEAD_TIME_LIMIT = 15.0

#: A connection that has sent nothing is not dropped to make room before this time has passed; in seconds.
FIRST_WORD_TIME = 5.0

#: An idle connection stays open this long for its next request, in seconds. This is longer than the default of load
#: balancers (60 s), so that none of them sends a request on a connection that is being closed.
KEEP_ALIVE = 75.0

#: A body may take this long, in seconds, plus one second for every `BODY_RATE` bytes that have arrived.
BODY_TIME_LIMIT = 15.0
BODY_RATE = 8 * 1024

#: A peer that accepts nothing that is written to it is dropped after this time; in seconds.
WRITE_TIME_LIMIT = 60.0


class Places:
    """The connections that a listener may hold at the same time.

    When all places are taken, an idle connection is dropped to make room: the one whose last answer is oldest, or else
    the one that has been silent longest, once it has had time to send a request.
    """

    def __init__(self, most: int) -> None:
        #: How many there are, free ones included.
        self.most = most
        self._loop = asyncio.get_running_loop()
        self._held: set[Place] = set()
        #: The values of both are when a connection may be dropped, and give the order.
        self._answered: dict[Place, float] = {}
        self._unheard: dict[Place, float] = {}
        self._changed = asyncio.Event()

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return len(self._held)

    async def take(self) -> Place:
        """A place, as soon as one is free."""
        while self.taken >= self.most:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self.make_room()):
                    await self._changed.wait()
        place = Place(self)
        self._held.add(place)
        return place

    def make_room(self) -> float | None:
        """Drop an idle connection; else return when to try again, or None if there is no candidate."""
        for place, droppable_at in (*islice(self._answered.items(), 1), *islice(self._unheard.items(), 1)):
            if droppable_at > self._loop.time():
                return droppable_at
            place.drop()
            break
        return None

    def note_unheard(self, place: Place) -> None:
        """No request has arrived on this connection yet."""
        self._unheard.setdefault(place, self._loop.time() + FIRST_WORD_TIME)
        self._changed.set()

    def note_answered(self, place: Place) -> None:
        """The last request on this connection is answered."""
        self._unheard.pop(place, None)
        self._answered[place] = self._loop.time()
        self._changed.set()

    def note_busy(self, place: Place) -> None:
        """A request is being answered on this connection."""
        self._unheard.pop(place, None)
        self._answered.pop(place, None)

    def free(self, place: Place) -> None:
        """Give this place to another connection."""
        self.note_busy(place)
        self._held.discard(place)
        self._changed.set()


class Place:
    """One connection, and how long its peer may take for its next step."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._loop = asyncio.get_running_loop()
        self._drop: Callable[[], object] = _nothing
        self._transport: asyncio.WriteTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ends_at = _NEVER
        #: Bytes that the peer has not read yet; None while it keeps up with what is written to it.
        self._untaken: int | None = None
        #: True while no request is running and none has started to arrive.
        self._idle = False

    def opening(self, drop: Callable[[], object]) -> None:
        """The connection is accepted; until it has a transport, `drop` ends it."""
        self._drop = drop
        self._places.note_unheard(self)

    def opened(self, transport: asyncio.WriteTransport) -> None:
        """The connection is open; its first request is due."""
        self._transport, self._drop = transport, transport.abort
        self._idle = True
        self._end_at(self._loop.time() + HEAD_TIME_LIMIT)

    def receives_head(self) -> None:
        """Bytes of a request have arrived."""
        if self._idle:
            self._idle = False
            self._end_at(min(self._ends_at, self._loop.time() + HEAD_TIME_LIMIT))

    def receives_body(self) -> None:
        """The head of a request is complete."""
        self._become_busy(self._loop.time() + BODY_TIME_LIMIT)

    def received(self, size: int) -> None:
        """A part of a body has arrived."""
        self._end_at(self._ends_at + size / BODY_RATE)

    def answers(self) -> None:
        """The request is complete; from now on the peer waits for the pod."""
        self._become_busy(_NEVER)

    def answered(self) -> None:
        """The answer is written; the next request may arrive once the peer has read it."""
        self._idle = True
        if self._untaken is None:
            self._wait_for_next()

    def pause_writing(self) -> None:
        """The peer does not read what is written to it."""
        self._untaken = self._waiting_bytes()
        self._end_at(self._loop.time() + WRITE_TIME_LIMIT)

    def resume_writing(self) -> None:
        """The peer has read most of it."""
        self._untaken = None
        if self._idle:
            self._wait_for_next()
        else:
            self._end_at(_NEVER)

    def drop(self) -> None:
        """Abort the connection."""
        self._drop()

    def lost(self) -> None:
        """The connection has ended, or was never opened."""
        self._drop = _nothing
        self._end_at(_NEVER)
        if self._timer is not None:
            self._timer.cancel()
        self._places.free(self)

    def _wait_for_next(self) -> None:
        self._places.note_answered(self)
        self._end_at(self._loop.time() + KEEP_ALIVE)

    def _become_busy(self, until: float) -> None:
        self._idle = False
        self._places.note_busy(self)
        self._end_at(until)

    def _end_at(self, moment: float) -> None:
        """Drop the connection at that time. A timer that fires too early is set again then: most never fire."""
        self._ends_at = moment
        if self._timer is not None and self._timer.when() > moment:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and moment != _NEVER:
            self._timer = self._loop.call_at(moment, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._untaken is not None and self._waiting_bytes() < self._untaken:
            # It reads, only slowly.
            self.pause_writing()
        elif self._loop.time() < self._ends_at:
            self._end_at(self._ends_at)
        else:
            self.drop()

    def _waiting_bytes(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0


_NEVER = float("inf")


def _nothing() -> None:
    """There is nothing to end."""
