"""Stores what connections confirmed: in batches while they live, and at once when they end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from gatecast.errors import StorageError
from gatecast.storage.contract import Presence, Progress
from gatecast.telemetry import get_logger
from gatecast.waiting import Backoff, Signal

#: Progress is gathered for this long between writes; in seconds. Losing it repeats events, never skips them.
FLUSH_INTERVAL = 0.2

#: Most connections in one write.
_BATCH = 1_000

_logger = get_logger("progress")


class ProgressRecorder:
    """Keeps the latest progress of each connection until the database has it."""

    def __init__(self, presence: Presence, *, backoff: Backoff | None = None) -> None:
        self._presence = presence
        self._backoff = backoff or Backoff(first=0.2, longest=5.0)
        self._moved: dict[str, Progress] = {}
        self._leaving: dict[str, Progress] = {}
        self._signal = Signal()
        self._urgent = Signal()
        #: Those who wait until what was noted before is stored.
        self._flushing: list[asyncio.Future[None]] = []
        self._ended = False

    def report(self, progress: Progress) -> None:
        """Note how far a connection has come."""
        if progress.connection_id not in self._leaving:
            self._moved[progress.connection_id] = progress
            self._signal.set()

    def leave(self, progress: Progress) -> None:
        """Note a connection's last progress, to be written at once, and then forget the connection."""
        # Whatever it reported before is older, and must not be written once the connection is gone.
        self._moved.pop(progress.connection_id, None)
        self._leaving[progress.connection_id] = progress
        self._signal.set()
        self._urgent.set()

    async def flush(self) -> None:
        """Return when everything noted so far is stored, or when nobody stores any more."""
        if self._ended or not (self._moved or self._leaving):
            return
        stored = asyncio.get_running_loop().create_future()
        self._flushing.append(stored)
        self._signal.set()
        self._urgent.set()
        await stored

    async def run(self) -> None:
        """Write until cancelled; what cannot be written now is kept."""
        try:
            await self._keep_writing()
        finally:
            self._ended = True
            _answer(self._flushing)

    async def _keep_writing(self) -> None:
        failures = 0
        while True:
            await self._signal.wait()
            try:
                await self._write_all()
            except StorageError as error:
                failures += 1
                _logger.warning("progress-not-stored", error=str(error), attempt=failures)
                await asyncio.sleep(self._backoff.pause(failures))
                self._signal.set()
                continue
            failures = 0
            await self._urgent.wait(FLUSH_INTERVAL)

    async def _write_all(self) -> None:
        """Store what is noted by now, then answer those who asked for it before."""
        waiting, self._flushing = self._flushing, []
        try:
            await self._write(self._leaving, self._presence.disconnect)
            await self._write(self._moved, self._presence.record_progress)
        except BaseException:
            self._flushing = [*waiting, *self._flushing]
            raise
        _answer(waiting)

    async def _write(self, noted: dict[str, Progress], store: Callable[[Sequence[Progress]], Awaitable[None]]) -> None:
        """Store once what is noted, batch by batch; forget only what did not move on meanwhile.

        What is noted while this runs waits for the next time: under load there is always something new.
        """
        connections = list(noted)
        for start in range(0, len(connections), _BATCH):
            # Some may have left in between.
            batch = [noted[one] for one in connections[start : start + _BATCH] if one in noted]
            await store(batch)
            for progress in batch:
                if noted.get(progress.connection_id) is progress:
                    del noted[progress.connection_id]


def _answer(waiting: Sequence[asyncio.Future[None]]) -> None:
    for one in waiting:
        if not one.done():
            one.set_result(None)
