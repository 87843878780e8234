from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest

from gatecast.errors import ProtocolViolation
from gatecast.events import Position, RecordedEvent
from gatecast.protocol import codec
from gatecast.protocol.client_session import ClientAction, ClientSession, Delivered, Resynchronize, SendPong, Welcomed
from gatecast.protocol.session import Confirmed, Opening, ResyncDone, SendText, ServerSession, SessionLimits, Version

MakeEvent = Callable[..., RecordedEvent]
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WELCOME = codec.encode_connection_ack("gw-1", "c-1", MOMENT)


@pytest.fixture
def client(epoch: UUID) -> ClientSession:
    """A client that has everything up to offset 5, and was welcomed at second 0."""
    session = ClientSession(Position(epoch, 5), now=0.0)
    session.receive_text(WELCOME, 0.0)
    return session


@pytest.fixture
def send(make_event: MakeEvent, epoch: UUID) -> Callable[..., list[ClientAction]]:
    """Sends the event with this offset to a client."""

    def send_to(client: ClientSession, offset: int, now: float = 0.0, *, within: UUID = epoch) -> list[ClientAction]:
        return client.receive_text(codec.encode_event(make_event(offset, data={"n": offset}), within), now)

    return send_to


Send = Callable[..., list[ClientAction]]


# --- the welcome ------------------------------------------------------------------------------------------------------


def test_connection_ack_opens_the_connection() -> None:
    assert ClientSession(None, now=0.0).receive_text(WELCOME, 4.9) == [Welcomed(gateway_id="gw-1", connection_id="c-1")]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"type":"brand.new"}', codec.encode_connection_ack("gw-1", "c-1", MOMENT)[:-1]]
)
def test_anything_else_first_is_a_violation(text: str) -> None:
    with pytest.raises(ProtocolViolation):
        ClientSession(None, now=0.0).receive_text(text, 0.0)


def test_an_event_before_the_welcome_is_a_violation(send: Send) -> None:
    with pytest.raises(ProtocolViolation):
        send(ClientSession(None, now=0.0), 1)


def test_the_welcome_must_come_within_five_seconds_whatever_else_comes() -> None:
    client = ClientSession(None, now=0.0)
    client.tick(4.9)

    assert client.receive_ping(b"x", 4.9) == [SendPong(b"x")]
    assert client.next_tick_at == 5.0
    with pytest.raises(ProtocolViolation, match=r"connection\.ack"):
        client.tick(5.0)


def test_a_second_welcome_is_ignored(client: ClientSession) -> None:
    assert client.receive_text(WELCOME, 1.0) == []
    assert client.ignored == {"late-welcome": 1}


# --- events -----------------------------------------------------------------------------------------------------------


def test_an_event_is_delivered_with_its_fields(client: ClientSession, send: Send, epoch: UUID) -> None:
    assert send(client, 6) == [
        Delivered(
            position=Position(epoch, 6),
            event_id="00000000-0000-0000-0000-000000000006",
            type="apikey.created",
            payload={"n": 6},
            originated_at=datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC),
        )
    ]
    assert client.delivered == Position(epoch, 6)
    assert client.acked == Position(epoch, 5)


@pytest.mark.parametrize("offset", [0, 1, 5])
def test_what_is_there_already_is_dropped(client: ClientSession, send: Send, offset: int) -> None:
    assert send(client, offset) == []
    assert client.ignored == {"duplicate": 1}


def test_a_gap_is_a_violation(client: ClientSession, send: Send) -> None:
    with pytest.raises(ProtocolViolation, match="offset 7 came after 5"):
        send(client, 7)


def test_another_epoch_is_a_violation(client: ClientSession, send: Send) -> None:
    with pytest.raises(ProtocolViolation, match="epoch"):
        send(client, 6, within=UUID(int=1))


def test_a_client_without_a_position_begins_where_the_server_does(send: Send, epoch: UUID) -> None:
    client = ClientSession(None, now=0.0)
    client.receive_text(WELCOME, 0.0)
    assert (client.delivered, client.acked) == (None, None)

    send(client, 41)
    assert client.acked == Position(epoch, 40)
    with pytest.raises(ProtocolViolation):
        send(client, 43)


@pytest.mark.parametrize("text", ["x", "[]", '{"type":"x","eventId":"e"}', '{"type":"resync.required"}'])
def test_a_frame_that_cannot_be_read_is_a_violation_because_an_event_may_be_lost_in_it(
    client: ClientSession, text: str
) -> None:
    with pytest.raises(ProtocolViolation):
        client.receive_text(text, 0.0)


def test_a_message_of_a_newer_server_is_ignored(client: ClientSession) -> None:
    assert client.receive_text('{"type":"brand.new"}', 0.0) == []
    assert client.ignored == {"unknown-type": 1}


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_acknowledgement_is_sent_once(client: ClientSession, send: Send, epoch: UUID) -> None:
    send(client, 6)
    send(client, 7)

    assert client.acknowledge(Position(epoch, 7)) == [SendText(codec.encode_position_ack(Position(epoch, 7)))]
    assert client.acknowledge(Position(epoch, 7)) == []
    assert client.acknowledge(Position(epoch, 6)) == []
    assert client.acked == Position(epoch, 7)


@pytest.mark.parametrize("position", ["{epoch}:7", "00000000-0000-0000-0000-000000000001:6"])
def test_only_what_was_delivered_can_be_answered(client: ClientSession, send: Send, epoch: UUID, position: str) -> None:
    send(client, 6)
    wrong = Position.parse(position.format(epoch=epoch))

    with pytest.raises(ValueError, match="not delivered"):
        client.acknowledge(wrong)
    with pytest.raises(ValueError, match="not delivered"):
        client.reject(wrong, "no")


def test_a_rejected_event_counts_as_settled_in_its_turn(client: ClientSession, send: Send, epoch: UUID) -> None:
    send(client, 6)
    send(client, 7)

    (frame,) = client.reject(Position(epoch, 7), "a\nb" + "x" * 2_000)
    assert json.loads(frame.text) == {
        "type": "event.reject",
        "position": f"{epoch}:7",
        "reason": "a b" + "x" * 997,
    }
    assert client.acked == Position(epoch, 5)
    client.acknowledge(Position(epoch, 6))
    assert client.acked == Position(epoch, 7)


def test_an_event_can_be_rejected_again_with_another_reason(client: ClientSession, send: Send, epoch: UUID) -> None:
    send(client, 6)

    assert [len(client.reject(Position(epoch, 6), reason)) for reason in ("a", "b")] == [1, 1]
    assert client.acked == Position(epoch, 6)


# --- resynchronizing --------------------------------------------------------------------------------------------------


def test_delivery_goes_on_after_the_resynchronization(client: ClientSession, send: Send) -> None:
    behind = Position(UUID(int=1), 40)

    assert client.receive_text(codec.encode_resync_required("epoch", behind), 0.0) == [Resynchronize("epoch", behind)]
    assert client.resynchronized() == [SendText(codec.encode_position_ack(behind))]
    assert client.resynchronized() == []
    assert client.acked == behind
    (delivered,) = send(client, 41, within=behind.epoch)
    assert isinstance(delivered, Delivered)


def test_an_event_before_the_resynchronization_is_done_is_a_violation(
    client: ClientSession, send: Send, epoch: UUID
) -> None:
    client.receive_text(codec.encode_resync_required("retention", Position(epoch, 5)), 0.0)

    with pytest.raises(ProtocolViolation, match="resynchronization"):
        send(client, 6)


def test_nothing_is_said_when_nobody_asked(client: ClientSession) -> None:
    assert client.resynchronized() == []


# --- silence ----------------------------------------------------------------------------------------------------------


def test_a_server_that_says_nothing_for_45_seconds_is_gone(client: ClientSession, send: Send) -> None:
    client.receive_ping(b"", 15.0)
    assert client.next_tick_at == 60.0
    send(client, 6, 20.0)
    client.tick(64.9)

    with pytest.raises(ProtocolViolation, match="nothing came"):
        client.tick(65.0)


# --- both sides -------------------------------------------------------------------------------------------------------


def test_both_sides_understand_each_other(make_event: MakeEvent, epoch: UUID) -> None:
    """A resynchronization, a delivery, an acknowledgement and a rejection, word for word."""
    opening = Opening(
        gateway_id="gw-1",
        connection_id="c-1",
        epoch=epoch,
        start=9,
        version=Version.GATECAST_V2,
        resync=("retention", Position(epoch, 9)),
    )
    server = ServerSession(opening, SessionLimits(), now=0.0)
    client = ClientSession(Position(UUID(int=1), 3), now=0.0)
    for action in server.start(MOMENT):
        assert isinstance(action, SendText)
        client.receive_text(action.text, 0.0)

    (done,) = client.resynchronized()
    assert server.receive_text(done.text, 0.0) == [ResyncDone(Position(epoch, 9))]
    for action in server.deliver([make_event(10), make_event(11)], 0.0):
        assert isinstance(action, SendText)
        client.receive_text(action.text, 0.0)
    (rejected,) = client.reject(Position(epoch, 11), "no")
    (acknowledged,) = client.acknowledge(Position(epoch, 10))
    server.receive_text(rejected.text, 0.0)
    assert server.receive_text(acknowledged.text, 0.0) == [Confirmed(11)]
    assert client.acked == Position(epoch, 11)


# --- what is left out -------------------------------------------------------------------------------------------------


def test_a_gap_that_is_said_is_none(client: ClientSession, make_event: MakeEvent, epoch: UUID) -> None:
    def receive(offset: int, withheld: int) -> list[ClientAction]:
        return client.receive_text(codec.encode_event(make_event(offset), epoch, withheld=withheld), 0.0)

    [delivered] = receive(8, withheld=2)
    assert isinstance(delivered, Delivered)
    assert delivered.position == Position(epoch, 8)
    with pytest.raises(ProtocolViolation):
        receive(12, withheld=2)


def test_a_server_says_how_many_it_left_out(make_event: MakeEvent, epoch: UUID) -> None:
    opening = Opening(
        gateway_id="gw-1", connection_id="c-1", epoch=epoch, start=5, version=Version.GATECAST_V2, resync=None
    )
    session = ServerSession(opening, SessionLimits(), now=0.0)
    session.skip_to(7)
    first, second = session.deliver([make_event(8), make_event(9)], 0.0)
    assert isinstance(first, SendText)
    assert isinstance(second, SendText)
    assert json.loads(first.text)["withheld"] == 2
    assert "withheld" not in json.loads(second.text)
