"""Publishing through a pod: idempotent across a broken wire, refused where it must be, heard without wake-ups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from gatecast import Action, Event, EventHub, Settings
from gatecast.storage.connect import open_engine
from gatecast.testing.contracts.held_log import HeldLog
from gatecast.testing.eventually import eventually
from gatecast.testing.nats_server import NatsServer
from gatecast.testing.operator import Refused
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.deployment import Deployment, Site, gateway_address
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


_PUBLISH = "SELECT gatecast.publish($1, 'api.updated', 'UPDATE', 'Api', 'api-1', jsonb_build_object('is', $2::text))"

#: Large enough that on the wire to a stream events stand out among hints and answers.
_PAYLOAD = "x" * 10_000


async def test_s09_a_pod_that_no_longer_holds_a_gateway_reads_nothing_for_it(
    large_site: Site, nats: NatsServer
) -> None:
    """It held the gateway before and hears of every event; the pod that holds it now stands still meanwhile."""
    async with (
        TcpProxy(nats.socket) as wire,
        Deployment(large_site) as deployment,
        _connected(large_site.tables) as observer,
    ):
        one = await deployment.pods.start("one", database=large_site.database.replace(nats.address, wire.address))
        [two] = await deployment.start("two")
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
            for _ in range(200):
                await observer.execute(_PUBLISH, moving.id, _PAYLOAD)
            # All of them are in the log by then, also when another pod than this one forwards.
            await operator.publish(moving.id)
            await observer.execute(_PUBLISH, staying.id, _PAYLOAD)
            # Hints come in order: it has looked at all of them.
            await witness.wait_until(lambda: len(witness.received) == 1)
            one.terminate()
            # What a pod has read is counted by the time that it has ended.
            assert await one.ended() == 0
            assert 1 <= (wire.returned // len(_PAYLOAD) if large_site.outbox else await _reads(observer)) < 100
            two.thaw()
            await gateway.wait_until(lambda: len(gateway.received) == 201)


async def _reads(observer: asyncpg.Connection[Any]) -> int:
    """How many rows with events were read so far."""
    counted = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relname = 'events'"
    return int(await observer.fetchval(counted))


async def test_s12_a_gateway_whose_rows_are_locked_delays_no_other(large_site: Site) -> None:
    """A publish waits for them, in the outbox if there is one; another gateway gets its events meanwhile."""
    async with Deployment(large_site) as deployment:
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        locked, free = [await operator.create_gateway(name) for name in ("locked", "free")]
        async with UnmodifiedGateway(pod.gateway_host, free.token) as gateway:
            async with HeldLog.hold(large_site.tables, locked.id) as held:
                publishing = asyncio.create_task(operator.publish(locked.id))
                await held.waited_for()
                for _ in range(5):
                    await operator.publish(free.id)
                await gateway.wait_until(lambda: len(gateway.received) == 5)
                assert not publishing.done()
            assert (await publishing)["offset"] == 1


@pytest.mark.parametrize("engine", ["postgresql", "jetstream"])
async def test_s16_an_answer_that_is_lost_after_the_commit_does_not_double_the_event(
    postgres: PostgresServer, new_database: NewDatabase, nats: NatsServer, engine: str
) -> None:
    """The wire to the database breaks between commit and answer; repeating the event id gives one event.

    The database is that of the log, or of the outbox.
    """
    name = await new_database()
    async with TcpProxy(postgres.socket) as wire, AsyncExitStack() as stack:
        near, far = postgres.url(name), postgres.url(name, address=wire.address)
        site = Site(database=nats.url(f"A{uuid4().hex}"), outbox=far) if engine == "jetstream" else Site(database=far)
        deployment = await stack.enter_async_context(Deployment(site))
        observer = await stack.enter_async_context(_connected(near))
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("once")
        event_id = uuid4()
        async with HeldLog.hold(near, access.id) as held:
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
        assert (await operator.gateway(access.id))["position"]["head"] == 2


async def test_s17_an_unknown_or_deleted_gateway_is_refused_and_leaves_no_row(large_site: Site) -> None:
    """404 for both, and an empty database once the clean-up has seen that the gateway is gone."""
    async with (
        Deployment(large_site) as deployment,
        _connected(large_site.tables) as observer,
        EventHub.open(settings=large_site.settings()) as hub,
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
        if hub.has_outbox:
            await hub.outbox.wait_until_empty()
        assert (await _left(large_site, observer))["events"] <= 1
        await hub.clean_up()
        assert set((await _left(large_site, observer)).values()) == {0}


async def _left(site: Site, observer: asyncpg.Connection[Any]) -> dict[str, int]:
    """How much the log has of gateways, by kind."""
    if not site.outbox:
        tables = ("events", "gateway_streams", "cursors", "outcomes")
        return {each: await observer.fetchval(f"SELECT count(*) FROM gatecast.{each}") for each in tables}
    async with open_engine(site.database) as opened:
        stream = opened.engine.log._stream  # type: ignore[attr-defined] # looks inside
        kinds = {"events": "event", "ids": "id", "states": "state", "marks": "low", "forgotten logs": "forgotten"}
        found = {name: stream.scan(f"{stream.subjects.name}.{kind}.>") for name, kind in kinds.items()}
        return {name: len([_ async for _ in messages]) for name, messages in found.items()}


async def test_s17_blanks_around_an_id_mean_the_trimmed_id(large_site: Site) -> None:
    """At the HTTP door and in the library alike."""
    async with Deployment(large_site) as deployment, EventHub.open(settings=large_site.settings()) as hub:
        [pod] = await deployment.start("one")
        operator = await deployment.operator(pod)
        access = await operator.create_gateway("padded")
        assert (await operator.publish(f"%20{access.id}%20"))["offset"] == 1
        assert not await hub.register_gateway(f" {access.id}\n")
        async with hub.subscribe(f"\t{access.id} ") as subscription:
            assert (await anext(subscription)).gateway_id == access.id


async def test_s18_without_notifications_polling_delivers(large_site: Site) -> None:
    """As behind a pooler in transaction mode: published on one pod, delivered by another that hears nothing."""
    settings = {"notifications": "off", "poll_interval": "200ms"}
    async with Deployment(large_site, **settings) as deployment:
        one, two = await deployment.start("one", "two")
        operator = await deployment.operator(one)
        access = await operator.create_gateway("polled")
        async with UnmodifiedGateway(two.gateway_host, access.token) as gateway:
            await gateway.wait_until(lambda: gateway.connected)
            for _ in range(5):
                await operator.publish(access.id)
            await gateway.wait_until(lambda: len(gateway.received) == 5)


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
