"""From a request to a conversation: what is kept, what is let go of, and who ends it, on real sockets."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import aiohttp
import pytest
from aiohttp import web

from gatecast import EventHub, Settings
from gatecast.controlplane.access.gateway_tokens import GatewayTokens
from gatecast.controlplane.access.gateways import GatewayFields, Gateways
from gatecast.controlplane.control_plane import ControlPlane
from gatecast.controlplane.encryption import Encryption
from gatecast.controlplane.migrations import MIGRATIONS
from gatecast.server.admission import Admission
from gatecast.server.connections import Places
from gatecast.server.gateway_api import app as app_module
from gatecast.server.gateway_api import frame_socket
from gatecast.server.gateway_api.app import GatewayContext, create_gateway_app
from gatecast.server.gateway_api.conversations import CONVERSATIONS
from gatecast.server.gateway_api.gateway_server import GatewayConnection, GatewayServer
from gatecast.server.listener import Listener
from gatecast.server.tls import GatewayTls
from gatecast.testing.captured_logs import captured_logs
from gatecast.testing.doubles.raw_connection import RawConnection, refusal
from gatecast.testing.eventually import PATIENCE, eventually

#: What aiohttp makes for a connection and its requests.
_HTTP = (GatewayConnection, web.Request)

_VERSIONS = {"gateway.v1": (), "gatecast.v2": ("gatecast.v2",)}


@dataclass
class _Gate:
    """Stands between the recording of a connection and its upgrade."""

    reached: asyncio.Event
    opened: asyncio.Event

    async def pass_through(self, _token_id: str) -> bool:
        """Signal that a request has arrived, and wait."""
        self.reached.set()
        await self.opened.wait()
        return True


@dataclass
class _Pod:
    """A gateway listener on a hub of its own, with one gateway."""

    context: GatewayContext
    server: GatewayServer
    places: Places
    url: str
    token: str

    def connecting(self, version: str = "gateway.v1") -> AbstractAsyncContextManager[RawConnection]:
        """A connection of the gateway."""
        return RawConnection.open(self.url, self.token, protocols=_VERSIONS[version])

    @property
    def held(self) -> int:
        """How many connections have a place; the listener itself has one, for the next."""
        return self.places.taken - 1

    async def is_free(self) -> bool:
        """Whether nothing is left of any connection."""
        return not (self.held or self.context.admission.connections or [*self.context.hub.delivery.subscriptions])

    def gate(self, monkeypatch: pytest.MonkeyPatch) -> _Gate:
        """From now on every connecting gateway has to pass this."""
        gate = _Gate(asyncio.Event(), asyncio.Event())
        monkeypatch.setattr(self.context.tokens, "confirm_use", gate.pass_through)
        return gate


@asynccontextmanager
async def _pod(database: str, tls: str = "off") -> AsyncIterator[_Pod]:
    settings = Settings(database=database, pod_id="here", gateway_tls=tls, access_log=True)
    async with EventHub.open(settings=settings, migrations=MIGRATIONS) as hub:
        context = GatewayContext(
            hub=hub,
            settings=settings,
            gateways=Gateways(hub),
            tokens=GatewayTokens(hub),
            admission=Admission(settings, clock=asyncio.get_running_loop().time),
            control_plane=ControlPlane.on(hub, Encryption([bytes(32)])),
        )
        gateway = (await context.gateways.create("default", GatewayFields(name="edge"))).gateway
        token = (await context.tokens.issue("default", gateway.id)).token
        server, certificate, places = GatewayServer(create_gateway_app(context)), GatewayTls(settings), Places(10)
        await server.setup()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)  # noqa: FBT003 - the standard library's own
            listener = Listener(listening, server.connection, places=places, tls=lambda: certificate.context)
            taking = asyncio.create_task(listener.run())
            scheme = "http" if tls == "off" else "https"
            host, port = listening.getsockname()
            try:
                yield _Pod(context, server, places, f"{scheme}://{host}:{port}", token)
            finally:
                taking.cancel()
                await asyncio.wait([taking])
                await server.cleanup()


@contextmanager
def _without_collector() -> Iterator[None]:
    """What is let go of in this block goes at once, or it is part of a cycle. Nothing from before is looked at."""
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _http_objects() -> list[object]:
    return [each for each in gc.get_objects() if type(each) in _HTTP]


@pytest.mark.parametrize("tls", ["off", "auto"])
@pytest.mark.parametrize("version", _VERSIONS)
async def test_nothing_of_the_request_is_kept_once_a_connection_is_up(sqlite_url: str, version: str, tls: str) -> None:
    async def nothing_is_left() -> bool:
        return not _http_objects()

    async with _pod(sqlite_url, tls) as pod:
        with _without_collector():
            async with pod.connecting(version) as connection:
                await connection.message()
                await eventually(nothing_is_left)
                assert pod.held == pod.context.admission.connections == 1


async def test_a_connection_holds_its_place_until_it_ends(sqlite_url: str) -> None:
    """It is not one that waits for its next request, which would be dropped to make room."""
    async with _pod(sqlite_url) as pod:
        async with pod.connecting() as connection:
            await connection.message()
            assert pod.places.make_room() is None
            assert pod.held == 1
        await eventually(pod.is_free)


async def test_the_answer_is_logged_once_and_when_it_is_given(sqlite_url: str) -> None:
    async with _pod(sqlite_url) as pod:
        with captured_logs() as logs:
            async with pod.connecting() as connection:
                await connection.message()
                answers = [line["status"] for line in logs if line["event"] == "answered"]
                assert answers == [101]
            await eventually(pod.is_free)
            assert [line["status"] for line in logs if line["event"] == "answered"] == [101]
            assert [line["event"] for line in logs].count("disconnected") == 1


async def test_whoever_is_refused_after_the_connection_was_recorded_is_answered(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def revoked(_token_id: str) -> bool:
        return False

    async with _pod(sqlite_url) as pod:
        monkeypatch.setattr(pod.context.tokens, "confirm_use", revoked)
        assert await refusal(pod.url, pod.token) == 401
        await eventually(pod.is_free)


@pytest.mark.parametrize("tls", ["off", "auto"])
async def test_a_client_that_is_gone_before_its_upgrade_leaves_nothing(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tls: str
) -> None:
    async with _pod(sqlite_url, tls) as pod:
        gate = pod.gate(monkeypatch)
        client = asyncio.create_task(refusal(pod.url, pod.token))
        await gate.reached.wait()
        client.cancel()
        await asyncio.wait([client])

        async def place_is_free() -> bool:
            return not pod.held

        await eventually(place_is_free)
        assert pod.context.admission.connections == 1
        gate.opened.set()
        await eventually(pod.is_free)


@pytest.mark.parametrize("tls", ["off", "auto"])
async def test_a_loss_that_is_on_its_way_during_the_upgrade_ends_the_conversation(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tls: str
) -> None:
    """With TLS the handler at that time hears of it, a turn of the loop later."""
    shake_hands = frame_socket._handshake

    def lose(request: web.Request, protocol: str) -> bytes:
        transport: Any = request.transport
        lower = transport if tls == "off" else transport._ssl_protocol._transport
        lower.abort()
        if tls != "off":
            transport._ssl_protocol.connection_lost(None)
        return shake_hands(request, protocol)

    monkeypatch.setattr(frame_socket, "_handshake", lose)
    async with _pod(sqlite_url, tls) as pod:
        with pytest.raises(aiohttp.ClientError):
            await refusal(pod.url, pod.token)
        await eventually(pod.is_free)


async def test_a_failure_after_the_upgrade_is_logged_and_ends_the_connection(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(app_module, "open_session", fail)
    async with _pod(sqlite_url) as pod:
        with captured_logs() as logs, pytest.raises(aiohttp.ClientError):
            await refusal(pod.url, pod.token)
        await eventually(pod.is_free)
        assert "conversation-failed" in [line["event"] for line in logs]


# --- stopping ---------------------------------------------------------------------------------------------------------


async def test_whoever_is_upgraded_while_the_pod_stops_is_waited_for_and_told(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _pod(sqlite_url) as pod:
        gate = pod.gate(monkeypatch)

        async def talk() -> int | None:
            async with pod.connecting() as connection:
                await connection.message()
                [subscription] = pod.context.hub.delivery.subscriptions
                subscription.end_with("restarting")
                return await connection.closed()

        client = asyncio.create_task(talk())
        await gate.reached.wait()
        stopping = asyncio.create_task(pod.server.stop(within=PATIENCE))
        gate.opened.set()
        assert await client == 1012
        await stopping
        assert await pod.is_free()


async def test_a_conversation_that_takes_too_long_is_cut_when_the_pod_stops(sqlite_url: str) -> None:
    async with _pod(sqlite_url) as pod, pod.connecting() as connection:
        await connection.message()
        await pod.server.stop(within=0.0)
        assert await connection.closed() is None
        await eventually(pod.is_free)


async def test_whoever_is_not_upgraded_in_time_when_the_pod_stops_is_forgotten(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _pod(sqlite_url) as pod:
        gate = pod.gate(monkeypatch)
        client = asyncio.create_task(refusal(pod.url, pod.token))
        await gate.reached.wait()
        await pod.server.stop(within=0.01)
        with pytest.raises(aiohttp.ClientError):
            await client
        await eventually(pod.is_free)


async def test_whoever_stops_waiting_for_the_answer_ends_the_conversation(sqlite_url: str) -> None:
    async with _pod(sqlite_url) as pod:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def converse(_give_answer: object) -> web.StreamResponse:
            never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
            begun.set()
            try:
                return await never
            finally:
                ended.set()

        assert pod.server.app is not None
        asking = asyncio.create_task(pod.server.app[CONVERSATIONS].begin(converse))
        await begun.wait()
        asking.cancel()
        await asyncio.wait([asking])
        await ended.wait()
        assert asking.cancelled()
