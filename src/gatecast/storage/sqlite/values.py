"""How values look inside SQLite, which knows neither times nor uuids."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID


def to_text(moment: datetime) -> str:
    """The moment as UTC text of fixed width, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(" ", "microseconds")


_STORED_AS: dict[type, Callable[[Any], str]] = {datetime: to_text, UUID: str}

#: More than any statement has parameters.
_NAMES = tuple(str(number) for number in range(1, 100))


def bind(arguments: Iterable[object]) -> dict[str, object]:
    """The arguments of `$1`, `$2` …, which SQLite takes for parameters with the names 1, 2 …."""
    return {
        name: stored(value) if (stored := _STORED_AS.get(type(value))) else value
        # As many names as there are arguments.
        for name, value in zip(_NAMES, arguments, strict=False)
    }
