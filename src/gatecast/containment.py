"""Contains a failure: it stays with the loop that met it, and with the one item that caused it.

Only `InvariantBroken` ends a pod. After any other error a loop remembers the problem and tries again (promise P11).
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

from gatecast.errors import GatecastError, HubClosed, InvariantBroken, StatementFailed, StorageError
from gatecast.telemetry import get_logger
from gatecast.waiting import Backoff

T = TypeVar("T")
R = TypeVar("R")

#: A loop that has failed for this long without one success makes its pod unready; in seconds.
UNREADY_AFTER = 10.0

_SHOWN_FRAMES = 6

_logger = get_logger("loops")


def _nothing() -> None:
    """The default listener: does nothing."""


class RetryLoop:
    """Tries, backs off, remembers the problem, and tries again, until it is cancelled or an invariant is broken."""

    def __init__(
        self, name: str, what: str, *, backoff: Backoff | None = None, on_failure: Callable[[], None] = _nothing
    ) -> None:
        #: The log event for a failure.
        self.name = name
        #: The effect of a failure, as a sentence.
        self.what = what
        self._backoff = backoff or Backoff()
        self._on_failure = on_failure
        self._failures = 0
        self._failing_since = 0.0
        #: Why the last attempt failed; None when it succeeded.
        self.problem: str | None = None

    @property
    def alarm(self) -> str | None:
        """Why the pod is unready: the problem, once there was no success for 10 seconds."""
        if self.problem is None or _now() - self._failing_since < UNREADY_AFTER:
            return None
        return f"{self.what}: {self.problem}"

    async def run(self, work: Callable[[], Awaitable[object]], *, rest: Callable[[], Awaitable[object]]) -> NoReturn:
        """Do the work again and again, with a rest after each success and a growing pause after each failure."""
        while True:
            await self.until_done(work)
            await rest()

    async def until_done(self, work: Callable[[], Awaitable[T]], *, final: tuple[type[Exception], ...] = ()) -> T:
        """The result of the work, once it succeeds; errors that are `final` are raised at once."""
        while True:
            try:
                result = await work()
            except Exception as error:
                # No other error may end the loop.
                if isinstance(error, (InvariantBroken, *final)):
                    raise
                await self._back_off(error)
            else:
                self.succeeded()
                return result

    def succeeded(self) -> None:
        """Forget the problem: for work that has no end, once it works."""
        self._failures, self.problem = 0, None

    async def _back_off(self, error: Exception) -> None:
        if not self._failures:
            self._failing_since = _now()
        self._failures += 1
        self.problem = describe(error)
        log_failure(self.name, error, attempt=self._failures)
        self._on_failure()
        await asyncio.sleep(self._backoff.pause(self._failures))


async def in_halves(
    items: Sequence[T], work: Callable[[Sequence[T]], Awaitable[Sequence[R]]]
) -> Sequence[R | GatecastError]:
    """The result of `work` for each item, in order, or the error that it failed with.

    A batch that fails for one of its items is halved, and each half again, the first one first, until the culprit
    stands alone and the others have succeeded. An error that concerns every item, like a lost connection, halves
    nothing.
    """
    try:
        results = await work(items)
    except InvariantBroken:
        raise
    except Exception as error:  # noqa: BLE001 - any error at all is the caller's answer
        if len(items) <= 1 or concerns_everyone(error):
            return [typed(error)] * len(items)
        middle = len(items) // 2
        return [*await in_halves(items[:middle], work), *await in_halves(items[middle:], work)]
    if len(results) != len(items):
        raise InvariantBroken(f"{len(items)} items were answered with {len(results)} results")
    return results


async def refused_in_halves(
    items: Sequence[T], store: Callable[[Sequence[T]], Awaitable[object]]
) -> Sequence[tuple[T, GatecastError | None]]:
    """Each item, and why it could not be stored; None: it was. Halves the batch as `in_halves` does."""

    async def stored(batch: Sequence[T]) -> Sequence[None]:
        await store(batch)
        return [None] * len(batch)

    return list(zip(items, await in_halves(items, stored), strict=True))


@contextmanager
def contained(event: str, **fields: object) -> Iterator[None]:
    """Log any error in the block and continue after it: for work that is repeated anyway."""
    try:
        yield
    except InvariantBroken:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this piece of work alone
        log_failure(event, error, **fields)


def concerns_everyone(error: BaseException) -> bool:
    """Whether no single item can be at fault, but the connection, the schema or the pod."""
    if isinstance(error, StatementFailed):
        return False
    return isinstance(error, StorageError | HubClosed | OSError)


def typed(error: Exception) -> GatecastError:
    """The error itself if it is one of ours; else `StatementFailed`, caused by it."""
    if isinstance(error, GatecastError):
        return error
    failed = StatementFailed(type(error).__name__)
    failed.__cause__ = error
    return failed


def describe(error: BaseException) -> str:
    """What may be shown of an error: the text of ours; only the type of any other, whose text may hold a secret."""
    return str(error) if isinstance(error, GatecastError) else type(error).__name__


def log_failure(event: str, error: BaseException, **fields: object) -> None:
    """Log what failed and, if that is not obvious, in which code; no values, which may be secret."""
    plain = isinstance(error, GatecastError) and not isinstance(error, StatementFailed)
    where = {} if plain else {"where": _where(error)}
    _logger.warning(event, error=describe(error), **where, **fields)


def _where(error: BaseException) -> str:
    """The frames that the error passed, the innermost first."""
    origin = error.__cause__ or error
    frames = reversed(traceback.extract_tb(origin.__traceback__)[-_SHOWN_FRAMES:])
    said = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{type(origin).__name__} in {said}"


def _now() -> float:
    return asyncio.get_running_loop().time()
