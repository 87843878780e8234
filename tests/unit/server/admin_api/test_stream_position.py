"""Where a stream of events stands, and how a client carries that."""

from __future__ import annotations

import base64
import json
import zlib
from uuid import UUID, uuid4

import pytest

from gatecast.errors import InvalidValue
from gatecast.server.admin_api.follower import MAX_GATEWAYS
from gatecast.server.admin_api.stream_position import MAX_LENGTH, StreamPosition

_EPOCH = str(UUID(int=7))


def _packed(value: object) -> str:
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(value).encode())).decode()


def test_a_position_is_read_as_it_was_written() -> None:
    position = StreamPosition(uuid4(), {str(uuid4()): 7, "gw-ü": 2**63 - 1})
    assert StreamPosition.parse(str(position)) == position


def test_the_largest_position_is_not_too_long_to_come_back() -> None:
    """Every gateway that a stream can follow, far into its log."""
    position = StreamPosition(uuid4(), {str(uuid4()): 2**62 + number for number in range(MAX_GATEWAYS)})
    assert len(str(position)) < MAX_LENGTH
    assert StreamPosition.parse(str(position)) == position


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ü",
        "not base64",
        base64.urlsafe_b64encode(b"not compressed").decode(),
        _packed([]),
        _packed({}),
        _packed({"epoch": "x", "offsets": {}}),
        _packed({"epoch": _EPOCH, "offsets": []}),
        _packed({"epoch": _EPOCH, "offsets": {"gw": -1}}),
        _packed({"epoch": _EPOCH, "offsets": {"gw": 2**63}}),
        _packed({"epoch": _EPOCH, "offsets": {"gw": 1.5}}),
        _packed({"epoch": _EPOCH, "offsets": {"gw": "1"}}),
        _packed("x" * 100_000_000),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """Also a small text that would become a large one."""
    with pytest.raises(InvalidValue) as refused:
        StreamPosition.parse(text)
    assert refused.value.field == "Last-Event-ID"
