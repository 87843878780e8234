"""The console in this process, on every database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest

from gatecast.server.admin_api import AdminContext
from gatecast.server.console.app import add_console

#: An open console: a browser that nobody has logged in with yet, and what the console works with.
Console = AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]


@pytest.fixture
def open_console(open_api: Callable[..., Any]) -> Callable[..., Console]:
    """Opens the console; its browser sends the headers that browsers send."""

    @asynccontextmanager
    async def opened(**changes: Any) -> AsyncIterator[tuple[httpx.AsyncClient, AdminContext]]:  # noqa: ANN401 - fields of the context
        async with open_api(**changes) as (client, context):
            add_console(client._transport.app)
            headers = {"Origin": "http://pod"}
            async with httpx.AsyncClient(
                transport=client._transport, base_url="http://pod", headers=headers
            ) as browser:
                yield browser, context

    return opened


@pytest.fixture
def log_in() -> Callable[..., Any]:
    """Logs a browser in."""

    async def logged_in(browser: httpx.AsyncClient, token: str = "default-admin-token") -> None:  # noqa: S107 - of tests
        answer = await browser.post("/login", data={"token": token, "next": "/"})
        assert answer.status_code == 303, answer.text

    return logged_in
