"""Real databases for pods that run as processes."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from gatecast.testing.nats_server import NatsServer, nats_server
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.deployment import Site
from gatecast.testing.processes.programs import etcd_program

_numbers = itertools.count(1)

#: Left out where the system has no etcd, which the first lines of the run say.
collect_ignore = [] if etcd_program() else ["test_patroni.py"]


@pytest.fixture(autouse=True)
def prepared(pod_template: object) -> None:
    """No test's time limit includes the imports of its pods."""


@pytest.fixture
def new_database(postgres: PostgresServer) -> Callable[[], Awaitable[str]]:
    """Makes an empty database, and tells its name."""

    async def make() -> str:
        name = f"acceptance_{next(_numbers)}"
        await postgres.create_database(name)
        return name

    return make


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """An SQLite file of the test's own."""
    return f"sqlite:///{tmp_path / 'gatecast.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """An empty database of the test's own, of either kind."""
    fixture = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(fixture))


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with JetStream; each test has a stream of its own."""
    with nats_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
def stream_site(nats: NatsServer, postgres_url: str) -> Site:
    """A stream of the test's own, and a PostgreSQL database beside it."""
    return Site(database=nats.url(f"A{uuid4().hex}"), outbox=postgres_url)


@pytest.fixture(params=["sqlite", "postgresql", "jetstream"])
def site(request: pytest.FixtureRequest) -> Site:
    """Where pods keep what they have, on each engine, empty and of the test's own."""
    return _site_on(request)


@pytest.fixture(params=["postgresql", "jetstream"])
def large_site(request: pytest.FixtureRequest) -> Site:
    """The same on engines for many pods."""
    return _site_on(request)


def _site_on(request: pytest.FixtureRequest) -> Site:
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url", "jetstream": "stream_site"}[request.param]
    return Site.of(request.getfixturevalue(fixture))
