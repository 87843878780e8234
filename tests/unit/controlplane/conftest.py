"""A hub with the control plane's tables, on every database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest

from gatecast.hub import EventHub
from gatecast.settings import Settings

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub]]


@pytest.fixture
def open_hub(database_url: str) -> OpenHub:
    """Opens a hub on the test's database; several of them are several pods."""
    # Nobody may be helped by what delivery does in the background.
    settings = Settings(
        database=database_url,
        migrate="always",
        poll_interval=timedelta(hours=1),
        notifications=False,
        # There is no pooler, and detecting one costs a connection for each test.
        pooler="off",
    )
    return lambda: EventHub.open(settings=settings, migrations=("gatecast.controlplane.migrations",))
