"""The simulated gateway connects, answers, gives up and comes back as gateway-protocol.md section 1 says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
from aiohttp import WSMsgType

from gatecast.testing.clock import Clock, HandMovedClock, SystemClock
from gatecast.testing.doubles.scripted_control_plane import (
    CONNECT_PATH,
    Answer,
    ScriptedConnection,
    ScriptedControlPlane,
)
from gatecast.testing.unmodified_gateway import GatewayOptions, UnmodifiedGateway

DISCOVERY = "/internal/gateway/.well-known"


@asynccontextmanager
async def gateway_at(
    server: ScriptedControlPlane, *, clock: Clock | None = None, ack_time_limit: float = 5.0
) -> AsyncIterator[UnmodifiedGateway]:
    """A gateway that speaks plain HTTP."""
    options = GatewayOptions(tls=False, clock=clock or SystemClock(), ack_time_limit=ack_time_limit)
    async with UnmodifiedGateway(server.host, "token-1", options=options) as gateway:
        yield gateway


def event(event_type: str, *, event_id: str = "e-1", position: str | None = None, **payload: str) -> dict[str, Any]:
    """An envelope."""
    envelope: dict[str, Any] = {"type": event_type, "payload": payload, "correlationId": event_id}
    return envelope | ({"position": position} if position else {})


async def test_it_discovers_then_upgrades_with_its_token() -> None:
    async with ScriptedControlPlane() as server, gateway_at(server) as gateway:
        connection = await server.greeted("gw-7", "c-9")
        await gateway.wait_until(lambda: gateway.connected)
        assert server.calls == [f"GET {DISCOVERY}", f"GET {CONNECT_PATH}"]
        headers = connection.request.headers
        assert headers["api-key"] == "token-1"
        assert "origin" not in headers
        assert "sec-websocket-protocol" not in headers
        assert "sec-websocket-extensions" not in headers
        assert "api-key" not in server.requests[0].headers
        assert (gateway.gateway_id, gateway.connection_id) == ("gw-7", "c-9")
        assert gateway.connections_made == 1


async def test_a_discovered_path_is_used_and_kept() -> None:
    async with ScriptedControlPlane() as server:
        server.answers[f"GET {DISCOVERY}"] = Answer(body={"gatewayPath": "/internal/data/v1/"})
        async with gateway_at(server) as gateway:
            connection = await server.greeted()
            await gateway.wait_until(lambda: gateway.connected)
            await connection.close()
            await server.greeted()
            await gateway.wait_until(lambda: gateway.connections_made == 2)
        connect = "GET /internal/data/v1/ws/gateways/connect"
        assert server.calls == [f"GET {DISCOVERY}", connect, connect]


@pytest.mark.parametrize("body", ["nonsense", [], {"gatewayPath": "  "}, {"gatewayPath": 7}])
async def test_a_useless_discovery_answer_means_the_default_path(body: object) -> None:
    async with ScriptedControlPlane() as server:
        server.answers[f"GET {DISCOVERY}"] = Answer(body=body)
        async with gateway_at(server):
            assert (await server.accept()).request.path == CONNECT_PATH


@pytest.mark.parametrize("status", [401, 403, 404, 409, 422])
async def test_a_permanent_refusal_ends_the_process(status: int) -> None:
    async with ScriptedControlPlane() as server:
        server.refusals.append(Answer(status=status))
        async with gateway_at(server) as gateway:
            await gateway.wait_until(lambda: gateway.exited == status)
            assert not gateway.connected
            assert server.calls.count(f"GET {CONNECT_PATH}") == 1


async def test_other_refusals_are_followed_by_growing_pauses() -> None:
    clock = HandMovedClock()
    statuses = [400, 429, 500, 503]
    async with ScriptedControlPlane() as server:
        server.refusals.extend(Answer(status=status) for status in statuses)
        async with gateway_at(server, clock=clock) as gateway:
            for attempt in range(1, len(statuses) + 1):
                await clock.until_asleep(attempt)
                pause = clock.pauses[-1]
                assert 0.75 * 2**attempt <= pause <= 1.25 * 2**attempt
                await clock.advance(pause)
            await server.greeted()
            await gateway.wait_until(lambda: gateway.connected)
            assert server.calls.count(f"GET {DISCOVERY}") == len(statuses) + 1


async def test_a_redirect_is_a_failed_attempt_and_shows_the_token_to_nobody() -> None:
    clock = HandMovedClock()
    async with ScriptedControlPlane() as elsewhere, ScriptedControlPlane() as server:
        server.refusals.append(Answer(status=302, headers={"Location": f"http://{elsewhere.host}{CONNECT_PATH}"}))
        async with gateway_at(server, clock=clock):
            await clock.until_asleep(1)
            assert elsewhere.calls == []


def test_the_pause_never_passes_its_maximum() -> None:
    options = GatewayOptions()
    assert all(options.reconnect_pause(failures) <= 300.0 for failures in range(1, 2000, 7))


async def test_a_server_that_cannot_be_reached_is_tried_again() -> None:
    clock = HandMovedClock()
    async with ScriptedControlPlane() as server:
        port = server.port
    options = GatewayOptions(tls=False, clock=clock)
    async with UnmodifiedGateway(f"127.0.0.1:{port}", "token-1", options=options):
        await clock.until_asleep(1)
        async with ScriptedControlPlane(port=port) as server:
            await clock.advance(clock.pauses[0])
            await server.accept()


@pytest.mark.parametrize(
    "first",
    ["not json", "[]", '{"type":"api.deployed"}', '{"type":"connection.ack","gatewayId":7}'],
)
async def test_a_wrong_first_frame_is_a_failed_attempt_without_a_close_frame(first: str) -> None:
    clock = HandMovedClock()
    async with ScriptedControlPlane() as server, gateway_at(server, clock=clock) as gateway:
        connection = await server.accept()
        await connection.send(first)
        await clock.until_asleep(1)
        assert (await connection.receive()).type is WSMsgType.CLOSED
        assert gateway.connections_made == 0
        assert clock.pauses[0] >= 1.5


async def test_a_late_greeting_is_a_failed_attempt() -> None:
    clock = HandMovedClock()
    async with ScriptedControlPlane() as server, gateway_at(server, clock=clock, ack_time_limit=0.05):
        connection = await server.accept()
        assert (await connection.receive()).type is WSMsgType.CLOSED
        await clock.until_asleep(1)


async def test_a_second_greeting_changes_nothing() -> None:
    async with ScriptedControlPlane() as server, gateway_at(server) as gateway:
        connection = await server.greeted("gw-1")
        await connection.greet("gw-2")
        await connection.send(event("something.else"))
        await gateway.wait_until(lambda: len(gateway.received) == 1)
        assert gateway.gateway_id == "gw-1"


async def test_pings_are_answered_with_their_payload_also_before_the_greeting() -> None:
    async with ScriptedControlPlane() as server, gateway_at(server):
        connection = await server.accept()
        await connection.socket.ping(b"early")
        early = await connection.receive()
        await connection.greet()
        await connection.socket.ping(b"epoch:17")
        late = await connection.receive()
        assert [early.type, late.type] == [WSMsgType.PONG, WSMsgType.PONG]
        assert [early.data, late.data] == [b"early", b"epoch:17"]


async def test_a_pong_waits_behind_a_slow_handler() -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def slow(artifact_id: str) -> None:
        assert artifact_id == "p-1"
        entered.set()
        await release.wait()

    async with ScriptedControlPlane() as server, gateway_at(server) as gateway:
        gateway.delay_downloads(slow)
        connection = await server.greeted()
        await connection.send(event("llmprovider.deployed", providerId="p-1", deploymentId="d-1"))
        await connection.socket.ping(b"1")
        await connection.socket.ping(b"2")
        await entered.wait()
        assert gateway.artifacts == {}
        release.set()
        assert (await connection.receive_message())["type"] == "deployment.ack"
        assert [(await connection.receive()).data for _ in range(2)] == [b"1", b"2"]


async def test_without_pings_it_drops_the_connection_and_is_back_at_once() -> None:
    clock = HandMovedClock()
    async with ScriptedControlPlane() as server, gateway_at(server, clock=clock) as gateway:
        connection = await server.greeted()
        await clock.until_asleep(1)
        await connection.send(event("something.else"))
        await gateway.wait_until(lambda: len(gateway.received) == 1)
        await clock.advance(35)
        assert gateway.connected
        await clock.advance(5)
        assert (await connection.receive()).type is WSMsgType.CLOSED
        await server.greeted()
        await gateway.wait_until(lambda: gateway.connections_made == 2)
        assert set(clock.pauses) == {5.0}


async def test_a_ping_keeps_the_connection_alive() -> None:
    clock = HandMovedClock()
    async with ScriptedControlPlane() as server, gateway_at(server, clock=clock) as gateway:
        connection = await server.greeted()
        await clock.until_asleep(1)
        for _ in range(3):
            await clock.advance(30)
            await connection.socket.ping(b"")
            assert (await connection.receive()).type is WSMsgType.PONG
        assert gateway.connections_made == 1


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1012, 4001])
async def test_after_any_close_code_it_is_back_at_once(code: int) -> None:
    clock = HandMovedClock()
    async with ScriptedControlPlane() as server, gateway_at(server, clock=clock) as gateway:
        await (await server.greeted()).close(code)
        await server.greeted()
        await gateway.wait_until(lambda: gateway.connections_made == 2)
        assert set(clock.pauses) <= {5.0}


async def test_after_an_aborted_connection_it_is_back_at_once() -> None:
    async with ScriptedControlPlane() as server, gateway_at(server) as gateway:
        (await server.greeted()).cut()
        await server.greeted()
        await gateway.wait_until(lambda: gateway.connections_made == 2)


async def test_cut_aborts_without_a_close_frame_and_it_is_back_at_once() -> None:
    async with ScriptedControlPlane() as server, gateway_at(server) as gateway:
        connection = await server.greeted()
        await gateway.wait_until(lambda: gateway.connected)
        gateway.cut()
        assert (await connection.receive()).type is WSMsgType.CLOSED
        await server.greeted()
        await gateway.wait_until(lambda: gateway.connections_made == 2)


async def test_stop_says_goodbye() -> None:
    async with ScriptedControlPlane() as server, gateway_at(server) as gateway:
        connection = await server.greeted()
        await gateway.wait_until(lambda: gateway.connected)
        goodbye, _ = await asyncio.gather(connection.receive(), gateway.stop())
        assert (goodbye.type, goodbye.data, goodbye.extra) == (WSMsgType.CLOSE, 1000, "Gateway shutting down")
        assert not gateway.connected


async def test_frames_that_are_no_events_are_skipped() -> None:
    async with ScriptedControlPlane() as server, gateway_at(server) as gateway:
        connection = await server.greeted()
        for text in ("garbage", "[1]", '{"type":7}', '{"no":"type"}', "[" * 100_000):
            await connection.send(text)
        await connection.socket.send_bytes(b"binary")
        await connection.send(event("unknown.type", event_id="e-5", position="epoch:5"))
        await gateway.wait_until(lambda: len(gateway.received) == 1)
        assert gateway.received[0].offset == 5
        assert list(gateway.received) == [("epoch:5", "e-5", "unknown.type")]
        assert gateway.connections_made == 1


async def test_while_reading_is_paused_nothing_is_handled_or_answered() -> None:
    async with ScriptedControlPlane() as server, gateway_at(server) as gateway:
        connection = await server.greeted()
        await gateway.wait_until(lambda: gateway.connected)
        gateway.pause_reading()
        await connection.send(event("some.thing"))
        await connection.socket.ping(b"x")
        gateway_says = asyncio.create_task(connection.receive())
        await asyncio.sleep(0)
        assert (len(gateway.received), gateway_says.done()) == (0, False)
        gateway.resume_reading()
        assert (await gateway_says).data == b"x"
        assert len(gateway.received) == 1


async def test_a_restart_keeps_the_database_and_connects_anew() -> None:
    async with ScriptedControlPlane() as server, gateway_at(server) as gateway:
        connection = await server.greeted()
        await connection.send(event("llmproxy.deployed", proxyId="x-1", deploymentId="d-1"))
        await gateway.wait_until(lambda: "x-1" in gateway.artifacts)
        await gateway.restart()
        await server.greeted()
        await gateway.wait_until(lambda: gateway.connections_made == 2)
        assert "x-1" in gateway.artifacts


async def test_a_wait_that_ends_in_vain_says_what_the_gateway_looks_like() -> None:
    async with ScriptedControlPlane() as server, gateway_at(server) as gateway:
        await server.greeted()
        await gateway.wait_until(lambda: gateway.connected)
        with pytest.raises(TimeoutError, match=r"connected=True connections=1"):
            await gateway.wait_until(lambda: False, limit=0.01)


async def test_tls_is_the_default_and_certificates_are_not_checked(server_tls: ssl.SSLContext) -> None:
    async with ScriptedControlPlane(ssl=server_tls) as server, UnmodifiedGateway(server.host, "token-1") as gateway:
        connection: ScriptedConnection = await server.greeted()
        await gateway.wait_until(lambda: gateway.connected)
        gateway.cut()
        assert (await connection.receive()).type is WSMsgType.CLOSED
        await server.greeted()
        await gateway.wait_until(lambda: gateway.connections_made == 2)
        await gateway.stop()


@pytest.fixture
def server_tls() -> ssl.SSLContext:
    """The server side of TLS, with a certificate that nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context
