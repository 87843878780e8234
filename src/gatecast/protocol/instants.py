"""Times on the wire: RFC 3339, compared as instants and never as text."""

from __future__ import annotations

import re
from datetime import UTC, datetime

#: Stricter than `datetime.fromisoformat`, which also takes week dates and times without a zone.
_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:[0-5]\d)", re.ASCII)

#: What Go writes for a time that was never set: `0001-01-01T00:00:00Z`.
_GO_ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)


def format_instant(instant: datetime) -> str:
    """The instant in UTC with microseconds and `Z`."""
    utc = instant if instant.tzinfo is UTC else instant.astimezone(UTC)
    return utc.isoformat("T", "microseconds")[:-6] + "Z"


def parse_instant(text: str) -> datetime:
    """The instant in UTC, cut to microseconds: Go drops trailing zeros, so `.44Z` and `.440Z` are one instant.

    Raises:
        ValueError: the text is not RFC 3339, or lies outside the years 1 to 9999.
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError("not RFC 3339")
    seconds, fraction, zone = match.groups()
    try:
        return datetime.fromisoformat(f"{seconds}.{(fraction or '')[:6]:0<6}{zone}").astimezone(UTC)
    except OverflowError:
        raise ValueError("outside the years 1 to 9999") from None


def parse_performed_at(value: object) -> datetime | None:
    """A `performedAt`; None when it is absent, null, or the time that Go writes for an absent one.

    Raises:
        ValueError: it is not RFC 3339.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("not a string")  # noqa: TRY004 - one error for everything that is not a time
    instant = parse_instant(value)
    return None if instant == _GO_ZERO_TIME else instant
