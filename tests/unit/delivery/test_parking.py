"""What one connection is not sent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from gatecast.delivery.parking import Fate, SubscriptionFilter
from gatecast.events import Action, RecordedEvent
from gatecast.storage.contract import DeliveryFilter


def _event(offset: int, entity_id: str) -> RecordedEvent:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return RecordedEvent(
        gateway_id="gw-1",
        offset=offset,
        event_id=uuid4(),
        type="route.changed",
        action=Action.UPDATE,
        entity_type="Route",
        entity_id=entity_id,
        payload="{}",
        originated_at=moment,
        recorded_at=moment,
    )


def _damaged(offset: int, entity_id: str) -> RecordedEvent:
    return replace(_event(offset, entity_id), undeliverable="nobody can read it")


def test_events_of_parked_entities_are_held_and_others_are_sent() -> None:
    lot = SubscriptionFilter()
    lot.fill(DeliveryFilter(parked=frozenset([("Route", "a")])))
    assert lot.fate(_event(1, "a")) is Fate.HOLD
    assert lot.fate(_event(2, "b")) is Fate.SEND


def test_what_was_published_again_is_passed_over() -> None:
    lot = SubscriptionFilter()
    lot.fill(DeliveryFilter(parked=frozenset([("Route", "a")]), settled=frozenset([1])))
    assert lot.fate(_event(1, "a")) is Fate.PASS
    assert lot.passes(_event(1, "a"))


def test_an_event_that_cannot_be_delivered_parks_its_entity_from_there_on() -> None:
    lot = SubscriptionFilter()
    events = [_event(1, "a"), _damaged(2, "a"), _event(3, "a"), _damaged(4, "a"), _event(5, "b")]
    assert [lot.fate(event) for event in events] == [Fate.SEND, Fate.PARK, Fate.HOLD, Fate.HOLD, Fate.SEND]


def test_one_that_was_left_out_parks_nothing() -> None:
    lot = SubscriptionFilter()
    lot.fill(DeliveryFilter(settled=frozenset([1])))
    assert [lot.fate(event) for event in (_damaged(1, "a"), _event(2, "a"))] == [Fate.PASS, Fate.SEND]


def test_a_rejection_parks_the_entity_of_the_event_that_was_sent() -> None:
    lot = SubscriptionFilter()
    lot.remember([_event(1, "a"), _event(2, "b")])
    lot.park(2)
    assert lot.fate(_event(3, "a")) is Fate.SEND
    assert lot.fate(_event(4, "b")) is Fate.HOLD


def test_what_is_confirmed_is_forgotten() -> None:
    lot = SubscriptionFilter()
    lot.remember([_event(1, "a"), _event(2, "b")])
    lot.ack(1)
    lot.park(1)
    assert lot.fate(_event(3, "a")) is Fate.SEND
