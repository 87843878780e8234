"""A client of a running server for concurrent requests: `gatecast demo` and `gatecast verify`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import aiohttp
from yarl import URL

from gatecast.cli.remote import JSON, TIME_LIMIT, credentials, refusal, unreachable
from gatecast.client.endpoint import server_url


class AsyncRemote:
    """A running server, as its admin API shows it."""

    def __init__(self, session: aiohttp.ClientSession, server: URL) -> None:
        self._session = session
        self._server = server

    async def request(
        self, method: str, path: str, *, body: object = None, parameters: Mapping[str, str] | None = None
    ) -> Any:  # noqa: ANN401 - JSON
        """The JSON of the answer.

        Raises:
            RequestRefused: the server refused it, or could not be reached.
        """
        # As a stream: aiohttp warns about larger bodies in one piece.
        data = None if body is None else BytesIO(json.dumps(body).encode())
        try:
            async with self._session.request(method, path, data=data, headers=JSON, params=parameters) as reply:
                content = await reply.read()
                if reply.ok:
                    return json.loads(content) if content else None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise unreachable(self._server, error) from error
        raise refusal(reply.status, reply.reason or "", content)

    async def all_items(self, path: str) -> list[dict[str, Any]]:
        """Every item of a paged list."""
        page = await self.request("GET", path)
        items: list[dict[str, Any]] = page["items"]
        while page.get("next"):
            page = await self.request("GET", path, parameters={"after": str(page["next"])})
            items += page["items"]
        return items


@asynccontextmanager
async def async_remote(url: str, token: str) -> AsyncIterator[AsyncRemote]:
    """Open a session with a server.

    Raises:
        InvalidValue: the URL or the token is not valid.
        RequestRefused: there is no token.
    """
    server, limit = server_url(url), aiohttp.ClientTimeout(total=TIME_LIMIT)
    async with aiohttp.ClientSession(base_url=server, headers=credentials(token), timeout=limit) as session:
        yield AsyncRemote(session, server)
