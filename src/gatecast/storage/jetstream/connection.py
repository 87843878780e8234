"""The connection to the NATS servers: every failure of the client becomes one of our errors, here and nowhere else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from gatecast.background import BackgroundTask
from gatecast.containment import RetryLoop, contained
from gatecast.errors import StatementFailed, StorageUnavailable, ValueRefused
from gatecast.telemetry import get_logger
from gatecast.waiting import Backoff, Signal

#: Longest wait for an answer, in seconds.
_ANSWER_TIME_LIMIT = 3.0

#: Pause between two attempts to connect, in seconds, and the longest between those of a client that replaces another.
_REDIAL_PAUSE = 0.25
_LONGEST_REDIAL_PAUSE = 2.0

#: Seconds between Pings to a server, and unanswered Pings before it is given up: a silently cut connection is noticed
#: within a quarter of a minute, as long as the leases of pods last.
_PING_INTERVAL = 5
_UNANSWERED_PINGS = 2

#: A client that was not connected at this many looks in a row, one in each ping interval, is replaced. It may hang on
#: bytes that a silent server does not take.
_LOOKS_WHILE_DOWN = 2

#: Longest wait of a close for the same bytes, in seconds.
_CLOSE_TIME_LIMIT = 1.0

_logger = get_logger("jetstream")

T = TypeVar("T")

#: A message to send: its subject, its data and its headers.
Outgoing: TypeAlias = tuple[str, bytes, dict[str, str]]


class TooMany(Exception):
    """More messages match than the server finds at once."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One of the messages that answer a request."""

    headers: Mapping[str, str]
    data: bytes


class Connection:
    """A connection that dials again by itself; while it is down, everything fails at once."""

    def __init__(self, servers: list[str], user: str, password: str | None) -> None:
        self._servers = dict.fromkeys(servers)
        self._who = {"user": user, "password": password} if password is not None else {"token": user or None}
        self._client = Client()
        #: The handler of messages on each subject, and the subjects that the client has subscribed to.
        self._heard: dict[str, Callable[[Msg], Awaitable[None]]] = {}
        self._subscribed: set[str] = set()
        self._collecting: dict[str, asyncio.Queue[Msg]] = {}
        self._inbox = self._client.new_inbox()
        self._problem = "none answers"
        #: No other connection has this name.
        self.unique = uuid4().hex
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: Set when the client has ended for good.
        self._ended = Signal()
        backoff = Backoff(first=_REDIAL_PAUSE, longest=_LONGEST_REDIAL_PAUSE)
        self._redialing = RetryLoop("nats-not-connected", "there is no connection to a NATS server", backoff=backoff)
        self._task = BackgroundTask()
        #: Call it when the task that keeps the connection up dies.
        self.on_failure = self._task.on_failure
        #: Called in the event loop when the connection is back.
        self.on_return: Callable[[], None] = lambda: None
        #: Called in the event loop with the subject of each hint, and the sequence that it names, or 0.
        self.on_hint: Callable[[str, int], None] = lambda _subject, _sequence: None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, servers: list[str], *, user: str = "", password: str | None = None
    ) -> AsyncIterator[Connection]:
        """A connection to one of these servers, until the block ends; a user without a password is a token.

        Raises:
            StorageUnavailable: none can be reached, or they refuse the user.
        """
        connection = cls(servers, user, password)
        connection._heard[f"{connection._inbox}.*"] = connection._deliver
        await connection._dial()
        connection._task.start(connection._keep_always(), name="nats-connection")
        try:
            yield connection
        finally:
            await connection._task.stop()
            await _close(connection._client)

    async def _keep_always(self) -> None:
        while True:
            await self._keep()

    async def _keep(self) -> None:
        """Replace a client that has ended for good, or does not reconnect; then look again."""
        looks = 0
        while looks < _LOOKS_WHILE_DOWN and not await self._ended.wait(_PING_INTERVAL):
            looks = 0 if self._client.is_connected else looks + 1
        # The client comes back by itself from what it knows. An error that the server tells ends it.
        self._servers |= dict.fromkeys(uri.geturl() for uri in self._client.servers)
        await _close(self._client)
        self._note_loss()
        await self._redialing.until_done(self._dial)
        self.on_return()

    async def _dial(self) -> None:
        """Connect another client, which hears everything that this connection hears.

        Raises:
            StorageUnavailable: no server can be used.
        """
        client, ended, subscribed = Client(), Signal(), set[str]()
        try:
            await self._connect(client, ended)
            # Again if more is to be heard by now.
            while subscribed != self._heard.keys():
                await self._subscribe(client, subscribed)
        except BaseException:
            await _close(client)
            raise
        self._client, self._ended, self._subscribed = client, ended, subscribed

    async def _subscribe(self, client: Client, subscribed: set[str]) -> None:
        """Let a client hear every subject that it does not know of; the server has that when this returns.

        Raises:
            StorageUnavailable: the server may not have it; the client subscribes again when it has reconnected.
        """
        with _translated():
            for subject in self._heard.keys() - subscribed:
                # Noted first: from the call on it is known to the client, unless that has ended for good.
                subscribed.add(subject)
                await client.subscribe(subject, cb=self._heard[subject])
            await _arrival(client)

    async def _connect(self, client: Client, ended: Signal) -> None:
        async def lost() -> None:
            self._note_loss()

        async def returned() -> None:
            self.on_return()

        async def closed() -> None:
            ended.set()

        try:
            await client.connect(
                list(self._servers),
                name="gatecast",
                disconnected_cb=lost,
                reconnected_cb=returned,
                closed_cb=closed,
                error_cb=self._note_error,
                connect_timeout=2,
                ping_interval=_PING_INTERVAL,
                max_outstanding_pings=_UNANSWERED_PINGS,
                max_reconnect_attempts=1,
                reconnect_time_wait=_REDIAL_PAUSE,  # type: ignore[arg-type] # the client sleeps so long, and takes fractions
                **self._who,
            )
        except nats.errors.NoServersError as error:
            raise StorageUnavailable(f"no server of NATS can be used: {self._problem}") from error
        # Only the first connection must come up soon.
        client.options["max_reconnect_attempts"] = -1

    async def _note_error(self, error: Exception) -> None:
        """Remember what the client could not do; its texts hold neither users nor passwords."""
        self._problem = str(error) or type(error).__name__
        if isinstance(error, ConnectionResetError):
            # The server's message may be lost when it hangs up.
            self._problem = "it hangs up; if it knows its users, check the user and password of the URL"
        _logger.info("nats-error", error=self._problem)

    @property
    def connected(self) -> bool:
        """Whether it is up, as far as is known."""
        return self._client.is_connected

    @property
    def max_payload(self) -> int:
        """Most bytes of one message with its headers."""
        return int(self._client.max_payload)

    async def hear(self, subject: str) -> None:
        """Call `on_hint` with every message on this subject from now on, once; if it fails, call it again.

        Raises:
            StorageUnavailable: the server may not know yet.
        """

        async def heard(message: Msg) -> None:
            sequence = _headers(message).get("Nats-Sequence", "")
            self.on_hint(message.subject, int(sequence) if sequence.isdecimal() else 0)

        self._heard.setdefault(subject, heard)
        await self._subscribe(self._client, self._subscribed)

    async def tell(self, subject: str) -> None:
        """Send an empty message to the present listeners."""
        self._check_up()
        with _translated():
            await self._client.publish(subject)

    async def ask(self, subject: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The server's answer to a request of its interface."""
        return await self.send(subject, json.dumps(request).encode() if request else b"", None)

    async def send(self, subject: str, data: bytes, headers: dict[str, str] | None) -> dict[str, Any]:
        """The server's answer to a message.

        Raises:
            StorageUnavailable: it did not answer; the message may have been stored.
            ValueRefused: the message is too large.
        """
        self._check(data, headers)
        with _translated():
            request = self._client.request(subject, data, timeout=_ANSWER_TIME_LIMIT, headers=headers)
            answer = await self._unless_lost(request)
        return _decoded(answer.data)

    async def send_batch(self, messages: Sequence[Outgoing]) -> dict[str, Any]:
        """The server's answer to the last of these messages, which are all sent on one connection.

        Raises:
            StorageUnavailable: it did not answer; the messages may have been stored.
            ValueRefused: a message is too large; none was sent.
        """
        for _, data, headers in messages:
            self._check(data, headers)
        with _translated():
            answer = await self._unless_lost(_sent(self._client, messages))
        return _decoded(answer.data)

    async def collect(self, subject: str, request: Mapping[str, Any]) -> tuple[list[Reply], int]:
        """The messages that answer a request, and the last sequence that the replica knew when it answered, or 0.

        Raises:
            StorageUnavailable: the answer did not come, or not all of it.
        """
        self._check_up()
        token = uuid4().hex
        queue: asyncio.Queue[Msg] = asyncio.Queue()
        self._collecting[token] = queue
        try:
            with _translated():
                async with asyncio.timeout(_ANSWER_TIME_LIMIT):
                    await self._client.publish(subject, json.dumps(request).encode(), reply=f"{self._inbox}.{token}")
                    return await self._unless_lost(_take_all(queue))
        finally:
            del self._collecting[token]

    def _note_loss(self) -> None:
        """End the waiting for answers, which will not come on another connection."""
        lost, self._lost = self._lost, asyncio.get_running_loop().create_future()
        lost.set_result(None)

    async def _unless_lost(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of work that needs the present connection.

        Raises:
            StorageUnavailable: the connection broke before.
        """
        task = asyncio.ensure_future(work)
        try:
            both: list[asyncio.Future[Any]] = [task, self._lost]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise StorageUnavailable("the connection to the NATS server broke before the answer came")
            return task.result()
        finally:
            task.cancel()

    async def _deliver(self, message: Msg) -> None:
        queue = self._collecting.get(message.subject.rpartition(".")[2])
        if queue is not None:
            queue.put_nowait(message)

    def _check(self, data: bytes, headers: Mapping[str, str] | None) -> None:
        """Refuse what the server would answer by closing the connection."""
        self._check_up()
        size = len(data) + sum(len(name) + len(value) + 4 for name, value in (headers or {}).items()) + 16
        if size > self.max_payload:
            raise ValueRefused(
                f"a message of {size:,} bytes is larger than the server's max_payload ({self.max_payload:,}); "
                f"raise it there to 2MB, which suffices for every event"
            )

    def _check_up(self) -> None:
        """Fail at once: a message would wait in the client, and be sent when it is no longer wanted."""
        if not self._client.is_connected:
            raise StorageUnavailable("there is no connection to a NATS server")


async def _sent(client: Client, messages: Sequence[Outgoing]) -> Msg:
    """The answer to the last of these messages."""
    for subject, data, headers in messages[:-1]:
        await client.publish(subject, data, headers=headers)
    subject, data, headers = messages[-1]
    return await client.request(subject, data, timeout=_ANSWER_TIME_LIMIT, headers=headers)


async def _arrival(client: Client) -> None:
    """Return when the server has everything that was sent so far.

    A ping overtakes what waits to be sent; by the time it is answered that is sent, and the second one comes after it.
    """
    for _ in range(2):
        await client.flush(_ANSWER_TIME_LIMIT)  # type: ignore[arg-type] # the client takes fractions


async def _close(client: Client) -> None:
    """End a client, whether or not its server takes what waits to be sent."""
    with contained("nats-not-closed"):
        async with asyncio.timeout(_CLOSE_TIME_LIMIT):
            await client.close()


async def _take_all(queue: asyncio.Queue[Msg]) -> tuple[list[Reply], int]:
    replies: list[Reply] = []
    while True:
        message = await queue.get()
        headers = _headers(message)
        status = headers.get("Status")
        if status is None:
            replies.append(Reply(headers, message.data))
        elif status in {"204", "404"}:
            return replies, int(headers.get("Nats-UpTo-Sequence", 0))
        elif status == "413":
            raise TooMany
        elif status in {"503", "408"}:
            raise StorageUnavailable("no replica of the stream answers")
        else:
            raise StatementFailed(f"JetStream says: {headers.get('Description', 'nothing')} ({status})")


def _headers(message: Msg) -> dict[str, str]:
    return {str(getattr(name, "value", name)): value for name, value in (message.headers or {}).items()}


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except ValueError as error:
        raise StatementFailed("JetStream's answer cannot be read") from error
    if not isinstance(answer, dict):
        raise StatementFailed("JetStream's answer cannot be read")
    return answer


@contextmanager
def _translated() -> Iterator[None]:
    """Every failure of the client as one of our errors; none repeats a URL, which may hold a password."""
    try:
        yield
    except nats.errors.NoRespondersError as error:
        raise StorageUnavailable("no server has the stream, or JetStream is off") from error
    except (nats.errors.TimeoutError, TimeoutError) as error:
        raise StorageUnavailable("JetStream did not answer in time") from error
    except (nats.errors.Error, OSError) as error:
        raise StorageUnavailable(f"NATS: {type(error).__name__}") from error
