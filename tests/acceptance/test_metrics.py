"""What a pod counts of gateways that come and go, as Prometheus reads it."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gatecast.testing.eventually import eventually
from gatecast.testing.operator import Operator
from gatecast.testing.pods import Pods
from gatecast.testing.processes.pod_template import PodTemplate

pytestmark = pytest.mark.acceptance

_TOKEN = "admin-token-of-the-metrics"


async def _samples(session: aiohttp.ClientSession, api: str) -> dict[tuple[str, str], float]:
    """Every value, by name and the value of its first label."""
    async with session.get(f"{api}/metrics") as reply:
        text = await reply.text()
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_connects_refusals_and_closes_are_counted(tmp_path: Path, pod_template: PodTemplate) -> None:
    async with (
        Pods(f"sqlite:///{tmp_path}/gatecast.db", admin_token=_TOKEN, gateway_tls="off", command=pod_template) as pods,
        aiohttp.ClientSession() as session,
    ):
        pod = await pods.start("pod")
        connect = f"{pod.gateways}/api/internal/v1/ws/gateways/connect"
        async with Operator(pod.api, _TOKEN) as operator:
            gateway = await operator.create_gateway("gateway-1")
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(connect, headers={"api-key": "none of ours"})
            async with session.ws_connect(connect, headers={"api-key": gateway.token}) as socket:
                # The first frame says that the connection stands.
                await socket.receive()
                found = await _samples(session, pod.api)
                assert found["gatecast_gateway_connections", ""] == 1
                assert found["gatecast_gateway_connects_total", "gateway.v1"] == 1
                assert found["gatecast_gateway_refusals_total", "401"] == 1
                assert found["gatecast_gateways_behind", ""] == 0
                await operator.ask("DELETE", f"/gateways/{gateway.id}")
                while (await socket.receive()).type not in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
                    pass
                code = socket.close_code
        found = await _samples(session, pod.api)
        assert found["gatecast_gateway_closes_total", str(code)] == 1
        assert [value for (name, _), value in found.items() if name == "gatecast_build_info"] == [1]
        assert found["gatecast_pod_alarms", ""] == 0
        assert found["process_open_fds", ""] > 0


async def test_a_probe_notices_lost_wakeups_and_a_frozen_pod_within_half_a_minute(
    tmp_path: Path, pod_template: PodTemplate
) -> None:
    """And says nothing of the kind before; its gateway is no gateway of anybody."""
    async with (
        Pods(
            f"sqlite:///{tmp_path}/gatecast.db",
            admin_token=_TOKEN,
            gateway_tls="off",
            command=pod_template,
            probe="on",
        ) as pods,
        aiohttp.ClientSession() as session,
    ):
        pod = await pods.start("pod-a")

        async def counts(result: str) -> bool:
            return (await _samples(session, pod.api))["gatecast_probes_total", result] > 0

        # Alone, it publishes to itself.
        await eventually(lambda: counts("on-time"))
        assert not await counts("missing")
        deaf = await pods.start("pod-b", notifications="off", poll_interval="2s")
        await eventually(lambda: counts("late"))
        async with Operator(pod.api, _TOKEN) as operator:
            assert (await operator.ask("GET", "/gateways"))["items"] == []
        assert (await _samples(session, pod.api))["gatecast_gateway_connections", ""] == 0
        deaf.freeze()
        await eventually(lambda: counts("missing"))
