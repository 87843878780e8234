from __future__ import annotations

import copy
from uuid import UUID

import pytest

from gatecast.errors import InvalidValue, PositionPending
from gatecast.events import PendingPosition, Position

_EPOCH = UUID(int=7)


@pytest.mark.parametrize("offset", [0, 1, 2**63 - 1])
def test_a_position_is_read_back_as_written(offset: int) -> None:
    position = Position(_EPOCH, offset)
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text", ["", "7", f"{_EPOCH}", f"{_EPOCH}:", f"{_EPOCH}:-1", f"{_EPOCH}:²", f"{_EPOCH}:{2**63}"]
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        Position.parse(text, field="after")
    assert refusal.value.field == "after"


def test_a_pending_position_is_known_by_its_event() -> None:
    pending = PendingPosition("gateway-1", _EPOCH)
    assert (pending.pending, Position(_EPOCH, 1).pending) == (True, False)
    assert pending == PendingPosition("gateway-1", _EPOCH)
    assert pending not in (PendingPosition("gateway-2", _EPOCH), Position(_EPOCH, 1), "pending")
    assert len({pending, PendingPosition("gateway-1", _EPOCH)}) == 1
    assert copy.deepcopy(pending) == pending
    assert repr(pending) == f"PendingPosition(gateway_id='gateway-1', event_id={_EPOCH!r})"
    assert str(pending) == f"pending:{_EPOCH}"


@pytest.mark.parametrize("field", ["epoch", "offset"])
def test_nothing_reads_the_place_of_a_pending_position(field: str) -> None:
    with pytest.raises(PositionPending) as refused:
        getattr(PendingPosition("gateway-1", _EPOCH), field)
    assert (refused.value.gateway_id, refused.value.event_id) == ("gateway-1", _EPOCH)
    assert "wait_until_forwarded" in str(refused.value)
