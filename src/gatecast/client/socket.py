"""The connection of a gateway: aiohttp's WebSocket, plus an abrupt end, minus redirects."""

from __future__ import annotations

import ssl as tls
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Literal

import aiohttp

#: How long a peer that sent something unreadable may take to say goodbye; in seconds.
_CLOSE_TIME_LIMIT = 2.0


class RedirectRefused(aiohttp.ClientError):
    """The server wanted to send the request, and the credential in it, elsewhere."""


class ClientSocket(aiohttp.ClientWebSocketResponse[Literal[True]]):
    """A WebSocket that can be dropped without a close frame."""

    def abort(self) -> None:
        """Cut the TCP connection; a pending `receive` ends at once with CLOSED. Safe to repeat."""
        connection = self._response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()

    def release(self) -> None:
        """Give everything back, whatever state the connection is in; the last thing to call."""
        self.abort()
        self._set_closed()
        self._response.close()


def open_session(
    *,
    ssl: tls.SSLContext | bool,
    headers: Mapping[str, str],
    time_limit: float,
    connector: aiohttp.BaseConnector | None = None,
) -> aiohttp.ClientSession:
    """A session for one server: no cookies, no proxies from the environment, no redirects of the upgrade.

    `time_limit` is for one request, in seconds; `ssl` is what aiohttp understands. `connector` leads elsewhere than to
    TCP.
    """
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse_redirect)
    return aiohttp.ClientSession(
        connector=connector or aiohttp.TCPConnector(ssl=ssl, limit=0),
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=time_limit),
        trace_configs=[trace],
        ws_response_class=ClientSocket,
    )


async def open_socket(
    session: aiohttp.ClientSession, url: str, *, headers: dict[str, str], protocols: tuple[str, ...] = ()
) -> ClientSocket:
    """The upgraded connection, with pings and closing left to the caller.

    Raises:
        aiohttp.WSServerHandshakeError: the server answered with another status.
        aiohttp.ClientError, OSError, TimeoutError: there is no such server.
    """
    socket = await session.ws_connect(
        url,
        headers=headers,
        protocols=protocols,
        autoping=False,
        timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_TIME_LIMIT),
        # Messages are as large as the server makes them; the socket's own flow control bounds what waits.
        max_msg_size=0,
    )
    assert isinstance(socket, ClientSocket), "the session makes no other"  # noqa: S101 - narrows the type
    return socket


async def _refuse_redirect(
    _session: aiohttp.ClientSession, _context: SimpleNamespace, request: aiohttp.TraceRequestRedirectParams
) -> None:
    request.response.close()
    raise RedirectRefused(f"HTTP {request.response.status}")
