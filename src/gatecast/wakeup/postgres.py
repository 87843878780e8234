"""Hints through LISTEN. They are sent by the publishing statement itself, at its commit."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self

import asyncpg

from gatecast.containment import RetryLoop
from gatecast.telemetry import get_logger
from gatecast.waiting import Backoff, Signal
from gatecast.wakeup.background import BackgroundTask
from gatecast.wakeup.contract import EVERYTHING, FailureListener, Hint, Listener

_CHANNEL = "gatecast"

#: A connection that does not answer within this time is given up; in seconds.
_ANSWER_TIME_LIMIT = 5.0

_logger = get_logger("wakeup")


class PostgresWakeup:
    """Listens on a connection of its own, dials again when it is lost, and then looks at everything at once.

    Behind a pooler in transaction mode nothing can be heard; then only polling delivers.
    """

    def __init__(self, url: str, *, check_interval: float = 10.0, backoff: Backoff | None = None) -> None:
        self._url = url
        self._check_interval = check_interval
        self._backoff = backoff or Backoff(first=0.1, longest=2.0)
        self._loop = RetryLoop("listen-failed", "hints cannot be heard", backoff=self._backoff)
        self._listener: Listener = _ignore
        self._connection: asyncpg.Connection[Any] | None = None
        self._lost = Signal()
        self._task = BackgroundTask()

    def listen(self, listener: Listener) -> None:
        """Call this listener with every hint from now on."""
        self._listener = listener

    def on_failure(self, told: FailureListener) -> None:
        """Tell it when listening has died for good, which no outage causes."""
        self._task.on_failure(told)

    def send(self, hint: Hint) -> None:
        """Nothing to do: PostgreSQL notifies when the publishing transaction commits."""

    @property
    def connected(self) -> bool:
        """False while hints cannot arrive."""
        return self._connection is not None and not self._connection.is_closed()

    async def __aenter__(self) -> Self:
        self._task.start(self._run(), name="wakeup-postgres")
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._task.stop()

    async def _run(self) -> None:
        await self._loop.run(self._listen_until_lost, rest=lambda: asyncio.sleep(self._backoff.pause(1)))

    async def _listen_until_lost(self) -> None:
        connection = await asyncpg.connect(
            self._url,
            timeout=_ANSWER_TIME_LIMIT,
            command_timeout=_ANSWER_TIME_LIMIT,
            server_settings={"application_name": "gatecast-listen"},
        )
        try:
            connection.add_termination_listener(lambda _: self._lost.set())
            await connection.add_listener(_CHANNEL, self._on_notification)
            self._connection = connection
            self._loop.succeeded()
            # Whatever was sent while nobody listened is found by looking at everything once.
            self._listener(EVERYTHING)
            await self._watch(connection)
        finally:
            self._connection = None
            connection.terminate()

    async def _watch(self, connection: asyncpg.Connection[Any]) -> None:
        """Return when the connection is gone; ask now and then, because a cut wire says nothing by itself."""
        while not connection.is_closed():
            if not await self._lost.wait(self._check_interval):
                await connection.execute("SELECT 1")
        _logger.warning("listen-lost")

    def _on_notification(self, *notification: Any) -> None:  # noqa: ANN401 - the driver's callback
        self._listener(_parse(notification[-1]))


def _parse(payload: str) -> Hint:
    """The hint in a notification; anything that is not a list of names means everything."""
    try:
        names = json.loads(payload)
    except (ValueError, RecursionError):
        return EVERYTHING
    return Hint.at(map(str, names)) if isinstance(names, list) else EVERYTHING


def _ignore(_hint: Hint) -> None:
    """Hints before `listen` go nowhere."""
