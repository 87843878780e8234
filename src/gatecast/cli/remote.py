"""How commands talk to a running server: its admin API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Annotated, Any

import aiohttp
import typer
from yarl import URL

from gatecast.client.endpoint import server_url
from gatecast.errors import GatecastError, InvalidValue
from gatecast.hiding import HIDDEN, redacted

ServerOption = Annotated[
    str, typer.Option("--url", envvar="GATECAST_URL", help="Base URL of the admin API.", show_default=True)
]
TokenOption = Annotated[
    str,
    typer.Option("--token", envvar=["GATECAST_TOKEN", "GATECAST_ADMIN_TOKEN"], help="Admin token.", show_default=False),
]

DEFAULT_URL = "http://127.0.0.1:8080"

#: A request takes at most this long, in seconds; waiting for a gateway is on top.
_TIME_LIMIT = 30.0

#: A stream that is silent for so long is dead, in seconds: a live one says something every 15.
_SILENCE = 45.0

_JSON = {"Content-Type": "application/json"}


class RequestRefused(GatecastError):
    """The server answered with a problem, or not at all."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(status, title, detail)
        #: HTTP status; 0 when there was no answer.
        self.status = status
        #: The problem in a word or two.
        self.title = title
        #: The problem in a sentence.
        self.detail = detail

    def __str__(self) -> str:
        return self.detail or self.title


class Remote:
    """A running server, as its admin API shows it."""

    def __init__(self, session: aiohttp.ClientSession, origin: URL) -> None:
        self._session = session
        #: As it may be shown: without user and password.
        self._origin = origin

    async def request(
        self, method: str, path: str, *, body: object = None, parameters: dict[str, str] | None = None, extra: float = 0
    ) -> Any:  # noqa: ANN401 - JSON
        """The JSON of the answer.

        Raises:
            RequestRefused: the server said no, or could not be reached.
        """
        limit = aiohttp.ClientTimeout(total=_TIME_LIMIT + extra)
        # As a stream: aiohttp warns of larger bodies in one piece.
        data = None if body is None else BytesIO(json.dumps(body).encode())
        try:
            async with self._session.request(
                method, path, data=data, headers=_JSON, params=parameters, timeout=limit
            ) as reply:
                answer = await reply.json(content_type=None) if reply.status != 204 else None  # noqa: PLR2004 - No Content
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise RequestRefused(
                0,
                "unreachable",
                f"no answer from {self._origin}: {redacted(str(error) or type(error).__name__)}",
            ) from error
        if reply.status >= 400:  # noqa: PLR2004 - the first error status
            problem = answer if isinstance(answer, dict) else {}
            raise RequestRefused(reply.status, problem.get("title", reply.reason or ""), problem.get("detail", ""))
        return answer

    async def all_items(self, path: str) -> list[dict[str, Any]]:
        """Every item of a paged list."""
        items: list[dict[str, Any]] = []
        parameters: dict[str, str] = {}
        while True:
            page = await self.request("GET", path, parameters=parameters)
            items += page["items"]
            if not page.get("next"):
                return items
            parameters = {"after": str(page["next"])}

    async def gateway(self, name_or_id: str) -> dict[str, Any]:
        """The gateway with this id, or with this name.

        Raises:
            RequestRefused: there is none.
        """
        for gateway in await self.all_items("/api/v1/gateways"):
            if name_or_id in (gateway["id"], gateway["name"]):
                return gateway
        raise RequestRefused(
            404, "not found", f'there is no gateway "{name_or_id}"; `gatecast gateway list` shows them'
        )

    @asynccontextmanager
    async def stream(
        self, path: str, parameters: dict[str, str], *, last_event_id: str = ""
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """The lines of an answer that does not end by itself, from an earlier one's last id on."""
        limit = aiohttp.ClientTimeout(total=None, sock_connect=_TIME_LIMIT, sock_read=_SILENCE)
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        async with self._session.get(path, params=parameters, headers=headers, timeout=limit) as reply:
            if reply.status >= 400:  # noqa: PLR2004 - the first error status
                raise RequestRefused(reply.status, reply.reason or "", await reply.text())
            yield reply.content


@asynccontextmanager
async def remote(url: str, token: str) -> AsyncIterator[Remote]:
    """Open a session with a server.

    Raises:
        InvalidValue: the URL is none, or the token cannot be one.
        RequestRefused: there is no token.
    """
    base, token = server_url(url), token.strip()
    if not token:
        raise RequestRefused(401, "no token", "no admin token was given; set GATECAST_TOKEN or use --token")
    if not (token.isascii() and token.isprintable()):
        raise InvalidValue("--token", HIDDEN, "hold only printable ASCII characters")
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(base_url=base, headers=headers) as session:
        yield Remote(session, base.with_user(None))


def ask(url: str, token: str, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
    """One request."""

    async def run() -> Any:  # noqa: ANN401 - JSON
        async with remote(url, token) as server:
            return await server.request(method, path, body=body)

    return asyncio.run(run())
