from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from gatecast.delivery.feed import MAX_BYTES, MAX_EVENTS, Feed
from gatecast.errors import SubscriptionClosed
from gatecast.events import Action, Position, RecordedEvent
from gatecast.storage.contract import ReadResult

_EPOCH = UUID(int=1)
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _event(offset: int, payload: str = "{}") -> RecordedEvent:
    return RecordedEvent(
        gateway_id="gw",
        offset=offset,
        event_id=uuid4(),
        type="t",
        action=Action.CREATE,
        entity_type="T",
        entity_id="e",
        payload=payload,
        originated_at=_NOW,
        recorded_at=_NOW,
    )


def _result(first: int, last: int, head: int | None = None) -> ReadResult:
    events = [_event(offset) for offset in range(first, last + 1)]
    return ReadResult(epoch=_EPOCH, events=events, head=last if head is None else head, low_water_mark=0)


def _feed(called: list[Feed] | None = None) -> Feed:
    return Feed("gw", Position(_EPOCH, 0), on_room=(called if called is not None else []).append)


def test_a_full_feed_is_not_read_for_until_half_is_taken() -> None:
    called: list[Feed] = []
    feed = _feed(called)
    feed.request()
    feed.accept(_result(1, MAX_EVENTS, head=1_000))
    assert not feed.wants_read
    assert len(feed.take_now(MAX_EVENTS // 2 - 1)) == MAX_EVENTS // 2 - 1
    assert called == []
    feed.take_now(1)
    assert called == [feed]
    request = feed.request()
    assert (request.after, request.max_events) == (MAX_EVENTS, MAX_EVENTS // 2)


def test_bytes_are_bounded_as_well() -> None:
    feed = _feed()
    large = replace(_result(1, 1, head=2), events=[_event(1, "x" * MAX_BYTES)])
    feed.request()
    feed.accept(large)
    wanted_while_full = feed.wants_read
    feed.take_now(1)
    assert (wanted_while_full, feed.wants_read) == (False, True)
    assert feed.request().max_bytes == MAX_BYTES


def test_a_hint_during_a_read_asks_for_another_one() -> None:
    feed = _feed()
    feed.request()
    feed.suspect = True
    feed.accept(_result(1, 1))
    assert feed.wants_read


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(_result(2, 2), id="a gap"),
        pytest.param(replace(_result(1, 1), epoch=UUID(int=2)), id="another epoch"),
        pytest.param(replace(_result(1, 0, head=5), low_water_mark=1), id="trimmed past it"),
        pytest.param(replace(_result(1, 1), head=-1), id="a head behind it"),
    ],
)
def test_what_does_not_continue_ends_the_feed(result: ReadResult) -> None:
    feed = _feed()
    feed.request()
    feed.accept(result)
    with pytest.raises(SubscriptionClosed) as closed:
        feed.take_now(1)
    assert closed.value.reason == "restarting"


def test_an_ended_feed_gives_nothing_and_keeps_its_first_reason() -> None:
    feed = _feed()
    feed.accept(_result(1, 1))
    feed.end("superseded")
    feed.end("closed")
    feed.accept(_result(2, 2))
    assert feed.read_through == 1
    assert not feed.wants_read
    with pytest.raises(SubscriptionClosed, match="superseded"):
        feed.take_now(1)
