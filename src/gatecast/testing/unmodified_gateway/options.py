"""The options of the simulated gateway, with the real one's defaults."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from gatecast.client.socket import open_session
from gatecast.testing.clock import Clock, SystemClock
from gatecast.testing.unmodified_gateway.policy_definitions import DEFAULT_POLICIES


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """Settings of the simulated gateway. Durations are in seconds; the defaults are the real gateway's."""

    #: False speaks plain HTTP, which the real one never does: for servers that sit behind a TLS proxy.
    #: With TLS, certificates are not checked, as in the real one's default.
    tls: bool = True
    #: What the back-off, the liveness check, retries and missing times go by.
    clock: Clock = field(default_factory=SystemClock)
    #: Where jitter comes from.
    random_source: random.Random = field(default_factory=random.Random)
    #: First back-off (section 1.8).
    reconnect_initial: float = 1.0
    #: Longest back-off.
    reconnect_max: float = 300.0
    #: How long discovery may take (section 1.3).
    discovery_time_limit: float = 5.0
    #: How long the upgrade may take (section 1.4).
    upgrade_time_limit: float = 10.0
    #: How long `connection.ack` may take (section 1.5).
    ack_time_limit: float = 5.0
    #: A connection without a ping for longer is closed (section 1.6).
    liveness_limit: float = 35.0
    #: How often that is checked.
    liveness_tick: float = 5.0
    #: How long one REST call may take (section 3).
    call_time_limit: float = 30.0
    #: Most deployments in one fetch (section 3.4).
    sync_batch_size: int = 50
    #: The gateway's release, as its manifest says (section 3.6).
    version: str = "1.2.0"
    #: The policies that its manifest lists, and that documents may use.
    policies: tuple[Mapping[str, Any], ...] = DEFAULT_POLICIES
    #: Handles of the templates in its template folder, beside the built-in ones (section 4.7).
    templates: tuple[str, ...] = ()

    #: Whether the process starts though something in its database cannot be transformed (section 6).
    skip_invalid_deployments_on_startup: bool = False

    #: Makes what leads to its control plane; None: TCP.
    connector: Callable[[], aiohttp.BaseConnector] | None = None

    def open_session(self) -> aiohttp.ClientSession:
        """What its requests go through. Certificates are not checked, as in the real one's default (section 1.2)."""
        connector = self.connector() if self.connector else None
        return open_session(ssl=False, headers={}, time_limit=self.call_time_limit, connector=connector)

    def reconnect_pause(self, failures: int) -> float:
        """How long to wait after this many failed attempts in a row (section 1.8); in seconds."""
        pause = min(self.reconnect_initial * 2.0 ** min(failures, 64), self.reconnect_max)
        return min(pause * self.random_source.uniform(0.75, 1.25), self.reconnect_max)
