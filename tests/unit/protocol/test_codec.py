from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatecast.events import Position, RecordedEvent
from gatecast.events.grammar import is_printable
from gatecast.protocol import codec
from gatecast.protocol.messages import (
    ConnectionAck,
    DeploymentAck,
    EventMessage,
    EventReject,
    Ignored,
    PositionAck,
    ResyncRequired,
)

MakeEvent = Callable[..., RecordedEvent]
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
POSITION_TEXT = "99999999-2222-4333-8444-555555555555:7"


def deployment_ack(**changes: object) -> dict[str, Any]:
    """A deployment.ack as the gateway writes it, with changes to its payload; None leaves a field out."""
    payload = {
        "deploymentId": "d-1",
        "artifactId": "p-1",
        "resourceType": "llmprovider",
        "action": "deploy",
        "status": "success",
        "performedAt": "2026-01-02T03:04:05.6789Z",
    } | changes
    return {"type": "deployment.ack", "payload": {name: value for name, value in payload.items() if value is not None}}


# --- encoding ---------------------------------------------------------------------------------------------------------


def test_connection_ack_has_exactly_these_fields() -> None:
    assert json.loads(codec.encode_connection_ack("gw-1", "c-1", MOMENT)) == {
        "type": "connection.ack",
        "gatewayId": "gw-1",
        "connectionId": "c-1",
        "timestamp": "2026-01-02T03:04:05.678900Z",
    }


def test_an_event_has_exactly_these_fields(make_event: MakeEvent, epoch: UUID) -> None:
    assert json.loads(codec.encode_event(make_event(7, "api.deployed", {"apiId": "ä"}), epoch)) == {
        "type": "api.deployed",
        "payload": {"apiId": "ä"},
        "timestamp": "2026-01-02T03:04:05.678900Z",
        "correlationId": "00000000-0000-0000-0000-000000000007",
        "eventId": "00000000-0000-0000-0000-000000000007",
        "position": POSITION_TEXT,
    }


def test_the_payload_is_passed_on_character_by_character(make_event: MakeEvent, epoch: UUID) -> None:
    event = make_event(7)
    object.__setattr__(event, "payload", '{ "n" : 1.10, "n2":1E2,\n"s":"\\u00e4" }')

    assert f'"payload":{event.payload},"timestamp"' in codec.encode_event(event, epoch)


def test_a_type_cannot_break_out_of_its_string(make_event: MakeEvent, epoch: UUID) -> None:
    kind = 'x","payload":{},"y":"\\'

    assert json.loads(codec.encode_event(make_event(7, kind), epoch))["type"] == kind


def test_resync_required_has_exactly_these_fields(epoch: UUID) -> None:
    assert json.loads(codec.encode_resync_required("epoch", Position(epoch, 7))) == {
        "type": "resync.required",
        "reason": "epoch",
        "position": POSITION_TEXT,
    }


# --- decoding a gateway's messages ------------------------------------------------------------------------------------


def test_a_deployment_ack_is_read() -> None:
    assert codec.decode(json.dumps(deployment_ack())) == DeploymentAck(
        deployment_id="d-1",
        artifact_id="p-1",
        resource_type="llmprovider",
        action="deploy",
        succeeded=True,
        performed_at=MOMENT,
        error_code="",
    )


def test_a_failed_deployment_ack_carries_its_code() -> None:
    ack = codec.decode(json.dumps(deployment_ack(status="failed", errorCode="DEPLOYMENT_ID_MISMATCH")))

    assert isinstance(ack, DeploymentAck)
    assert (ack.succeeded, ack.error_code) == (False, "DEPLOYMENT_ID_MISMATCH")


@pytest.mark.parametrize("missing", ["deploymentId", "resourceType", "performedAt"])
def test_a_deployment_ack_may_leave_these_out(missing: str) -> None:
    assert isinstance(codec.decode(json.dumps(deployment_ack(**{missing: None}))), DeploymentAck)


def test_two_spellings_of_an_instant_are_one_instant() -> None:
    short, long = (
        codec.decode(json.dumps(deployment_ack(performedAt=text)))
        for text in ("2026-01-02T03:04:05.44Z", "2026-01-02T03:04:05.440Z")
    )

    assert isinstance(short, DeploymentAck)
    assert short == long


def test_the_zero_time_of_go_is_read_as_none() -> None:
    ack = codec.decode(json.dumps(deployment_ack(performedAt="0001-01-01T00:00:00Z")))

    assert isinstance(ack, DeploymentAck)
    assert ack.performed_at is None


def test_acknowledgement_and_rejection_are_read(epoch: UUID) -> None:
    position = Position(epoch, 7)

    assert codec.decode(codec.encode_position_ack(position)) == PositionAck(position)
    assert codec.decode(codec.encode_event_reject(position, "no")) == EventReject(position, "no")


def test_a_rejection_needs_no_reason(epoch: UUID) -> None:
    text = json.dumps({"type": "event.reject", "position": POSITION_TEXT})

    assert codec.decode(text) == EventReject(Position(epoch, 7), "")


def test_a_reason_is_cut_and_made_printable() -> None:
    text = json.dumps(
        {"type": "event.reject", "position": POSITION_TEXT, "reason": "a\n\x00\u202e\ud800" + "ä" * 2_000}
    )
    reject = codec.decode(text)

    assert isinstance(reject, EventReject)
    assert reject.reason == "a    " + "ä" * 995
    assert reject.reason.isprintable()


def test_identifiers_are_cut_and_made_printable() -> None:
    ack = codec.decode(json.dumps(deployment_ack(artifactId="x\n" * 300)))

    assert isinstance(ack, DeploymentAck)
    assert ack.artifact_id == ("x " * 300)[:255]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not-json"),
        ("\x00", "not-json"),
        ("{", "not-json"),
        ('{"type":NaN}', "not-json"),
        ('{"type":-Infinity}', "not-json"),
        ('{"n":' + "9" * 5_000 + "}", "not-json"),
        ("\ud800", "not-json"),
        ("[]", "not-an-object"),
        ("null", "not-an-object"),
        ("7", "not-an-object"),
        ("{}", "unknown-type"),
        ('{"type":7}', "unknown-type"),
        ('{"type":["position.ack"]}', "unknown-type"),
        ('{"type":"connection.ack"}', "unknown-type"),
        ('{"type":"position.ack","type":"position.ack"}', "duplicate-field"),
        ('{"type":"position.ack","x":{"y":1,"y":1}}', "duplicate-field"),
        ('{"type":"position.ack"}', "malformed"),
        ('{"type":"position.ack","position":7}', "malformed"),
        ('{"type":"position.ack","position":"7"}', "malformed"),
        ('{"type":"position.ack","position":null}', "malformed"),
        (f'{{"type":"position.ack","position":"{POSITION_TEXT}{"0" * 20}"}}', "malformed"),
        (f'{{"type":"event.reject","position":"{POSITION_TEXT}","reason":7}}', "malformed"),
        ('{"type":"deployment.ack"}', "malformed"),
        ('{"type":"deployment.ack","payload":[]}', "malformed"),
        ('{"type":"deployment.ack","payload":{}}', "malformed"),
        (json.dumps(deployment_ack(artifactId=None)), "malformed"),
        (json.dumps(deployment_ack(artifactId=7)), "malformed"),
        (json.dumps(deployment_ack(action="explode")), "malformed"),
        (json.dumps(deployment_ack(action=["deploy"])), "malformed"),
        (json.dumps(deployment_ack(status="maybe")), "malformed"),
        (json.dumps(deployment_ack(status={"a": 1})), "malformed"),
        (json.dumps(deployment_ack(performedAt="yesterday")), "malformed"),
        (json.dumps(deployment_ack(performedAt=7)), "malformed"),
        (json.dumps(deployment_ack(errorCode=7)), "malformed"),
        ("[" * 60_000, "too-deep"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "too-deep"),
        ('{"type":"position.ack","x":' + "[" * 16 + "]" * 16 + "}", "too-deep"),
        (" " * 65_537, "too-large"),
        ("ä" * 32_769, "too-large"),
    ],
)
def test_anything_else_is_ignored_for_a_reason(text: str, why: str) -> None:
    """Scenario S28."""
    assert codec.decode(text) == Ignored(why)


def test_the_limits_themselves_are_allowed() -> None:
    depth = json.dumps({"type": "position.ack", "position": POSITION_TEXT, "x": 0}).replace(
        "0}", "[" * 15 + "]" * 15 + "}"
    )
    wide = json.dumps({"type": "position.ack", "position": POSITION_TEXT, "x": [[]] * 100})
    large = codec.encode_position_ack(Position.parse(POSITION_TEXT)).ljust(65_536)

    assert all(isinstance(codec.decode(text), PositionAck) for text in (depth, wide, large))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
#: Messages that are nearly right.
NEARLY = st.fixed_dictionaries(
    {"type": st.sampled_from(["position.ack", "event.reject", "deployment.ack"])},
    optional={
        "position": st.just(POSITION_TEXT) | JSON,
        "reason": JSON,
        "payload": JSON
        | st.fixed_dictionaries(
            {},
            optional={name: st.sampled_from([value, 0]) | JSON for name, value in deployment_ack()["payload"].items()},
        ),
    },
)


@given(st.text(st.characters()) | st.binary().map(lambda raw: raw.decode("latin-1")) | (JSON | NEARLY).map(json.dumps))
def test_garbage_never_raises_and_what_comes_out_is_bounded(text: str) -> None:
    message = codec.decode(text)

    match message:
        case DeploymentAck():
            words = [message.deployment_id, message.artifact_id, message.resource_type, message.error_code]
            assert all(len(word) <= 255 and is_printable(word) for word in words)
            assert message.action in {"deploy", "undeploy"}
        case EventReject(position, reason):
            assert 0 <= position.offset < 2**63
            assert len(reason) <= 1_000
            assert is_printable(reason)
        case PositionAck(position):
            assert 0 <= position.offset < 2**63
        case Ignored(why):
            assert 0 < len(why) <= 20


# --- decoding the server's messages -----------------------------------------------------------------------------------


def test_a_client_reads_what_the_server_writes(make_event: MakeEvent, epoch: UUID) -> None:
    assert codec.decode_from_server(codec.encode_connection_ack("gw-1", "c-1", MOMENT)) == ConnectionAck(
        gateway_id="gw-1", connection_id="c-1", timestamp=MOMENT
    )
    assert codec.decode_from_server(codec.encode_resync_required("ahead", Position(epoch, 7))) == ResyncRequired(
        "ahead", Position(epoch, 7)
    )
    assert codec.decode_from_server(codec.encode_event(make_event(7, "x", {"a": 1}), epoch)) == EventMessage(
        type="x",
        payload={"a": 1},
        timestamp=MOMENT,
        event_id="00000000-0000-0000-0000-000000000007",
        position=Position(epoch, 7),
    )


@pytest.mark.parametrize("kind", ["connection.ack", "resync.required", "position.ack"])
def test_an_event_may_be_named_like_a_message(make_event: MakeEvent, epoch: UUID, kind: str) -> None:
    message = codec.decode_from_server(codec.encode_event(make_event(7, kind), epoch))

    assert isinstance(message, EventMessage)
    assert message.type == kind


def test_a_payload_that_names_a_field_twice_is_still_delivered(make_event: MakeEvent, epoch: UUID) -> None:
    event = make_event(7)
    object.__setattr__(event, "payload", '{"a":1,"a":2}')
    message = codec.decode_from_server(codec.encode_event(event, epoch))

    assert isinstance(message, EventMessage)
    assert message.payload == {"a": 2}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x", "not-json"),
        ("[]", "not-an-object"),
        ('{"type":"brand.new"}', "unknown-type"),
        ('{"type":7,"eventId":"e"}', "unknown-type"),
        ('{"type":"connection.ack"}', "malformed"),
        ('{"type":"x","eventId":"e"}', "malformed"),
        (f'{{"type":"x","eventId":"e","position":"{POSITION_TEXT}","payload":[]}}', "malformed"),
    ],
)
def test_a_client_can_tell_what_it_cannot_read(text: str, why: str) -> None:
    assert codec.decode_from_server(text) == Ignored(why)
