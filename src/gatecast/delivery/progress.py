"""Stores what connections confirmed: in batches while they live, and at once when they end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from gatecast.containment import RetryLoop, concerns_everyone, log_failure, refused_in_halves
from gatecast.errors import GatecastError
from gatecast.storage.contract import Presence, Progress
from gatecast.waiting import Backoff, Signal

#: Progress is gathered for this long between writes; in seconds. Losing it repeats events, never skips them.
FLUSH_INTERVAL = 0.2

#: Most connections in one write.
_BATCH = 1_000

#: What alone cannot be stored is tried again after this time; in seconds.
_PUT_OFF = 5.0


class ProgressRecorder:
    """Keeps the latest progress of each connection until the database has it."""

    def __init__(self, presence: Presence, *, backoff: Backoff | None = None) -> None:
        self._presence = presence
        #: Keeps the pod storing, and remembers why it does not.
        self.loop = RetryLoop(
            "progress-not-stored",
            "positions cannot be stored",
            backoff=backoff or Backoff(first=0.2, longest=5.0),
        )
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
            await self.loop.run(self._write_all, rest=self._rest)
        finally:
            self._ended = True
            _answer(self._flushing)

    async def _rest(self) -> None:
        """Gather for a moment, then wait until there is something to write."""
        await self._urgent.wait(FLUSH_INTERVAL)
        await self._signal.wait()

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

        Raises:
            StorageError: the database is away; what is not stored stays noted.
        """
        connections = list(noted)
        for start in range(0, len(connections), _BATCH):
            # Some may have left in between.
            batch = [noted[one] for one in connections[start : start + _BATCH] if one in noted]
            for progress, error in await refused_in_halves(batch, store):
                if error is not None and concerns_everyone(error):
                    raise error
                if noted.get(progress.connection_id) is progress:
                    del noted[progress.connection_id]
                    if error is not None:
                        self._put_off(noted, progress, error)

    def _put_off(self, noted: dict[str, Progress], progress: Progress, error: GatecastError) -> None:
        """Try this one again later: it alone cannot be stored, and the others do not wait for it."""
        log_failure("progress-refused", error, gateway=progress.gateway_id)
        again = self.leave if noted is self._leaving else self._report_again
        asyncio.get_running_loop().call_later(_PUT_OFF, again, progress)

    def _report_again(self, progress: Progress) -> None:
        # What it has reported since is newer.
        if progress.connection_id not in self._moved:
            self.report(progress)


def _answer(waiting: Sequence[asyncio.Future[None]]) -> None:
    for one in waiting:
        if not one.done():
            one.set_result(None)
