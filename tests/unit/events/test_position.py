from __future__ import annotations

from uuid import UUID

import pytest

from gatecast.errors import InvalidValue
from gatecast.events import Position

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
