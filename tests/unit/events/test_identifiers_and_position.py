from __future__ import annotations

from uuid import UUID

import pytest

from gatecast.errors import InvalidValue
from gatecast.events import MAX_IDENTIFIER_LENGTH, Position, clean_identifier

_EPOCH = UUID(int=7)


def test_the_length_counts_after_trimming() -> None:
    assert clean_identifier("name", f" {'x' * MAX_IDENTIFIER_LENGTH} ") == "x" * MAX_IDENTIFIER_LENGTH
    with pytest.raises(InvalidValue, match="at most 255"):
        clean_identifier("name", "x" * (MAX_IDENTIFIER_LENGTH + 1))


@pytest.mark.parametrize("value", ["", " \t", "a\nb", "a\x00", "\ud800", None, 1])
def test_what_is_no_identifier_is_refused(value: object) -> None:
    with pytest.raises(InvalidValue) as refusal:
        clean_identifier("name", value)
    assert refusal.value.field == "name"


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
