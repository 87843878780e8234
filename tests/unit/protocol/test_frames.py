"""Frames of a client, however they are cut, and what no server may take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatecast.protocol.frames import (
    BrokenFrame,
    FrameReader,
    Opcode,
    encode_close,
    encode_frame,
)

_LIMIT = 70_000

#: The lengths at which a head changes, and their neighbours.
_SIZES = st.sampled_from([0, 1, 2, 125, 126, 127, 300, 65_535, 65_536, _LIMIT])


class _Heard:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, object]] = []

    def received_text(self, text: str) -> None:
        self.messages.append(("text", text))

    def received_binary(self) -> None:
        self.messages.append(("binary", None))

    def received_ping(self, payload: bytes) -> None:
        self.messages.append(("ping", payload))

    def received_pong(self, payload: bytes) -> None:
        self.messages.append(("pong", payload))

    def received_close(self, code: int | None) -> None:
        self.messages.append(("close", code))


def _frame(first: int, payload: bytes, mask: bytes | None = b"\x01\x80\x00\xff", size: int | None = None) -> bytes:
    size = len(payload) if size is None else size
    bit = 0 if mask is None else 0x80
    if size < 126:
        head = bytes([first, bit | size])
    elif size < 65_536:
        head = bytes([first, bit | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, bit | 127]) + size.to_bytes(8, "big")
    masked = bytearray(payload)
    for at, byte in enumerate(mask or b""):
        masked[at::4] = masked[at::4].translate(bytes(each ^ byte for each in range(256)))
    return head + (mask or b"") + masked


def _heard(*pieces: bytes) -> tuple[list[tuple[str, object]], int | None]:
    """What is handed on, and the code that the connection is closed with."""
    reader, heard = FrameReader(_LIMIT), _Heard()
    try:
        for piece in pieces:
            reader.feed(piece, heard)
    except BrokenFrame as broken:
        return heard.messages, broken.code
    return heard.messages, None


@st.composite
def _messages(draw: st.DrawFn) -> tuple[list[tuple[str, object]], bytes]:
    """Messages, and frames that say them: texts in parts, control frames between the parts."""
    expected: list[tuple[str, object]] = []
    data = b""
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["text", "binary", "ping", "pong"]))
        mask = draw(st.binary(min_size=4, max_size=4))
        if kind in ("ping", "pong"):
            payload = draw(st.binary(max_size=125))
            data += _frame(0x80 | (Opcode.PING if kind == "ping" else Opcode.PONG), payload, mask)
            expected.append((kind, payload))
            continue
        text = draw(st.text(max_size=20)) if draw(st.booleans()) else "é" * (draw(_SIZES) // 2)
        whole, opcode = text.encode(), Opcode.TEXT if kind == "text" else Opcode.BINARY
        cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=3)))
        parts = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        for number, part in enumerate(parts):
            final = 0x80 if number == len(parts) - 1 else 0
            data += _frame(final | (opcode if number == 0 else 0), part, mask)
            if not final and draw(st.booleans()):
                data += _frame(0x80 | Opcode.PONG, b"between", mask)
                expected.append(("pong", b"between"))
        expected.append((kind, text if kind == "text" else None))
    return expected, data


@given(messages=_messages(), cuts=st.lists(st.integers(1, 400), max_size=20))
def test_messages_are_the_same_however_their_bytes_are_cut(
    messages: tuple[list[tuple[str, object]], bytes], cuts: list[int]
) -> None:
    expected, rest = messages
    pieces = []
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    assert _heard(*pieces, rest) == (expected, None)


@given(
    before=st.lists(_SIZES, max_size=3),
    broken=st.sampled_from(
        [
            (_frame(0x81, b"unmasked", None), 1002),
            (_frame(0x8A, b"", None), 1002),
            (_frame(0xC1, b"compressed"), 1002),
            (_frame(0x91, b"reserved"), 1002),
            (_frame(0x83, b"unknown"), 1002),
            (_frame(0x8B, b"unknown"), 1002),
            (_frame(0x09, b"a Ping in parts"), 1002),
            (_frame(0x89, b"x" * 126), 1002),
            (_frame(0x80, b"continues nothing"), 1002),
            (_frame(0x01, b"begins") + _frame(0x81, b"begins again"), 1002),
            (_frame(0x81, b"\xff\xfe"), 1007),
            (_frame(0x01, b"\xc3") + _frame(0x80, b"("), 1007),
            (_frame(0x81, b"", size=_LIMIT + 1), 1009),
            (_frame(0x81, b"", size=2**64 - 1), 1009),
            (_frame(0x02, b"x" * _LIMIT) + _frame(0x80, b"y"), 1009),
            (b"\x81\xfe\x00\x05" + b"\x00" * 4 + b"12345", 1002),
            (b"\x81\xff" + (300).to_bytes(8, "big") + b"\x00" * 304, 1002),
            (_frame(0x88, b"\x03"), 1002),
            (_frame(0x88, (1005).to_bytes(2, "big")), 1002),
            (_frame(0x88, (999).to_bytes(2, "big")), 1002),
            (_frame(0x88, (5000).to_bytes(2, "big")), 1002),
            (_frame(0x88, (1000).to_bytes(2, "big") + b"\xff"), 1007),
        ]
    ),
    cuts=st.lists(st.integers(1, 400), max_size=12),
)
def test_what_comes_before_a_broken_frame_is_handed_on_and_nothing_after_it(
    before: list[int], broken: tuple[bytes, int], cuts: list[int]
) -> None:
    bad, code = broken
    data = b"".join(_frame(0x81, b"x" * size) for size in before) + bad + _frame(0x81, b"after")
    pieces = []
    for cut in cuts:
        pieces.append(data[:cut])
        data = data[cut:]
    assert _heard(*pieces, data) == ([("text", "x" * size) for size in before], code)


def test_a_frame_that_is_too_big_is_refused_before_it_comes() -> None:
    """Nobody can make the pod keep what it will not take."""
    assert _heard(_frame(0x81, b"", size=_LIMIT + 1)[:14]) == ([], 1009)


@pytest.mark.parametrize(("payload", "code"), [(b"", None), (b"\x03\xe8", 1000), (b"\x0f\xa0bye", 4000)])
def test_a_close_frame_says_why(payload: bytes, code: int | None) -> None:
    assert _heard(_frame(0x88, payload)) == ([("close", code)], None)


@given(size=_SIZES)
def test_what_is_sent_is_one_whole_frame_that_is_not_masked(size: int) -> None:
    assert encode_frame(Opcode.TEXT, b"x" * size) == _frame(0x81, b"x" * size, None)


def test_a_close_frame_carries_number_and_reason() -> None:
    assert encode_close(4001, "token-revoked") == _frame(0x80 | Opcode.CLOSE, b"\x0f\xa1token-revoked", None)
