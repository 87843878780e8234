"""When to connect again, and when not to: decided from values alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from gatecast.errors import Forbidden, ProtocolViolation, SubscriptionClosed, Unauthenticated
from gatecast.protocol.close_codes import RESTARTING, for_number
from gatecast.waiting import Backoff

_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404

#: After this many connections in a row that end with an unreadable frame, the client raises the error.
MAX_UNREADABLE: Final = 5


_TRUST: Final = "say with `ssl=` whose certificates are, or give the server one that is"
_NO_LISTENER: Final = "nobody lets gateways connect there; name the gateway listener, and not the API"


@dataclass(frozen=True, slots=True)
class Unreachable:
    """There was no connection."""

    #: What went wrong.
    problem: str
    #: Whether the server showed a certificate that is not accepted.
    distrusted: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The server answered the upgrade with another status than 101."""

    #: The HTTP status.
    status: int
    #: What its `Retry-After` said, in seconds.
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """There was a connection."""

    #: The code of the server's close frame; None when it ended without one.
    code: int | None
    #: Whether it was good for something: it moved the position, or lasted.
    useful: bool
    #: What ended it, where that was a frame that this client cannot read; it may come again and again.
    unreadable: ProtocolViolation | None = None


Ending: TypeAlias = Unreachable | Refused | Lost


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectTimes:
    """How long to wait between attempts, in seconds."""

    #: After the first immediate attempt.
    backoff: Backoff = field(default_factory=lambda: Backoff(first=1.0, longest=30.0))
    #: After the server said that it restarts: it says so to many at once.
    restart: Backoff = field(default_factory=lambda: Backoff(first=1.0, longest=1.0))
    #: The longest `Retry-After` that the client accepts.
    longest_retry_after: float = 300.0
    #: A connection that lasted this long resets the back-off.
    useful_after: float = 5.0


class ReconnectPlan:
    """Counts attempts that came to nothing.

    A lost connection is tried again at once. What follows waits longer and longer, until a connection was good for
    something again: a server that accepts and then closes is no reason for a busy loop.
    """

    def __init__(self, times: ReconnectTimes, *, persistent: bool = False) -> None:
        self._times = times
        self._persistent = persistent
        self._failures = 0
        self._unreadable = 0

    def pause_after(self, ending: Ending) -> float:
        """How long to wait before the next attempt, in seconds.

        Raises:
            Unauthenticated: the token is not valid.
            Forbidden: the token does not allow this.
            SubscriptionClosed: the server said not to come back.
            ProtocolViolation: it sends what cannot be read, again and again; or, unless the plan is persistent, its
                certificate is not accepted, or it has no gateway listener.
        """
        match ending:
            case Lost():
                return self._after_loss(ending)
            case Refused(status, retry_after):
                self._check_status(status)
                return max(self._after_failure(), min(retry_after or 0.0, self._times.longest_retry_after))
            case Unreachable(problem, distrusted):
                if distrusted and not self._persistent:
                    raise ProtocolViolation(f"the server's certificate is not accepted: {problem}; {_TRUST}")
                return self._after_failure()

    def _check_status(self, status: int) -> None:
        if status == _UNAUTHORIZED:
            raise Unauthenticated
        if status == _FORBIDDEN:
            raise Forbidden("this token may not connect as a gateway")
        if status == _NOT_FOUND and not self._persistent:
            raise ProtocolViolation(f"HTTP {status}: {_NO_LISTENER}")

    def _after_failure(self) -> float:
        self._failures += 1
        return self._times.backoff.pause(self._failures)

    def _after_loss(self, loss: Lost) -> float:
        code = for_number(loss.code)
        if code is not None and not code.reconnect:
            raise SubscriptionClosed(code.reason)
        self._unreadable = self._unreadable + 1 if loss.unreadable else 0
        if loss.unreadable and self._unreadable >= MAX_UNREADABLE:
            raise loss.unreadable
        if loss.useful:
            self._failures = 0
        pause = self._times.backoff.pause(self._failures) if self._failures else 0.0
        self._failures += 1
        return max(pause, self._times.restart.pause(1)) if code is RESTARTING else pause


def parse_retry_after(header: str | None) -> float | None:
    """Seconds out of a `Retry-After` header; the form with a date is not worth trusting another clock for."""
    return float(header) if header and header.isascii() and header.isdigit() else None
