"""Hints through the servers: they republish each head that they have stored, and pods send each other the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from gatecast.background import FailureListener
from gatecast.errors import StorageError
from gatecast.storage.jetstream.stream import Stream
from gatecast.storage.jetstream.subjects import hints_of_logs, hints_of_pods, last_token, text_of
from gatecast.telemetry import get_logger

#: Called with the gateways to look at; None: look at everything.
Heard: TypeAlias = Callable[[frozenset[str] | None], None]

_logger = get_logger("jetstream")


class StreamHints:
    """The hints that the servers send about the stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._connection = stream.connection
        self._name = stream.subjects.name
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        """False while hints cannot arrive."""
        return self._connection.connected

    async def listen(self, heard: Heard) -> None:
        """Call this with every hint from now on, and with None when the connection is back."""
        self._connection.on_hint = lambda subject, sequence: heard(self._gateways_of(subject, sequence))
        self._connection.on_return = lambda: heard(None)
        await self._connection.hear(f"{hints_of_logs(self._name)}.*")
        await self._connection.hear(hints_of_pods(self._name))

    def on_failure(self, told: FailureListener) -> None:
        """Call it when the task that keeps the connection up dies."""
        self._connection.on_failure(told)

    def look_at_everything(self) -> None:
        """Let every pod look at everything; returns at once, and the hint may be lost."""
        task = asyncio.create_task(self._tell(), name="jetstream-hint")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _tell(self) -> None:
        try:
            await self._connection.tell(hints_of_pods(self._name))
        except StorageError as error:
            _logger.info("hint-lost", error=str(error))

    def _gateways_of(self, subject: str, sequence: int) -> frozenset[str] | None:
        if subject == hints_of_pods(self._name):
            return None
        # A replica that lags must not answer that there is nothing new.
        self._stream.head_floor = max(self._stream.head_floor, sequence)
        try:
            return frozenset({text_of(last_token(subject))})
        except ValueError:
            return None
