"""A process that leaves too slowly is ended."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest

from gatecast.server.deadline import DrainTime, Part, ended_within

_HANGS = """
import threading
from gatecast.server.deadline import ended_within
with ended_within(0.05):
    threading.Event().wait()
"""


@pytest.mark.slow
def test_a_process_that_hangs_ends_with_a_status_and_a_word() -> None:
    """Whatever it hangs in."""
    process = subprocess.run([sys.executable, "-c", _HANGS], capture_output=True, timeout=30, check=False)
    assert process.returncode == 1
    assert b"stopped-late" in process.stdout + process.stderr


def test_a_block_that_ends_in_time_ends_nothing_else() -> None:
    """The timer goes with the block."""
    with ended_within(0.01):
        pass


_STEPS = (
    Part.GATEWAYS_HAVE_LEFT,
    Part.REQUESTS_ARE_FINISHED,
    Part.ACKNOWLEDGEMENTS_ARE_STORED,
    Part.HUB_IS_CLOSED,
)


def test_steps_that_all_hang_take_the_drain_time_together() -> None:
    """Each takes all that it may, and none of it from the others."""
    now = 3_600.0
    drain_time = DrainTime(timedelta(seconds=20), clock=lambda: now)
    drain_time.begin()
    took = []
    for step in _STEPS:
        took.append(drain_time.until(step))
        now += took[-1]
    assert took == [10, 5, 2.5, 2.5]


def test_a_step_that_is_done_early_leaves_its_time_to_those_that_follow() -> None:
    drain_time = DrainTime(timedelta(seconds=20), clock=lambda: 7.0)
    drain_time.begin()
    assert drain_time.until(Part.HUB_IS_CLOSED) == 20


def test_a_step_that_begins_too_late_still_tries() -> None:
    """A pod that never came up has not begun to stop, and has the whole time."""
    now = 0.0
    drain_time = DrainTime(timedelta(seconds=20), clock=lambda: now)
    assert drain_time.until(Part.HUB_IS_CLOSED) == 20
    drain_time.begin()
    now = 30.0
    assert 0 < drain_time.until(Part.HUB_IS_CLOSED) < 1
