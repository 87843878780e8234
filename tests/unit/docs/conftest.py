"""A real PostgreSQL for the examples that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.given_server import server_for_tests


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for every example."""
    with server_for_tests() as server:
        yield server
