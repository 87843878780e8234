"""A pod whose SQLite file is gone or replaced: unready, and never a 201 for an event that a restart will not find."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from gatecast.server.pod import Pod
from gatecast.settings import Settings

pytestmark = pytest.mark.slow

_TOKEN = "an-admin-token-for-tests"

_EVENT = {"type": "api.deployed", "action": "CREATE", "entityType": "Api", "entityId": "api-1", "data": {}}


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_pod_without_its_file_is_unready_and_publishes_nothing(tmp_path: Path, *, replaced: bool) -> None:
    file = tmp_path / "events.db"
    settings = Settings(
        database=f"sqlite:///{file}",
        api_listen="127.0.0.1:0",
        gateway_listen="127.0.0.1:0",
        gateway_tls="off",
        admin_token=_TOKEN,
        drain_time=timedelta(seconds=4),
    )
    headers = {"Authorization": f"Bearer {_TOKEN}"}
    async with Pod.open(settings) as pod, aiohttp.ClientSession(pod.api_url, headers=headers) as session:
        gateway = await (await session.post("/api/v1/gateways", json={"name": "gateway-1"})).json()
        events = f"/api/v1/gateways/{gateway['id']}/events"
        assert (await session.post(events, json=_EVENT)).status == 201
        assert (await session.get("/readyz")).status == 200
        pod.hurried.set()
        _take_away(file, replaced=replaced)
        assert (await session.post(events, json=_EVENT)).status == 503
        answer = await session.get("/readyz")
        assert answer.status == 503
        assert "removed or replaced" in await answer.text()
        metrics = await (await session.get("/metrics")).text()
        assert "gatecast_sqlite_write_ahead_log_bytes" in metrics


def _take_away(file: Path, *, replaced: bool) -> None:
    copy = file.with_name("copy")
    shutil.copy(file, copy)
    file.unlink()
    if replaced:
        copy.rename(file)
