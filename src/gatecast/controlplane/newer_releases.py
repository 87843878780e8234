"""A row that this pod cannot read, because of a newer release or a missing key, affects only itself (P11)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TypeVar

from gatecast.errors import SecretKeyMissing, StoredByNewerRelease
from gatecast.telemetry import get_logger

S = TypeVar("S")
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


def known(rows: Iterable[S], read: Callable[[S], T]) -> list[T]:
    """The rows that this pod can read; the others are logged and left alone.

    Raises:
        SecretKeyMissing: it can read none of them, because the key is not here.
    """
    found: list[T] = []
    keyless: SecretKeyMissing | None = None
    for row in rows:
        try:
            found.append(read(row))
        except StoredByNewerRelease as newer:
            _logger.warning("row-left-alone", what=newer.what)
        except SecretKeyMissing as missing:
            keyless = missing
            _logger.warning("row-left-alone", what=str(missing))
    if keyless is not None and not found:
        raise keyless
    return found
