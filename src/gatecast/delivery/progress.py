"""Stores what connections confirmed: in batches while they live, and at once when they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from gatecast.containment import RetryLoop, concerns_everyone, log_failure, refused_in_halves
from gatecast.errors import GatecastError
from gatecast.storage.contract import Connection, Presence, Progress
from gatecast.telemetry import traces
from gatecast.telemetry.traces import Traced
from gatecast.waiting import Backoff, Signal

#: Progress is collected for this long between writes; in seconds. Losing it repeats events, never skips them.
FLUSH_INTERVAL = 0.2

#: Most connections in one write.
_BATCH = 1_000

#: Progress that fails alone is tried again after this time; in seconds.
_PUT_OFF = 5.0


class Moving(Protocol):
    """A connection that makes progress."""

    @property
    def connection(self) -> Connection:
        """The connection."""

    def take_progress(self) -> Progress:
        """Its progress until now."""

    def take_traced(self) -> Sequence[Traced]:
        """The traced events that were confirmed since this was last asked."""

    def give_back(self, progress: Progress) -> None:
        """Take back progress that could not be stored."""


class ProgressRecorder:
    """Remembers the progress of connections until the database has stored it."""

    def __init__(self, presence: Presence, *, backoff: Backoff | None = None) -> None:
        self._presence = presence
        #: Keeps the pod storing, and remembers why it does not.
        self.loop = RetryLoop(
            "progress-not-stored",
            "positions cannot be stored",
            backoff=backoff or Backoff(first=0.2, longest=5.0),
        )
        self._moved: dict[str, Moving] = {}
        #: The connections whose progress is being stored.
        self._storing: Sequence[Moving] = ()
        self._leaving: dict[str, Progress] = {}
        self._signal = Signal()
        self._urgent = Signal()
        #: The callers that wait until progress noted before is stored.
        self._flushing: list[asyncio.Future[None]] = []
        self._ended = False

    def report(self, connection: Moving) -> None:
        """Note that a connection has made progress."""
        connection_id = connection.connection.connection_id
        if connection_id in self._leaving:
            return
        if connection_id not in self._moved:
            # A connection that is noted already has signalled.
            self._signal.set()
        self._moved[connection_id] = connection

    def leave(self, progress: Progress) -> None:
        """Note a connection's last progress, to be written at once, and then forget the connection."""
        # Earlier reports are older, and must not be written once the connection is gone.
        self._moved.pop(progress.connection_id, None)
        self._leaving[progress.connection_id] = progress
        self._signal.set()
        self._urgent.set()

    async def flush(self) -> None:
        """Return when everything noted so far is stored, or when the recorder has stopped."""
        if self._ended or not (self._moved or self._storing or self._leaving):
            return
        stored = asyncio.get_running_loop().create_future()
        self._flushing.append(stored)
        self._signal.set()
        self._urgent.set()
        await stored

    async def run(self) -> None:
        """Write until cancelled; keep what cannot be written now."""
        try:
            await self.loop.run(self._write_all, rest=self._rest)
        finally:
            self._ended = True
            _answer(self._flushing)

    async def _rest(self) -> None:
        """Collect for a moment, then wait until there is something to write."""
        await self._urgent.wait(FLUSH_INTERVAL)
        await self._signal.wait()

    async def _write_all(self) -> None:
        """Store everything noted until now, then answer the callers that asked before."""
        waiting, self._flushing = self._flushing, []
        try:
            await self._write_leaving()
            await self._write_moved()
        except BaseException:
            self._flushing = [*waiting, *self._flushing]
            raise
        _answer(waiting)

    async def _write_leaving(self) -> None:
        """Store the last progress of closing connections, once; later notes wait for the next time.

        Raises:
            StorageError: the database is away; what is not stored stays noted.
        """
        noted = list(self._leaving.values())
        for start in range(0, len(noted), _BATCH):
            answers = await refused_in_halves(noted[start : start + _BATCH], self._presence.disconnect)
            for progress, error in answers:
                if error is not None and concerns_everyone(error):
                    raise error
                if self._leaving.get(progress.connection_id) is progress:
                    del self._leaving[progress.connection_id]
                if error is not None:
                    _put_off(progress, error, partial(self.leave, progress))

    async def _write_moved(self) -> None:
        """Store once the progress of open connections; later progress waits for the next time.

        Raises:
            StorageError: the database is away; what is not stored stays noted.
        """
        moved = list(self._moved)
        for start in range(0, len(moved), _BATCH):
            # Some may have left in between.
            self._storing = [self._moved.pop(one) for one in moved[start : start + _BATCH] if one in self._moved]
            try:
                await self._store(self._storing)
            finally:
                self._storing = ()

    async def _store(self, connections: Sequence[Moving]) -> None:
        began, progress = time.time(), [connection.take_progress() for connection in connections]
        confirmed = [event for each in connections for event in each.take_traced()] if traces.is_on() else []
        failure: GatecastError | None = None
        answers = await refused_in_halves(progress, self._presence.record_progress)
        for connection, (taken, error) in zip(connections, answers, strict=True):
            if error is None:
                continue
            connection.give_back(taken)
            if concerns_everyone(error):
                failure = error
                self.report(connection)
            else:
                _put_off(taken, error, partial(self.report, connection))
        if failure is not None:
            raise failure
        traces.told_together("store positions", confirmed, began)


def _put_off(progress: Progress, error: GatecastError, again: Callable[[], None]) -> None:
    """Try this one again later: only it cannot be stored, and the others do not wait for it."""
    log_failure("progress-refused", error, gateway=progress.gateway_id)
    asyncio.get_running_loop().call_later(_PUT_OFF, again)


def _answer(waiting: Sequence[asyncio.Future[None]]) -> None:
    for one in waiting:
        if not one.done():
            one.set_result(None)
