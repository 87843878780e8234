"""What a newer release has stored, while its pods run beside this one: it concerns its own row alone (promise P11)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TypeVar

from gatecast.errors import StoredByNewerRelease
from gatecast.storage.contract import Row
from gatecast.telemetry import get_logger

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_logger = get_logger("newer-release")


def member(kind: type[E], what: str, text: str) -> E:
    """The member with this value.

    Raises:
        StoredByNewerRelease: this release has no such member.
    """
    try:
        return kind(text)
    except ValueError:
        raise StoredByNewerRelease(f"{what} {text!r}") from None


def known(rows: Iterable[Row], read: Callable[[Row], T]) -> list[T]:
    """What this release can read of rows; the others are logged and left alone."""
    found = []
    for row in rows:
        try:
            found.append(read(row))
        except StoredByNewerRelease as newer:
            _logger.warning("row-left-alone", what=newer.what)
    return found
