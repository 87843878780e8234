from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

from gatecast.storage.row_values import to_moment
from gatecast.storage.sqlite.values import bind, to_text


def test_a_moment_is_utc_text_of_fixed_width() -> None:
    east = timezone(timedelta(hours=2))
    assert to_text(datetime(2026, 1, 2, 3, 4, 5, tzinfo=east)) == "2026-01-02 01:04:05.000000+00:00"
    assert to_text(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01 00:00:00.000000+00:00"


def test_text_order_is_time_order() -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    moments = [first + timedelta(microseconds=step) for step in (0, 1, 999_999, 1_000_000, 10**12)]
    assert sorted(map(to_text, reversed(moments))) == [to_text(moment) for moment in moments]


def test_a_moment_comes_back() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    assert to_moment(to_text(moment)) == moment


def test_arguments_become_what_sqlite_stores() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    identity = UUID(int=7)
    assert bind([moment, identity, True, None, "x", 3]) == (
        "2026-01-02 00:00:00.000000+00:00",
        "00000000-0000-0000-0000-000000000007",
        True,
        None,
        "x",
        3,
    )
