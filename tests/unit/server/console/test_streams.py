"""The streams that pages follow have a limit, which they share with those of the API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

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
