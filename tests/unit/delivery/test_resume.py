from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from gatecast.delivery.resume import Start, decide_start
from gatecast.events import Position
from gatecast.storage.contract import PositionState

_EPOCH = UUID(int=1)
_OLD = UUID(int=2)
_STANDING = PositionState(
    epoch=_EPOCH,
    head=10,
    low_water_mark=3,
    confirmed=Position(_EPOCH, 5),
    resync_reason=None,
    registered_in=_EPOCH,
)
_BEGINNING = Position(_EPOCH, 3)


@pytest.mark.parametrize("offset", [3, 10])
def test_s07_whatever_is_still_in_the_log_is_continued(offset: int) -> None:
    stored = replace(_STANDING, confirmed=Position(_EPOCH, offset))
    assert decide_start(stored, None) == Start(Position(_EPOCH, offset))
    assert decide_start(_STANDING, Position(_EPOCH, offset)) == Start(Position(_EPOCH, offset))


@pytest.mark.parametrize(
    ("known", "reason"),
    [(Position(_EPOCH, 2), "retention"), (Position(_EPOCH, 11), "ahead"), (Position(_OLD, 5), "epoch")],
)
def test_what_cannot_be_continued_is_told_and_begins_with_what_is_retained(known: Position, reason: str) -> None:
    assert decide_start(_STANDING, known) == Start(_BEGINNING, reason)
    assert decide_start(replace(_STANDING, confirmed=known), None) == Start(_BEGINNING, reason)


def test_who_never_connected_begins_with_what_is_retained() -> None:
    """And is told when that is not everything."""
    fresh = replace(_STANDING, confirmed=None)
    assert decide_start(fresh, None) == Start(_BEGINNING, "retention")
    assert decide_start(replace(fresh, low_water_mark=0), None) == Start(Position(_EPOCH, 0))
    assert decide_start(replace(fresh, registered_in=_OLD), None) == Start(_BEGINNING, "epoch")


def test_who_has_not_resynchronized_is_told_again_unless_it_says_where_it_stands() -> None:
    standing = replace(_STANDING, resync_reason="epoch")
    assert decide_start(standing, None) == Start(Position(_EPOCH, 5), "epoch")
    assert decide_start(standing, Position(_EPOCH, 5)) == Start(Position(_EPOCH, 5))


def test_who_lost_what_it_had_rejected_is_told_whatever_position_it_names() -> None:
    standing = replace(_STANDING, resync_reason="parked")
    assert decide_start(standing, None) == Start(Position(_EPOCH, 5), "parked")
    assert decide_start(standing, Position(_EPOCH, 7)) == Start(Position(_EPOCH, 7), "parked")
