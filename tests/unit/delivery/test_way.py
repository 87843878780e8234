from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from gatecast.delivery import hops
from gatecast.delivery.database_clock import DatabaseClock
from gatecast.delivery.hops import Way
from gatecast.events import Action, RecordedEvent
from gatecast.storage.hops import NOTHING, Passage

_AHEAD = 1_000.0


class _Hand:
    """A clock that is moved by hand."""

    now = 0.0


@pytest.fixture
def hand() -> _Hand:
    return _Hand()


@pytest.fixture
def way(hand: _Hand) -> Way:
    clock = DatabaseClock(lambda: hand.now)
    clock.measure(asked_at=0.0, answered_at=0.0, shown=_AHEAD)
    return Way(5, clock)


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, int]]:
    """What was counted: hop, seconds, events."""
    told: list[tuple[str, float, int]] = []
    for counted in (*hops.COUNTED.values(), hops.APPLIED):
        monkeypatch.setattr(counted, "observe", partial(_note, told, counted.hop))
    return told


def _note(told: list[tuple[str, float, int]], hop: str, seconds: float, events: int) -> None:
    told.append((hop, seconds, events))


_EVENT = RecordedEvent.standing_in("gw", 1, "a test")


def _events(*offsets: int, recorded_at: float = _AHEAD) -> list[RecordedEvent]:
    moment = datetime.fromtimestamp(recorded_at, UTC)
    return [replace(_EVENT, offset=offset, action=Action.UPDATE, recorded_at=moment) for offset in offsets]


def test_what_passes_between_two_flushes_is_one_passage_for_each_hop(way: Way, hand: _Hand) -> None:
    steps: list[Callable[[], None]] = [
        lambda: way.picked_up(_events(6, 7)),
        lambda: way.sent(6),
        lambda: way.sent(7),
        lambda: way.picked_up(_events(8)),
        lambda: way.confirmed(7),
    ]
    for moment, step in enumerate(steps, start=1):
        hand.now = float(moment)
        step()
    assert way.take() == (
        Passage(5, 8, _AHEAD + 1, _AHEAD + 4),
        Passage(5, 7, _AHEAD + 2, _AHEAD + 3),
        Passage(5, 7, _AHEAD + 5, _AHEAD + 5),
    )
    assert way.take() == ()
    way.sent(8)
    assert way.take() == (NOTHING, Passage(7, 8, _AHEAD + 5, _AHEAD + 5), NOTHING)


def test_what_could_not_be_stored_is_told_again_with_what_came_since(way: Way, hand: _Hand) -> None:
    way.sent(6)
    taken = way.take()
    way.give_back(taken)
    assert way.take() == taken
    hand.now = 3.0
    way.sent(8)
    way.give_back(taken)
    assert way.take() == (NOTHING, Passage(5, 8, _AHEAD, _AHEAD + 3), NOTHING)


def test_without_the_databases_clock_nothing_is_told_and_nothing_is_lost() -> None:
    clock = DatabaseClock(lambda: 1.0)
    way = Way(0, clock)
    way.sent(3)
    assert way.take() == ()
    clock.measure(asked_at=1.0, answered_at=1.0, shown=_AHEAD)
    assert way.take() == (NOTHING, Passage(0, 3, _AHEAD, _AHEAD), NOTHING)


def test_each_hop_counts_its_events_by_their_age(way: Way, hand: _Hand, observed: list[tuple[str, float, int]]) -> None:
    """What was read together counts with the age of the oldest, and each event is counted once."""
    hand.now = 1.0
    way.picked_up(_events(6, 7, 8))
    hand.now = 2.0
    way.picked_up(_events(9, recorded_at=_AHEAD + 1.5))
    way.sent(7)
    way.sent(9)
    hand.now = 3.0
    way.confirmed(9)
    way.applied(9)
    assert observed == [
        ("picked-up", 1.0, 3),
        ("picked-up", 0.5, 1),
        ("sent", 2.0, 2),
        ("sent", 0.5, 1),
        ("sent", 2.0, 1),
        ("confirmed", 1.5, 1),
        ("confirmed", 3.0, 3),
        ("applied", 1.5, 1),
    ]
