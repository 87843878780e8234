"""What the protocol's tests begin with: an epoch, events in it, and a session that has just opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest

from gatecast.events import Action, Position, RecordedEvent
from gatecast.protocol.session import Opening, ServerSession, SessionLimits, Version

EPOCH = UUID("99999999-2222-4333-8444-555555555555")
INSTANT = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)


@pytest.fixture
def epoch() -> UUID:
    """The history that every test's offsets belong to."""
    return EPOCH


@pytest.fixture
def make_event() -> Callable[..., RecordedEvent]:
    """Makes the event with this offset."""

    def make(offset: int, kind: str = "apikey.created", data: dict[str, object] | None = None) -> RecordedEvent:
        return RecordedEvent(
            gateway_id="gw-1",
            offset=offset,
            event_id=UUID(int=offset),
            type=kind,
            action=Action.UPDATE,
            entity_type="thing",
            entity_id="t-1",
            payload=json.dumps(data or {}),
            originated_at=INSTANT,
            recorded_at=INSTANT,
        )

    return make


@pytest.fixture
def open_session() -> Callable[..., ServerSession]:
    """Opens a session at second 0, behind offset 0 unless told otherwise."""

    def opened(
        version: Version = Version.GATEWAY_V1,
        *,
        start: int = 0,
        resync: tuple[str, Position] | None = None,
        limits: SessionLimits | None = None,
        batch_bytes: int = 0,
    ) -> ServerSession:
        opening = Opening(
            gateway_id="gw-1",
            connection_id="c-1",
            epoch=EPOCH,
            start=start,
            version=version,
            resync=resync,
            batch_bytes=batch_bytes,
        )
        return ServerSession(opening, limits or SessionLimits(), now=0.0)

    return opened
