"""How values are stored in SQLite, which has types for neither instants nor UUIDs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID


def to_text(moment: datetime) -> str:
    """The instant as UTC text with microseconds, of fixed width, so that the order of texts is the order of time."""
    return moment.astimezone(UTC).isoformat(" ", "microseconds")


_STORED_AS: dict[type, Callable[[Any], str]] = {datetime: to_text, UUID: str}


def bind(arguments: Iterable[object]) -> tuple[object, ...]:
    """The arguments of a statement as SQLite stores them: instants as UTC text, UUIDs as text, others as they are."""
    return tuple([stored(value) if (stored := _STORED_AS.get(type(value))) else value for value in arguments])
