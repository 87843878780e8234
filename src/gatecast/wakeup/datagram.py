"""Hints between the processes that share one SQLite file."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from gatecast.background import BackgroundTask, FailureListener
from gatecast.telemetry import get_logger
from gatecast.wakeup.contract import EVERYTHING, Hint, Listener
from gatecast.wakeup.file_watch import FileWatch
from gatecast.wakeup.mailbox import Mailbox, directory_of

#: Seconds between looks at the file, which find commits without a hint.
_WATCH_INTERVAL = 0.05

_logger = get_logger("wakeup")


class DatagramWakeup:
    """Sends hints as unix datagrams, and watches the file for changes without a hint.

    A caller that publishes in a transaction of its own `sqlite3` connection cannot send hints; its commit is noticed
    within 50 ms. Where sockets cannot be used, every change is noticed that way.
    """

    def __init__(self, database: Path, *, watch_interval: float = _WATCH_INTERVAL) -> None:
        self._mailbox = Mailbox(directory_of(database), self._receive)
        self._watch = FileWatch(database, lambda: self._receive(EVERYTHING), interval=watch_interval)
        self._watching = BackgroundTask()
        self._listener: Listener = _ignore

    def listen(self, listener: Listener) -> None:
        """Call this listener with every hint from now on."""
        self._listener = listener

    def on_failure(self, told: FailureListener) -> None:
        """Tell it when the watch on the file has died for good."""
        self._watching.on_failure(told)

    def send(self, hint: Hint) -> None:
        """Hint to every pod on this file, this one included."""
        self._mailbox.send(hint)

    @property
    def connected(self) -> bool:
        """False while neither datagrams nor changes of the file are noticed."""
        return self._mailbox.is_open or self._watch.working

    @property
    def problem(self) -> str | None:
        """Why neither is noticed; None: one is."""
        return None if self.connected else "neither datagrams nor changes of the file are noticed"

    async def __aenter__(self) -> Self:
        try:
            self._mailbox.open()
        except OSError as error:
            # Only hints: without them the watch on the file is enough.
            _logger.warning("datagrams-unavailable", error=str(error))
        self._watching.start(self._watch.run(), name="wakeup-file-watch")
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._mailbox.close()
        await self._watching.stop()
        self._watch.working = False

    def _receive(self, hint: Hint) -> None:
        self._listener(hint)


def _ignore(_hint: Hint) -> None:
    """Nobody listens yet."""
