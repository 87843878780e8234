"""How long a connection may be slow, busy or silent: on real sockets, in this process, with shorter limits."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from gatecast import Action, Event, EventHub
from gatecast.controlplane.access.gateway_tokens import GatewayTokens
from gatecast.controlplane.access.gateways import GatewayFields, Gateways
from gatecast.controlplane.migrations import MIGRATIONS
from gatecast.delivery.feed import MAX_BYTES
from gatecast.delivery.subscription import Subscription
from gatecast.events import MAX_PAYLOAD_BYTES
from gatecast.protocol.session import SessionLimits
from gatecast.server import connections
from gatecast.server import listener as listener_module
from gatecast.server.admission import Admission
from gatecast.server.connections import Places
from gatecast.server.gateway_api import gateway_socket
from gatecast.server.gateway_api.app import BASE_PATH, GatewayContext, create_gateway_app
from gatecast.server.gateway_api.gateway_server import GatewayServer
from gatecast.server.listener import Listener
from gatecast.server.tls import GatewayTls
from gatecast.testing.doubles.raw_connection import RawConnection
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.processes.deployment import Site
from gatecast.testing.unmodified_gateway import UnmodifiedGateway

pytestmark = pytest.mark.acceptance

_ORGANIZATION = "default"


@dataclass(frozen=True, slots=True)
class _Listener:
    """A gateway listener on a hub of its own."""

    hub: EventHub
    host: str

    @property
    def url(self) -> str:
        return f"https://{self.host}"

    async def register(self, name: str) -> tuple[str, str]:
        """Id and token of a new gateway."""
        gateway = (await Gateways(self.hub).create(_ORGANIZATION, GatewayFields(name=name))).gateway
        token = await GatewayTokens(self.hub).issue(_ORGANIZATION, gateway.id)
        if self.hub.has_outbox:
            await self.hub.outbox.registered_soon(gateway.id)
        return gateway.id, token.token

    async def publish(self, gateway_id: str, type_: str = "api.updated", padding: int = 0) -> None:
        event = Event(
            gateway_id=gateway_id,
            type=type_,
            action=Action.UPDATE,
            entity_type="Api",
            entity_id="api-1",
            data={"padding": "x" * padding},
        )
        await self.hub.publish(event)


@asynccontextmanager
async def _listening(site: str | Site, limits: SessionLimits) -> AsyncIterator[_Listener]:
    settings = Site.of(site).settings(pod_id="here")
    async with EventHub.open(settings=settings, migrations=MIGRATIONS) as hub:
        context = GatewayContext(
            hub=hub,
            settings=settings,
            gateways=Gateways(hub),
            tokens=GatewayTokens(hub),
            admission=Admission(settings, clock=asyncio.get_running_loop().time),
            session_limits=limits,
        )
        server, tls = GatewayServer(create_gateway_app(context)), GatewayTls(settings)
        await server.setup()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)  # noqa: FBT003 - the standard library's own
            listener = Listener(listening, server.connection, places=Places(1000), tls=lambda: tls.context)
            taking = asyncio.create_task(listener.run())
            host, port = listening.getsockname()
            try:
                yield _Listener(hub, f"{host}:{port}")
            finally:
                taking.cancel()
                await asyncio.wait([taking])
                await server.cleanup()


async def test_s22_a_client_that_never_reads_is_closed_and_hinders_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs one feed and one window of memory; others get their events meanwhile."""
    monkeypatch.setattr(gateway_socket, "WRITE_TIME_LIMIT", 1.0)
    async with _listening(site, SessionLimits()) as listener:
        stuck_id, stuck_token = await listener.register("stuck")
        gateway_id, token = await listener.register("prompt")
        async with (
            RawConnection.open(listener.url, stuck_token),
            UnmodifiedGateway(listener.host, token) as gateway,
        ):
            await gateway.wait_until(lambda: gateway.connected)
            [subscription] = [
                each for each in listener.hub.delivery.subscriptions if each.connection.gateway_id == stuck_id
            ]
            for number in range(30):
                await listener.publish(stuck_id, padding=MAX_PAYLOAD_BYTES - 100)
                await listener.publish(gateway_id)
                assert subscription.feed._bytes <= MAX_BYTES + MAX_PAYLOAD_BYTES
                await gateway.wait_until(lambda number=number: len(gateway.received) > number)  # type: ignore[misc]
            await eventually(lambda: _has_closed(subscription))
            assert subscription.confirmed.offset == 0
            assert gateway.connections_made == 1


async def test_clients_that_never_read_take_bounded_memory_however_much_waits_for_them(sqlite_url: str) -> None:
    """What waits in the log stays there: at most ten times the largest event is held for each, client included."""
    clients, waiting = 4, 40
    bound = clients * 10 * MAX_PAYLOAD_BYTES
    async with _listening(sqlite_url, SessionLimits()) as listener, AsyncExitStack() as connections:
        known = [await listener.register(f"stuck-{number}") for number in range(clients)]
        for gateway_id, _ in known:
            for _ in range(waiting):
                await listener.publish(gateway_id, padding=MAX_PAYLOAD_BYTES - 100)
        assert clients * waiting * MAX_PAYLOAD_BYTES >= 4 * bound
        gc.collect()
        tracemalloc.start()
        try:
            for _, token in known:
                await connections.enter_async_context(RawConnection.open(listener.url, token))
            await eventually(lambda: _all_stuck(listener, clients))
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] < bound
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("said", [b"", b"GET /api/internal/v1/ws/gateways/connect HTTP/1.1\r\nHost: pod\r\n"])
async def test_s27_a_connection_without_a_request_is_closed(
    sqlite_url: str, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody who has no token can fill a pod with silence; who has said everything stays."""
    monkeypatch.setattr(connections, "HEAD_TIME_LIMIT", 0.5)
    async with _listening(sqlite_url, SessionLimits()) as listener:
        gateway_id, token = await listener.register("prompt")
        host, _, port = listener.host.rpartition(":")
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        async with RawConnection.open(listener.url, token) as connection:
            assert (await connection.message())["type"] == "connection.ack"
            reader, writer = await asyncio.open_connection(host, int(port), ssl=trust)
            writer.write(said)
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            writer.close()
            await listener.publish(gateway_id)
            assert (await connection.message())["position"].endswith(":1")


async def test_s27_a_tls_handshake_that_does_not_end_is_cut(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that has begun; the next one is taken."""
    monkeypatch.setitem(listener_module._TLS_LIMITS, "ssl_handshake_timeout", 0.5)
    async with _listening(sqlite_url, SessionLimits()) as listener:
        _, token = await listener.register("prompt")
        host, _, port = listener.host.rpartition(":")
        for said in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(said)
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            writer.close()
        async with RawConnection.open(listener.url, token) as connection:
            assert (await connection.message())["type"] == "connection.ack"


@pytest.mark.parametrize("body", [b'{"version"', b"2\r\n{}\r\nzz\r\n"])
async def test_s27_a_body_that_does_not_come_is_not_waited_for(
    sqlite_url: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off, or malformed so that its end will never be found; a slow one that keeps coming is taken."""
    monkeypatch.setattr(connections, "BODY_TIME_LIMIT", 0.5)
    monkeypatch.setattr(connections, "BODY_RATE", 1)
    async with _listening(sqlite_url, SessionLimits()) as listener:
        gateway_id, token = await listener.register("halting")
        host, _, port = listener.host.rpartition(":")
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        head = f"POST {BASE_PATH}/gateways/{gateway_id}/manifest HTTP/1.1\r\nHost: pod\r\napi-key: {token}\r\n"
        length = "Transfer-Encoding: chunked" if body.endswith(b"zz\r\n") else "Content-Length: 100"
        reader, writer = await asyncio.open_connection(host, int(port), ssl=trust)
        writer.write(f"{head}{length}\r\n\r\n".encode())
        await writer.drain()
        writer.write(body)
        assert b" 204 " not in await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        reader, writer = await asyncio.open_connection(host, int(port), ssl=trust)
        writer.write(f"{head}Connection: close\r\nContent-Length: 20\r\n\r\n".encode())
        for byte in b'{"version": "1.2.3"}':
            writer.write(bytes([byte]))
            await writer.drain()
        assert b" 204 " in await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()


async def _all_stuck(listener: _Listener, clients: int) -> bool:
    subscriptions = list(listener.hub.delivery.subscriptions)
    return len(subscriptions) == clients and all(each.sent and not each.feed.wants_read for each in subscriptions)


async def _has_closed(subscription: Subscription) -> bool:
    return subscription.closed


async def test_s23_a_gateway_that_is_busy_with_a_download_is_not_taken_for_dead(site: Site) -> None:
    """Pings keep coming while it answers nothing, and its late Pong confirms what it handled."""
    async with _listening(site, SessionLimits(ping_interval=0.1, pong_timeout=20)) as listener:
        gateway_id, token = await listener.register("busy")
        async with RawConnection.open(listener.url, token) as connection:
            await connection.message()
            await listener.publish(gateway_id, "api.deployed")
            assert (await connection.message())["position"].endswith(":1")
            pings = [await connection.frame() for _ in range(8)]
            assert {ping.type for ping in pings} == {aiohttp.WSMsgType.PING}
            await connection.socket.pong(pings[-1].data)
            await eventually(lambda: _confirmed(listener, gateway_id))
            await listener.publish(gateway_id)
            assert (await connection.message())["position"].endswith(":2")


async def _confirmed(listener: _Listener, gateway_id: str) -> bool:
    status = await listener.hub.status([gateway_id])
    return status[gateway_id].confirmed == 1


async def test_s23_a_gateway_that_is_silent_for_too_long_is_closed(sqlite_url: str) -> None:
    """Pings that nobody answers end the connection, with a code that says why."""
    async with _listening(sqlite_url, SessionLimits(ping_interval=0.1, pong_timeout=0.5)) as listener:
        _, token = await listener.register("silent")
        async with RawConnection.open(listener.url, token) as connection:
            assert await connection.closed() == 4008
