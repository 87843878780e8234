"""The programs in `examples/` do what they say."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatecast.testing.operator import Operator
from gatecast.testing.pods import Pods
from gatecast.testing.processes.pod_template import PodTemplate

pytestmark = pytest.mark.slow

_FOLDER = Path(__file__).parents[3] / "examples"


def _run(name: str, *arguments: str, folder: Path, **environment: str) -> list[str]:
    """Its lines, run as a reader would: from a folder of its own."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GATECAST")}
    ran = subprocess.run(
        [sys.executable, "-W", "error", _FOLDER / name, *arguments],
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_what_one_process_publishes_another_receives_and_resumes(tmp_path: Path) -> None:
    assert _run("two_pods.py", "publish", "3", folder=tmp_path)[-1] == "published at offset 3"
    assert _run("two_pods.py", "receive", "2", folder=tmp_path) == ["received 1 /orders/v1", "received 2 /orders/v2"]
    _run("two_pods.py", "publish", folder=tmp_path)
    assert _run("two_pods.py", "receive", "2", folder=tmp_path) == ["received 3 /orders/v3", "received 4 /orders/v1"]


async def test_a_gateway_applies_rejects_and_resumes(tmp_path: Path, pod_template: PodTemplate) -> None:
    token = "admin-token-of-the-examples"
    async with Pods(f"sqlite:///{tmp_path / 'pod.db'}", admin_token=token, command=pod_template) as pods:
        pod = await pods.start("pod-1")
        environment = {"GATEWAY_URL": pod.gateways}
        async with Operator(pod.api, token) as operator:
            gateway = await operator.create_gateway("gateway-1")
            environment["GATEWAY_TOKEN"] = gateway.token
            for route, path in (("r1", "/orders"), ("r2", "nowhere"), ("r3", "/stock")):
                event = {"type": "route.changed", "action": "UPDATE", "entityType": "Route", "entityId": route}
                await operator.ask(
                    "POST", f"/gateways/{gateway.id}/events", event | {"data": {"id": route, "path": path}}
                )
            first = await asyncio.to_thread(_run, "gateway.py", "2", folder=tmp_path, **environment)
            assert first == ["serves {'r1': '/orders'}", "rejected: a path begins with /"]
            assert json.loads((tmp_path / "gateway-state.json").read_text())["routes"] == {"r1": "/orders"}
            # It stopped before it knew that the rejection is stored, or after it: the event may come once more.
            again = await asyncio.to_thread(_run, "gateway.py", "1", folder=tmp_path, **environment)
            while again[-1].startswith("rejected"):
                again = await asyncio.to_thread(_run, "gateway.py", "1", folder=tmp_path, **environment)
            assert again[-1] == "serves {'r1': '/orders', 'r3': '/stock'}"


def test_every_program_is_run_and_in_the_list() -> None:
    names = {path.name for path in _FOLDER.glob("*.py")}
    assert names == {"two_pods.py", "gateway.py"}
    listed = (_FOLDER / "README.md").read_text("utf-8")
    assert all(f"({name})" in listed for name in names)
