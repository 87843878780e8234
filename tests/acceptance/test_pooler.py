"""Pods behind a pooler in transaction mode: each transaction may run on another connection to PostgreSQL.

PgBouncer of the operating system, where it is installed, and a stand-in that does the same at the same places of the
protocol and is stricter: who comes back gets another connection.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest

from gatecast.errors import DatabaseUnsuitable
from gatecast.storage.postgres import PostgresStorage
from gatecast.testing.contracts.backend import ids_of, make_event
from gatecast.testing.eventually import eventually
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.deployment import Deployment
from gatecast.testing.processes.load import Load, check_delivery
from gatecast.testing.processes.pgbouncer import PgBouncer
from gatecast.testing.processes.programs import pgbouncer_program
from gatecast.testing.tcp_proxy import Address
from gatecast.testing.unmodified_gateway import UnmodifiedGateway

pytestmark = pytest.mark.acceptance

NewDatabase = Callable[[], Awaitable[str]]

_SSL_REQUEST, _CANCEL_REQUEST = (1234 << 16 | 5679), (1234 << 16 | 5678)

#: What a client sends last before it waits, and what ends the answer: Query and Sync end transactions, if none was
#: begun; Flush, behind a Describe, does not.
_ASKS = {b"Q": b"Z", b"S": b"Z", b"H": b"TnE"}


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The next message: its kind and what is in it."""
    kind = await reader.readexactly(1)
    length = int.from_bytes(await reader.readexactly(4))
    return kind, await reader.readexactly(length - 4)


def _encoded(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


async def _open(target: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(target, Path):
        return await asyncio.open_unix_connection(target)
    return await asyncio.open_connection(*target)


class _Backend:
    """One connection to PostgreSQL."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        #: The statements that are prepared here, by the names that the pooler gave them.
        self.prepared: set[bytes] = set()
        #: For each Parse that is not answered yet its statement, and whether the client waits for the answer.
        self.parses: deque[tuple[bytes, bool]] = deque()

    def parse(self, name: bytes, rest: bytes, *, asked: bool) -> None:
        self.prepared.add(name)
        self.parses.append((name, asked))
        self.writer.write(_encoded(b"P", name + b"\0" + rest))

    async def answer(self, ends: bytes = b"Z") -> tuple[bytes, bool]:
        """What is for the client, up to one of these messages, and whether a transaction is open now."""
        answer = b""
        while True:
            kind, body = await _message(self.reader)
            if kind == b"1" and not self.parses.popleft()[1]:
                continue
            answer += _encoded(kind, body)
            if kind == b"Z":
                # Behind an error nothing was parsed any more.
                self.prepared -= {name for name, _ in self.parses}
                self.parses.clear()
            if kind in ends:
                return answer, body != b"I"


class _TransactionPooler:
    """Few connections for many clients, handed on at the end of each transaction; opened with `async with`."""

    def __init__(self, target: Address, *, size: int) -> None:
        #: How often a client's transaction ran on another connection than its last one did.
        self.changes = 0
        self.clients = 0
        #: Mistakes of this stand-in.
        self.failures: list[BaseException] = []
        self.port = 0
        self._target = target
        self._size = size
        self._idle: asyncio.Queue[_Backend] = asyncio.Queue()
        self._greeting = b""
        self._dialling = asyncio.Lock()
        self._names = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while not self._idle.empty():
            self._idle.get_nowait().writer.close()
        # Sockets are closed in the loop's next turn.
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="pooler-client")
        self._tasks.add(task)
        task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.failures.append(failure)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                startup = await self._startup(reader, writer)
                if int.from_bytes(startup[:4]) != _CANCEL_REQUEST:
                    await self._prepare_backends(startup)
                    self.clients += 1
                    writer.write(self._greeting)
                    await self._transactions(reader, writer)
        finally:
            writer.close()

    async def _startup(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        while True:
            length = int.from_bytes(await reader.readexactly(4))
            body = await reader.readexactly(length - 4)
            if int.from_bytes(body[:4]) != _SSL_REQUEST:
                return body
            writer.write(b"N")

    async def _prepare_backends(self, startup: bytes) -> None:
        """Every client here logs in alike, so the first login serves for all."""
        async with self._dialling:
            for _ in range(0 if self._greeting else self._size):
                backend = _Backend(*await _open(self._target))
                backend.writer.write((len(startup) + 4).to_bytes(4) + startup)
                self._greeting, _ = await backend.answer()
                self._idle.put_nowait(backend)

    async def _transactions(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        #: The client's names for its statements, with ours and what they say.
        statements: dict[bytes, tuple[bytes, bytes]] = {}
        last: _Backend | None = None
        while (first := await _message(reader))[0] != b"X":
            # The one that has waited longest.
            backend = await self._idle.get()
            self.changes += backend is not last
            last = backend
            in_transaction, message = True, first
            try:
                while in_transaction:
                    self._forward(message, backend, statements)
                    if message[0] in _ASKS:
                        answer, in_transaction = await backend.answer(_ASKS[message[0]])
                        writer.write(answer)
                    if in_transaction:
                        message = await _message(reader)
            finally:
                if in_transaction:
                    # Nobody else may get what this client has begun.
                    backend.writer.close()
                    self._greeting = b""
                else:
                    self._idle.put_nowait(backend)

    def _forward(
        self, message: tuple[bytes, bytes], backend: _Backend, statements: dict[bytes, tuple[bytes, bytes]]
    ) -> None:
        """Hand a message on, with our own names of statements in it; prepare what this connection does not know yet."""
        kind, body = message
        portal, rest = b"", b""
        name: bytes | None = None
        if kind == b"P":
            name, _, rest = body.partition(b"\0")
            statements[name] = (b"s%d" % next(self._names), rest)
            backend.parse(*statements[name], asked=True)
            return
        if kind == b"B":
            portal, name, rest = body.split(b"\0", 2)
        elif kind in (b"D", b"C") and body[:1] == b"S":
            name = body[1:-1]
        if name is not None and name in statements:
            ours, text = statements[name]
            if ours not in backend.prepared and kind != b"C":
                backend.parse(ours, text, asked=False)
            body = portal + b"\0" + ours + b"\0" + rest if kind == b"B" else b"S" + ours + b"\0"
        backend.writer.write(_encoded(kind, body))


_GATEWAYS = 4
_ROUNDS = 25

#: What stands in front of PostgreSQL: the stand-in, which hands on its connections most eagerly, and what is installed.
_POOLERS = ["stand-in", *(["session", "transaction"] if pgbouncer_program() else [])]


@asynccontextmanager
async def _pooler(kind: str, postgres: PostgresServer) -> AsyncIterator[_TransactionPooler | PgBouncer]:
    if kind == "stand-in":
        async with _TransactionPooler(postgres.socket, size=3) as stand_in:
            yield stand_in
            assert stand_in.failures == []
            assert stand_in.clients > 3
            assert stand_in.changes > _GATEWAYS * _ROUNDS
    else:
        # In session mode each of sixteen clients keeps a connection to the server.
        async with PgBouncer(postgres, mode=kind, size=3 if kind == "transaction" else 40) as pgbouncer:
            yield pgbouncer


@pytest.mark.parametrize("kind", _POOLERS)
async def test_s18_behind_a_pooler_in_transaction_mode_everything_arrives(
    postgres: PostgresServer, new_database: NewDatabase, kind: str
) -> None:
    """Two pods with their sixteen connections on three; from the schema on, nothing needs one of its own."""
    name = await new_database()
    settings = {"notifications": "off", "poll_interval": "100ms", "pooler": "on" if kind == "stand-in" else "auto"}
    async with (
        _pooler(kind, postgres) as pooler,
        Deployment(postgres.url(name, address=f"127.0.0.1:{pooler.port}"), **settings) as deployment,
        AsyncExitStack() as stack,
    ):
        pods = await deployment.start("one", "two")
        operator = await deployment.operator(pods[0])
        accesses = [await operator.create_gateway(f"gateway-{number}") for number in range(_GATEWAYS)]
        gateways = [
            await stack.enter_async_context(UnmodifiedGateway(pods[number % 2].gateway_host, access.token))
            for number, access in enumerate(accesses)
        ]
        for gateway in gateways:
            await gateway.wait_until(lambda gateway=gateway: gateway.connected)  # type: ignore[misc]
        load = Load(await deployment.publishers(*pods), [access.id for access in accesses])
        await load.publish(_ROUNDS)
        for gateway, access in zip(gateways, accesses, strict=True):
            await gateway.wait_until(lambda gateway=gateway: len(gateway.received) == _ROUNDS)  # type: ignore[misc]
            arrived = [(event.offset or 0, event.event_id) for event in gateway.received]
            check_delivery(arrived, load.accepted[access.id], connections=1)
            await operator.confirmed(access.id, _ROUNDS)
        assert not any(pod.logged("lease-not-renewed") or pod.logged("read-failed") for pod in pods)
        await _left_nothing_behind(postgres.url(name))


async def _left_nothing_behind(url: str) -> None:
    """No lock outlives its transaction, and no prepared statement its connection's turn."""
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    finally:
        await connection.close()


@pytest.mark.parametrize("kind", _POOLERS[1:])
async def test_s18_a_pod_that_cannot_hear_through_a_pooler_says_so_and_delivers(
    postgres: PostgresServer, new_database: NewDatabase, kind: str
) -> None:
    """Notifications are on: in session mode they arrive, in transaction mode polling delivers."""
    name = await new_database()
    async with (
        PgBouncer(postgres, mode=kind, size=3 if kind == "transaction" else 40) as pgbouncer,
        Deployment(postgres.url(name, address=f"127.0.0.1:{pgbouncer.port}"), poll_interval="100ms") as deployment,
    ):
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("edge")
        async with UnmodifiedGateway(pod.gateway_host, access.token) as gateway, aiohttp.ClientSession() as asking:
            await gateway.wait_until(lambda: gateway.connected)

            async def wakeups() -> str:
                async with asking.get(f"{pod.api}/readyz") as answer:
                    assert answer.status == 200
                    return str((await answer.json())["wakeups"])

            async def is_said() -> bool:
                said = await wakeups()
                return said == "connected" if kind == "session" else "GATECAST_NOTIFICATIONS=off" in said

            await eventually(is_said)
            load = Load(await deployment.publishers(pod), [access.id])
            await load.publish(_ROUNDS)
            await gateway.wait_until(lambda: len(gateway.received) == _ROUNDS)
            assert await is_said()
            assert bool(pod.logged("listen-deaf")) is (kind == "transaction")


@pytest.mark.parametrize("kind", _POOLERS[1:])
async def test_a_pooler_is_recognized_and_its_sessions_are_left_alone(
    postgres: PostgresServer, postgres_url: str, kind: str
) -> None:
    """No statement gets a name and no setting outlives its transaction: the next client would find them."""
    async with PgBouncer(postgres, mode=kind, size=1 if kind == "transaction" else 10) as pgbouncer:
        url = postgres.url(urlsplit(postgres_url).path[1:], address=f"127.0.0.1:{pgbouncer.port}")
        async with PostgresStorage.open(url) as one, PostgresStorage.open(url) as other:
            await one.log.register("gateway-1")
            for storage in (one, other) * 5:
                await storage.log.publish([[make_event()], [make_event()]])
                [row] = await storage.database.fetch("SELECT count(*) AS names FROM pg_prepared_statements")
                assert row["names"] == 0
            assert len(await ids_of(other)) == 20
        connection = await asyncpg.connect(url, statement_cache_size=0)
        assert await connection.fetchval("SHOW jit") == await _default_of(postgres_url, "jit")
        await connection.close()


async def _default_of(url: str, name: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        value: str = await connection.fetchval("SELECT current_setting($1)", name)
        return value
    finally:
        await connection.close()


@pytest.mark.parametrize("kind", _POOLERS[1:])
async def test_a_pooler_that_was_denied_is_refused_with_the_reason(
    postgres: PostgresServer, postgres_url: str, kind: str
) -> None:
    async with PgBouncer(postgres, mode=kind, size=2) as pgbouncer:
        url = postgres.url(urlsplit(postgres_url).path[1:], address=f"127.0.0.1:{pgbouncer.port}")
        async with PostgresStorage.open(url, pooler="off") as storage:
            with pytest.raises(DatabaseUnsuitable, match="GATECAST_POOLER=on"):
                await storage.database.schema_need()
