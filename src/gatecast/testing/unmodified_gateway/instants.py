"""Times as Go reads, writes and stores them (gateway-protocol.md 1.9 and 2.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)"  # the moment, to the second
    r"(?:\.(\d+))?"  # its fraction
    r"(?:(Z)|([+-])(\d\d):([0-5]\d))",  # its offset
    re.ASCII,
)

#: How Go writes a time that was never set.
ZERO_TIME = "0001-01-01T00:00:00Z"

_NANOSECOND_DIGITS = 9


@dataclass(frozen=True, slots=True)
class GoInstant:
    """A time as it came over the wire."""

    #: The time in its own offset, cut to milliseconds, as the gateway stores it.
    moment: datetime
    #: The time as Go writes it back: without trailing zeros of the fraction, with its offset.
    text: str

    @classmethod
    def parse(cls, text: str) -> GoInstant:
        """The time written as RFC 3339.

        Raises:
            ValueError: Go would refuse the text.
        """
        match = _RFC_3339.fullmatch(text)
        if match is None:
            raise ValueError(text)
        seconds, fraction, _, sign, hours, minutes = match.groups()
        zone = _zone(sign, hours, minutes)
        moment = datetime.fromisoformat(seconds).replace(tzinfo=zone, microsecond=_milliseconds(fraction or "") * 1000)
        return cls(moment, f"{seconds}{_trimmed(fraction or '')}{_offset(moment)}")


def stored(moment: datetime) -> str:
    """The text that SQLite keeps and compares: a wall clock first, so that offsets compare wrongly (section 2.2)."""
    return moment.isoformat(sep=" ", timespec="milliseconds")


def cut_to_milliseconds(moment: datetime) -> datetime:
    """The moment at the resolution that the gateway keeps."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _zone(sign: str | None, hours: str, minutes: str) -> timezone:
    if sign is None:
        return UTC
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(offset if sign == "+" else -offset)


def _milliseconds(fraction: str) -> int:
    return int(fraction[:3].ljust(3, "0"))


def _trimmed(fraction: str) -> str:
    digits = fraction[:_NANOSECOND_DIGITS].rstrip("0")
    return f".{digits}" if digits else ""


def _offset(moment: datetime) -> str:
    return moment.isoformat()[-len("+00:00") :] if moment.utcoffset() else "Z"
