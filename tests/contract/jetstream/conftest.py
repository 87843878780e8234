"""One NATS server for all tests here; each test has a stream of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gatecast.testing.nats_server import NatsServer, nats_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with JetStream that syncs every write."""
    with nats_server(tmp_path_factory.mktemp("nats")) as running:
        yield running
