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

#: Names of parameters, more than any statement has.
_NAMES = tuple(str(number) for number in range(1, 100))


def bind(arguments: Iterable[object]) -> dict[str, object]:
    """The arguments of `$1`, `$2` … by name: for SQLite these are parameters named 1, 2 ….

    Instants become UTC text and UUIDs their text; other values stay as they are.
    """
    return {
        name: stored(value) if (stored := _STORED_AS.get(type(value))) else value
        # As many names as there are arguments.
        for name, value in zip(_NAMES, arguments, strict=False)
    }
