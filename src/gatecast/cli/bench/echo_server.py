"""The yardstick for sockets: the least work a server can do. `python -m gatecast.cli.bench.echo_server`.

It accepts every connection. On a byte from its standard input it sends one event to each, or several in one write, and
reads the answers. It checks no tokens, stores nothing, and confirms nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
from typing import cast

from gatecast.protocol.frames import Opcode, encode_frame

_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

#: About as large as an event of `gatecast bench deliver`.
_EVENT = encode_frame(Opcode.TEXT, b'{"type":"api.updated","payload":"' + b"x" * 900 + b'"}')
_PING = encode_frame(Opcode.PING, b"00000000-0000-0000-0000-000000000000:1")


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport
    open: list[_Connection] = []  # noqa: RUF012 - one server in this process

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._greeted = False

    def data_received(self, data: bytes) -> None:
        if self._greeted:
            return
        self._greeted = True
        [key] = [line[19:] for line in data.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key: ")]
        accept = base64.b64encode(hashlib.sha1(key + _SUFFIX, usedforsecurity=False).digest())
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.transport.write(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + encode_frame(Opcode.TEXT, b"{}"))
        self.open.append(self)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"{host}:{port}", flush=True)  # noqa: T201 - for who started it
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while order := await orders.read(1):
        events = order[0]
        for connection in _Connection.open:
            connection.transport.write(_EVENT * events + _PING)


if __name__ == "__main__":
    if sys.platform != "win32":
        import uvloop

        uvloop.run(_serve())
