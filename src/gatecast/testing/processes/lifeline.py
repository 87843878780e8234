"""Processes that tests start end with the one that started them, also if that is killed and can end nothing itself."""

from __future__ import annotations

import atexit
import os
import subprocess
import threading
from contextlib import suppress

#: Ends what was started and has not ended, once its standard input ends. A process that stands still goes on, to end.
_WATCH = """
running=
while read -r sign process; do
    others=
    for each in $running; do [ "$each" = "$process" ] || others="$others $each"; done
    running=$others
    [ "$sign" = - ] || running="$running $process"
done
[ -z "$running" ] || { kill $running; kill -CONT $running; } 2>/dev/null
"""


class _Watch:
    """A process of its own, which outlives this one by a moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def tell(self, line: str) -> None:
        with self._lock:
            if self._process is None:
                command = ["/bin/sh", "-c", _WATCH]
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603 - our own words
                atexit.register(self._process.communicate)
        assert self._process.stdin is not None
        # It may have been killed, and this process ends now.
        with suppress(OSError, ValueError):
            os.write(self._process.stdin.fileno(), line.encode())


_watch = _Watch()


def has_started(process: int) -> None:
    """End this process (SIGTERM) when the present one ends, unless it has ended by then."""
    _watch.tell(f"+ {process}\n")


def has_ended(process: int) -> None:
    """Forget it: its number may become that of another process."""
    _watch.tell(f"- {process}\n")
