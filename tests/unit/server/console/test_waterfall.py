from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias
from uuid import uuid4

import pytest

from gatecast.events import Action
from gatecast.server.admin_api.event_hops import DeliveryView, EventDetail, HopView
from gatecast.server.admin_api.models import OutcomeView
from gatecast.server.console.waterfall import WIDTH, Waterfall, duration, waterfall

Hop: TypeAlias = Literal["picked-up", "sent", "confirmed"]

_RECORDED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _at(seconds: float) -> datetime:
    return _RECORDED + timedelta(seconds=seconds)


def _way(*instants: float, replica: str = "", within: float = 0.0) -> DeliveryView:
    names: tuple[Hop, ...] = ("picked-up", "sent", "confirmed")
    hops = [HopView(hop=hop, at=_at(moment), within=within) for hop, moment in zip(names, instants, strict=False)]
    return DeliveryView(replica=replica, connection_id=str(uuid4()), pod_id="pod-1", hops=hops)


def _outcome(kind: Any, seconds: float, replica: str = "") -> OutcomeView:  # noqa: ANN401
    return OutcomeView(replica=replica, kind=kind, reason="", recorded_at=_at(seconds))


def _drawn(*ways: DeliveryView, state: Any, outcomes: tuple[OutcomeView, ...] = (), now: float = 100.0) -> Waterfall:  # noqa: ANN401
    event = EventDetail(
        offset=1, event_id=uuid4(), type="t", action=Action.UPDATE, entity_type="e", entity_id="1", data={},
        originated_at=_RECORDED, recorded_at=_RECORDED, state=state, outcome=None, undeliverable=None,
        deliveries=list(ways), outcomes=list(outcomes),
    )  # fmt: skip
    return waterfall(event, _at(now))


def _tones(drawn: Waterfall) -> list[list[str]]:
    return [[bar.tone for bar in lane.bars] for lane in drawn.lanes]


def test_waiting_and_working_differ_and_the_bars_fill_the_picture() -> None:
    drawn = _drawn(_way(0.1, 0.2, 0.5), state="applied", outcomes=(_outcome("applied", 0.9),))
    assert _tones(drawn) == [["waiting", "waiting", "working", "done"]]
    [lane] = drawn.lanes
    assert [step.name for step in lane.steps] == ["Recorded", "Picked up", "Sent", "Confirmed", "Applied"]
    assert [step.after for step in lane.steps] == ["0.0 ms", "100 ms", "200 ms", "500 ms", "900 ms"]
    for earlier, later in zip(lane.bars, lane.bars[1:], strict=False):
        assert later.x == pytest.approx(earlier.x + earlier.width, abs=0.11)
    assert lane.bars[-1].x + lane.bars[-1].width == pytest.approx(WIDTH, abs=0.2)
    assert lane.end == "Applied after 900 ms"


def test_what_is_short_is_seen_beside_what_is_long() -> None:
    """A gateway that was away for a day, and then took a millisecond."""
    drawn = _drawn(_way(86_400, 86_400.001, 86_400.002), state="confirmed")
    assert min(bar.width for bar in drawn.lanes[0].bars) > 10
    assert drawn.length == "1 d"


def test_what_is_not_over_goes_on_until_now() -> None:
    [lane] = _drawn(_way(1, 2), state="stored", now=5).lanes
    assert (lane.bars[-1].tone, lane.end) == ("working", "The gateway works on it, for 3.0 s now")
    [lane] = _drawn(state="stored", now=90).lanes
    assert [bar.tone for bar in lane.bars] == ["waiting"]
    assert lane.end == "Waits for a pod that holds the gateway's connection, for 1 min now"


def test_each_replica_and_each_attempt_has_a_lane_on_one_scale() -> None:
    """Only the newest attempt of a replica goes on, and has its word."""
    drawn = _drawn(
        _way(1, 2, replica="a"), _way(5, 6, 7, replica="a"), _way(3, 4, replica="b"),
        state="stored", outcomes=(_outcome("rejected", 8, "a"),), now=10,
    )  # fmt: skip
    assert _tones(drawn) == [
        ["waiting", "waiting"],
        ["waiting", "waiting", "working", "failed"],
        ["waiting", "waiting", "working"],
    ]
    assert drawn.lanes[2].bars[1].x < drawn.lanes[1].bars[1].x


def test_nothing_happens_before_what_it_follows_from() -> None:
    """Clocks differ a little, and between two instants it is only known roughly."""
    [lane] = _drawn(_way(-0.001, 0.3, 0.2), state="confirmed").lanes
    assert all(bar.width >= 0 for bar in lane.bars)
    assert [step.after for step in lane.steps] == ["0.0 ms", "0.0 ms", "300 ms", "300 ms"]


def test_of_an_event_of_long_ago_that_is_said() -> None:
    [lane] = _drawn(state="confirmed").lanes
    assert (lane.bars, lane.end) == ([], "Confirmed; the time is no longer known")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 ms"), (0.0004, "0.4 ms"), (0.012, "12 ms"), (3.14, "3.1 s"), (61, "1 min"), (90_000, "1 d 1 h")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text
