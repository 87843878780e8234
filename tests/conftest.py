"""Runs `async def` tests, each in its own event loop and with a time limit."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator

import pytest

from gatecast.testing.postgres_server import PostgresServer

#: No asynchronous test may take longer; in seconds.
TEST_TIME_LIMIT = 60.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test to its end."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(_within_limit(pyfuncitem.obj, {name: pyfuncitem.funcargs[name] for name in names}))
    return True


async def _within_limit(test: Callable[..., Awaitable[None]], arguments: dict[str, object]) -> None:
    async with asyncio.timeout(TEST_TIME_LIMIT):
        await test(**arguments)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for every test that does not kill it. It is not asked to survive a power cut."""
    with PostgresServer(fsync="off") as server:
        yield server
