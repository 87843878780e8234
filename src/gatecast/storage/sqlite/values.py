"""How values look inside SQLite, which knows neither times nor uuids."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID


def to_text(moment: datetime) -> str:
    """The moment as UTC text of fixed width, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(" ", "microseconds")


def to_moment(text: str) -> datetime:
    """The moment that `to_text` wrote."""
    return datetime.fromisoformat(text)


_STORED_AS: dict[type, Callable[[Any], object]] = {datetime: to_text, UUID: str}


def bind(arguments: Iterable[object]) -> dict[str, object]:
    """The arguments of `$1`, `$2` …, which SQLite takes for parameters with the names 1, 2 …."""
    stored = (_STORED_AS.get(type(value), _unchanged)(value) for value in arguments)
    return {str(number): value for number, value in zip(count(1), stored, strict=False)}


def _unchanged(value: object) -> object:
    return value
