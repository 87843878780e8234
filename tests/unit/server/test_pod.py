"""When a pod says that it is not ready, why, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from gatecast import containment
from gatecast.delivery.reader import Reader
from gatecast.errors import InvariantBroken, StorageUnavailable, SubscriptionClosed
from gatecast.hub import EventHub, HubSubscription
from gatecast.server import pod as pod_module
from gatecast.server import wait_policy
from gatecast.server.api_server import ApiServer
from gatecast.server.listener import Listener
from gatecast.server.pod import Pod, serve
from gatecast.server.probe import log_of
from gatecast.server.tls import GatewayTls
from gatecast.settings import Settings
from gatecast.storage.contract import Progress
from gatecast.testing.captured_logs import captured_logs
from gatecast.testing.doubles.moving_connection import MovingConnection
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.waiting import Backoff
from gatecast.wakeup.file_watch import FileWatch
from gatecast.wakeup.postgres import PostgresWakeup

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A pod on SQLite, on free ports."""
    return Settings(
        database=f"sqlite:///{tmp_path / 'events.db'}",
        api_listen="127.0.0.1:0",
        gateway_listen="127.0.0.1:0",
        gateway_tls="off",
        admin_token="an-admin-token-for-tests",
        drain_time=timedelta(seconds=4),
        poll_interval=timedelta(milliseconds=50),
    )


@pytest.fixture
def postgres_settings(settings: Settings, postgres_url: str) -> Settings:
    """The same on PostgreSQL."""
    return replace(settings, database=postgres_url, secret_key=b64encode(bytes(32)).decode(), migrate="always")


async def _away(*_: object, **__: object) -> Any:  # noqa: ANN401 - never returns
    raise StorageUnavailable("away for a test")


async def _die(*_: object, **__: object) -> None:
    raise InvariantBroken("for a test")


@pytest.mark.parametrize(
    ("part", "call", "problem"),
    [
        ("log", "changed_since", "the log cannot be read: "),
        ("presence", "renew_lease", "the lease cannot be renewed: "),
        ("presence", "record_progress", "positions cannot be stored: "),
    ],
)
async def test_what_a_background_task_cannot_do_makes_the_pod_unready(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, part: str, call: str, problem: str
) -> None:
    """The database answers a ping, and yet nothing is delivered, or others take this pod for dead."""
    monkeypatch.setattr(containment, "UNREADY_AFTER", 0.0)
    async with Pod.open(settings) as pod, httpx.AsyncClient(base_url=pod.api_url) as client:

        async def answer(status: int) -> list[str]:
            async def given() -> httpx.Response | None:
                reply = await client.get("/readyz")
                return reply if reply.status_code == status else None

            problems: list[str] = (await eventually(given)).json()["problems"]  # type: ignore[union-attr]
            return problems

        assert await answer(200) == []
        with monkeypatch.context() as patch:
            patch.setattr(type(getattr(pod.hub.storage, part)), call, _away)
            report_progress(pod)
            [said] = await answer(503)
            assert said.startswith(problem)
            assert "away for a test" in said
        assert await answer(200) == []


def report_progress(pod: Pod) -> None:
    """Give the pod a position to store, of a connection that nobody recorded."""
    progress = Progress(connection_id="c", gateway_id="g", replica="", epoch=UUID(int=1), sent=1, confirmed=1)
    pod.hub.delivery.recorder.report(MovingConnection(progress))


class _Late:
    """Opens a pod whose database is away at first."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.open = Pod.open

    @asynccontextmanager
    async def __call__(self, settings: Settings) -> AsyncIterator[Pod]:
        self.failures -= 1
        if self.failures >= 0:
            raise StorageUnavailable("the database system is starting up")
        async with self.open(settings) as pod:
            yield pod


async def test_a_pod_waits_for_a_postgresql_that_recovers(
    postgres_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pod, "open", _Late(2))
    monkeypatch.setattr(wait_policy, "_START_PAUSES", Backoff(first=0.01, longest=0.01))
    with captured_logs() as logs:
        status = asyncio.create_task(serve(postgres_settings, announce=lambda _: os.kill(os.getpid(), signal.SIGTERM)))
        assert await status == 0
    waits = [each for each in logs if each["event"] == "waiting-for-the-database"]
    assert len(waits) == 2
    assert "starting up" in waits[0]["error"]


async def test_it_does_not_wait_for_ever_nor_once_it_is_told_to_stop_nor_for_a_file(
    postgres_settings: Settings, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pod, "open", _Late(1_000))
    with pytest.raises(StorageUnavailable):
        await serve(settings, announce=lambda _: None)
    monkeypatch.setattr(wait_policy, "_START_PAUSES", Backoff(first=0.01, longest=0.01))
    monkeypatch.setattr(pod_module, "START_TIME_LIMIT", 0.05)
    with pytest.raises(StorageUnavailable):
        await serve(postgres_settings, announce=lambda _: None)
    monkeypatch.setattr(pod_module, "START_TIME_LIMIT", 60.0)
    monkeypatch.setattr(wait_policy, "_START_PAUSES", Backoff(first=60.0, longest=60.0))
    waiting = asyncio.create_task(serve(postgres_settings, announce=lambda _: None))
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await waiting == 0


async def test_readiness_goes_first_at_sigterm(settings: Settings) -> None:
    """Nobody is sent here any more by the time the first connection is told to leave."""
    pods: list[Pod] = []
    status = asyncio.create_task(serve(settings, announce=pods.append))
    pod = await eventually(lambda: _first(pods))
    assert pod is not None
    await pod.hub.register_gateway("gateway")
    subscriptions = [await pod.hub.subscribe("gateway") for _ in range(10)]
    async with httpx.AsyncClient(base_url=pod.api_url) as client:
        assert (await client.get("/readyz")).status_code == 200
        leaving = asyncio.gather(*map(_dismissed, subscriptions))
        os.kill(os.getpid(), signal.SIGTERM)
        await eventually(lambda: _is(pod._draining))
        reply = await client.get("/readyz")
        assert not leaving.done()
    assert (reply.status_code, reply.json()["problems"]) == (503, ["shutting down"])
    assert await leaving == ["restarting"] * 10
    assert await status == 0


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (Reader, "_read_due"),
        (FileWatch, "_watch"),
        (ApiServer, "main_loop"),
        (Listener, "_accept"),
        (GatewayTls, "follow"),
    ],
)
async def test_a_background_task_that_dies_ends_the_pod_with_status_1(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, owner: type, method: str
) -> None:
    await _ends_with_a_dead_task(settings, lambda: monkeypatch.setattr(owner, method, _die))


async def test_listening_that_dies_ends_the_pod_with_status_1(
    postgres_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _ends_with_a_dead_task(
        postgres_settings, lambda: monkeypatch.setattr(PostgresWakeup, "_listen_until_lost", _die)
    )


async def test_a_task_that_ends_by_itself_has_died_as_well(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_: object) -> None:
        pass

    await _ends_with_a_dead_task(settings, lambda: monkeypatch.setattr(FileWatch, "run", nothing))


async def _ends_with_a_dead_task(settings: Settings, break_it: Callable[[], None]) -> None:
    break_it()
    found: list[Pod] = []
    problems: list[Awaitable[list[str]]] = []

    def announce(pod: Pod) -> None:
        found.append(pod)
        problems.append(asyncio.create_task(_problems_after_failure(pod)))

    async with asyncio.timeout(PATIENCE):
        assert await serve(settings, announce=announce) == 1
    assert any(said.startswith("a background task died") for said in await problems[0])


async def _problems_after_failure(pod: Pod) -> list[str]:
    await pod.hub.delivery.failed.wait()
    return await pod.problems()


async def _first(pods: list[Pod]) -> Pod | None:
    return pods[0] if pods else None


async def _is(value: bool) -> bool:  # noqa: FBT001 - an answer
    return value


async def _dismissed(subscription: HubSubscription) -> str:
    with pytest.raises(SubscriptionClosed) as end:
        await anext(subscription)
    return end.value.reason


async def test_a_pod_with_a_probe_says_nothing_when_it_stops_and_takes_the_probe_along(settings: Settings) -> None:
    with captured_logs() as lines:
        async with Pod.open(replace(settings, probe=True, pod_id="pod-a", drain_time=timedelta(seconds=1))) as pod:
            probe = log_of("pod-a")

            async def connected() -> bool:
                found = await pod.hub.storage.presence.status([probe])
                return any(status.connections for status in found.values())

            await eventually(connected)
            assert (await pod.hub.storage.presence.pods())[0].pod_id == "pod-a"
            pod.hurried.set()
    assert next(line for line in lines if line["event"] == "draining")["connections"] == 0
    assert [line["event"] for line in lines if line["log_level"] != "info"] == []
    async with EventHub.open(settings=replace(settings, pod_id="pod-b")) as hub:
        assert (await hub.storage.log.changed_since(0)).heads == {}
