"""How commands talk to a running server: over its admin API, one request after another.

With the standard library alone: importing an asynchronous HTTP client takes longer than a command.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Annotated, Any
from urllib.parse import quote, urlencode

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
TIME_LIMIT = 30.0

#: How long a shell may wait for completions, in seconds.
_COMPLETION_TIME_LIMIT = 2.0

#: Seconds of silence after which a stream is dead: a live one sends something every 15.
_SILENCE = 45.0

JSON = {"Content-Type": "application/json"}


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


def unreachable(server: URL, error: Exception) -> RequestRefused:
    """The error for a server that gave no answer."""
    said = redacted(str(error) or type(error).__name__)
    return RequestRefused(0, "unreachable", f"no answer from {server.with_user(None)}: {said}")


def refusal(status: int, reason: str, content: bytes) -> RequestRefused:
    """The error in an unsuccessful answer; a pod sends it as `application/problem+json`."""
    try:
        problem = json.loads(content)
    except ValueError:
        problem = None
    if isinstance(problem, dict):
        return RequestRefused(status, problem.get("title", reason), problem.get("detail", ""))
    return RequestRefused(status, reason, f"the answer is {status} {reason}, which is not from a pod; check --url")


def credentials(token: str) -> dict[str, str]:
    """The headers that authenticate a request.

    Raises:
        InvalidValue: the token is not valid.
        RequestRefused: there is no token.
    """
    token = token.strip()
    if not token:
        raise RequestRefused(401, "no token", "no admin token was given; set GATECAST_TOKEN or use --token")
    if not (token.isascii() and token.isprintable()):
        raise InvalidValue("--token", HIDDEN, "hold only printable ASCII characters")
    return {"Authorization": f"Bearer {token}"}


class Remote:
    """A running server, as its admin API shows it. Every request has a connection of its own.

    `time_limit` is how long a server may be silent, in seconds.

    Raises:
        InvalidValue: the URL or the token is not valid.
        RequestRefused: there is no token; from every request: the server refused it, or could not be reached.
    """

    def __init__(self, url: str, token: str, *, time_limit: float = TIME_LIMIT) -> None:
        self._server = server_url(url)
        self._credentials = credentials(token)
        self._time_limit = time_limit

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        parameters: Mapping[str, str] | None = None,
        extra: float = 0,
    ) -> Any:  # noqa: ANN401 - JSON
        """The JSON of the answer; the request has `extra` seconds on top of the usual time limit."""
        data = None if body is None else json.dumps(body).encode()
        limit = self._time_limit + extra
        with self._reply(method, _with(path, parameters), JSON, data=data, limit=limit) as reply:
            content = reply.read()
            return json.loads(content) if content else None

    def all_items(
        self, path: str, parameters: Mapping[str, str] | None = None, *, most: int = 0, cursor: str = "after"
    ) -> list[dict[str, Any]]:
        """Every item of a paged list, or the first `most`; the parameter `cursor` says where a page begins."""
        items: list[dict[str, Any]] = []
        asked = dict(parameters or {})
        while True:
            page = self.request("GET", path, parameters=asked)
            items += page["items"]
            if not page.get("next") or 0 < most <= len(items):
                return items[:most] if most else items
            asked[cursor] = str(page["next"])

    def stream(self, path: str, parameters: Mapping[str, str], *, last_event_id: str = "") -> Iterator[str]:
        """The lines of an answer that does not end by itself; continues after the last id of an earlier one."""
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        with self._reply("GET", _with(path, parameters), headers, limit=_SILENCE) as reply:
            for line in reply:
                if line.endswith(b"\n"):  # or it is incomplete
                    yield line.decode().rstrip("\n")

    @contextmanager
    def _reply(
        self, method: str, path: str, headers: Mapping[str, str], *, limit: float, data: bytes | None = None
    ) -> Iterator[HTTPResponse]:
        """A successful answer, to read in the block."""
        server = self._server
        kind = HTTPSConnection if server.scheme == "https" else HTTPConnection
        connection = kind(server.raw_host or "", server.port, timeout=limit)
        try:
            # A pod may refuse a body and close before it has received all of it.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, server.raw_path.rstrip("/") + path, data, {**headers, **self._credentials})
            reply = connection.getresponse()
            if reply.status >= _NO_SUCCESS:
                raise refusal(reply.status, reply.reason, reply.read())
            yield reply
        except (HTTPException, OSError, ValueError) as error:
            raise unreachable(server, error) from error
        finally:
            connection.close()


#: Statuses from here on are errors: following a redirection would lose the body or the token.
_NO_SUCCESS = 300


def _with(path: str, parameters: Mapping[str, str] | None) -> str:
    return f"{path}?{urlencode(parameters)}" if parameters else path


def path_to(*parts: str) -> str:
    """A path below `/api/v1`; parts are names or ids, as people write them.

    Raises:
        InvalidValue: a part is blank, or a path cannot hold it.
    """
    for part in parts:
        if part.strip() in ("", ".", ".."):
            raise InvalidValue("name", part, "be a name or an id")
    return "/api/v1/" + "/".join(quote(part.strip(), safe="") for part in parts)


def gateway_path(gateway: str, *more: str) -> str:
    """The path of a gateway, or of a part of it."""
    return path_to("gateways", gateway, *more)


def ask(
    url: str,
    token: str,
    method: str,
    path: str,
    body: object = None,
    *,
    parameters: Mapping[str, str] | None = None,
    extra: float = 0,
) -> Any:  # noqa: ANN401 - JSON
    """Send one request; it has `extra` seconds on top of the usual time limit."""
    server = Remote(url, token)
    with progress(f"waiting for {url}"):
        return server.request(method, path, body=body, parameters=parameters, extra=extra)


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
    server = Remote(url, token)
    with progress(f"reading from {url}"):
        return server.all_items(path, parameters, most=most, cursor=cursor)


# --- completion -------------------------------------------------------------------------------------------------------


def complete(ctx: Any, path: str, field: str, incomplete: str) -> list[str]:  # noqa: ANN401 - typer's own copy of click has no public types
    """Completions for the shell: a field's values in a list of the server; none if it cannot be asked at once."""
    url = ctx.params.get("url") or os.environ.get("GATECAST_URL") or DEFAULT_URL
    token = ctx.params.get("token") or os.environ.get("GATECAST_TOKEN") or os.environ.get("GATECAST_ADMIN_TOKEN", "")
    with suppress(GatecastError, KeyError):
        page = Remote(url, token, time_limit=_COMPLETION_TIME_LIMIT).request("GET", path)
        return [str(item[field]) for item in page["items"] if str(item[field]).startswith(incomplete)]
    return []


def complete_gateways(ctx: Any, incomplete: str) -> list[str]:  # noqa: ANN401 - as above
    """Names of gateways that begin like this."""
    return complete(ctx, f"/api/v1/gateways?search={quote(incomplete)}", "name", incomplete)


def complete_actions(incomplete: str) -> list[str]:
    """Actions that begin like this."""
    return [action.value for action in Action if action.value.startswith(incomplete.upper())]
