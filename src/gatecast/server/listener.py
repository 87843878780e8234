"""Accepts connections on a listening socket, as many as there are places."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeAlias

from gatecast.server.connections import Place, Places
from gatecast.telemetry import get_logger

#: A TLS handshake that takes longer is aborted; in seconds.
HANDSHAKE_TIME_LIMIT = 15.0

#: A peer that does not answer the end of a TLS connection is dropped after this time; in seconds.
_SHUTDOWN_TIME_LIMIT = 5.0

#: Connections that wait in the operating system until the listener accepts them.
BACKLOG = 1024

#: The machine cannot accept another connection now.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

#: Pause after a failure to accept, in seconds.
_PAUSE = 0.1

#: Makes the protocol of a connection, which tells the place what it does, and that the connection was lost.
MakeProtocol: TypeAlias = Callable[[Place], asyncio.Protocol]

_logger = get_logger("listener")


class Listener:
    """Accepts connections and hands each to its own protocol.

    While no place is free, new connections wait in the operating system's queue; their peers only notice a delay.
    """

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: MakeProtocol,
        *,
        places: Places,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        self._listening = listening
        self._make_protocol = make_protocol
        self._places = places
        self._tls = tls
        self._opening: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Queue connections from now on, until `run` accepts them."""
        self._listening.listen(BACKLOG)

    async def run(self) -> None:
        """Accept connections until cancelled; then close the socket and drop connections that are not open yet."""
        try:
            while True:
                await self._take_one()
                # One connection per turn of the event loop, so that open connections are served meanwhile.
                await asyncio.sleep(0)
        finally:
            self._listening.close()
            for task in self._opening:
                task.cancel()
            if self._opening:
                await asyncio.wait(self._opening)

    async def _take_one(self) -> None:
        place = await self._places.take()
        try:
            connection, address = await self._accept()
        except BaseException:
            place.lost()
            raise
        task = asyncio.create_task(self._open(connection, address, place), name="opening")
        place.opening(task.cancel)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _accept(self) -> tuple[socket.socket, Any]:
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await loop.sock_accept(self._listening)
            except OSError as error:
                if error.errno == errno.EBADF:
                    raise
                _logger.warning("cannot-accept", error=error.strerror)
                if error.errno in _EXHAUSTED:
                    self._places.make_room()
                await asyncio.sleep(_PAUSE)

    async def _open(self, connection: socket.socket, address: object, place: Place) -> None:
        """Do the TLS handshake; from then on the protocol holds the place."""
        loop = asyncio.get_running_loop()
        tls = self._tls()
        limits = {} if tls is None else _TLS_LIMITS
        opened = False
        try:
            configure(connection)
            await loop.connect_accepted_socket(lambda: self._make_protocol(place), connection, ssl=tls, **limits)
            opened = True
        except OSError as error:
            _logger.info("handshake-failed", peer=str(address), error=str(error) or type(error).__name__)
        finally:
            if not opened:
                connection.close()
                place.lost()


#: A peer whose machine or network is gone is noticed within this time, in seconds. Behind a proxy that answers for it,
#: only the peer's silence shows it.
GONE_WITHIN = 45

#: Probes of an idle connection: seconds before the first, seconds between them, and how many.
_ASK_AFTER, _ASK_EVERY, _QUESTIONS = 20, 5, 4


def configure(connection: socket.socket) -> None:
    """Send small frames at once, and detect half-open connections."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_KEEPIDLE": _ASK_AFTER,
        "TCP_KEEPINTVL": _ASK_EVERY,
        "TCP_KEEPCNT": _QUESTIONS,
        # For data that was sent and not acknowledged; in milliseconds.
        "TCP_USER_TIMEOUT": GONE_WITHIN * 1000,
    }
    for name, value in options.items():
        # Not every system has all of them.
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


_TLS_LIMITS = {"ssl_handshake_timeout": HANDSHAKE_TIME_LIMIT, "ssl_shutdown_timeout": _SHUTDOWN_TIME_LIMIT}
