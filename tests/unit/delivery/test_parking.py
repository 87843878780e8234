"""What one connection is not sent."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from gatecast.delivery.parking import ParkingLot
from gatecast.events import Action, RecordedEvent
from gatecast.storage.contract import Withheld


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


def test_events_of_parked_entities_are_held_and_others_admitted() -> None:
    lot = ParkingLot()
    lot.fill(Withheld(parked=frozenset([("Route", "a")])))
    assert lot.holds(_event(1, "a"))
    assert not lot.admits(_event(1, "a"))
    assert lot.admits(_event(2, "b"))
    assert not lot.holds(_event(2, "b"))


def test_what_was_published_again_is_neither_held_nor_admitted() -> None:
    lot = ParkingLot()
    lot.fill(Withheld(parked=frozenset([("Route", "a")]), settled=frozenset([1])))
    assert not lot.holds(_event(1, "a"))
    assert not lot.admits(_event(1, "a"))


def test_a_rejection_parks_the_entity_of_the_event_that_was_sent() -> None:
    lot = ParkingLot()
    lot.remember([_event(1, "a"), _event(2, "b")])
    lot.park(2)
    assert lot.admits(_event(3, "a"))
    assert lot.holds(_event(4, "b"))


def test_what_is_confirmed_is_forgotten() -> None:
    lot = ParkingLot()
    lot.remember([_event(1, "a"), _event(2, "b")])
    lot.settle(1)
    lot.park(1)
    assert lot.admits(_event(3, "a"))
