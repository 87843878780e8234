from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from math import inf
from uuid import UUID

import pytest

from gatecast.events import Position, RecordedEvent
from gatecast.protocol import codec
from gatecast.protocol.close_codes import RATE_EXCEEDED, SILENT
from gatecast.protocol.session import (
    Acknowledged,
    Close,
    Confirmed,
    Rejected,
    ResyncDone,
    SendPing,
    SendText,
    ServerSession,
    SessionAction,
    SessionLimits,
    Version,
)

MakeEvent = Callable[..., RecordedEvent]
OpenSession = Callable[..., ServerSession]
V1, V2 = Version
OTHER_EPOCH = UUID(int=1)
MOMENT = "2026-01-02T03:04:05.440Z"


@pytest.fixture
def events(make_event: MakeEvent) -> Callable[..., list[RecordedEvent]]:
    """Makes the events from one offset to another, both included."""

    def make(first: int, last: int, kind: str = "apikey.created") -> list[RecordedEvent]:
        return [make_event(offset, kind) for offset in range(first, last + 1)]

    return make


Events = Callable[..., list[RecordedEvent]]


@pytest.fixture
def pong(epoch: UUID) -> Callable[[int], bytes]:
    """The payload of the Pong that echoes an offset."""
    return lambda offset: f"{epoch}:{offset}".encode()


Pong = Callable[[int], bytes]


@pytest.fixture
def position_ack(epoch: UUID) -> Callable[[int], str]:
    """The text of a position.ack."""
    return lambda offset: codec.encode_position_ack(Position(epoch, offset))


@pytest.fixture
def reject(epoch: UUID) -> Callable[[int], str]:
    """The text of an event.reject."""
    return lambda offset: codec.encode_event_reject(Position(epoch, offset), "no")


Write = Callable[[int], str]


def outline(actions: Sequence[SessionAction]) -> list[object]:
    """Offsets of events as numbers, and of Pings as text: `[1, 2, "ping 2"]`."""
    return [_outlined(action) for action in actions]


def _outlined(action: SessionAction) -> object:
    match action:
        case SendText(text):
            return int(json.loads(text)["position"].rpartition(":")[2])
        case SendPing(payload):
            return f"ping {payload.decode().rpartition(':')[2]}"
        case _:
            return action


# --- the beginning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", Version)
def test_connection_ack_comes_first_also_with_a_backlog(
    open_session: OpenSession, events: Events, version: Version
) -> None:
    """Scenario S21."""
    session = open_session(version, start=5)
    backlog = events(6, 9)
    actions = [*session.start(backlog[0].originated_at), *session.deliver(backlog, 0.0)]

    first, *rest = (json.loads(action.text) for action in actions if isinstance(action, SendText))
    assert first["type"] == "connection.ack"
    assert [message["eventId"] for message in rest] == [str(event.event_id) for event in backlog]


def test_a_new_session_has_room_for_one_window(open_session: OpenSession) -> None:
    assert open_session(V1).room == 64
    assert open_session(V2).room == 256


# --- delivering -------------------------------------------------------------------------------------------------------


def test_a_batch_ends_with_a_ping_that_covers_it(open_session: OpenSession, events: Events) -> None:
    session = open_session()

    assert outline(session.deliver(events(1, 3), 0.0)) == [1, 2, 3, "ping 3"]


def test_a_ping_comes_at_least_every_32_events(open_session: OpenSession, events: Events) -> None:
    actions = outline(open_session().deliver(events(1, 64), 0.0))

    assert [action for action in actions if isinstance(action, str)] == ["ping 32", "ping 64"]
    assert actions.index("ping 32") == 32


def test_every_download_is_followed_by_a_ping(open_session: OpenSession, events: Events) -> None:
    """Scenario S23: each may take 30 s, and the client gives up when it reads no Ping for 35 s."""
    session = open_session()

    assert outline(session.deliver(events(1, 3, "llmproxy.deployed"), 0.0)) == [1, "ping 1", 2, "ping 2", 3, "ping 3"]


def test_a_download_on_a_connection_that_was_idle_is_preceded_by_a_ping(
    open_session: OpenSession, events: Events
) -> None:
    """Without it, 14 s of idling and 30 s of download add up to 44 s without a Ping (scenario S23)."""
    session = open_session()
    batch = [*events(1, 1), *events(2, 3, "api.deployed")]

    assert outline(session.deliver(batch, 14.0)) == [1, "ping 1", 2, "ping 2", 3, "ping 3"]


def test_undeploying_downloads_nothing(open_session: OpenSession, events: Events) -> None:
    assert outline(open_session().deliver(events(1, 2, "api.undeployed"), 14.0)) == [1, 2, "ping 2"]


def test_a_v2_client_gets_events_without_pings(open_session: OpenSession, events: Events) -> None:
    assert outline(open_session(V2).deliver(events(1, 3, "api.deployed"), 14.0)) == [1, 2, 3]


def texts(actions: Sequence[SessionAction]) -> list[str]:
    """The text frames among these actions."""
    return [action.text for action in actions if isinstance(action, SendText)]


def test_a_batch_holds_exactly_what_the_frames_would_have_held(
    open_session: OpenSession, make_event: MakeEvent
) -> None:
    """Also when an event's data holds what stands between the messages: JSON escapes it."""
    events = [make_event(offset, "x\x1e", {"text": "a\x1eb"}) for offset in (1, 2, 3)]
    single = texts(open_session(V2).deliver(events, 0.0))

    assert texts(open_session(V2, batch_bytes=10_000).deliver(events, 0.0)) == ["\x1e".join(single)]


@pytest.mark.parametrize(("spare", "sizes"), [(0, [2, 2, 1]), (-1, [1, 1, 1, 1, 1])])
def test_a_frame_with_several_events_is_no_larger_than_asked_for(
    open_session: OpenSession, make_event: MakeEvent, spare: int, sizes: list[int]
) -> None:
    """In bytes of UTF-8."""
    events = [make_event(offset, "ä" * 100) for offset in range(1, 6)]
    [pair] = texts(open_session(V2, batch_bytes=10_000).deliver(events[:2], 0.0))
    session = open_session(V2, batch_bytes=len(pair.encode()) + spare)

    assert [len(text.split("\x1e")) for text in texts(session.deliver(events, 0.0))] == sizes


def test_a_larger_event_has_a_frame_of_its_own_and_order_stays(
    open_session: OpenSession, make_event: MakeEvent
) -> None:
    events = [make_event(offset, data={"text": "x" * (5_000 if offset == 3 else 1)}) for offset in range(1, 6)]
    session = open_session(V2, batch_bytes=2_000)

    assert [
        outline([SendText(part) for part in text.split("\x1e")]) for text in texts(session.deliver(events, 0.0))
    ] == [
        [1, 2],
        [3],
        [4, 5],
    ]


def test_the_server_has_a_largest_batch_of_its_own(open_session: OpenSession, events: Events) -> None:
    session = open_session(V2, batch_bytes=10**9, limits=SessionLimits(max_batch_bytes=1))

    assert outline(session.deliver(events(1, 3), 0.0)) == [1, 2, 3]


def test_an_unmodified_gateway_never_gets_a_batch(open_session: OpenSession, events: Events) -> None:
    assert outline(open_session(V1, batch_bytes=10_000).deliver(events(1, 3), 0.0)) == [1, 2, 3, "ping 3"]


def test_delivering_nothing_sends_nothing(open_session: OpenSession) -> None:
    assert open_session().deliver([], 0.0) == []


@pytest.mark.parametrize("offsets", [[2], [0], [1, 3], [1, 1], [2, 1]])
def test_events_that_do_not_continue_are_refused_and_change_nothing(
    open_session: OpenSession, make_event: MakeEvent, offsets: list[int]
) -> None:
    session = open_session()

    with pytest.raises(ValueError, match="comes next"):
        session.deliver([make_event(offset) for offset in offsets], 0.0)
    assert session.sent == 0


def test_more_events_than_there_is_room_for_are_refused(open_session: OpenSession, events: Events) -> None:
    session = open_session()

    with pytest.raises(ValueError, match="room for 64"):
        session.deliver(events(1, 65), 0.0)


def test_what_is_unconfirmed_takes_room(open_session: OpenSession, events: Events, pong: Pong) -> None:
    session = open_session()
    session.deliver(events(1, 64), 0.0)
    assert session.room == 0

    session.receive_pong(pong(32), 1.0)
    assert session.room == 32


def test_skipped_events_are_confirmed_once_everything_before_them_is(
    open_session: OpenSession, events: Events, make_event: MakeEvent, pong: Pong
) -> None:
    session = open_session()
    session.deliver(events(1, 2), 0.0)

    assert session.skip_to(5) == []
    assert session.receive_pong(pong(2), 1.0) == [Confirmed(5)]
    assert outline(session.deliver([make_event(6)], 1.0)) == [6, "ping 6"]


def test_skipping_with_nothing_in_flight_confirms_at_once(open_session: OpenSession) -> None:
    assert open_session().skip_to(3) == [Confirmed(3)]


def test_what_was_sent_cannot_be_skipped(open_session: OpenSession, events: Events) -> None:
    session = open_session()
    session.deliver(events(1, 2), 0.0)

    with pytest.raises(ValueError, match="cannot skip"):
        session.skip_to(2)


# --- confirming by Pong -----------------------------------------------------------------------------------------------


def test_a_pong_confirms_the_offset_it_echoes(open_session: OpenSession, events: Events, pong: Pong) -> None:
    session = open_session()
    session.deliver(events(1, 3), 0.0)

    assert session.receive_pong(pong(3), 1.0) == [Confirmed(3)]
    assert session.confirmed == 3


@pytest.mark.parametrize("payload", [b"", b"3", b":3", b"\xff\xfe:3", b"00000000-0000-0000-0000-000000000001:3"])
def test_a_pong_that_echoes_nothing_of_ours_confirms_nothing(
    open_session: OpenSession, events: Events, payload: bytes
) -> None:
    session = open_session()
    session.deliver(events(1, 3), 0.0)

    assert session.receive_pong(payload, 1.0) == []
    assert session.confirmed == 0
    assert session.stats.ignored == {"pong": 1}


@pytest.mark.parametrize("offset", [0, 1, 2, 4])
def test_a_pong_of_an_offset_that_no_ping_carried_confirms_nothing(
    open_session: OpenSession, events: Events, pong: Pong, offset: int
) -> None:
    session = open_session()
    session.deliver(events(1, 3), 0.0)

    assert session.receive_pong(pong(offset), 1.0) == []
    assert session.confirmed == 0


def test_an_older_pong_changes_nothing(open_session: OpenSession, events: Events, pong: Pong) -> None:
    session = open_session()
    session.deliver(events(1, 40), 0.0)
    session.receive_pong(pong(40), 1.0)

    assert session.receive_pong(pong(32), 1.0) == []
    assert session.confirmed == 40


def test_a_ping_answered_again_confirms_nothing_new(open_session: OpenSession, events: Events, pong: Pong) -> None:
    session = open_session()
    session.deliver(events(1, 3), 0.0)
    session.tick(15.0)

    assert session.receive_pong(pong(3), 16.0) == [Confirmed(3)]
    assert session.receive_pong(pong(3), 16.0) == []
    assert session.stats.ignored == {}


@pytest.mark.parametrize("write", ["position_ack", "reject"])
def test_an_unmodified_gateway_has_no_such_message(
    open_session: OpenSession, events: Events, request: pytest.FixtureRequest, write: str
) -> None:
    session = open_session()
    session.deliver(events(1, 3), 0.0)

    assert session.receive_text(request.getfixturevalue(write)(1), 1.0) == []
    assert session.confirmed == 0
    assert session.stats.ignored == {"wrong-version": 1}


# --- confirming by message --------------------------------------------------------------------------------------------


def test_a_position_ack_confirms_everything_up_to_there(
    open_session: OpenSession, events: Events, position_ack: Write
) -> None:
    session = open_session(V2)
    session.deliver(events(1, 5), 0.0)

    assert session.receive_text(position_ack(3), 1.0) == [Confirmed(3)]
    assert session.room == 254


def test_the_pong_of_a_v2_client_confirms_nothing(open_session: OpenSession, events: Events, pong: Pong) -> None:
    session = open_session(V2)
    session.deliver(events(1, 5), 0.0)
    session.tick(15.0)

    assert session.receive_pong(pong(5), 16.0) == []
    assert session.confirmed == 0
    assert session.stats.ignored == {}


@pytest.mark.parametrize(
    ("position", "why"),
    [("{epoch}:6", "beyond-sent"), ("{other}:3", "other-epoch"), ("{epoch}:2", "nothing-new"), ("7", "malformed")],
)
def test_a_position_ack_that_moves_nothing_is_counted(
    open_session: OpenSession, events: Events, epoch: UUID, position: str, why: str
) -> None:
    session = open_session(V2, start=2)
    session.deliver(events(3, 5), 0.0)
    text = json.dumps({"type": "position.ack", "position": position.format(epoch=epoch, other=OTHER_EPOCH)})

    assert session.receive_text(text, 1.0) == []
    assert session.confirmed == 2
    assert session.stats.ignored == {why: 1}


def test_rejecting_the_next_event_moves_over_it(open_session: OpenSession, events: Events, reject: Write) -> None:
    session = open_session(V2)
    session.deliver(events(1, 3), 0.0)

    assert session.receive_text(reject(1), 1.0) == [Rejected(1, "no"), Confirmed(1)]


def test_a_later_event_that_was_rejected_counts_when_it_becomes_next(
    open_session: OpenSession, events: Events, reject: Write, position_ack: Write
) -> None:
    session = open_session(V2)
    session.deliver(events(1, 4), 0.0)

    assert session.receive_text(reject(3), 1.0) == [Rejected(3, "no")]
    assert session.receive_text(reject(2), 1.0) == [Rejected(2, "no")]
    assert session.receive_text(position_ack(1), 1.0) == [Confirmed(3)]
    assert session.stats.rejected == 2


def test_the_last_word_on_an_event_is_passed_on_but_counts_once(
    open_session: OpenSession, events: Events, reject: Write, position_ack: Write
) -> None:
    session = open_session(V2)
    session.deliver(events(1, 3), 0.0)
    session.receive_text(position_ack(2), 1.0)

    assert session.receive_text(reject(2), 1.0) == [Rejected(2, "no")]
    assert session.stats.rejected == 0
    assert session.confirmed == 2


@pytest.mark.parametrize("offset", [0, 4])
def test_an_event_that_was_not_sent_cannot_be_rejected(
    open_session: OpenSession, events: Events, reject: Write, offset: int
) -> None:
    session = open_session(V2)
    session.deliver(events(1, 3), 0.0)

    assert session.receive_text(reject(offset), 1.0) == []
    assert session.stats.ignored == {"beyond-sent": 1}


# --- resynchronizing --------------------------------------------------------------------------------------------------


def test_a_v2_client_is_told_to_resynchronize_and_gets_nothing_before(
    open_session: OpenSession, events: Events, epoch: UUID
) -> None:
    session = open_session(V2, start=9, resync=("retention", Position(epoch, 9)))
    ack, resync = (json.loads(action.text) for action in session.start(events(1, 1)[0].originated_at))  # type: ignore[union-attr]

    assert ack["type"] == "connection.ack"
    assert resync == {"type": "resync.required", "reason": "retention", "position": f"{epoch}:9"}
    assert session.room == 0
    with pytest.raises(ValueError, match="room for 0"):
        session.deliver(events(10, 10), 0.0)
    with pytest.raises(ValueError, match="cannot skip"):
        session.skip_to(10)


def test_delivery_goes_on_behind_the_position_once_exactly_that_is_acknowledged(
    open_session: OpenSession, events: Events, epoch: UUID, position_ack: Write, reject: Write
) -> None:
    session = open_session(V2, start=9, resync=("retention", Position(epoch, 9)))

    for text in (position_ack(8), position_ack(10), reject(9), reject(1)):
        assert session.receive_text(text, 1.0) == []
    assert session.room == 0
    assert session.receive_text(position_ack(9), 1.0) == [ResyncDone(Position(epoch, 9))]
    assert session.room == 256
    assert outline(session.deliver(events(10, 10), 1.0)) == [10]
    assert session.receive_text(position_ack(9), 1.0) == []


def test_an_unmodified_gateway_cannot_be_told_and_is_served_at_once(
    open_session: OpenSession, events: Events, epoch: UUID
) -> None:
    session = open_session(V1, start=3, resync=("epoch", Position(epoch, 9)))

    assert len(session.start(events(1, 1)[0].originated_at)) == 1
    assert outline(session.deliver(events(10, 10), 0.0)) == [10, "ping 10"]


# --- deployments ------------------------------------------------------------------------------------------------------


def deployment_ack(performed_at: str = MOMENT, *, status: str = "success") -> str:
    """The gateway's word on deployment d-1 of provider p-1."""
    payload = {"deploymentId": "d-1", "artifactId": "p-1", "action": "deploy", "status": status}
    return json.dumps({"type": "deployment.ack", "payload": payload | {"performedAt": performed_at}})


@pytest.mark.parametrize("version", Version)
def test_a_deployment_ack_finds_its_event_but_confirms_nothing(
    open_session: OpenSession, make_event: MakeEvent, version: Version
) -> None:
    session = open_session(version)
    data = {"providerId": "p-1", "deploymentId": "d-1", "performedAt": MOMENT}
    session.deliver([make_event(1), make_event(2, "llmprovider.deployed", data)], 0.0)

    (action,) = session.receive_text(deployment_ack("2026-01-02T03:04:05.44Z", status="failed"), 1.0)

    assert isinstance(action, Acknowledged)
    assert (action.offset, action.ack.succeeded) == (2, False)
    assert session.confirmed == 0


def test_an_unknown_deployment_ack_is_passed_on_without_an_event(open_session: OpenSession) -> None:
    (action,) = open_session().receive_text(deployment_ack(), 1.0)

    assert isinstance(action, Acknowledged)
    assert action.offset is None


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", Version)
def test_an_idle_connection_is_pinged_every_15_seconds(
    open_session: OpenSession, events: Events, pong: Pong, version: Version
) -> None:
    session = open_session(version)
    session.deliver(events(1, 3), 0.0)
    assert session.next_tick_at == 15.0

    assert session.tick(14.9) == []
    assert outline(session.tick(15.0)) == ["ping 3"]
    session.receive_pong(pong(3), 15.1)
    assert session.next_tick_at == 30.0


def test_a_gateway_busy_for_60_seconds_is_pinged_and_not_taken_for_dead(
    open_session: OpenSession, events: Events, pong: Pong
) -> None:
    """Scenario S23."""
    session = open_session()
    session.deliver(events(1, 1, "llmprovider.deployed"), 0.0)

    for now in (15.0, 30.0, 45.0, 60.0):
        assert outline(session.tick(now)) == ["ping 1"]
    assert session.receive_pong(pong(1), 60.0) == [Confirmed(1)]
    assert session.next_tick_at == 75.0


def test_downloads_in_a_row_that_take_longer_together_are_not_silence(
    open_session: OpenSession, events: Events, pong: Pong
) -> None:
    session = open_session()
    session.deliver(events(1, 20, "llmprovider.deployed"), 0.0)

    for offset in range(1, 21):
        now = offset * 30.0
        assert outline(session.tick(now)) == ["ping 20"]
        assert session.receive_pong(pong(offset), now) == [Confirmed(offset)]


@pytest.mark.parametrize("version", Version)
def test_a_silent_peer_is_closed_once_and_for_all(
    open_session: OpenSession, events: Events, pong: Pong, version: Version
) -> None:
    session = open_session(version)
    session.deliver(events(1, 1), 0.0)
    first_ping_at = 0.0 if version is V1 else 15.0
    for now in (15.0, 30.0, 45.0, 60.0, 75.0, first_ping_at + 89.9):
        assert Close(SILENT) not in session.tick(now)
    silent_at = first_ping_at + 90.0

    assert session.tick(silent_at) == [Close(SILENT)]
    assert session.next_tick_at == inf
    assert session.room == 0
    assert session.tick(silent_at) == []
    assert session.receive_pong(pong(1), silent_at) == []
    assert session.receive_text("{}", silent_at) == []


def test_pongs_that_answer_nothing_do_not_prove_life(open_session: OpenSession, events: Events) -> None:
    session = open_session()
    session.deliver(events(1, 1), 0.0)
    session.receive_pong(b"", 89.0)

    assert session.tick(90.0) == [Close(SILENT)]


# --- hostile peers ----------------------------------------------------------------------------------------------------


def test_garbage_is_counted_and_ignored_and_the_connection_stays(open_session: OpenSession, events: Events) -> None:
    """Scenario S28."""
    session = open_session(V2)

    for text in ("garbage", "[" * 60_000, '{"type":"brand.new"}', " " * 70_000):
        assert session.receive_text(text, 0.0) == []
    assert session.receive_binary(0.0) == []
    assert session.stats.ignored == {
        "not-json": 1,
        "too-deep": 1,
        "unknown-type": 1,
        "too-large": 1,
        "binary": 1,
    }
    assert outline(session.deliver(events(1, 1), 0.0)) == [1]


def test_useless_frames_far_over_the_rate_close_the_connection(open_session: OpenSession) -> None:
    session = open_session()
    replies = [session.receive_binary(0.0) for _ in range(2_001)]

    assert replies == [[]] * 2_000 + [[Close(RATE_EXCEEDED)]]
    assert session.next_tick_at == inf


@pytest.mark.parametrize(
    "send", [lambda session: session.receive_pong(b"x", 0.0), lambda session: session.receive_text("x", 0.0)]
)
def test_every_kind_of_useless_frame_counts(
    open_session: OpenSession, send: Callable[[ServerSession], list[SessionAction]]
) -> None:
    session = open_session()

    assert [Close(RATE_EXCEEDED)] in [send(session) for _ in range(2_001)]


def test_large_useless_frames_cost_more(open_session: OpenSession) -> None:
    session = open_session()
    replies = [session.receive_text("x" * 64_000, 0.0) for _ in range(32)]

    assert replies[-1] == [Close(RATE_EXCEEDED)]


def test_useless_frames_moderately_over_the_rate_are_ignored_forever(open_session: OpenSession) -> None:
    session = open_session()

    assert not any(session.receive_binary(number / 400) for number in range(40_000))


def test_acknowledgements_that_belong_to_nothing_are_passed_on_only_within_the_rate(open_session: OpenSession) -> None:
    session = open_session()
    passed_on = [bool(session.receive_text(deployment_ack(), 0.0)) for _ in range(300)]

    assert passed_on == [True] * 200 + [False] * 100
    assert session.stats.ignored == {"over-rate": 100}
    assert session.take_ignored() == {"over-rate": 100}
    assert session.take_ignored() == {}
    assert session.receive_text(deployment_ack(), 1.0) != []


@pytest.mark.slow
def test_a_fast_client_is_no_nuisance(open_session: OpenSession, make_event: MakeEvent, position_ack: Write) -> None:
    """What answers something that was sent is never limited (scenario S11)."""
    session = open_session(V2)
    data = {"providerId": "p-1", "deploymentId": "d-1", "performedAt": MOMENT}

    for offset in range(1, 5_001):
        session.deliver([make_event(offset, "llmprovider.deployed", data)], 0.0)
        (acknowledged,) = session.receive_text(deployment_ack(), 0.0)
        assert isinstance(acknowledged, Acknowledged)
        assert acknowledged.offset == offset
        assert session.receive_text(position_ack(offset), 0.0) == [Confirmed(offset)]
    assert session.stats.ignored == {}


@pytest.mark.slow
def test_a_fast_unmodified_gateway_is_no_nuisance(open_session: OpenSession, make_event: MakeEvent) -> None:
    session = open_session(V1)

    for offset in range(1, 5_001):
        pings = [
            action
            for action in session.deliver([make_event(offset, "llmprovider.deployed")], 0.0)
            if isinstance(action, SendPing)
        ]
        assert [session.receive_pong(ping.payload, 0.0) for ping in pings] == [[Confirmed(offset)]]
    assert session.stats.ignored == {}


# --- statistics -------------------------------------------------------------------------------------------------------


def test_statistics_are_a_value_of_their_moment(open_session: OpenSession, events: Events, pong: Pong) -> None:
    session = open_session(start=10)
    before = session.stats
    session.deliver(events(11, 13), 0.0)
    session.receive_pong(pong(13), 0.0)
    session.receive_binary(0.0)

    assert (before.sent, before.confirmed, before.rejected, dict(before.ignored)) == (10, 10, 0, {})
    after = session.stats
    assert (after.sent, after.confirmed, after.rejected, dict(after.ignored)) == (13, 13, 0, {"binary": 1})


def test_limits_can_be_chosen(open_session: OpenSession, events: Events) -> None:
    session = open_session(limits=SessionLimits(window_v1=2, ping_interval=1.0, ping_every=1, max_text_bytes=1))

    assert session.room == 2
    assert outline(session.deliver(events(1, 2), 0.0)) == [1, "ping 1", 2, "ping 2"]
    assert session.next_tick_at == 1.0
    session.receive_text("{}", 0.0)
    assert session.stats.ignored == {"too-large": 1}
