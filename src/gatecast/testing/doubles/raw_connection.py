"""A gateway's connection frame by frame, for tests of what a real gateway never does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import aiohttp

from gatecast.client.socket import ClientSocket, open_session, open_socket
from gatecast.testing.eventually import PATIENCE

#: Where gateways connect, below the base URL of a pod's gateway listener.
CONNECT_PATH = "/api/internal/v1/ws/gateways/connect"


class RawConnection:
    """Says nothing by itself, not even a Pong."""

    def __init__(self, socket: ClientSocket) -> None:
        self.socket = socket

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        gateways: str,
        token: str,
        *,
        headers: Mapping[str, str] | None = None,
        protocols: tuple[str, ...] = (),
        parameters: str = "",
    ) -> AsyncIterator[Self]:
        """Connect with this token to a pod's gateway listener; dropped without a close frame at the end.

        Raises:
            aiohttp.WSServerHandshakeError: refused; has the status.
        """
        async with open_session(ssl=False, headers={}, time_limit=PATIENCE) as session:
            url = gateways.replace("http", "ws", 1) + CONNECT_PATH + parameters
            socket = await open_socket(session, url, headers={"api-key": token, **(headers or {})}, protocols=protocols)
            try:
                yield cls(socket)
            finally:
                socket.release()

    async def frame(self) -> aiohttp.WSMessage:
        """The next frame, whatever it is."""
        return await self.socket.receive(PATIENCE)

    async def message(self) -> dict[str, Any]:
        """The next text frame, decoded; Pings before it are not answered."""
        while (frame := await self.frame()).type is aiohttp.WSMsgType.PING:
            pass
        assert frame.type is aiohttp.WSMsgType.TEXT, f"closed with {self.socket.close_code}: {frame}"
        message: dict[str, Any] = json.loads(frame.data)
        return message

    async def closed(self) -> int | None:
        """The code that the server closes with, once it does; None when the connection is dropped."""
        while (frame := await self.frame()).type is not aiohttp.WSMsgType.CLOSE:
            if frame.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.ERROR):
                return None
        return int(frame.data)


async def refusal(gateways: str, token: str, *, headers: Mapping[str, str] | None = None) -> int:
    """The status that this connection is refused with; 101 when it is not."""
    try:
        async with RawConnection.open(gateways, token, headers=headers):
            return 101
    except aiohttp.WSServerHandshakeError as refused:
        return refused.status
