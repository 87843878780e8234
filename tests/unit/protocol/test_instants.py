from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatecast.protocol.instants import format_instant, parse_instant, parse_performed_at


def test_trailing_zeros_of_the_fraction_do_not_matter() -> None:
    assert parse_instant("2026-01-02T03:04:05.44Z") == parse_instant("2026-01-02T03:04:05.440Z")


def test_an_offset_names_the_same_instant() -> None:
    assert parse_instant("2026-01-02T08:34:05.5+05:30") == datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)


def test_nanoseconds_are_cut_to_microseconds() -> None:
    assert parse_instant("2026-01-02T03:04:05.123456789Z").microsecond == 123_456


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-02",
        "2026-01-02T03:04:05",
        "2026-W01-1T03:04:05Z",
        "2026-13-02T03:04:05Z",
        "2026-01-02T25:04:05Z",
        "2026-01-02 03:04:05Z",
        "2026-01-02T03:04:05Z\n",
        "2026-01-02T03:04:05+24:00",
        "٢٠٢٦-01-02T03:04:05Z",
        "0001-01-01T00:00:00+05:30",
        "9999-12-31T23:59:59-05:30",
    ],
)
def test_what_is_not_rfc_3339_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_instant(text)


def test_the_zero_time_of_go_means_that_the_event_carried_none() -> None:
    assert parse_performed_at("0001-01-01T00:00:00Z") is None
    assert parse_performed_at(None) is None


def test_a_performed_at_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="string"):
        parse_performed_at(1_767_323_045)


@given(st.datetimes(timezones=st.just(timezone(timedelta(hours=-3)))).filter(lambda instant: 1 < instant.year < 9999))
def test_what_is_written_is_read_back(instant: datetime) -> None:
    text = format_instant(instant)

    assert text.endswith("Z")
    assert parse_instant(text) == instant
