"""Hints through NATS: the servers tell every pod which heads they have stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

from gatecast.background import FailureListener
from gatecast.wakeup.contract import EVERYTHING, Hint, Listener


class Hints(Protocol):
    """The hints of an open stream."""

    @property
    def connected(self) -> bool:
        """False while hints cannot arrive."""

    async def listen(self, heard: Callable[[frozenset[str] | None], None]) -> None:
        """Call this with every hint from now on; None means everything."""

    def on_failure(self, told: FailureListener) -> None:
        """Call it when the task that keeps the connection up dies."""

    def look_at_everything(self) -> None:
        """Let every pod look at everything; returns at once."""


class JetStreamWakeup:
    """Listens on the connection of the engine, which dials again by itself; then everything is looked at once."""

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self._listener: Listener = _ignore
        self._open = False

    def listen(self, listener: Listener) -> None:
        """Call this listener with every hint from now on."""
        self._listener = listener

    def on_failure(self, told: FailureListener) -> None:
        """Tell it when the task that keeps the connection up has died."""
        self._hints.on_failure(told)

    def send(self, hint: Hint) -> None:
        """Hint to every pod, if it is about everything: the servers themselves say which logs have grown."""
        if hint.gateways is None:
            self._hints.look_at_everything()

    @property
    def connected(self) -> bool:
        """False while hints cannot arrive."""
        return self._open and self._hints.connected

    @property
    def problem(self) -> str | None:
        """Why hints cannot arrive; None: they can."""
        return None if self.connected else "there is no connection to a NATS server"

    async def __aenter__(self) -> Self:
        await self._hints.listen(self._heard)
        self._open = True
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Stop listening."""
        self._listener, self._open = _ignore, False

    def _heard(self, gateways: frozenset[str] | None) -> None:
        self._listener(EVERYTHING if gateways is None else Hint(gateways))


def _ignore(_hint: Hint) -> None:
    """Hints before `listen` go nowhere."""
