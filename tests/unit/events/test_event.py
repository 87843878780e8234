from __future__ import annotations

from dataclasses import FrozenInstanceError, astuple, fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from gatecast.errors import InvalidValue, PayloadTooLarge
from gatecast.events import MAX_PAYLOAD_BYTES, Action, Event, RecordedEvent
from gatecast.events.event import recorded_quickly


def _event(**fields: Any) -> Event:  # noqa: ANN401 - wrong types on purpose
    given = {"gateway_id": "gw", "type": "t", "action": Action.CREATE, "entity_type": "T", "entity_id": "e", **fields}
    return Event(**given)


def test_s17_every_identifier_is_trimmed_once() -> None:
    event = _event(gateway_id=" gw\t", type=" t ", entity_type="\nT", entity_id="e ")
    assert (event.gateway_id, event.type, event.entity_type, event.entity_id) == ("gw", "t", "T", "e")
    assert event.addressed_to(" other ").gateway_id == "other"


def test_s40_exactly_one_mebibyte_is_accepted_and_one_byte_more_is_not() -> None:
    """Counted in encoded bytes: a character of two bytes counts twice."""
    frame = len('{"a":""}')
    largest = "ü" * ((MAX_PAYLOAD_BYTES - frame) // 2)
    assert len(_event(data={"a": largest}).payload.encode()) == MAX_PAYLOAD_BYTES
    with pytest.raises(PayloadTooLarge) as refusal:
        _event(data={"a": largest + "x"})
    assert (refusal.value.size, refusal.value.limit) == (MAX_PAYLOAD_BYTES + 1, MAX_PAYLOAD_BYTES)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", []),
        ("data", {"a": float("nan")}),
        ("data", {"a": object()}),
        ("data", {"a": "\ud800"}),
        ("action", "create"),
        ("event_id", "no uuid"),
        ("originated_at", datetime(2026, 1, 1)),  # noqa: DTZ001 - it must be refused
        ("originated_at", datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))),
        ("trace_parent", "no trace"),
        ("gateway_id", 7),
        ("entity_id", "a\x00b"),
    ],
)
def test_what_could_not_be_stored_or_sent_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidValue) as refusal:
        _event(**{field: value})
    assert refusal.value.field == field


def test_an_instant_is_kept_in_utc() -> None:
    moment = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert _event(originated_at=moment).originated_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_fan_out_shares_the_encoded_data() -> None:
    event = _event(data={"a": 1})
    other = event.addressed_to("other")
    assert other.payload is event.payload
    assert (other.event_id, event.gateway_id) == (event.event_id, "gw")


def test_each_event_is_looked_at_whatever_came_before_it() -> None:
    """What was found readable is remembered by its text; nothing else may count as found."""

    def undeliverable(payload: str) -> bool:
        event = replace(RecordedEvent.standing_in("gateway-1", 1, ""), payload=payload, undeliverable=None)
        return event.checked().undeliverable is not None

    payloads = ['{"a":1}', '{"a":1e999}', '{"a":1}', "[]", "{}", '{"a":1e999}', '{"a":1}', ""]
    assert [undeliverable(payload) for payload in payloads] == [False, True, False, True, False, True, False, True]


def test_an_event_that_is_made_quickly_is_the_same_value() -> None:
    slowly = RecordedEvent.standing_in("gw-1", 7, "no")
    quickly = recorded_quickly(*[getattr(slowly, each.name) for each in fields(slowly)])

    assert (type(quickly), quickly, hash(quickly), repr(quickly)) == (RecordedEvent, slowly, hash(slowly), repr(slowly))
    assert recorded_quickly(*astuple(slowly)[:10]) == replace(slowly, undeliverable=None)
    with pytest.raises(FrozenInstanceError):
        quickly.offset = 8  # type: ignore[misc]
