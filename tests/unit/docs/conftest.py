"""A real PostgreSQL for the examples that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gatecast.testing.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One PostgreSQL for every example."""
    with PostgresServer(tmp_path_factory.mktemp("postgres") / "server") as server:
        yield server
