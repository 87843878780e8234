"""Documents of the stream: what is written is read, and what cannot be read is an error of ours."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gatecast.errors import StatementFailed
from gatecast.storage.jetstream.documents import Head, decode_event, encode_event, offset_in
from gatecast.storage.jetstream.state import State
from gatecast.storage.jetstream.stream import Message
from gatecast.testing.contracts.backend import make_event

_HEAD = Head(gateway_id="g", log=3, head=7, last=None, registered_in="e")

_BROKEN = [b"", b"\xff", b"null", b"[]", b"{}", b'{"gateway_id": 1}', b"[" * 100_000, b'{"head": "7"}']


def _message(data: bytes) -> Message:
    return Message("S.x", 1, datetime.now(UTC), data)


def test_what_is_written_is_read_also_by_a_release_that_knows_less() -> None:
    assert Head.decode(_HEAD.encode()) == _HEAD
    assert Head.decode(_HEAD.encode()[:-1] + b',"later":1}') == _HEAD


@pytest.mark.parametrize("data", _BROKEN)
def test_what_cannot_be_read_is_an_error_of_its_document(data: bytes) -> None:
    with pytest.raises(StatementFailed, match="cannot be read"):
        Head.decode(data)
    with pytest.raises(StatementFailed, match="cannot be read"):
        State.decode(data)
    assert Head.readable([_message(data), _message(_HEAD.encode())]) == [_HEAD]


def test_an_offset_that_is_no_number_is_an_error() -> None:
    with pytest.raises(StatementFailed):
        offset_in(_message(b"x"))


@pytest.mark.parametrize("data", [*_BROKEN, b"{}\n\xff", b'{"event_id": "x"}\n{}'])
def test_an_event_that_cannot_be_read_is_undeliverable(data: bytes) -> None:
    event = decode_event("g", 4, _message(data)).checked()
    assert (event.gateway_id, event.offset) == ("g", 4)
    assert event.undeliverable is not None


def test_an_event_is_read_as_it_was_published() -> None:
    event = make_event("g", text="ü\n\u2028")
    recorded = decode_event("g", 1, _message(encode_event(event)))
    assert (recorded.event_id, recorded.payload, recorded.originated_at) == (
        event.event_id,
        event.payload,
        event.originated_at,
    )
