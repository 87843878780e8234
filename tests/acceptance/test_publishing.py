"""Publishing through a pod: idempotent across a broken wire, refused where it must be, heard without wake-ups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from gatecast import Action, Event, EventHub, Settings
from gatecast.testing.contracts.held_log import HeldLog
from gatecast.testing.eventually import eventually
from gatecast.testing.operator import Refused
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.deployment import Deployment, gateway_address
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.testing.unmodified_gateway import UnmodifiedGateway

pytestmark = pytest.mark.acceptance

NewDatabase = Callable[[], Awaitable[str]]


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


_PUBLISH = "SELECT gatecast.publish($1, 'api.updated', 'UPDATE', 'Api', 'api-1')"


async def test_s09_a_pod_that_no_longer_holds_a_gateway_reads_nothing_for_it(
    postgres: PostgresServer, new_database: NewDatabase
) -> None:
    """It held the gateway before and hears of every event; the pod that holds it now stands still meanwhile."""
    url = postgres.url(await new_database())
    async with Deployment(url) as deployment, _connected(url) as observer:
        one, two = await deployment.start("one", "two")
        operator = await deployment.operator(one)
        moving, staying = [await operator.create_gateway(name) for name in ("moving", "staying")]
        balancer = await deployment.balancer(one)
        async with (
            UnmodifiedGateway(balancer.address, moving.token) as gateway,
            UnmodifiedGateway(one.gateway_host, staying.token) as witness,
        ):
            await gateway.wait_until(lambda: gateway.connected)
            balancer.retarget(gateway_address(two))
            await gateway.wait_until(lambda: gateway.connections_made == 2)
            await operator.connections(moving.id, 1)
            two.freeze()
            for gateway_id in [moving.id] * 200 + [staying.id]:
                await observer.execute(_PUBLISH, gateway_id)
            # Hints come in order: it has looked at all of them.
            await witness.wait_until(lambda: len(witness.received) == 1)
            one.terminate()
            # What a pod has read is counted by the time that it has ended.
            assert await one.ended() == 0
            reads = await observer.fetchval(
                "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relname = 'events'"
            )
            assert 1 <= reads < 100
            two.thaw()
            await gateway.wait_until(lambda: len(gateway.received) == 200)


async def test_s16_an_answer_that_is_lost_after_the_commit_does_not_double_the_event(
    postgres: PostgresServer, new_database: NewDatabase
) -> None:
    """The wire to the database breaks between commit and answer; repeating the event id gives one event."""
    name = await new_database()
    async with (
        TcpProxy(postgres.socket) as wire,
        Deployment(postgres.url(name, address=wire.address)) as deployment,
        _connected(postgres.url(name)) as observer,
    ):
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("once")
        event_id = uuid4()
        async with HeldLog.hold(postgres.url(name), access.id) as held:
            publishing = asyncio.create_task(operator.publish(access.id, event_id=event_id))
            await held.waited_for()
            # The statement is on its way to its commit; only the answer can be lost now.
            wire.lose_answers()
        await eventually(lambda: observer.fetchval("SELECT count(*) FROM gatecast.events"))
        assert not publishing.done()
        wire.cut()
        wire.heal()
        # Also when the pod's own second attempt has answered already.
        await asyncio.wait({publishing})
        for _ in range(2):
            assert (await operator.publish(access.id, event_id=event_id))["offset"] == 1
        assert publishing.exception() is not None or publishing.result()["offset"] == 1
        assert (await operator.publish(access.id))["offset"] == 2
        assert await observer.fetchval("SELECT count(*) FROM gatecast.events") == 2


async def test_s17_an_unknown_or_deleted_gateway_is_refused_and_leaves_no_row(
    postgres: PostgresServer, new_database: NewDatabase
) -> None:
    """404 for both, and an empty database once the clean-up has seen that the gateway is gone."""
    url = postgres.url(await new_database())
    async with (
        Deployment(url) as deployment,
        _connected(url) as observer,
        EventHub.open(settings=Settings(database=url)) as hub,
    ):
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("short-lived")
        await operator.publish(access.id)
        await operator.ask("DELETE", f"/gateways/{access.id}")
        for gateway_id in (access.id, str(uuid4())):
            with pytest.raises(Refused) as refused:
                await operator.publish(gateway_id)
            assert refused.value.status == 404
        assert await observer.fetchval("SELECT count(*) FROM gatecast.events") <= 1
        await hub.clean_up()
        for table in ("events", "gateway_streams", "cursors", "outcomes"):
            assert await observer.fetchval(f"SELECT count(*) FROM gatecast.{table}") == 0


async def test_s17_blanks_around_an_id_mean_the_trimmed_id(postgres: PostgresServer, new_database: NewDatabase) -> None:
    """At the HTTP door and in the library alike."""
    url = postgres.url(await new_database())
    async with Deployment(url) as deployment, EventHub.open(settings=Settings(database=url)) as hub:
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("padded")
        assert (await operator.publish(f"%20{access.id}%20"))["offset"] == 1
        assert not await hub.register_gateway(f" {access.id}\n")
        async with hub.subscribe(f"\t{access.id} ") as subscription:
            assert (await anext(subscription)).gateway_id == access.id


async def test_s18_without_notifications_polling_delivers(postgres: PostgresServer, new_database: NewDatabase) -> None:
    """As behind a pooler in transaction mode: published on one pod, delivered by another that hears nothing."""
    settings = {"notifications": "off", "poll_interval": "200ms"}
    async with Deployment(postgres.url(await new_database()), **settings) as deployment:
        one, two = await deployment.start("one", "two")
        operator = await deployment.operator(one)
        access = await operator.create_gateway("polled")
        async with UnmodifiedGateway(two.gateway_host, access.token) as gateway:
            await gateway.wait_until(lambda: gateway.connected)
            for _ in range(20):
                await operator.publish(access.id)
            await gateway.wait_until(lambda: len(gateway.received) == 20)


async def test_s18_a_killed_listen_connection_comes_back_and_looks_at_everything(
    postgres: PostgresServer, new_database: NewDatabase
) -> None:
    """Polling takes an hour here, so only wake-ups deliver, and only a look at everything finds what was missed."""
    url = postgres.url(await new_database())
    silent = Settings(database=url, notifications=False)
    async with (
        Deployment(url, poll_interval="1h") as deployment,
        EventHub.open(settings=silent) as hub,
        _connected(url) as observer,
    ):
        one, two = await deployment.start("one", "two")
        operator = await deployment.operator(one)
        access = await operator.create_gateway("woken")
        async with UnmodifiedGateway(two.gateway_host, access.token) as gateway:
            await gateway.wait_until(lambda: gateway.connected)
            await operator.publish(access.id)
            await gateway.wait_until(lambda: len(gateway.received) == 1)
            await hub.publish(_unannounced(access.id))
            killed = await observer.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'gatecast-listen' AND datname = current_database()"
            )
            assert len(killed) == 2
            await gateway.wait_until(lambda: len(gateway.received) == 2)
            await operator.publish(access.id)
            await gateway.wait_until(lambda: len(gateway.received) == 3)


def _unannounced(gateway_id: str) -> Event:
    return Event(gateway_id=gateway_id, type="api.updated", action=Action.UPDATE, entity_type="Api", entity_id="api-1")
