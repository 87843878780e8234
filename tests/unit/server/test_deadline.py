"""A process that leaves too slowly is ended."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gatecast.server.deadline import ended_within

pytestmark = pytest.mark.slow

_HANGS = """
import threading
from gatecast.server.deadline import ended_within
with ended_within(0.05):
    threading.Event().wait()
"""


def test_a_process_that_hangs_ends_with_a_status_and_a_word() -> None:
    """Whatever it hangs in."""
    process = subprocess.run([sys.executable, "-c", _HANGS], capture_output=True, timeout=30, check=False)
    assert process.returncode == 1
    assert b"stopped-late" in process.stdout + process.stderr


def test_a_block_that_ends_in_time_ends_nothing_else() -> None:
    """The timer goes with the block."""
    with ended_within(0.01):
        pass
