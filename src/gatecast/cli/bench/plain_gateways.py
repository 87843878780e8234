"""Gateways that cost next to nothing: they answer every Ping, count what comes, and confirm it if they have to."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import Sequence
from typing import cast

from gatecast.protocol.codec import SEPARATOR
from gatecast.protocol.frames import Opcode

_PATH = "/api/internal/v1/ws/gateways/connect"

#: What a connection may take, and a round of events, in seconds.
_CONNECT_TIME_LIMIT = 30.0
_ROUND_TIME_LIMIT = 120.0

#: How many connect at the same time.
_AT_ONCE = 32

_SEPARATOR = SEPARATOR.encode()

#: A frame of a server: two bytes, and the length where it does not fit there.
_LONGER = {126: 4, 127: 10}


class PlainGateways:
    """Many connections to one pod, or to the yardstick in its place."""

    def __init__(self, address: str, *, tls: bool = False, batch_bytes: int | None = None) -> None:
        """`batch_bytes` is what they ask for as clients of `gatecast.v2`; None: they are unmodified gateways."""
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._tls = _trusting() if tls else None
        self._peers: list[_Peer] = []
        self._heard = asyncio.Event()
        self.batch_bytes = batch_bytes
        #: Messages that came so far, the first of each connection included.
        self.messages = 0

    async def connect(self, tokens: Sequence[str]) -> None:
        """One connection more for each token; return when each has heard the first frame."""
        turns = asyncio.Semaphore(_AT_ONCE)
        wanted = self.messages + len(tokens)

        async def one(token: str) -> None:
            async with turns, asyncio.timeout(_CONNECT_TIME_LIMIT):
                await self._connect(token)

        async with asyncio.TaskGroup() as connecting:
            for token in tokens:
                connecting.create_task(one(token))
        await self.heard(wanted)

    async def _connect(self, token: str) -> None:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(lambda: _Peer(self), self._host, self._port, ssl=self._tls)
        self._peers.append(protocol)
        await protocol.upgrade(token)

    async def heard(self, messages: int) -> None:
        """Return when this many messages have come in all."""
        async with asyncio.timeout(_ROUND_TIME_LIMIT):
            while self.messages < messages:
                self._heard.clear()
                await self._heard.wait()

    def note(self, messages: int) -> None:
        """So many more have come."""
        self.messages += messages
        self._heard.set()

    def drop(self) -> None:
        """End every connection."""
        for peer in self._peers:
            peer.drop()


class _Peer(asyncio.Protocol):
    def __init__(self, gateways: PlainGateways) -> None:
        self._gateways = gateways
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._head: asyncio.Future[bytes] | None = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    async def upgrade(self, token: str) -> None:
        """Shake hands.

        Raises:
            ConnectionRefusedError: the answer is no.
        """
        assert self._transport is not None, "it is connected"  # noqa: S101 - says who calls
        assert self._head is not None, "once"  # noqa: S101 - as above
        key = base64.b64encode(os.urandom(16)).decode()
        batch_bytes = self._gateways.batch_bytes
        query, protocol = "", ""
        if batch_bytes is not None:
            query, protocol = f"?batch={batch_bytes}", "Sec-WebSocket-Protocol: gatecast.v2\r\n"
        self._transport.write(
            f"GET {_PATH}{query} HTTP/1.1\r\nHost: pod\r\napi-key: {token}\r\nUpgrade: websocket\r\n{protocol}"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        status, _, _ = (await self._head).partition(b"\r\n")
        if b" 101 " not in status:
            raise ConnectionRefusedError(status.decode())

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if self._head is not None:
            head, end, self._rest = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = data
                return
            self._head.set_result(head)
            self._head = None
            data = self._rest
        self._take_frames(data)

    def _take_frames(self, data: bytes) -> None:
        place = messages = 0
        answers = last = b""
        while len(data) - place >= 2:  # noqa: PLR2004 - what every head has
            begin = place + _LONGER.get(data[place + 1], 2)
            size = int.from_bytes(data[place + 2 : begin], "big") if begin > place + 2 else data[place + 1]
            if begin > len(data) or begin + size > len(data):
                break
            opcode = data[place] & 0x0F
            if opcode == Opcode.PING:
                answers += _masked(Opcode.PONG, data[begin : begin + size])
            elif opcode == Opcode.TEXT:
                last = data[begin : begin + size]
                messages += 1 + last.count(_SEPARATOR)
            place = begin + size
        self._rest = data[place:]
        if last and self._gateways.batch_bytes is not None:
            answers += _acknowledgement(last)
        if answers and self._transport is not None:
            self._transport.write(answers)
        if messages:
            self._gateways.note(messages)

    def drop(self) -> None:
        """End the connection without a word."""
        if self._transport is not None:
            self._transport.abort()


def _acknowledgement(message: bytes) -> bytes:
    """A frame that acknowledges everything up to this event; nothing for other messages."""
    _, found, rest = message.rpartition(b'"position":"')
    position = rest.partition(b'"')[0]
    return _masked(Opcode.TEXT, b'{"type":"position.ack","position":"' + position + b'"}') if found else b""


def _masked(opcode: int, payload: bytes) -> bytes:
    """A small frame, with a mask that changes nothing."""
    return bytes((0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0)) + payload


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
