"""JetStream keeps the contract of engines."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatecast.storage.contract import Engine
from gatecast.storage.jetstream import JetStreamEngine
from gatecast.testing.nats_server import NatsServer
from gatecast.testing.storage_suite import EngineContract

pytestmark = pytest.mark.slow


class TestJetStreamEngine(EngineContract):
    """The suite that every engine keeps, on one server."""

    @pytest.fixture(autouse=True)
    def _on(self, server: NatsServer) -> None:
        self.address = server.address

    @asynccontextmanager
    async def open_storage(self, tmp_path: Path) -> AsyncIterator[Engine]:
        """The stream that belongs to `tmp_path`."""
        name = f"T{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]}"
        async with JetStreamEngine.open([f"nats://{self.address}"], name, replicas=1) as engine:
            yield engine
