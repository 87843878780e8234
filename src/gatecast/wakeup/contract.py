"""The contract of the HINT: "look again", never what there is to see.

Delivery is correct with every wake-up lost; it is then only as slow as the poll interval. So an implementation may
drop, repeat and reorder hints, and must never raise into its listener.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, Self, TypeAlias

from gatecast.background import FailureListener


@dataclass(frozen=True, slots=True)
class Hint:
    """Some gateways' logs may have grown, or something else changed."""

    #: The gateways to look at; None: look at everything (also when too many changed to name them).
    gateways: frozenset[str] | None

    @classmethod
    def at(cls, gateways: Iterable[str]) -> Hint:
        """Look at these gateways."""
        return cls(frozenset(gateways))


#: Look at everything.
EVERYTHING = Hint(None)

#: Called with every hint, in the event loop's thread; must not block or raise.
Listener: TypeAlias = Callable[[Hint], None]


class Wakeup(Protocol):
    """Carries hints between the pods that share a database. Opened with `async with`."""

    def listen(self, listener: Listener) -> None:
        """Call this listener with every hint from now on. One listener per wake-up."""

    def send(self, hint: Hint) -> None:
        """Hint to every pod, this one included; returns at once. A no-op where the database itself sends hints."""

    @property
    def connected(self) -> bool:
        """False while hints cannot arrive, so that only polling delivers."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exception: object) -> None: ...


class SupervisedWakeup(Wakeup, Protocol):
    """A wake-up that listens in a task of its own, which its owner must supervise."""

    def on_failure(self, told: FailureListener) -> None:
        """Tell it when listening has died for good, also when it has by now. No outage does that: it is a mistake."""

    @property
    def problem(self) -> str | None:
        """Why it is not connected, for people; None: it is."""
