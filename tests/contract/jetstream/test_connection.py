"""A connection to NATS outlives everything that ends a client: errors of the server, silence, a client that hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import pytest
from nats.aio.client import Client

from gatecast.errors import StorageUnavailable
from gatecast.storage.jetstream import connection as connections
from gatecast.storage.jetstream.connection import Connection
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.nats_server import NatsServer
from gatecast.testing.tcp_proxy import TcpProxy

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PING_INTERVAL", "_REDIAL_PAUSE", "_CLOSE_TIME_LIMIT"):
        monkeypatch.setattr(connections, name, 0.05)


class _Listening:
    """A connection that hears the subject `hints`."""

    def __init__(self, connection: Connection, server: NatsServer) -> None:
        self.connection = connection
        self._server = server
        self._returned = asyncio.Event()
        self._heard = asyncio.Event()
        connection.on_return = self._returned.set
        connection.on_hint = lambda _subject, _sequence: self._heard.set()

    async def is_down(self) -> bool:
        """Whether the connection knows that it is none."""
        return not self.connection.connected

    async def is_dialling(self) -> bool:
        """Whether an attempt to connect has failed."""
        return self.connection._redialing.problem is not None

    async def until_it_works_again(self) -> None:
        """Return when it is back, answers, and hears once what is said."""
        async with asyncio.timeout(PATIENCE):
            await self._returned.wait()
            self._returned.clear()
            assert "type" in await self.connection.ask("$JS.API.INFO", {})
            self._heard.clear()
            other = await nats.connect(f"nats://{self._server.address}")
            await other.publish("hints")
            await other.close()
            await self._heard.wait()


@asynccontextmanager
async def _listening(server: NatsServer, address: str | None = None) -> AsyncIterator[_Listening]:
    async with Connection.open([f"nats://{address or server.address}"]) as connection:
        listening = _Listening(connection, server)
        await connection.hear("hints")
        yield listening


@asynccontextmanager
async def _through_a_proxy(server: NatsServer) -> AsyncIterator[tuple[TcpProxy, _Listening]]:
    async with TcpProxy(server.socket) as proxy, _listening(server, proxy.address) as listening:
        yield proxy, listening


async def test_p10_an_error_that_the_server_tells_ends_the_client_and_not_the_connection(server: NatsServer) -> None:
    """Each time: another client is dialled, and hears what the first one heard."""
    async with _listening(server) as listening:
        for _ in range(2):
            client = listening.connection._client
            # The server knows no such command. It says so, and hangs up.
            client._transport.write(b"NONSENSE\r\n")  # type: ignore[union-attr] # it is connected
            await listening.until_it_works_again()
            assert client.is_closed


async def test_p10_an_error_while_the_server_cannot_be_reached_either(server: NatsServer) -> None:
    """It is dialled until it can."""
    async with _through_a_proxy(server) as (proxy, listening):
        proxy.cut()
        await listening.connection._client._process_err("'User Authentication Expired'")
        await eventually(listening.is_down)
        with pytest.raises(StorageUnavailable):
            await listening.connection.ask("$JS.API.INFO", {})
        proxy.heal()
        await listening.until_it_works_again()


async def test_p10_silence_is_no_connection(server: NatsServer) -> None:
    """Nobody hangs up; the pings are not answered."""
    async with _through_a_proxy(server) as (proxy, listening):
        proxy.deafen()
        await eventually(listening.is_down)
        proxy.heal()
        await listening.until_it_works_again()


async def test_p10_a_client_that_hangs_is_replaced(server: NatsServer) -> None:
    """As one does that waits until the bytes are sent that a silent server does not take."""
    async with _through_a_proxy(server) as (proxy, listening):
        client = listening.connection._client
        client._transport.wait_closed = asyncio.Event().wait  # type: ignore[method-assign, union-attr]
        proxy.cut()
        proxy.heal()
        await listening.until_it_works_again()
        assert listening.connection._client is not client


async def test_what_is_to_be_heard_while_it_dials_is_heard_once(server: NatsServer) -> None:
    """The first attempt fails, and the one after it finds a client that knows of it, or not."""
    async with _through_a_proxy(server) as (proxy, listening):
        connection = listening.connection
        proxy.cut()
        await connection._client._process_err("'User Authentication Expired'")
        await eventually(listening.is_dialling)
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await connection.hear("more")
        proxy.heal()
        await listening.until_it_works_again()
        await connection.hear("more")
        assert _subjects(connection) == ["hints", "more"]


async def test_what_is_to_be_heard_is_heard_once_although_the_server_did_not_say_that_it_knows(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may know: asked again, it is not told again, and neither is another client."""
    arrival = connections._arrival

    async def lost(client: Client) -> None:
        monkeypatch.setattr(connections, "_arrival", arrival)
        await arrival(client)
        raise TimeoutError

    async with _listening(server) as listening:
        monkeypatch.setattr(connections, "_arrival", lost)
        with pytest.raises(StorageUnavailable):
            await listening.connection.hear("more")
        await listening.connection.hear("more")
        assert _subjects(listening.connection) == ["hints", "more"]
        await listening.connection._client._process_err("'User Authentication Expired'")
        await listening.until_it_works_again()
        assert _subjects(listening.connection) == ["hints", "more"]


def _subjects(connection: Connection) -> list[str]:
    """What the client hears besides answers."""
    return sorted(each.subject for each in connection._client._subs.values() if not each.subject.startswith("_INBOX"))


async def test_it_can_be_closed_while_it_dials(server: NatsServer) -> None:
    """Nothing is left running."""
    async with _through_a_proxy(server) as (proxy, listening):
        proxy.cut()
        await listening.connection._client._process_err("'User Authentication Expired'")
        await eventually(listening.is_dialling)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "nats-connection"]


async def test_that_nobody_keeps_it_up_is_told(server: NatsServer) -> None:
    """A mistake, and no outage, ends the task that does."""
    async with _listening(server) as listening:
        told = asyncio.get_running_loop().create_future()
        listening.connection.on_failure(told.set_result)
        [task] = [task for task in asyncio.all_tasks() if task.get_name() == "nats-connection"]
        task.cancel()
        async with asyncio.timeout(PATIENCE):
            assert "cancelled" in str(await told)
