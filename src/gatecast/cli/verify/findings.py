"""The result of a verification: one finding for each promise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from gatecast.cli.output import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One promise, and whether it held."""

    promise: str
    held: bool
    detail: str
    #: Seconds after the beginning, and how long it took.
    began: float
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The finding as JSON."""
        return asdict(self)


def expect(held: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Fail with this sentence unless it held. Not an `assert` statement: those are gone under `python -O`.

    Raises:
        AssertionError: it did not hold.
    """
    if not held:
        raise AssertionError(otherwise)


@dataclass(slots=True)
class Findings:
    """The findings so far."""

    #: No check takes longer than this, in seconds.
    time_limit: float
    items: list[Finding] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    async def check(self, promise: str, work: Callable[[], Awaitable[str]]) -> None:
        """Run the check, and note whether the promise held: `work` returns what was seen, or raises an error."""
        start = time.monotonic()
        try:
            with progress(promise):
                async with asyncio.timeout(self.time_limit):
                    detail, held = await work(), True
        except Exception as broken:  # noqa: BLE001 - whatever it is, the report must not be lost
            detail, held = "; ".join(dict.fromkeys(map(_sentence, _causes(broken)))), False
        took = time.monotonic() - start
        self.items.append(Finding(promise=promise, held=held, detail=detail, began=start - self._began, seconds=took))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The actual errors: tasks that ran together fail as a group."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _causes(each)
    else:
        yield error


def _sentence(error: BaseException) -> str:
    said = str(error)
    return (
        f"{type(error).__name__}: {said}"
        if isinstance(error, LookupError | TypeError) and said
        else (said or type(error).__name__)
    )
