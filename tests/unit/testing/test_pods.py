"""Pods are started, watched and ended as processes; a few lines of Python stand in for the server."""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta

import pytest

from gatecast.testing.eventually import PATIENCE
from gatecast.testing.pods import PodFailed, Pods
from gatecast.testing.processes.wrong_clock import serve_with_clock

pytestmark = pytest.mark.slow

_POD = """
import json, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print(json.dumps({"event": "ready", "pod": os.environ["GATECAST_POD_ID"]}), file=sys.stderr, flush=True)
print("no json", file=sys.stderr, flush=True)
print(json.dumps({"api": os.environ["GATECAST_DATABASE"], "gateways": os.environ.get("TZ", "")}), flush=True)
while True:
    signal.pause()
"""
_FAILING_POD = "import sys; print('no database', file=sys.stderr); sys.exit(3)"


def _pods(script: str = _POD) -> Pods:
    return Pods("sqlite:///events.db", admin_token="secret", command=(sys.executable, "-c", script))


async def test_a_pod_announces_where_it_listens() -> None:
    """Starting returns when the pod is ready."""
    async with _pods() as pods:
        pod = await pods.start("one", environment={"TZ": "Asia/Tokyo"})
        assert (pod.api, pod.gateways, pod.running) == ("sqlite:///events.db", "Asia/Tokyo", True)


async def test_an_orderly_stop_has_the_exit_status_and_the_whole_log() -> None:
    """SIGTERM reaches it; lines that are no JSON are kept as text."""
    async with _pods() as pods:
        pod = await pods.start("one")
        pod.terminate()
        assert await pod.ended() == 7
        assert pod.logged("ready") == [{"event": "ready", "pod": "one"}]
        assert pod.log[-1] == "no json"


async def test_a_killed_pod_ends_by_the_signal() -> None:
    """SIGKILL cannot be handled; ending a pod twice does nothing."""
    async with _pods() as pods:
        pod = await pods.start("one")
        pod.kill()
        assert await pod.ended() == -signal.SIGKILL
        pod.terminate()
        assert not pod.running


async def test_a_frozen_pod_runs_on_when_it_is_thawed() -> None:
    """While frozen it handles no signal but SIGKILL."""
    async with _pods() as pods:
        pod = await pods.start("one")
        pod.freeze()
        pod.terminate()
        assert pod.running
        pod.thaw()
        assert await pod.ended() == 7


async def test_whatever_was_started_is_ended() -> None:
    """Also a frozen pod."""
    async with _pods() as pods:
        running = await pods.start_all("one", "two")
        running[0].freeze()
    for pod in running:
        assert not pod.running
        with pytest.raises(ProcessLookupError):
            os.kill(pod.pid, 0)


async def test_a_pod_that_does_not_become_ready_shows_its_log() -> None:
    """The error says what the process wrote."""
    async with _pods(_FAILING_POD) as pods:
        with pytest.raises(PodFailed, match=r"(?s)one did not become ready \(exit status 3\).*no database"):
            await pods.start("one")


async def test_the_clock_of_a_pod_can_be_wrong(sqlite_url: str) -> None:
    """Its log is dated by it; how long something takes is not."""
    async with Pods(sqlite_url, admin_token="an-admin-token-for-tests") as pods:
        began = datetime.now(UTC)
        pod = await pods.start("one", command=serve_with_clock(timedelta(hours=1)), gateway_tls="off")
        pod.terminate()
        await pod.ended()
        dates = [datetime.fromisoformat(json.loads(line)["timestamp"]) for line in pod.log]
        assert dates
        assert all(timedelta(hours=1) <= date - began <= timedelta(hours=1, seconds=PATIENCE) for date in dates)
