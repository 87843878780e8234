"""Where a stream of events stands, and how a client carries that."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any
from uuid import UUID, uuid4

import pytest

from gatecast.errors import InvalidValue
from gatecast.events import MAX_INTEGER
from gatecast.server.admin_api.stream_position import StreamPosition

_FIELDS: dict[str, Any] = {"epoch": uuid4(), "copy": "0123456789abcdef", "since": MAX_INTEGER, "until": MAX_INTEGER}


@pytest.mark.parametrize("gateway", ["", str(UUID(int=8)), "gw.ü ☃/%"])
def test_a_position_is_read_as_it_was_written(gateway: str) -> None:
    position = StreamPosition(**_FIELDS, gateway=gateway, log_id=MAX_INTEGER, offset=MAX_INTEGER)
    assert StreamPosition.parse(str(position)) == position
    plain = StreamPosition(epoch=uuid4(), copy="0" * 16, since=0, until=0)
    assert StreamPosition.parse(str(plain)) == plain


def test_every_position_fits_into_a_header() -> None:
    position = StreamPosition(**_FIELDS, gateway=str(uuid4()), log_id=MAX_INTEGER, offset=MAX_INTEGER)
    assert len(str(position)) < 250
    assert str(position).isascii()


def test_those_of_an_earlier_release_are_recognised() -> None:
    offsets = {str(uuid4()): number for number in range(500)}
    for value in ({"epoch": str(uuid4()), "offsets": {}}, {"epoch": str(uuid4()), "offsets": offsets}):
        assert (
            StreamPosition.parse(base64.urlsafe_b64encode(zlib.compress(json.dumps(value).encode())).decode()) is None
        )


_EPOCH = f"{UUID(int=7).hex}.0123456789abcdef"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ü",
        "2",
        f"1.{_EPOCH}.1.1.0.0.",
        f"2.{_EPOCH}.1.1.0.0",
        "2.x.0123456789abcdef.1.1.0.0.",
        f"2.{UUID(int=7).hex}.y.1.1.0.0.",
        f"2.{_EPOCH}.-1.1.0.0.",
        f"2.{_EPOCH}.1.5e3.0.0.",
        f"2.{_EPOCH}.1.٣.0.0.",
        f"2.{_EPOCH}.1.1.0.{2**63}.",
        f"2.{_EPOCH}.{'9' * 5_000}.1.0.0.",
        f"2.{_EPOCH}.1.1.0.0.%ff",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        StreamPosition.parse(text)
    assert refused.value.field == "Last-Event-ID"
