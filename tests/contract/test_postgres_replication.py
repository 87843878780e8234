"""Which standbys commits wait for, as the doctor, `/readyz`, the metrics and the log say it."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from gatecast.cli.doctor.database import look_at_database
from gatecast.cli.doctor.findings import Finding, State
from gatecast.server.pod import Pod
from gatecast.settings import Settings
from gatecast.storage.postgres import PostgresStorage
from gatecast.storage.replication import Replication
from gatecast.telemetry import metrics
from gatecast.testing.captured_logs import captured_logs
from gatecast.testing.contracts.backend import GATEWAY, make_event, publish, read
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.postgres_server import PostgresServer


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A primary and its standby."""
    with PostgresServer(fsync="off") as primary, primary.standby(fsync="off") as standby:
        yield primary, standby


def _settings(url: str) -> Settings:
    return Settings(
        database=url,
        api_listen="127.0.0.1:0",
        gateway_listen="127.0.0.1:0",
        gateway_tls="off",
        admin_token="an-admin-token-for-tests",
        secret_key=b64encode(bytes(32)).decode(),
        migrate="always",
        drain_time=timedelta(seconds=1),
    )


async def _asked(url: str) -> Replication | None:
    async with PostgresStorage.open(url) as storage:
        return await storage.database.replication()


async def _seen(url: str, **wanted: object) -> Replication:
    """What the server says, once it says this."""

    async def said() -> Replication | None:
        found = await _asked(url)
        return found if found and all(getattr(found, name) == value for name, value in wanted.items()) else None

    found = await eventually(said)
    assert found is not None
    return found


async def _finding(url: str) -> Finding:
    [finding] = [each for each in await look_at_database(_settings(url)) if each.check == "replication"]
    return finding


def _shown() -> tuple[float | None, float | None]:
    value = metrics.registry.get_sample_value
    return value("gatecast_synchronous_standbys_needed"), value("gatecast_synchronous_standbys")


async def test_a_standby_that_leaves_is_missed_and_one_that_returns_is_seen(
    servers: tuple[PostgresServer, PostgresServer],
) -> None:
    """The pod says why nothing can be published, stays ready, and keeps its lease."""
    primary, standby = servers
    url = primary.url()
    settings = _settings(url)
    async with Pod.open(settings) as pod, httpx.AsyncClient(base_url=pod.api_url) as client:

        async def ready() -> str:
            await pod.replication.look()
            answer = await client.get("/readyz")
            assert (answer.status_code, answer.json()["problems"]) == (200, [])
            return str(answer.json()["replication"])

        await pod.hub.delivery.presence.until_known()
        await _seen(url, needed=0, connected=1)
        assert "commits wait for no standby, 1 are connected" in await ready()
        assert _shown() == (0, 0)
        assert (await _finding(url)).state is State.WARNING

        await primary.configure(synchronous_standby_names="FIRST 1 (standby)")
        await _seen(url, needed=1, in_sync=1)
        assert await ready() == "commits wait for 1 standby, 1 are in sync"
        assert _shown() == (1, 1)
        assert (await _finding(url)).state is State.OK

        await asyncio.to_thread(standby.kill)
        try:
            await _seen(url, needed=1, in_sync=0)
            with captured_logs() as logs:
                assert "publishing stands still" in await ready()
                assert "publishing stands still" in await ready()
            assert [each["event"] for each in logs if "standby" in each["event"]] == ["standby-missing"]
            assert _shown() == (1, 0)
            finding = await _finding(url)
            assert (finding.state, "FIRST 1 (standby)" in finding.message) == (State.PROBLEM, True)
            async with asyncio.timeout(PATIENCE):
                life = await pod.hub.storage.presence.renew_lease(settings.pod_id, timedelta(seconds=30))
            assert isinstance(life, UUID)
        finally:
            await asyncio.to_thread(standby.start)
        await _seen(url, in_sync=1)
        with captured_logs() as logs:
            assert await ready() == "commits wait for 1 standby, 1 are in sync"
        assert [each["event"] for each in logs if "standby" in each["event"]] == ["standby-returned"]
        await primary.configure(synchronous_standby_names="")


async def test_p1_a_publish_that_no_standby_has_is_not_answered_and_neither_is_its_repetition(
    servers: tuple[PostgresServer, PostgresServer],
) -> None:
    """PostgreSQL then shows the event on the primary; a repeated publish gets no receipt for that."""
    primary, standby = servers
    waits = "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'gatecast'"
    async with PostgresStorage.open(primary.url()) as storage:
        await storage.database.migrate()
        await storage.log.register(GATEWAY)
        await primary.configure(synchronous_standby_names="standby")
        await _seen(primary.url(), in_sync=1)
        await asyncio.to_thread(standby.kill)
        event = make_event()
        for _ in range(2):
            publishing = asyncio.create_task(publish(storage, event))
            await eventually(lambda: primary.fetch_value(waits))
            publishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await publishing
        assert len((await read(storage)).events) == 1
        await asyncio.to_thread(standby.start)
        [receipt] = await publish(storage, event)
        assert (receipt.created, receipt.position.offset) == (False, 1)
        await standby.caught_up_with(primary)
        assert await standby.fetch_value("SELECT count(*) FROM gatecast.events") == 1
        await primary.configure(synchronous_standby_names="")


async def test_what_an_ordinary_role_may_not_see_is_not_claimed(servers: tuple[PostgresServer, PostgresServer]) -> None:
    """It sees that standbys are connected, and none of their states; without any nothing is hidden."""
    primary, _ = servers
    url = primary.url()
    await _seen(url, connected=1)
    await primary.configure(synchronous_standby_names="standby")
    await _seen(url, in_sync=1)
    await primary.execute("CREATE ROLE ordinary LOGIN")
    ordinary = url.replace("postgres@", "ordinary@")
    try:
        found = await _seen(ordinary, connected=1)
        assert (found.needed, found.in_sync, found.problem) == (1, None, None)
        assert "pg_read_all_stats" in str(found)
        await primary.execute("GRANT pg_read_all_stats TO ordinary")
        assert (await _seen(ordinary, connected=1)).in_sync == 1
    finally:
        await primary.configure(synchronous_standby_names="")
        await primary.execute("DROP ROLE ordinary")


async def test_a_standby_has_none_of_its_own(servers: tuple[PostgresServer, PostgresServer]) -> None:
    _, standby = servers
    assert await _asked(standby.url()) is None


async def test_where_nobody_is_connected_nothing_is_hidden(postgres: PostgresServer) -> None:
    assert await _asked(postgres.url()) == Replication(names="", connected=0, in_sync=0)
