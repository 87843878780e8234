"""What Linux tells of a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gatecast.cli.bench.processes import processor_seconds, resident_bytes


def test_a_process_that_runs_has_used_something() -> None:
    assert processor_seconds(os.getpid()) > 0
    assert resident_bytes(os.getpid()) > 0


def test_of_a_process_that_has_ended_there_is_nothing_to_tell() -> None:
    """A server's process may end between being listed and being looked at: no reason to stop measuring."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    for tell in (processor_seconds, resident_bytes):
        with pytest.raises(FileNotFoundError):
            tell(ended.pid)
