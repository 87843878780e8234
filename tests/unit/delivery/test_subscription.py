from __future__ import annotations

import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest

from gatecast.delivery.feed import Feed
from gatecast.delivery.outcomes import OutcomeRecorder
from gatecast.delivery.parking import MAX_PARKED
from gatecast.delivery.resume import Start
from gatecast.delivery.subscription import MAX_UNSETTLED, Subscription
from gatecast.errors import SubscriptionClosed
from gatecast.events import Action, Position, RecordedEvent
from gatecast.storage.contract import Connection, DeliveryFilter, Progress, ReadResult

_EPOCH = UUID(int=1)
_CONNECTION = Connection(
    connection_id="c", gateway_id="gw", replica="a", pod_id="pod", protocol="library", remote="test", token_id=None
)


class _Recorder:
    """Keeps what it is told: where the connection stood, and whether it left."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, int]] = []

    def report(self, subscription: Subscription) -> None:
        self._note("report", subscription.take_progress())

    def leave(self, progress: Progress) -> None:
        self._note("leave", progress)

    def _note(self, what: str, progress: Progress) -> None:
        assert (progress.connection_id, progress.gateway_id, progress.replica) == ("c", "gw", "a")
        assert progress.epoch == _EPOCH
        self.told.append((what, progress.sent, progress.confirmed))


def _subscription(
    recorder: _Recorder, closed: list[Subscription] | None = None, *, outcomes: OutcomeRecorder | None = None
) -> Subscription:
    start = Start(Position(_EPOCH, 5))
    return Subscription(
        _CONNECTION,
        start,
        feed=Feed("gw", start.position, on_room=lambda _: None),
        recorder=cast("Any", recorder),
        outcomes=outcomes or OutcomeRecorder(cast("Any", None)),
        on_close=(closed if closed is not None else []).append,
    )


def read_result(*offsets: int) -> ReadResult:
    """Events at these offsets, and nothing behind them."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    events = [
        RecordedEvent(
            gateway_id="gw",
            offset=offset,
            event_id=UUID(int=offset),
            type="route.changed",
            action=Action.UPDATE,
            entity_type="Route",
            entity_id="a",
            payload="{}",
            originated_at=moment,
            recorded_at=moment,
        )
        for offset in offsets
    ]
    return ReadResult(epoch=_EPOCH, events=events, head=offsets[-1], low_water_mark=0)


def test_it_begins_with_everything_before_its_start_confirmed() -> None:
    subscription = _subscription(_Recorder())
    assert (subscription.sent, subscription.confirmed) == (5, Position(_EPOCH, 5))
    assert not subscription.closed


def test_s08_what_was_sent_and_confirmed_never_moves_back() -> None:
    recorder = _Recorder()
    subscription = _subscription(recorder)
    for offset in (8, 7, 8):
        subscription.mark_sent(offset)
    for offset in (6, 4, 6, 7):
        subscription.acknowledge(offset)
    assert recorder.told == [("report", 8, 5), ("report", 8, 6), ("report", 8, 7)]
    assert subscription.confirmed.offset == 7


def test_what_was_confirmed_was_sent() -> None:
    """An acknowledgement may be quicker than the note that the frame was written."""
    recorder = _Recorder()
    _subscription(recorder).acknowledge(9)
    assert recorder.told == [("report", 9, 9)]


def test_a_stored_position_does_not_pass_a_rejection_that_is_not_stored() -> None:
    recorder = _Recorder()
    subscription = _subscription(recorder)
    subscription.mark_sent(9)
    subscription.set_aside(7)
    subscription.set_aside(8)
    subscription.acknowledge(9)
    subscription.settled(7)
    subscription.settled(8)
    assert [confirmed for _, _, confirmed in recorder.told] == [5, 6, 7, 9]
    assert subscription.confirmed.offset == 9


def test_a_rejection_that_is_not_stored_comes_again_after_the_end() -> None:
    recorder = _Recorder()
    subscription = _subscription(recorder)
    subscription.set_aside(7)
    subscription.acknowledge(9)
    subscription.close()
    subscription.settled(7)
    assert recorder.told[-1] == ("leave", 9, 6)


def test_an_event_whose_rejection_will_not_be_stored_comes_again_on_another_connection() -> None:
    subscription = _subscription(_Recorder())
    subscription.set_aside(7)
    subscription.outcome_dropped()
    with pytest.raises(SubscriptionClosed, match="restarting"):
        subscription.take_now(1)


def test_nothing_more_is_taken_while_too_much_is_not_stored() -> None:
    """A parked entity with a long backlog takes no more memory than another one."""
    subscription = _subscription(_Recorder())
    subscription.feed.accept(read_result(6, 7, 8))
    for offset in range(100, 100 + MAX_UNSETTLED - 1):
        subscription.set_aside(offset)
    [event] = subscription.take_now(10)
    subscription.set_aside(event.offset)
    assert subscription.take_now(10) == []
    subscription.settled(100)
    assert [event.offset for event in subscription.take_now(10)] == [7]


def test_nothing_more_is_taken_while_too_much_is_parked() -> None:
    subscription = _subscription(_Recorder())
    subscription.feed.accept(read_result(6))
    subscription.lot.fill(DeliveryFilter(parked=frozenset(("Route", str(number)) for number in range(MAX_PARKED))))
    assert subscription.take_now(10) == []


def test_closing_it_reports_once_for_the_last_time() -> None:
    recorder, closed = _Recorder(), list[Subscription]()
    subscription = _subscription(recorder, closed)
    subscription.acknowledge(6)
    subscription.close()
    subscription.close()
    subscription.acknowledge(7)
    subscription.mark_sent(8)
    assert recorder.told == [("report", 6, 6), ("leave", 6, 6)]
    assert closed == [subscription]
    assert (subscription.closed, subscription.was_closed_here) == (True, True)
    with pytest.raises(SubscriptionClosed, match="closed"):
        subscription.take_now(1)


async def test_a_dismissed_one_tells_why_and_is_still_to_be_closed() -> None:
    recorder = _Recorder()
    subscription = _subscription(recorder)
    subscription.end_with("token-revoked")
    assert (subscription.closed, subscription.was_closed_here) == (True, False)
    with pytest.raises(SubscriptionClosed, match="token-revoked"):
        await subscription.take(1)
    assert recorder.told == []
    subscription.close()
    assert recorder.told == [("leave", 5, 5)]


def test_a_consumer_that_parks_nothing_waits_at_an_event_that_cannot_be_delivered() -> None:
    """Its position passes neither that event nor one after it, until the consumer does without it."""
    recorder = _Recorder()
    subscription = _subscription(recorder)
    result = read_result(6, 7, 8)
    events = [result.events[0], replace(result.events[1], undeliverable="nobody can read it"), result.events[2]]
    subscription.feed.accept(replace(result, events=events))
    assert [event.offset for event in subscription.take_now(10)] == [6]
    assert subscription.stuck_at == events[1]
    assert subscription.take_now(10) == []
    subscription.leave_out(events[1])
    assert [subscription.stuck_at, subscription.confirmed.offset] == [None, 7]
    assert subscription.progress.confirmed == 6
    subscription.settled(7)
    assert subscription.progress.confirmed == 7
    assert [event.offset for event in subscription.take_now(10)] == [8]


@pytest.mark.parametrize(
    "payload",
    ["{", "[]", '{"number": ' + "9" * 5_000 + "}", '{"a":' * 2_000 + "1" + "}" * 2_000, r'{"a": "\ud800"}', "NaN"],
)
def test_an_event_whose_data_nobody_can_read_cannot_be_delivered(payload: str) -> None:
    subscription = _subscription(_Recorder())
    result = read_result(6, 7)
    subscription.feed.accept(replace(result, events=[replace(result.events[0], payload=payload), result.events[1]]))
    assert subscription.take_now(10) == []
    assert subscription.stuck_at is not None
    assert (subscription.stuck_at.offset, subscription.stuck_at.data) == (6, {})


def test_what_an_idle_subscription_holds_takes_little_memory() -> None:
    """A pod holds thousands of them. Each empty deque in one would take another 700 bytes."""
    count, recorder, outcomes = 200, _Recorder(), OutcomeRecorder(cast("Any", None))
    tracemalloc.start()
    try:
        held = [_subscription(recorder, outcomes=outcomes) for _ in range(count)]
        each = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    assert len(held) == count
    assert each < 4_500
