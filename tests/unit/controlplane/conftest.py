"""A hub with the control plane's tables, on every database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

import pytest

from gatecast.hub import EventHub
from gatecast.settings import Settings

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub]]


@pytest.fixture(params=["sqlite", "postgresql"])
def open_hub(request: pytest.FixtureRequest, tmp_path: Path) -> OpenHub:
    """Opens a hub on the test's database; several of them are several pods."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'gatecast.db'}"
    else:
        url = str(request.getfixturevalue("postgres_url"))
    # Nobody may be helped by what delivery does in the background.
    settings = Settings(database=url, migrate="always", poll_interval=timedelta(hours=1), notifications=False)
    return lambda: EventHub.open(settings=settings, migrations=("gatecast.controlplane.migrations",))
