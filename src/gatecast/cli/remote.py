"""How commands talk to a running server: its admin API."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from typing import Annotated, Any
from urllib.parse import quote

import aiohttp
import typer
from yarl import URL

from gatecast.cli.output import progress
from gatecast.client.endpoint import server_url
from gatecast.errors import GatecastError, InvalidValue
from gatecast.events import Action
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

#: How long a shell may wait for what can be completed, in seconds.
_COMPLETION_TIME_LIMIT = 2.0

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

    async def text(self, path: str) -> str:
        """The text of an answer that is not JSON.

        Raises:
            RequestRefused: the server said no, or could not be reached.
        """
        async with self.stream(path, {}) as content:
            return (await content.read()).decode()

    async def all_items(
        self, path: str, parameters: Mapping[str, str] | None = None, *, most: int = 0, cursor: str = "after"
    ) -> list[dict[str, Any]]:
        """Every item of a paged list, or the first `most`; `cursor` is the parameter that says where a page begins."""
        items: list[dict[str, Any]] = []
        asked = dict(parameters or {})
        while True:
            page = await self.request("GET", path, parameters=asked)
            items += page["items"]
            if not page.get("next") or 0 < most <= len(items):
                return items[:most] if most else items
            asked[cursor] = str(page["next"])

    async def gateway(self, name_or_id: str) -> dict[str, Any]:
        """The gateway with this id, or with this name.

        Raises:
            RequestRefused: there is none.
        """
        found: dict[str, Any] = await self.request("GET", gateway_path(name_or_id))
        return found

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


def path_to(*parts: str) -> str:
    """The path of something below `/api/v1`; parts are names or ids, as people write them.

    Raises:
        InvalidValue: a part is blank, or one that a path cannot hold.
    """
    for part in parts:
        if part.strip() in ("", ".", ".."):
            raise InvalidValue("name", part, "be a name or an id")
    return "/api/v1/" + "/".join(quote(part.strip(), safe="") for part in parts)


def gateway_path(gateway: str, *more: str) -> str:
    """The path of a gateway, or of something of it."""
    return path_to("gateways", gateway, *more)


def ask(
    url: str,
    token: str,
    method: str,
    path: str,
    body: object = None,
    *,
    parameters: dict[str, str] | None = None,
    extra: float = 0,
) -> Any:  # noqa: ANN401 - JSON
    """One request; `extra` seconds for it on top of the usual time limit."""

    async def run() -> Any:  # noqa: ANN401 - JSON
        async with remote(url, token) as server:
            with progress(f"waiting for {url}"):
                return await server.request(method, path, body=body, parameters=parameters, extra=extra)

    return asyncio.run(run())


def ask_for_all(
    url: str,
    token: str,
    path: str,
    parameters: Mapping[str, str] | None = None,
    *,
    most: int = 0,
    cursor: str = "after",
) -> list[dict[str, Any]]:
    """Every item of a paged list, or the first `most`."""

    async def run() -> list[dict[str, Any]]:
        async with remote(url, token) as server:
            with progress(f"reading from {url}"):
                return await server.all_items(path, parameters, most=most, cursor=cursor)

    return asyncio.run(run())


# --- completion -------------------------------------------------------------------------------------------------------


def complete(ctx: Any, path: str, field: str, incomplete: str) -> list[str]:  # noqa: ANN401 - typer's own copy of click has no public types
    """What the shell offers: values of a field in a list of the server; nothing where it cannot be asked at once."""
    url = ctx.params.get("url") or os.environ.get("GATECAST_URL") or DEFAULT_URL
    token = ctx.params.get("token") or os.environ.get("GATECAST_TOKEN") or os.environ.get("GATECAST_ADMIN_TOKEN", "")

    async def run() -> list[str]:
        async with asyncio.timeout(_COMPLETION_TIME_LIMIT), remote(url, token) as server:
            page = await server.request("GET", path)
            return [str(item[field]) for item in page["items"] if str(item[field]).startswith(incomplete)]

    with suppress(GatecastError, TimeoutError, KeyError):
        return asyncio.run(run())
    return []


def complete_gateways(ctx: Any, incomplete: str) -> list[str]:  # noqa: ANN401 - as above
    """Names of gateways that begin like this."""
    return complete(ctx, f"/api/v1/gateways?search={quote(incomplete)}", "name", incomplete)


def complete_actions(incomplete: str) -> list[str]:
    """Actions that begin like this."""
    return [action.value for action in Action if action.value.startswith(incomplete.upper())]
