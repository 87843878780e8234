"""Runs `async def` tests, each in its own event loop and with a time limit; gives them PostgreSQL databases."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import math
from collections.abc import Awaitable, Callable, Iterator

import pytest

from gatecast.storage.postgres import PostgresStorage
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.given_server import installed_servers, server_for_tests
from gatecast.testing.processes.pgbouncer import pgbouncer_program

#: No asynchronous test may take longer; in seconds.
TEST_TIME_LIMIT = 60.0

_database_numbers = itertools.count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test to its end."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    # A test that is marked with a longer limit, or with 0 for none, has that one.
    marked = pyfuncitem.get_closest_marker("timeout")
    limit = max(TEST_TIME_LIMIT, marked.args[0] or math.inf) if marked else TEST_TIME_LIMIT
    asyncio.run(_within_limit(limit, pyfuncitem.obj, arguments))
    return True


async def _within_limit(limit: float, test: Callable[..., Awaitable[None]], arguments: dict[str, object]) -> None:
    async with asyncio.timeout(None if math.isinf(limit) else limit):
        await test(**arguments)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for every test that does not kill it. It is not asked to survive a power cut."""
    with server_for_tests() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """A migrated, empty database to make copies of; nobody else may connect to it."""
    name = "migrated_template"
    asyncio.run(_make_template(postgres, name))
    return name


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A migrated PostgreSQL database of the test's own."""
    name = f"copy_{next(_database_numbers)}"
    drop = f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'
    asyncio.run(postgres.execute(drop, f'CREATE DATABASE "{name}" TEMPLATE "{postgres_template}"'))
    yield postgres.url(name)
    asyncio.run(postgres.execute(drop))


async def _make_template(server: PostgresServer, name: str) -> None:
    await server.create_database(name)
    async with PostgresStorage.open(server.url(name)) as storage:
        await storage.database.migrate()


def pytest_report_header() -> str | None:
    """What is left out, because this system lacks it."""
    found = {"postgresql": bool(installed_servers()), "pgbouncer": pgbouncer_program() is not None}
    lacking = " ".join(name for name, there in found.items() if not there)
    return f"LEFT OUT: tests that need more of the system; `apt-get install {lacking}` brings it" if lacking else None
