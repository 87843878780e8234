"""Each request has a name, which its answer and every line of it carry; answers are logged where that is asked for."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from dataclasses import dataclass

import pytest
import structlog
from starlette.types import Message, Receive, Scope, Send

from gatecast.server.admin_api.request_lines import RequestLines
from gatecast.settings import Settings
from gatecast.testing.captured_logs import captured_logs


async def _app(scope: Scope, _receive: Receive, send: Send) -> None:
    scope["seen"] = structlog.contextvars.get_contextvars().get("request")
    if scope["path"] == "/broken":
        raise RuntimeError
    await send({"type": "http.response.start", "status": 204, "headers": [(b"etag", b"1")]})
    await send({"type": "http.response.body"})


@dataclass
class _Context:
    settings: Settings


async def _receive() -> Message:
    return {"type": "http.request"}


async def _answer(
    path: str = "/", *, name: bytes | None = None, access_log: bool = False
) -> tuple[Scope, dict[bytes, bytes]]:
    headers: dict[bytes, bytes] = {}

    async def send(message: MutableMapping[str, object]) -> None:
        if message["type"] == "http.response.start":
            headers.update(message["headers"])  # type: ignore[call-overload]

    given = [] if name is None else [(b"x-request-id", name)]
    scope: Scope = {"type": "http", "method": "GET", "path": path, "headers": given, "client": ("10.0.0.9", 1)}
    await RequestLines(_app, context=_Context(Settings(access_log=access_log)))(scope, _receive, send)
    return scope, headers


async def test_a_request_keeps_the_name_that_it_came_with() -> None:
    scope, headers = await _answer(name=b"trace-7/a")
    assert (scope["seen"], headers[b"x-request-id"], headers[b"etag"]) == ("trace-7/a", b"trace-7/a", b"1")


@pytest.mark.parametrize("name", [None, b"", b"a b", b"x" * 129, b"a\nb", "ü".encode()])
async def test_what_is_no_name_gets_one(name: bytes | None) -> None:
    scope, headers = await _answer(name=name)
    assert re.fullmatch("[0-9a-f-]{36}", scope["seen"])
    assert headers[b"x-request-id"].decode() == scope["seen"]


async def test_answers_are_logged_where_that_is_asked_for() -> None:
    with captured_logs() as lines:
        await _answer("/quiet")
        await _answer("/here", access_log=True)
        with pytest.raises(RuntimeError):
            await _answer("/broken", access_log=True)
    assert [(line["path"], line["status"], line["peer"]) for line in lines] == [
        ("/here", 204, "10.0.0.9"),
        ("/broken", 0, "10.0.0.9"),
    ]
