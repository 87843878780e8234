from __future__ import annotations

import resource

import pytest

from gatecast.server import descriptors
from gatecast.server.descriptors import OWN, budget, fitted, raise_limit
from gatecast.settings import Settings


@pytest.mark.parametrize("limit", [0, 64, 128, 256, 1024, 4096, 1_048_576])
def test_every_listener_has_its_share_however_few_there_are(limit: int) -> None:
    """Together they never take more than there are, and the gateways never what the API needs."""
    found = budget(Settings(), limit)
    assert 0 < found.gateways < found.gateway_listener
    assert found.api_listener >= 8
    assert found.gateway_listener + found.api_listener + OWN <= max(limit, OWN + 32)
    assert found.gateways <= Settings().max_connections


def test_requests_that_last_leave_connections_for_others() -> None:
    assert budget(Settings(), 256).at_most(500) == 10
    assert budget(Settings(), 1_048_576).at_most(100) == 100


def test_enough_is_enough() -> None:
    found = budget(Settings(max_connections=100, max_api_connections=50), 1_048_576)
    assert (found.gateways, found.api_listener) == (100, 50)


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (500, before[1]))
        assert raise_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 500
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_settings_say_how_many_gateways_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "raise_limit", lambda: 256)
    settings, found = fitted(Settings())
    assert settings.max_connections == found.gateways < 160
