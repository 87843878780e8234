"""Converts times in rows: SQLite stores them as text."""

from __future__ import annotations

from datetime import UTC, datetime


def instant(value: object) -> datetime:
    """A time of a row, in UTC."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.astimezone(UTC)


def instant_or_none(value: object) -> datetime | None:
    """A time of a row that may be missing."""
    return None if value is None else instant(value)
