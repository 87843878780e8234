"""How a socket ends over real connections, plain and with TLS, while its peer reads nothing."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import pytest

from gatecast.server.gateway_api import frame_socket
from gatecast.server.gateway_api.frame_socket import FrameSocket, SocketHandler
from gatecast.server.tls import GatewayTls
from gatecast.settings import Settings
from gatecast.testing.eventually import PATIENCE

#: More than the buffers of both ends take.
_MUCH = b"\0" * 2**24


@dataclass
class _Ends:
    """A connection, of which the peer reads nothing."""

    socket: FrameSocket
    transport: asyncio.Transport
    peer: asyncio.StreamWriter


class _Handler:
    """Hears nothing."""

    def pause_writing(self) -> None:
        """The peer does not read."""

    def resume_writing(self) -> None:
        """It reads again."""


class _Accepting(asyncio.Protocol):
    """Makes a socket of the connection, as the listener does of an upgraded one."""

    def __init__(self, accepted: asyncio.Future[tuple[FrameSocket, asyncio.Transport]]) -> None:
        self._accepted = accepted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It has come."""
        made = cast("asyncio.Transport", transport)
        socket = FrameSocket(made)
        made.set_protocol(socket)
        self._accepted.set_result((socket, made))


@asynccontextmanager
async def _ends(*, tls: bool) -> AsyncIterator[_Ends]:
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[tuple[FrameSocket, asyncio.Transport]] = loop.create_future()
    context = GatewayTls(Settings(gateway_tls="auto")).context if tls else None
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if tls else None
    if trusting is not None:
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    server = await loop.create_server(lambda: _Accepting(accepted), "127.0.0.1", 0, ssl=context)
    # The reader takes so little that what it does not hand out soon stays with the sender.
    _, peer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=trusting, limit=1)
    try:
        yield _Ends(*await accepted, peer)
    finally:
        peer.transport.abort()
        server.close()
        await server.wait_closed()


def _pod_closes(ends: _Ends) -> None:
    ends.socket.close(1012, "restart")


def _peer_closes(ends: _Ends) -> None:
    # Masked with zeros: without a code.
    ends.peer.write(b"\x88\x80\0\0\0\0")


def _peer_breaks_rules(ends: _Ends) -> None:
    ends.peer.write(b"\xff\xff")


def _peer_ends(ends: _Ends) -> None:
    if ends.peer.can_write_eof():
        ends.peer.write_eof()
    else:
        ends.peer.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("end", [_pod_closes, _peer_closes, _peer_breaks_rules, _peer_ends])
async def test_a_peer_that_reads_nothing_is_cut_once_the_end_took_too_long(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[_Ends], None], *, tls: bool
) -> None:
    """Whichever side began to close: unsent data no longer holds the connection."""
    monkeypatch.setattr(frame_socket, "CLOSE_TIME_LIMIT", 0.05)
    async with _ends(tls=tls) as ends:
        for _ in range(2):
            ends.socket.send_raw(_MUCH)
            ends.socket.flush()
        assert ends.transport.get_write_buffer_size()
        serving = asyncio.create_task(ends.socket.serve(cast("SocketHandler", _Handler())))
        end(ends)
        async with asyncio.timeout(PATIENCE):
            await serving
