"""Hints through LISTEN. They are sent by the publishing statement itself, at its commit."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import Any, Self
from uuid import uuid4

import asyncpg

from gatecast.background import BackgroundTask, FailureListener
from gatecast.containment import RetryLoop
from gatecast.telemetry import get_logger
from gatecast.waiting import Backoff, Signal
from gatecast.wakeup.contract import EVERYTHING, Hint, Listener

_CHANNEL = "gatecast"

#: A connection that does not answer within this time is given up; in seconds.
_ANSWER_TIME_LIMIT = 5.0

#: A notification to itself comes back within milliseconds. It is waited for so often before the connection is deaf.
_ECHOES = 2

#: One in this many looks at a hearing connection checks that it still hears; a deaf one is checked each time.
_LOOKS_PER_ECHO = 6

_DEAF = (
    "notifications do not come back: this seems to be a pooler in transaction mode, and nothing is heard through one; "
    "set GATECAST_NOTIFICATIONS=off, or connect to PostgreSQL directly"
)

_logger = get_logger("wakeup")


class PostgresWakeup:
    """Listens on a connection of its own, redials when it is lost, and then looks at everything at once.

    Through a pooler in transaction mode no notification arrives, without any error. So it notifies itself now and then,
    and counts as connected only while that arrives.
    """

    def __init__(self, url: str, *, check_interval: float = 10.0, backoff: Backoff | None = None) -> None:
        self._url = url
        self._check_interval = check_interval
        self._backoff = backoff or Backoff(first=0.1, longest=2.0)
        self._loop = RetryLoop("listen-failed", "hints cannot be heard", backoff=self._backoff)
        self._listener: Listener = _ignore
        self._connection: asyncpg.Connection[Any] | None = None
        self._lost = Signal()
        #: A channel that no other session listens on.
        self._own_channel = f"gatecast-{uuid4().hex}"
        self._echo = Signal()
        self._hears = False
        self._deaf = False
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
        return self._hears and self._connection is not None and not self._connection.is_closed()

    @property
    def problem(self) -> str | None:
        """Why hints cannot arrive; None: they can, as far as is known."""
        if self.connected:
            return None
        return self._loop.problem or (_DEAF if self._deaf else "it is dialing")

    async def __aenter__(self) -> Self:
        self._task.start(self._run(), name="wakeup-postgres")
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._task.stop()

    async def _run(self) -> None:
        await self._loop.run(self._listen_until_lost, rest=lambda: asyncio.sleep(self._backoff.pause(1)))

    async def _listen_until_lost(self) -> None:
        connection = await self._dial("gatecast-listen")
        try:
            connection.add_termination_listener(self._on_loss)
            await connection.add_listener(_CHANNEL, self._on_notification)
            await connection.add_listener(self._own_channel, lambda *_: self._echo.set())
            self._connection = connection
            self._loop.succeeded()
            # Looking at everything once finds what was sent while it did not listen.
            self._listener(EVERYTHING)
            await self._watch(connection)
        finally:
            self._connection, self._hears, self._deaf = None, False, False
            connection.terminate()

    async def _dial(self, name: str) -> asyncpg.Connection[Any]:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(
            self._url,
            timeout=_ANSWER_TIME_LIMIT,
            command_timeout=_ANSWER_TIME_LIMIT,
            server_settings={"application_name": name},
        )
        return connection

    async def _watch(self, connection: asyncpg.Connection[Any]) -> None:
        """Return when the connection is gone; ask now and then, because a cut wire says nothing by itself."""
        for looks in count():
            if not self._hears or looks % _LOOKS_PER_ECHO == 0:
                await self._check_hearing(connection)
            if not await self._lost.wait(self._check_interval) and not connection.is_closed():
                await connection.execute("SELECT 1")
            if connection.is_closed():
                break
        _logger.warning("listen-lost")

    async def _check_hearing(self, connection: asyncpg.Connection[Any]) -> None:
        """Find out whether notifications arrive here. If none can be sent, they are assumed to."""
        try:
            hears = await self._hears_itself(connection)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            _logger.info("hearing-not-checked", error=type(error).__name__)
            hears = not self._deaf
        if not hears and not self._deaf and not connection.is_closed():
            _logger.warning("listen-deaf", problem=_DEAF)
        self._hears, self._deaf = hears, not hears

    async def _hears_itself(self, connection: asyncpg.Connection[Any]) -> bool:
        """Whether a notification comes back.

        Another connection sends it: on one and the same, a pooler may well have both on one session by chance.
        """
        for _ in range(_ECHOES):
            self._echo = Signal()
            other = await self._dial("gatecast-echo")
            try:
                await other.execute("SELECT pg_notify($1, '')", self._own_channel)
                if await self._echo.wait(_ANSWER_TIME_LIMIT) or connection.is_closed():
                    return True
            finally:
                other.terminate()
        return False

    def _on_loss(self, _connection: object) -> None:
        self._lost.set()
        self._echo.set()

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
