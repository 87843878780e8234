"""Outboxes of every kind in front of logs of every kind; one NATS server for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from gatecast.testing.nats_server import NatsServer, nats_server
from tests.contract.outbox.site import Opening, opening_at


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with JetStream that syncs every write."""
    with nats_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
def stream_url(server: NatsServer) -> str:
    """A stream of the test's own."""
    return server.url(f"O{uuid4().hex}")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def outbox_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An application's database, without anything of ours."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/application.db"
    return str(request.getfixturevalue("empty_postgres_url"))


@pytest.fixture
def opening(outbox_url: str, tmp_path: Path) -> Opening:
    """Opens a site with two gateways, whose log is a file."""
    return opening_at(outbox_url, tmp_path)
