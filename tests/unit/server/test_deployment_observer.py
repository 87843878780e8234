"""What is looked after while a gateway is connected."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gatecast.controlplane.clock import milliseconds
from gatecast.controlplane.gateway_tokens import GatewayIdentity
from gatecast.controlplane.resources import Resources
from gatecast.errors import StorageUnavailable
from gatecast.server import deployment_observer
from gatecast.server.deployment_observer import DeploymentObserver


class _Resources:
    """Notes what is published of keys; the first time the database is away."""

    def __init__(self) -> None:
        self.desired_state = self
        self.looks: list[tuple[str, str, int]] = []

    async def publish_late_keys(self, organization: str, gateway_id: str, since: int) -> None:
        self.looks.append((organization, gateway_id, since))
        if len(self.looks) == 1:
            raise StorageUnavailable("away")


@pytest.mark.parametrize(("reads_keys", "looks"), [(True, 2), (False, 0)])
async def test_keys_are_looked_at_twice_while_an_unmodified_gateway_is_connected(
    monkeypatch: pytest.MonkeyPatch, *, reads_keys: bool, looks: int
) -> None:
    monkeypatch.setattr(deployment_observer, "KEY_LOOKS", (0.0, 0.0))
    resources: Any = _Resources()
    identity = GatewayIdentity(organization="acme", gateway_id="edge", token_id="1", newest_only=False)
    began = milliseconds()
    await DeploymentObserver(cast("Resources", resources), identity, None, reads_keys=reads_keys).watch()
    assert [look[:2] for look in resources.looks] == [("acme", "edge")] * looks
    assert all(began - 60_000 < since < began for *_, since in resources.looks)
