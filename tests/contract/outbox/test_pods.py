"""Pods whose events are on NATS JetStream, and whose tables and changes are in the outbox's database."""

from __future__ import annotations

import pytest

from gatecast.testing.processes.installation import Installation
from tests.acceptance.test_control_plane import provider

pytestmark = pytest.mark.slow


async def test_what_is_created_at_one_pod_arrives_at_a_gateway_of_the_other(stream_url: str, outbox_url: str) -> None:
    """It is confirmed, and the gateway runs it."""
    async with Installation.open(stream_url, outbox=outbox_url, pods=2) as installation:
        edge = installation.edge
        edge.way.retarget(installation.replicas[1].gateways)
        await installation.create("llm-providers", provider())
        await installation.is_true()
