"""WebSocket frames to bytes and back, for the server's side (RFC 6455, section 5), without I/O."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from gatecast.protocol.codec import MAX_INBOUND_BYTES


class Opcode(IntEnum):
    """The type of a frame."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


_FINAL = 0x80
_MASKED = 0x80
_CONTROL = 0x8
_MASK_BYTES = 4

#: First bytes that may begin a frame: no reserved bits, known opcodes, and no control frame in parts.
_FIRST_BYTES = frozenset({0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A})

#: Largest payload of a control frame, and of a frame whose second byte says how long it is.
_SMALL = 125

#: What the second byte says when the length follows it, how many bytes long that is, and the least that it may say.
_LONGER = {126: (2, 126), 127: (8, 65_536)}

_PROTOCOL_ERROR = 1002
_INVALID_TEXT = 1007
_TOO_BIG = 1009

#: Codes that a close frame may carry below 3000.
_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class BrokenFrame(Exception):
    """The peer violates RFC 6455: close the connection with this code, and read nothing more."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        #: The number for the close frame.
        self.code = code
        #: The reason for the close frame.
        self.reason = reason


class FrameHandler(Protocol):
    """Receives each message, in order."""

    def received_text(self, text: str) -> None:
        """A text, put together from its frames."""

    def received_binary(self) -> None:
        """A binary message."""

    def received_ping(self, payload: bytes) -> None:
        """A Ping."""

    def received_pong(self, payload: bytes) -> None:
        """A Pong."""

    def received_close(self, code: int | None) -> None:
        """The peer closes; None: it does not say why."""


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """One whole frame, not masked."""
    return frame_head(opcode, len(payload)) + payload


def frame_head(opcode: int, size: int) -> bytes:
    """What comes before a payload of this size."""
    if size <= _SMALL:
        return bytes((_FINAL | opcode, size))
    if size < 65_536:  # noqa: PLR2004 - what two bytes hold
        return bytes((_FINAL | opcode, 126)) + size.to_bytes(2, "big")
    return bytes((_FINAL | opcode, 127)) + size.to_bytes(8, "big")


def encode_close(code: int, reason: str) -> bytes:
    """A close frame."""
    return encode_frame(Opcode.CLOSE, code.to_bytes(2, "big") + reason.encode())


class FrameReader:
    """Takes a client's bytes in pieces of any size, and hands on its messages."""

    __slots__ = ("_limit", "_message", "_needed", "_opcode", "_rest")

    def __init__(self, limit: int = MAX_INBOUND_BYTES) -> None:
        self._limit = limit
        #: The beginning of a frame, and how many bytes of it are needed before it is worth another look.
        self._rest = bytearray()
        self._needed = 0
        #: The parts of a message that has begun, and what it is; 0: none has.
        self._message = bytearray()
        self._opcode = 0

    def feed(self, data: bytes, handler: FrameHandler) -> None:
        """Hand on every message that is whole now.

        Raises:
            BrokenFrame: earlier messages were handed on; feed nothing more.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest.clear()
        place, end = 0, len(data)
        while place < end:
            beginning = self._payload_at(data, place)
            if beginning is None or beginning[1] > end:
                self._needed = 0 if beginning is None else beginning[1] - place
                self._rest += data[place:]
                return
            first, next_place = beginning
            payload = _unmasked(data[first - _MASK_BYTES : first], data[first:next_place])
            self._take(data[place], payload, handler)
            place = next_place

    def _payload_at(self, data: bytes, place: int) -> tuple[int, int] | None:
        """Where the payload of the frame at `place` begins and ends; None: its head is not whole."""
        if len(data) < place + 2:
            return None
        first, second = data[place], data[place + 1]
        size, begin = second & 0x7F, place + 2 + _MASK_BYTES
        if first not in _FIRST_BYTES or not second & _MASKED or (first & _CONTROL and size > _SMALL):
            raise BrokenFrame(_PROTOCOL_ERROR, "protocol-error")
        if size > _SMALL:
            length, least = _LONGER[size]
            if len(data) < place + 2 + length:
                return None
            size = int.from_bytes(data[place + 2 : place + 2 + length], "big")
            begin += length
            if size < least:
                raise BrokenFrame(_PROTOCOL_ERROR, "protocol-error")
        if size + (len(self._message) if not first & _CONTROL else 0) > self._limit:
            raise BrokenFrame(_TOO_BIG, "too-big")
        return begin, begin + size

    def _take(self, first: int, payload: bytes, handler: FrameHandler) -> None:
        """One frame, by its first byte."""
        opcode = first & 0x0F
        if opcode == Opcode.PONG:
            handler.received_pong(payload)
        elif opcode == Opcode.PING:
            handler.received_ping(payload)
        elif opcode == Opcode.CLOSE:
            handler.received_close(_close_code(payload))
        elif (opcode == Opcode.CONTINUATION) != (self._opcode != 0):
            raise BrokenFrame(_PROTOCOL_ERROR, "protocol-error")
        elif first & _FINAL and not self._opcode:
            _hand_on(opcode, payload, handler)
        else:
            self._opcode = self._opcode or opcode
            self._message += payload
            if first & _FINAL:
                whole, opcode = bytes(self._message), self._opcode
                self._message.clear()
                self._opcode = 0
                _hand_on(opcode, whole, handler)


def _hand_on(opcode: int, payload: bytes, handler: FrameHandler) -> None:
    if opcode == Opcode.BINARY:
        handler.received_binary()
    else:
        handler.received_text(_text(payload))


def _unmasked(mask: bytes, payload: bytes) -> bytes:
    """The unmasked payload; arithmetic on one long integer is the fastest way without a compiler."""
    size = len(payload)
    repeated = (mask * (size // _MASK_BYTES + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")).to_bytes(size, "little")


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise BrokenFrame(_INVALID_TEXT, "invalid-text") from None


def _close_code(payload: bytes) -> int | None:
    if not payload:
        return None
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (code in _CLOSE_CODES or 3000 <= code < 5000):  # noqa: PLR2004 - RFC 6455, 7.4.2
        raise BrokenFrame(_PROTOCOL_ERROR, "protocol-error")
    _text(payload[2:])
    return code
