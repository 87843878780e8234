"""A WebSocket on a transport that aiohttp has shaken hands on: many frames in one write, and no task of its own."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from typing import Any, Protocol, Self, cast

from aiohttp import web

from gatecast.protocol import frames
from gatecast.protocol.frames import BrokenFrame, FrameHandler, FrameReader, Opcode
from gatecast.server.connections import Place
from gatecast.server.gateway_api.conversations import GiveAnswer
from gatecast.server.gateway_api.gateway_server import GatewayConnection, end_http
from gatecast.telemetry import get_logger

#: A connection that has not closed this long after its end began is cut, also while the peer reads nothing; in seconds.
CLOSE_TIME_LIMIT = 2.0

#: RFC 6455, section 1.3.
_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES = 16
_VERSION = "13"

#: The answer to a close frame without a code.
_NORMAL = 1000

_logger = get_logger("gateway-socket")


class SocketHandler(FrameHandler, Protocol):
    """Callbacks for what happens on a connection, in order; none of them may block."""

    def pause_writing(self) -> None:
        """The peer does not take what was sent: send nothing more."""

    def resume_writing(self) -> None:
        """The peer has taken most of it."""


class FrameSocket(asyncio.Protocol):
    """Sends and receives frames until one side ends; its place among the connections is held until then."""

    __slots__ = ("_before", "_closing", "_ended", "_handler", "_hang_up", "_place", "_reader", "_transport", "_unsent")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        #: None where connections are not limited.
        self._place: Place | None = None
        #: None once the peer broke the rules: what it says then is not read.
        self._reader: FrameReader | None = FrameReader()
        self._handler: SocketHandler | None = None
        #: Bytes that arrived before there was a handler.
        self._before = b""
        self._unsent: list[bytes] = []
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: True once a close frame was sent: only the peer's own still counts.
        self._closing = False
        self._hang_up: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        """Nothing but this block speaks on the connection."""
        return self

    def __exit__(self, *_: object) -> None:
        """However the block ended, nothing else may be sent on this connection."""
        self.abort()

    def hold(self, place: Place) -> None:
        """From now on this place is the socket's."""
        self._place = place

    async def serve(self, handler: SocketHandler) -> None:
        """Hand on what the peer sends, until the connection has ended."""
        self._handler = handler
        try:
            self.data_received(b"")
            await self._ended
        finally:
            self._handler = None

    # --- sending ------------------------------------------------------------------------------------------------

    def send_text(self, text: str) -> None:
        """Put a text frame into the next write."""
        payload = text.encode()
        self._unsent += (frames.frame_head(Opcode.TEXT, len(payload)), payload)

    def send_ping(self, payload: bytes) -> None:
        """Put a Ping into the next write."""
        self._unsent.append(frames.encode_frame(Opcode.PING, payload))

    def send_pong(self, payload: bytes) -> None:
        """Put a Pong into the next write."""
        self._unsent.append(frames.encode_frame(Opcode.PONG, payload))

    def send_raw(self, data: bytes) -> None:
        """Put these bytes into the next write."""
        self._unsent.append(data)

    def flush(self) -> None:
        """Hand everything to the operating system at once.

        Raises:
            ConnectionResetError: the peer has gone.
        """
        if self._transport.is_closing():
            raise ConnectionResetError
        if self._unsent:
            unsent, self._unsent = self._unsent, []
            self._transport.write(b"".join(unsent))

    def close(self, code: int, reason: str) -> None:
        """Write what is left and a close frame; hang up once the peer has answered, or after a moment."""
        if not self._closing and not self._transport.is_closing():
            self._closing = True
            self._unsent.append(frames.encode_close(code, reason))
            self.flush()
            self._limit_end()

    def abort(self) -> None:
        """Drop the connection without a close frame."""
        self._transport.abort()

    def _limit_end(self) -> None:
        """Cut the connection if it has not ended by then: a transport that closes first waits for its peer to read."""
        if self._hang_up is None:
            self._hang_up = asyncio.get_running_loop().call_later(CLOSE_TIME_LIMIT, self._transport.abort)

    # --- what the transport says --------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._handler is None:
            self._before += data
            return
        if self._before:
            data, self._before = self._before + data, b""
        if self._reader is None:
            return
        try:
            self._reader.feed(data, self)
        except BrokenFrame as broken:
            self._reader = None
            self.close(broken.code, broken.reason)
        except Exception:
            _logger.exception("reader-failed")
            self.abort()

    def eof_received(self) -> None:
        """The peer sends nothing more: the transport closes."""
        self._limit_end()

    def connection_lost(self, _exc: Exception | None) -> None:
        """The peer has gone."""
        if self._hang_up is not None:
            self._hang_up.cancel()
        if not self._ended.done():
            self._ended.set_result(None)
        if self._place is not None:
            self._place.lost()

    def pause_writing(self) -> None:
        """The peer does not read."""
        if self._place is not None:
            self._place.pause_writing()
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        """The peer reads again."""
        if self._place is not None:
            self._place.resume_writing()
        if self._handler is not None:
            self._handler.resume_writing()

    # --- what the peer says -------------------------------------------------------------------------------------

    def received_text(self, text: str) -> None:
        """A text."""
        if not self._closing and self._handler is not None:
            self._handler.received_text(text)

    def received_binary(self) -> None:
        """A binary message."""
        if not self._closing and self._handler is not None:
            self._handler.received_binary()

    def received_ping(self, payload: bytes) -> None:
        """A Ping."""
        if not self._closing and self._handler is not None:
            self._handler.received_ping(payload)

    def received_pong(self, payload: bytes) -> None:
        """A Pong."""
        if not self._closing and self._handler is not None:
            self._handler.received_pong(payload)

    def received_close(self, code: int | None) -> None:
        """The peer closes, or answers that we do: nothing after it is read."""
        self._reader = None
        self.close(_NORMAL if code is None else code, "")
        self._transport.close()


# --- the handshake ----------------------------------------------------------------------------------------------------


class Upgraded(web.StreamResponse):
    """Stands for an answer that another sends."""

    def __init__(self) -> None:
        super().__init__(status=101)

    async def prepare(self, request: web.BaseRequest) -> None:
        """There is nothing to begin."""

    async def write_eof(self, data: bytes = b"") -> None:
        """There is nothing to end."""


class Handshake:
    """A request for a WebSocket, which is let go of once it is answered."""

    def __init__(self, request: web.Request, give_answer: GiveAnswer) -> None:
        self._asked: tuple[web.Request, GiveAnswer] | None = (request, give_answer)

    def accept(self, protocol: str) -> FrameSocket:
        """The WebSocket; the answer leaves with the first frames.

        Raises:
            HTTPBadRequest: the request is not for a WebSocket, or malformed.
            ConnectionResetError: the peer is no longer there.
        """
        if self._asked is None:
            raise ConnectionResetError
        (request, give_answer), self._asked = self._asked, None
        socket = _upgrade(request, protocol)
        give_answer(Upgraded())
        return socket


def _upgrade(request: web.Request, protocol: str) -> FrameSocket:
    answer = _handshake(request, protocol)
    transport, http = request.transport, request.protocol
    if transport is None:
        raise ConnectionResetError
    socket = FrameSocket(transport)
    socket.send_raw(answer)
    # The HTTP protocol hands on the bytes after the request, and then the socket takes over.
    http.set_parser(cast("Any", _Tail(socket)))
    if isinstance(http, GatewayConnection):
        socket.hold(http.hand_over(socket))
    else:
        end_http(http)
    transport.set_protocol(socket)
    return socket


class _Tail:
    """Looks like aiohttp's own reader of frames."""

    def __init__(self, socket: FrameSocket) -> None:
        self._socket = socket

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Hand on what has come; whether that was the end, and what is left."""
        self._socket.data_received(bytes(data))
        return False, b""

    def feed_eof(self) -> None:
        """Nothing to do: the socket reports the end itself."""


def _handshake(request: web.Request, protocol: str) -> bytes:
    """The answer to a WebSocket request (RFC 6455, section 4.2)."""
    headers = request.headers
    tokens = [token.strip().lower() for token in headers.get("Connection", "").split(",")]
    if headers.get("Upgrade", "").strip().lower() != "websocket" or "upgrade" not in tokens:
        raise web.HTTPBadRequest(text="connect with `Upgrade: websocket` and `Connection: Upgrade`")
    if headers.get("Sec-WebSocket-Version") != _VERSION:
        raise web.HTTPBadRequest(text=f"Sec-WebSocket-Version must be {_VERSION}")
    key = headers.get("Sec-WebSocket-Key", "").encode()
    if not _is_key(key):
        raise web.HTTPBadRequest(text="Sec-WebSocket-Key must be 16 bytes in base64")
    accept = base64.b64encode(hashlib.sha1(key + _KEY_SUFFIX, usedforsecurity=False).digest()).decode()
    offered = [name.strip() for name in headers.get("Sec-WebSocket-Protocol", "").split(",")]
    chosen = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol in offered else ""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{chosen}\r\n"
    ).encode()


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False
