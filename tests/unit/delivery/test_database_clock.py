from __future__ import annotations

import pytest

from gatecast.delivery.database_clock import DatabaseClock


def _measured(clock: DatabaseClock, asked_at: float, *, takes: float, ahead: float, late: float = 0.5) -> None:
    """One answer of a database whose clock is so far ahead, read at some part of the time that it took."""
    shown = asked_at + takes * late + ahead
    clock.measure(asked_at=asked_at, answered_at=asked_at + takes, shown=shown)


def test_before_the_first_answer_nothing_is_known() -> None:
    assert DatabaseClock().at(1.0) is None


def test_the_quickest_of_the_last_answers_counts() -> None:
    """A slow one may have been read at any moment of the time that it took."""
    clock = DatabaseClock()
    _measured(clock, 1.0, takes=0.002, ahead=1000.0)
    _measured(clock, 2.0, takes=0.8, ahead=1000.0, late=0.9)
    assert clock.at(5.0) == pytest.approx(1005.0)


def test_what_is_long_ago_is_forgotten() -> None:
    """Clocks drift apart."""
    clock = DatabaseClock()
    _measured(clock, 1.0, takes=0.001, ahead=1000.0)
    for number in range(8):
        _measured(clock, 2.0 + number, takes=0.002, ahead=1000.003)
    assert clock.at(0.0) == pytest.approx(1000.003)


@pytest.mark.parametrize("jump", [-3600.0, -0.1, 0.1, 3600.0])
def test_a_clock_that_was_set_is_followed_at_once(jump: float) -> None:
    """Also after a failover to a server with another clock, and where the pod's machine slept."""
    clock = DatabaseClock()
    _measured(clock, 1.0, takes=0.001, ahead=1000.0)
    _measured(clock, 2.0, takes=0.004, ahead=1000.0 + jump)
    assert clock.at(0.0) == pytest.approx(1000.0 + jump)
