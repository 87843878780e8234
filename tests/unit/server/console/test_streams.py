"""The streams that pages follow: their limit, which they share with those of the API, and what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gatecast.errors import StorageUnavailable
from gatecast.server.admin_api import stream
from gatecast.server.console.pages import tail
from gatecast.testing.eventually import PATIENCE

OpenConsole = Callable[..., Any]
LogIn = Callable[..., Any]


@pytest.mark.parametrize("path", ["/live", "/console/stream"])
async def test_a_page_gets_no_stream_beyond_the_limit_of_the_pod(
    open_console: OpenConsole, log_in: LogIn, path: str
) -> None:
    """It is told so, and when to come back: another pod may have room."""
    async with open_console(streams=asyncio.Semaphore(0)) as (browser, _):
        await log_in(browser)
        answer = await browser.get(path)
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:gatecast:problem:overloaded"
    assert int(answer.headers["retry-after"]) > 0


async def test_a_page_is_told_when_the_database_is_away_since_when_and_when_it_is_back(
    open_console: OpenConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once; nothing is called changed before it can be looked at."""
    looks = iter([1, 1, None, None, 1, 2])

    async def look(*_: object) -> int:
        if (found := next(looks)) is None:
            raise StorageUnavailable("the wire is cut")
        return found

    async def is_still(*_: object) -> bool:
        return True

    monkeypatch.setattr(tail, "_fingerprint", look)
    monkeypatch.setattr(tail, "_is_still", is_still)
    monkeypatch.setattr(tail, "_INTERVAL", 0.0)
    async with open_console() as (_, context):
        changes: Any = tail._changes(None, context, tail._Watched("default"))  # type: ignore[arg-type]
        async with aclosing(changes):
            said = [(await anext(changes)).split("\n")[0] for _ in range(4)]
    assert said == ["event: changed", "event: away", "event: back", "event: changed"]


async def test_a_page_hears_that_its_stream_is_alive(
    open_console: OpenConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers do not show it the comments that keep a connection open."""
    monkeypatch.setattr(stream, "HEARTBEAT", 0.0)
    monkeypatch.setattr(tail, "HEARTBEAT", 0.0)
    monkeypatch.setattr(tail, "_INTERVAL", 0.0)
    async with open_console() as (_, context):
        visitor = cast("Any", SimpleNamespace(organization="default"))
        monkeypatch.setattr(tail, "_is_still", _is_still)
        answers = [
            await tail.stream_changes(cast("Any", None), context, visitor),
            await tail.stream_events(cast("Any", None), context, visitor),
        ]
        for answer in answers:
            messages: Any = answer.body_iterator
            async with aclosing(messages), asyncio.timeout(PATIENCE):
                while await anext(messages) != "event: alive\ndata: \n\n":
                    pass


async def _is_still(*_: object) -> bool:
    return True
