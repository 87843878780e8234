"""How far a client has come."""

from __future__ import annotations

from uuid import UUID

import pytest

from gatecast.client.progress import ClientProgress
from gatecast.errors import InvalidValue
from gatecast.events import Position

EPOCH, OTHER = UUID(int=1), UUID(int=2)


def at(offset: int, epoch: UUID = EPOCH) -> Position:
    return Position(epoch, offset)


def handed_out(*offsets: int, after: Position | None = None) -> ClientProgress:
    """Progress after these events were handed out."""
    progress = ClientProgress(after)
    for offset in offsets:
        progress.hand_out(at(offset))
    return progress


def test_without_a_start_the_first_event_tells_where_delivery_began() -> None:
    assert ClientProgress(None).position is None
    assert handed_out(7).position == at(6)


def test_an_acknowledgement_covers_everything_before_it() -> None:
    progress = handed_out(6, 7, 8, after=at(5))
    progress.acknowledge(at(7))
    assert progress.position == at(7)
    progress.acknowledge(at(6))
    assert progress.position == at(7)


def test_a_rejection_settles_one_event_only() -> None:
    progress = handed_out(1, 2, 3)
    progress.reject(at(2), "why")
    assert progress.acked == at(0)
    progress.acknowledge(at(1))
    assert progress.acked == at(2)
    assert progress.rejections == {2: "why"}


def test_the_place_to_continue_passes_no_rejection_that_may_not_be_stored() -> None:
    progress = handed_out(1, 2, 3)
    progress.reject(at(2), "why")
    progress.acknowledge(at(3))
    assert (progress.acked, progress.position) == (at(3), at(1))
    progress.rejections.clear()
    assert progress.position == at(3)


def test_what_was_settled_cannot_be_rejected_any_more() -> None:
    progress = handed_out(1)
    progress.acknowledge(at(1))
    progress.reject(at(1), "too late")
    assert progress.rejections == {}


def test_an_event_is_new_until_it_was_handed_out() -> None:
    progress = handed_out(1, 2)
    assert [progress.is_new(at(offset)) for offset in (1, 2, 3)] == [False, False, True]
    assert progress.is_new(at(1, OTHER))


def test_offsets_that_the_server_left_out_hold_nothing_up() -> None:
    progress = handed_out(1, 5)
    progress.acknowledge(at(1))
    assert progress.position == at(4)


def test_what_was_not_received_cannot_be_settled() -> None:
    progress = handed_out(1)
    with pytest.raises(InvalidValue, match="received"):
        progress.acknowledge(at(2))
    with pytest.raises(InvalidValue, match="received"):
        progress.reject(at(2), "why")


def test_after_a_resynchronization_older_events_concern_nobody() -> None:
    progress = handed_out(1, 2)
    progress.reject(at(2), "why")
    progress.begin_behind(at(40, OTHER))
    progress.acknowledge(at(1))
    assert progress.position == at(40, OTHER)
    assert progress.rejections == {}


def test_the_id_of_the_event_at_the_position_goes_along() -> None:
    """That of the last settled event, and of no later one; what is behind it is forgotten."""
    progress = ClientProgress(at(4), "4")
    assert progress.event_id == "4"
    for offset in (5, 6, 7):
        progress.hand_out(at(offset), str(offset))
    progress.acknowledge(at(6))
    assert (progress.position, progress.event_id) == (at(6), "6")
    progress.reject(at(7), "why")
    assert (progress.position, progress.event_id) == (at(6), "6")
    progress.rejections.clear()
    assert progress.event_id == "7"
    progress.hand_out(at(8), "8")
    assert list(progress._ids) == [7, 8]


def test_where_no_event_was_handed_out_there_is_no_id() -> None:
    """Before the first one, behind what the server left out, and behind a resynchronization."""
    assert ClientProgress(None).event_id is None
    progress = handed_out(1)
    progress.hand_out(at(5), "5")
    progress.acknowledge(at(1))
    assert (progress.position, progress.event_id) == (at(4), None)
    progress.acknowledge(at(5))
    assert progress.event_id == "5"
    progress.begin_behind(at(5, OTHER))
    assert progress.event_id is None
