"""A gateway's client connects, resumes and acknowledges, against a server that does what the test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import trustme
from aiohttp import WSMsgType

from gatecast.client import ClientOptions, GatewayClient, GatewayEvent, ReconnectTimes, Reject
from gatecast.client.reconnecting import MAX_UNREADABLE, Unreachable
from gatecast.client.socket import open_session
from gatecast.errors import (
    Forbidden,
    InvalidValue,
    PositionLost,
    ProtocolViolation,
    SubscriptionClosed,
    Unauthenticated,
)
from gatecast.events import Position
from gatecast.protocol.client_session import ClientLimits
from gatecast.testing.captured_logs import captured_logs
from gatecast.testing.doubles.scripted_control_plane import (
    CONNECT_PATH,
    Answer,
    ScriptedConnection,
    ScriptedControlPlane,
)
from gatecast.waiting import Backoff

EPOCH, OTHER = UUID(int=1), UUID(int=2)

#: Comes back at once, whatever happened.
SOON = ReconnectTimes(backoff=Backoff(first=0.001, longest=0.001), restart=Backoff(first=0.001, longest=0.001))
OPTIONS = ClientOptions(reconnect=SOON, goodbye_time_limit=0.01)

#: What every client asks for.
BATCHES = {"batch": "65536"}


def at(offset: int, epoch: UUID = EPOCH) -> Position:
    return Position(epoch, offset)


def client_of(
    server: ScriptedControlPlane, *, after: Position | None = None, options: ClientOptions = OPTIONS
) -> GatewayClient:
    """A client over plain HTTP."""
    return GatewayClient(f"http://{server.host}", "token-1", after=after, options=options)


@asynccontextmanager
async def connected(
    *, after: Position | None = None, options: ClientOptions = OPTIONS
) -> AsyncIterator[tuple[ScriptedControlPlane, GatewayClient, ScriptedConnection]]:
    """A server, a client, and the greeted connection between them."""
    async with ScriptedControlPlane() as server, client_of(server, after=after, options=options) as gateway:
        yield server, gateway, await server.greeted()


async def deliver(connection: ScriptedConnection, *offsets: int, epoch: UUID = EPOCH) -> None:
    """Send events, each in its own frame."""
    for offset in offsets:
        await connection.send(event_text(offset, epoch))


def event_text(offset: int, epoch: UUID = EPOCH, *, number: str = "") -> str:
    """An event's message; its payload holds `number`, which may be no JSON."""
    event_id = UUID(int=offset)
    return (
        f'{{"type":"route.changed","payload":{{"number":{number or offset}}},"timestamp":"2026-01-02T03:04:05.678Z",'
        f'"correlationId":"{event_id}","eventId":"{event_id}","position":"{epoch}:{offset}"}}'
    )


async def take(gateway: GatewayClient, count: int) -> list[GatewayEvent]:
    """The next events."""
    events = gateway.events()
    return [await anext(events) for _ in range(count)]


def offsets_of(events: list[GatewayEvent]) -> list[int]:
    return [event.position.offset for event in events]


def ack(offset: int, epoch: UUID = EPOCH) -> dict[str, str]:
    return {"type": "position.ack", "position": f"{epoch}:{offset}"}


def rejection(offset: int, reason: str) -> dict[str, str]:
    return {"type": "event.reject", "position": f"{EPOCH}:{offset}", "reason": reason}


# --- batches ------------------------------------------------------------------------------------------------------


async def test_the_events_of_a_batch_are_handed_over_one_by_one_and_acknowledged_as_ever() -> None:
    async with connected(after=at(0)) as (_, gateway, connection):
        await connection.send("\x1e".join(map(event_text, (1, 2, 3))))
        await deliver(connection, 4)
        events = await take(gateway, 4)
        assert offsets_of(events) == [1, 2, 3, 4]
        await gateway.acknowledge(events[1])
        assert await connection.receive_message() == ack(2)


async def test_an_unreadable_event_of_a_batch_is_rejected_and_the_others_are_delivered() -> None:
    async with connected(after=at(0)) as (_, gateway, connection):
        texts = [event_text(1), event_text(2, number="nothing"), event_text(3)]
        await connection.send("\x1e".join(texts))
        events = await take(gateway, 2)
        assert offsets_of(events) == [1, 3]
        message = await connection.receive_message()
        assert (message["type"], message["position"]) == ("event.reject", f"{EPOCH}:2")
        assert message["reason"].startswith("undeliverable")


async def test_of_a_batch_that_breaks_the_protocol_nothing_is_lost() -> None:
    """Nothing of it is handed over: everything comes again on the next connection."""
    async with connected(after=at(0)) as (server, gateway, connection):
        await connection.send("\x1e".join(map(event_text, (1, 3))))
        again = await server.greeted()
        assert again.request.query == {**BATCHES, "after": str(at(0))}
        await again.send("\x1e".join(map(event_text, (1, 2, 3))))
        assert offsets_of(await take(gateway, 3)) == [1, 2, 3]


async def test_a_batch_weighs_what_its_events_weigh_together() -> None:
    """A queue that counted the whole frame for each event would be full long before, and look like a dead gateway."""
    batch = "\x1e".join(map(event_text, range(1, 101)))
    options = replace(OPTIONS, max_waiting_bytes=len(batch) + 1)
    async with connected(after=at(0), options=options) as (_, gateway, connection):
        await connection.send(batch)
        await connection.socket.ping(b"read")
        assert (await connection.receive()).type is WSMsgType.PONG
        assert offsets_of(await take(gateway, 100)) == list(range(1, 101))


@pytest.mark.parametrize("size", [0, -1])
async def test_a_client_may_go_without_batches(size: int) -> None:
    async with ScriptedControlPlane() as server, client_of(server, options=replace(OPTIONS, max_batch_bytes=size)):
        assert (await server.accept()).request.query == {}


# --- connecting ---------------------------------------------------------------------------------------------------


async def test_it_names_itself_its_protocol_and_its_position() -> None:
    async with ScriptedControlPlane() as server:
        url, after = f"ws://{server.host}/", at(7)
        async with GatewayClient(url, "token-1", replica="a b", after=after, options=OPTIONS) as gateway:
            request = (await server.accept()).request
            assert gateway.position == after
    assert request.path == CONNECT_PATH
    assert request.headers["api-key"] == "token-1"
    assert request.headers["sec-websocket-protocol"] == "gatecast.v2"
    assert request.query == {**BATCHES, "replica": "a b", "after": str(after)}


async def test_without_a_replica_or_a_position_it_asks_for_neither() -> None:
    async with ScriptedControlPlane() as server, client_of(server) as gateway:
        request = (await server.accept()).request
        assert request.query == BATCHES
        assert gateway.position is None


@pytest.mark.parametrize("url", ["", "host:9243", "ftp://host", "https://", "https://host/?x=1", "https://host:port"])
def test_a_url_that_cannot_be_used_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidValue, match="url must"):
        GatewayClient(url, "token-1")


def test_a_file_without_certificates_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="ssl must"):
        GatewayClient("https://host", "token-1", ssl=tmp_path / "missing.pem")


async def test_events_come_in_order_with_what_they_say() -> None:
    async with connected() as (_, gateway, connection):
        await deliver(connection, 4, 5)
        first, second = await take(gateway, 2)
        assert gateway.connected
    assert (first.position, first.event_id, first.type) == (at(4), str(UUID(int=4)), "route.changed")
    assert (second.payload, second.originated_at.isoformat()) == ({"number": 5}, "2026-01-02T03:04:05.678000+00:00")


@pytest.mark.parametrize(("status", "error"), [(401, Unauthenticated), (403, Forbidden)])
async def test_a_refused_token_ends_the_iteration(status: int, error: type[Exception]) -> None:
    async with ScriptedControlPlane() as server:
        server.refusals.append(Answer(status=status))
        async with client_of(server) as gateway:
            with pytest.raises(error):
                await take(gateway, 1)
            assert len(server.requests) == 1


async def test_other_refusals_and_broken_connections_are_tried_again() -> None:
    async with ScriptedControlPlane() as server:
        server.refusals.extend(Answer(status=status) for status in (500, 502, 503))
        async with client_of(server) as gateway:
            (await server.accept()).cut()
            await deliver(await server.greeted(), 1)
            assert offsets_of(await take(gateway, 1)) == [1]


async def test_a_redirect_shows_the_token_to_nobody() -> None:
    async with ScriptedControlPlane() as elsewhere, ScriptedControlPlane() as server:
        server.refusals.append(Answer(status=307, headers={"Location": f"http://{elsewhere.host}{CONNECT_PATH}"}))
        async with client_of(server):
            await server.accept()
        assert elsewhere.requests == []


async def test_a_server_without_the_protocol_is_an_error() -> None:
    async with ScriptedControlPlane(protocols=()) as server, client_of(server) as gateway:
        with pytest.raises(ProtocolViolation, match=r"gatecast\.v2"):
            await take(gateway, 1)


@pytest.mark.parametrize("reason", ["token-revoked", "gateway-deleted", "superseded"])
async def test_a_close_that_means_stay_away_ends_the_iteration(reason: str) -> None:
    codes = {"token-revoked": 4001, "gateway-deleted": 4004, "superseded": 4009}
    async with connected() as (server, gateway, connection):
        await connection.close(codes[reason], reason)
        with pytest.raises(SubscriptionClosed, match=reason):
            await take(gateway, 1)
        assert len(server.requests) == 1


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 4008, 4013, 3999])
async def test_any_other_close_means_come_back(code: int) -> None:
    async with connected() as (server, gateway, connection):
        await connection.close(code)
        await deliver(await server.greeted(), 1)
        assert offsets_of(await take(gateway, 1)) == [1]


async def test_an_unknown_authority_is_not_trusted_unless_told_so(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with ScriptedControlPlane(ssl=context) as server:
        url = f"https://{server.host}"
        for trust in (tmp_path / "ca.pem", str(tmp_path / "ca.pem"), False):
            async with GatewayClient(url, "token-1", ssl=trust, options=OPTIONS) as gateway:
                await deliver(await server.greeted(), 1)
                assert offsets_of(await take(gateway, 1)) == [1]
        async with open_session(ssl=True, headers={}, time_limit=5) as session:
            ending = await GatewayClient(url, "token-1")._connect(session)
        assert isinstance(ending, Unreachable)
        assert ending.distrusted
        assert "CERTIFICATE_VERIFY_FAILED" in ending.problem
        async with GatewayClient(url, "token-1", options=OPTIONS) as gateway:
            with pytest.raises(ProtocolViolation, match="certificate is not accepted"):
                await take(gateway, 1)


async def test_an_address_where_no_gateway_may_connect_ends_the_iteration_unless_it_is_told_to_persist() -> None:
    async with ScriptedControlPlane() as server:
        server.refusals.append(Answer(status=404))
        async with client_of(server) as gateway:
            with pytest.raises(ProtocolViolation, match="gateway listener"):
                await take(gateway, 1)
        server.refusals.append(Answer(status=404))
        async with client_of(server, options=replace(OPTIONS, persistent=True)) as gateway:
            await deliver(await server.greeted(), 1)
            assert offsets_of(await take(gateway, 1)) == [1]


async def test_what_keeps_a_client_from_connecting_is_said_as_a_warning() -> None:
    async with ScriptedControlPlane() as server:
        server.refusals.append(Answer(status=503))
        with captured_logs() as lines:
            async with client_of(server) as gateway:
                await deliver(await server.greeted(), 1)
                assert offsets_of(await take(gateway, 1)) == [1]
    said = next(line for line in lines if line["event"] == "not-connected")
    assert (said["log_level"], said["server"]) == ("warning", f"http://{server.host}")
    assert said["ending"].status == 503
    assert "token-1" not in str(lines)


# --- acknowledging ------------------------------------------------------------------------------------------------


async def test_an_acknowledged_event_is_confirmed_to_the_server() -> None:
    async with connected() as (_, gateway, connection):
        await deliver(connection, 4)
        (event,) = await take(gateway, 1)
        assert gateway.position == at(3)
        await gateway.acknowledge(event)
        assert gateway.position == at(4)
        assert await connection.receive_message() == ack(4)


async def test_many_acknowledgements_become_one_frame() -> None:
    async with connected() as (_, gateway, connection):
        await deliver(connection, *range(1, 101))
        for event in await take(gateway, 100):
            await gateway.acknowledge(event)
        assert await connection.receive_message() == ack(100)
        await deliver(connection, 101)
        await gateway.acknowledge((await take(gateway, 1))[0])
        assert await connection.receive_message() == ack(101)


async def test_a_rejected_event_is_told_with_its_reason_and_does_not_stop_the_rest() -> None:
    async with connected() as (_, gateway, connection):
        await deliver(connection, 1, 2)
        first, second = await take(gateway, 2)
        await gateway.reject(first, "no such route")
        await gateway.acknowledge(second)
        assert await connection.receive_message() == rejection(1, "no such route")
        assert await connection.receive_message() == ack(2)


async def test_a_rejection_moves_the_position_once_it_is_stored() -> None:
    """Until then, a client that restarts with its stored position gets the event again."""
    async with connected() as (_, gateway, connection):
        await deliver(connection, 1)
        (event,) = await take(gateway, 1)
        await gateway.reject(event, "why")
        assert gateway.position == at(0)
        assert await connection.receive_message() == rejection(1, "why")
        await connection.socket.pong((await connection.receive()).data)
        await deliver(connection, 2)
        await take(gateway, 1)
        assert gateway.position == at(1)


async def test_an_event_of_another_client_cannot_be_acknowledged() -> None:
    async with connected() as (_, gateway, connection), connected() as (_, other, its_connection):
        await deliver(connection, 1)
        await take(gateway, 1)
        await deliver(its_connection, 1, 2)
        _, second = await take(other, 2)
        with pytest.raises(InvalidValue):
            await gateway.acknowledge(second)


async def test_leaving_sends_the_last_acknowledgement_and_says_goodbye() -> None:
    async with connected() as (_, gateway, connection):
        await deliver(connection, 1)
        await gateway.acknowledge((await take(gateway, 1))[0])
        leaving = asyncio.create_task(gateway.__aexit__(None, None, None))
        assert await connection.receive_message() == ack(1)
        goodbye = await connection.receive()
        assert (goodbye.type, goodbye.data) == (WSMsgType.CLOSE, 1000)
        await leaving


async def test_leaving_does_not_wait_for_events_that_nobody_takes() -> None:
    options = replace(OPTIONS, max_waiting_events=1)
    async with connected(options=options) as (_, gateway, connection):
        await deliver(connection, *range(1, 20))
        await take(gateway, 1)
        await asyncio.gather(gateway.__aexit__(None, None, None), _until_closed(connection))


async def test_whoever_waits_for_an_event_learns_that_the_client_was_left() -> None:
    async with connected() as (_, gateway, _connection):
        waiting = asyncio.create_task(take(gateway, 1))
        await asyncio.sleep(0)
    with pytest.raises(SubscriptionClosed, match="closed"):
        await waiting


async def test_it_must_be_opened_first_and_has_nothing_to_say_after_it_was_left() -> None:
    gateway = GatewayClient("http://127.0.0.1:1", "token-1", options=OPTIONS)
    with pytest.raises(RuntimeError, match="open it first"):
        gateway.events()
    async with gateway:
        gateway.events()
    with pytest.raises(RuntimeError, match="open it first"):
        gateway.events()


async def _until_closed(connection: ScriptedConnection) -> None:
    while (await connection.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED):
        pass


# --- resuming -----------------------------------------------------------------------------------------------------


async def test_after_a_loss_it_continues_behind_the_last_acknowledged_event() -> None:
    async with connected() as (server, gateway, connection):
        await deliver(connection, 1, 2, 3)
        events = await take(gateway, 2)
        await gateway.acknowledge(events[0])
        connection.cut()
        second = await server.greeted()
        assert second.request.query == {**BATCHES, "after": str(at(1)), "event": str(UUID(int=1))}
        await deliver(second, 2, 3, 4)
        assert offsets_of(await take(gateway, 2)) == [3, 4], "2 was handed out before and does not come twice"


async def test_what_was_acknowledged_while_disconnected_is_told_when_the_event_comes_again() -> None:
    async with connected() as (server, gateway, connection):
        await deliver(connection, 1, 2)
        events = await take(gateway, 2)
        connection.cut()
        second = await server.greeted()
        assert second.request.query == {**BATCHES, "after": str(at(0))}
        await gateway.acknowledge(events[1])
        await deliver(second, 1, 2)
        messages = [await second.receive_message()]
        if messages[-1] != ack(2):
            messages.append(await second.receive_message())
        assert messages[-1] == ack(2)


async def test_a_rejection_that_the_server_may_not_have_stored_is_repeated() -> None:
    """Behind its event, which comes again, so that the server knows which entity to park; the user gets it once."""
    async with connected() as (server, gateway, connection):
        await deliver(connection, 1, 2)
        first, _ = await take(gateway, 2)
        await gateway.reject(first, "why")
        assert await connection.receive_message() == rejection(1, "why")
        connection.cut()
        second = await server.greeted()
        assert second.request.query == {**BATCHES, "after": str(at(0))}
        await deliver(second, 1, 2, 3)
        assert await second.receive_message() == rejection(1, "why")
        (third,) = await take(gateway, 1)
        assert third.position == at(3)


async def test_a_rejection_that_the_server_has_stored_is_not_repeated() -> None:
    async with connected() as (server, gateway, connection):
        await deliver(connection, 1)
        (first,) = await take(gateway, 1)
        await gateway.reject(first, "why")
        await connection.receive_message()
        ping = await connection.receive()
        assert ping.type is WSMsgType.PING
        await connection.socket.pong(ping.data)
        await deliver(connection, 2)
        await gateway.acknowledge((await take(gateway, 1))[0])
        assert await connection.receive_message() == ack(2)
        connection.cut()
        second = await server.greeted()
        await deliver(second, 3)
        await gateway.acknowledge((await take(gateway, 1))[0])
        assert await second.receive_message() == ack(3)


async def test_what_the_user_has_not_had_yet_is_taken_from_the_new_connection_only() -> None:
    async with connected() as (server, gateway, connection):
        await deliver(connection, 1, 2, 3)
        assert offsets_of(await take(gateway, 1)) == [1]
        connection.cut()
        second = await server.greeted()
        await deliver(second, 1, 2, 3)
        assert offsets_of(await take(gateway, 2)) == [2, 3]


async def test_a_gap_ends_the_connection_and_is_closed_by_the_next_one() -> None:
    async with connected() as (server, gateway, connection):
        await deliver(connection, 1, 3)
        second = await server.greeted()
        await deliver(second, 1, 2, 3)
        assert offsets_of(await take(gateway, 3)) == [1, 2, 3]


_TAIL = '"correlationId":"x","eventId":"x","position":"{position}"}}'


@pytest.mark.parametrize(
    ("payload", "timestamp"),
    [
        ('{"number":' + "9" * 5_000 + "}", "2026-01-02T03:04:05Z"),
        ('{"deep":' * 100_000 + "1" + "}" * 100_000, "2026-01-02T03:04:05Z"),
        ("[]", "2026-01-02T03:04:05Z"),
        ("{}", "20000-01-01T00:00:00Z"),
        ("{}", "infinity"),
        ("{} {", "2026-01-02T03:04:05Z"),
    ],
    ids=["digits", "deep", "list", "year", "infinity", "broken"],
)
async def test_an_event_that_cannot_be_read_is_rejected_and_the_next_one_comes(payload: str, timestamp: str) -> None:
    async with connected(after=at(0)) as (_, gateway, connection):
        await deliver(connection, 1)
        text = f'{{"type":"route.changed","payload":{payload},"timestamp":"{timestamp}",' + _TAIL.format(position=at(2))
        await connection.send(text)
        await deliver(connection, 3)
        first, third = await take(gateway, 2)
        assert offsets_of([first, third]) == [1, 3]
        await gateway.acknowledge(third)
        said = [await connection.receive_message() for _ in range(2)]
        assert (said[0]["type"], said[0]["position"]) == ("event.reject", str(at(2)))
        assert said[0]["reason"].startswith("undeliverable")
        assert said[1] == ack(3)


@pytest.mark.parametrize("text", ["x", '{"type":"x","eventId":"e"}', '{"type":"x","payload":{"position":"1:2"'])
async def test_what_cannot_be_read_at_all_is_an_error_after_a_few_connections(text: str) -> None:
    async with ScriptedControlPlane() as server, client_of(server) as gateway:
        for _ in range(MAX_UNREADABLE):
            await (await server.greeted()).send(text)
        with pytest.raises(ProtocolViolation, match="a frame is"):
            await take(gateway, 1)


# --- heartbeat and flow -------------------------------------------------------------------------------------------


async def test_pings_are_answered_while_nobody_takes_events() -> None:
    async with connected() as (_, _gateway, connection):
        await deliver(connection, 1, 2)
        await connection.socket.ping(b"e:2")
        pong = await connection.receive()
        assert (pong.type, pong.data) == (WSMsgType.PONG, b"e:2")


async def test_a_server_that_falls_silent_is_left_for_another_connection() -> None:
    options = replace(OPTIONS, limits=ClientLimits(silence=0.05))
    async with connected(options=options) as (server, _, connection):
        await server.greeted()
        await _until_closed(connection)


async def test_a_server_that_does_not_greet_is_left_for_another_connection() -> None:
    options = replace(OPTIONS, limits=ClientLimits(welcome=0.05))
    async with ScriptedControlPlane() as server, client_of(server, options=options):
        first = await server.accept()
        await server.accept()
        await _until_closed(first)


async def test_a_full_inbox_is_no_silence_of_the_server() -> None:
    options = replace(OPTIONS, limits=ClientLimits(silence=0.1), max_waiting_events=1)
    async with connected(options=options) as (server, gateway, connection):
        await deliver(connection, *range(1, 6))
        assert offsets_of(await take(gateway, 1)) == [1]
        await asyncio.sleep(0.2)  # twice the silence that would end the connection
        assert offsets_of(await take(gateway, 4)) == [2, 3, 4, 5]
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "options", [replace(OPTIONS, max_waiting_events=2), replace(OPTIONS, max_waiting_bytes=150_000)]
)
async def test_a_slow_user_stops_the_sender_through_the_socket(options: ClientOptions) -> None:
    """Whether the events are many or large."""
    async with connected(options=options) as (_, gateway, connection):
        big = {"type": "x", "payload": {"text": "x" * 100_000}, "timestamp": "2026-01-02T03:04:05Z"}

        async def flood() -> None:
            for offset in range(1, 301):
                ids = {"correlationId": "e", "eventId": "e", "position": f"{EPOCH}:{offset}"}
                await connection.send(big | ids)

        flooding = asyncio.create_task(flood())
        assert offsets_of(await take(gateway, 5)) == [1, 2, 3, 4, 5]
        for _ in range(100):
            await asyncio.sleep(0)
        assert not flooding.done()
        assert offsets_of(await take(gateway, 295)) == list(range(6, 301))
        await flooding


async def test_only_one_may_iterate_at_a_time() -> None:
    async with connected() as (_, gateway, _connection):
        waiting = asyncio.create_task(take(gateway, 1))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one at a time"):
            await take(gateway, 1)
        waiting.cancel()
        await asyncio.wait({waiting})


# --- resynchronizing ----------------------------------------------------------------------------------------------


def resync_required(reason: str, position: Position) -> dict[str, str]:
    return {"type": "resync.required", "reason": reason, "position": str(position)}


async def test_a_lost_position_without_a_handler_is_an_error_that_says_where_to_go_on() -> None:
    async with connected(after=at(3)) as (_, gateway, connection):
        await connection.send(resync_required("retention", at(90)))
        for _ in range(2):
            with pytest.raises(PositionLost) as caught:
                await take(gateway, 1)
            assert (caught.value.reason, caught.value.resume_from) == ("retention", at(90))


async def test_the_server_hears_of_a_resynchronization_when_it_is_done() -> None:
    demands = []
    done = asyncio.Event()

    async def read_anew(reason: str, position: Position) -> None:
        demands.append((reason, position))
        await done.wait()

    async with connected(after=at(3)) as (_, gateway, connection):
        await connection.send(resync_required("epoch", at(9, OTHER)))
        taking = asyncio.ensure_future(anext(gateway.events(on_resync=read_anew)))
        await connection.socket.ping(b"before")
        assert (await connection.receive()).type is WSMsgType.PONG
        assert gateway.position == at(3)
        done.set()
        assert await connection.receive_message() == ack(9, OTHER)
        assert gateway.position == at(9, OTHER)
        await deliver(connection, 10, epoch=OTHER)
        event = await taking
        await gateway.acknowledge(event)
        assert await connection.receive_message() == ack(10, OTHER)
    assert demands == [("epoch", at(9, OTHER))]


async def test_a_resynchronization_outlives_the_connection_that_demanded_it() -> None:
    lost = asyncio.Event()

    async def read_anew(_reason: str, _position: Position) -> None:
        connection.cut()
        await lost.wait()

    async with connected(after=at(3)) as (server, gateway, connection):
        await connection.send(resync_required("retention", at(90)))
        taking = asyncio.ensure_future(anext(gateway.events(on_resync=read_anew)))
        await _until_closed(connection)
        lost.set()
        while True:
            second = await server.greeted()
            if second.request.query == {**BATCHES, "after": str(at(90))}:
                break
            await second.close()
        await deliver(second, 91)
        assert (await taking).position == at(91)


# --- handlers -----------------------------------------------------------------------------------------------------


async def test_a_handler_acknowledges_by_returning_and_rejects_by_raising() -> None:
    async def handle(event: GatewayEvent) -> None:
        if event.position.offset == 2:
            raise Reject("not this one")

    async with connected() as (_, gateway, connection):
        running = asyncio.create_task(gateway.run(handle))
        await deliver(connection, 1)
        assert await connection.receive_message() == ack(1)
        await deliver(connection, 2)
        assert await connection.receive_message() == rejection(2, "not this one")
        assert (await connection.receive()).type is WSMsgType.PING
        await deliver(connection, 3)
        assert await connection.receive_message() == ack(3)
        running.cancel()
        await asyncio.wait({running})


async def test_a_handler_that_fails_acknowledges_nothing() -> None:
    async def handle(_event: GatewayEvent) -> None:
        raise LookupError("disk full")

    async with connected() as (_, gateway, connection):
        await deliver(connection, 1)
        with pytest.raises(LookupError):
            await gateway.run(handle)
        assert gateway.position == at(0)


async def test_a_program_that_only_persists_its_position_continues_from_there() -> None:
    async with ScriptedControlPlane() as server:
        async with client_of(server) as gateway:
            await deliver(await server.greeted(), 1, 2)
            for event in await take(gateway, 2):
                await gateway.acknowledge(event)
            kept, last = str(gateway.position), gateway.event_id
        async with client_of(server, after=Position.parse(kept)):
            assert (await server.accept()).request.query == {**BATCHES, "after": str(at(2))}
        url, after = f"http://{server.host}", Position.parse(kept)
        async with GatewayClient(url, "token-1", after=after, event_id=last, options=OPTIONS):
            assert (await server.accept()).request.query == {**BATCHES, "after": str(at(2)), "event": last}
