"""What a process has used so far: Linux tells in /proc."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path

from gatecast.errors import SettingInvalid


def processor_seconds(pid: int) -> float:
    """Processor time that the threads of a process have used, in seconds; to the nanosecond.

    Raises:
        SettingInvalid: this is not Linux.
        FileNotFoundError: it has ended.
    """
    nanoseconds = 0
    for thread in _folder(pid).joinpath("task").iterdir():
        # It may have ended meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            nanoseconds += int(thread.joinpath("schedstat").read_text("utf-8").split()[0])
    return nanoseconds / 1e9


def resident_bytes(pid: int) -> int:
    """How much memory a process occupies now.

    Raises:
        SettingInvalid: this is not Linux.
        FileNotFoundError: it has ended.
    """
    match = re.search(r"VmRSS:\s+(\d+) kB", _folder(pid).joinpath("status").read_text("utf-8"))
    assert match is not None, "every process has a resident size"  # noqa: S101 - so says Linux
    return int(match[1]) * 1024


def _folder(pid: int) -> Path:
    if not Path("/proc/self").exists():
        raise SettingInvalid("gatecast bench", sys.platform, "run on Linux, where /proc tells what a process uses")
    return Path(f"/proc/{pid}")
