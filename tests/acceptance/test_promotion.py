"""A standby takes over while pods run: what it lacks is noticed, and what it does not lack disturbs nobody (S20)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from gatecast.testing.doubles.recording_gateway import RecordingGateway
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.operator import GatewayAccess, Operator, Refused
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.deployment import Deployment, gateway_address
from gatecast.testing.processes.load import Load, check_delivery
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.testing.unmodified_gateway import GatewayOptions, UnmodifiedGateway

pytestmark = pytest.mark.acceptance

_EAGER = GatewayOptions(reconnect_initial=0.05, reconnect_max=0.5)

#: What every gateway has before the standby begins to lag.
_KEPT = 3

#: What is published to every gateway under load.
_ROUNDS = 40

#: What is rewound recovers by itself at first, by what its own files say, and reads its log from before the two parted.
_FOR_REWIND = {"wal_log_hints": "on", "wal_keep_size": "64MB"}

_EVENTS = "SELECT count(*) FROM gatecast.events"


@pytest.fixture(params=[18])
def servers(request: pytest.FixtureRequest) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A primary and its standby, of this version."""
    with (
        PostgresServer(version=request.param, fsync="off", wal_log_hints="on") as primary,
        primary.standby(fsync="off") as standby,
    ):
        yield primary, standby


def _hosts(*servers: PostgresServer) -> str:
    """The URL that names each of them, and asks for the one that takes writes."""
    hosts = ",".join(str(server.folder) for server in servers)
    return f"postgresql://postgres@/postgres?host={hosts}&target_session_attrs=read-write"


@dataclass
class _Gateway:
    """A gateway of one kind, on one pod."""

    access: GatewayAccess
    client: UnmodifiedGateway | RecordingGateway
    #: Its way to a pod.
    way: TcpProxy
    #: Offsets and ids, as publishers were answered: of what is kept, of what is lost, and of what came then.
    kept: list[tuple[int, str]] = field(default_factory=list)
    lost: list[tuple[int, str]] = field(default_factory=list)
    new: list[tuple[int, str]] = field(default_factory=list)

    @property
    def received(self) -> list[tuple[int, str]]:
        """Offsets and ids in the order of arrival."""
        if isinstance(self.client, RecordingGateway):
            return self.client.received
        return [(event.offset or 0, event.event_id) for event in self.client.received]

    async def has(self, count: int) -> None:
        """Return when this many events have arrived."""

        async def arrived() -> bool:
            return len(self.received) >= count

        await eventually(arrived)


class _Scene:
    """Two pods on a database that can move, and on each of them a gateway of either kind."""

    def __init__(self, stack: AsyncExitStack, database: str) -> None:
        self._stack = stack
        self._deployment = Deployment(database, poll_interval="0.5s")
        self.gateways: list[_Gateway] = []

    async def begin(self) -> None:
        """Start everything, and let every gateway confirm what it has."""
        deployment = await self._stack.enter_async_context(self._deployment)
        self.pods = await deployment.start("one", "two")
        self.operator: Operator = await deployment.operator(self.pods[1])
        for number in range(4):
            access = await self.operator.create_gateway(f"gateway-{number}")
            await self._connect(access, await deployment.balancer(self.pods[number // 2]), explicit=bool(number % 2))
        for gateway in self.gateways:
            gateway.kept = await self.publish(gateway, _KEPT)
            await gateway.has(_KEPT)
            await self.operator.confirmed(gateway.access.id, _KEPT)

    async def _connect(self, access: GatewayAccess, way: TcpProxy, *, explicit: bool) -> None:
        client = (
            RecordingGateway(f"https://{way.address}", access.token)
            if explicit
            else UnmodifiedGateway(way.address, access.token, options=_EAGER)
        )
        await self._stack.enter_async_context(client)
        self.gateways.append(_Gateway(access, client, way))

    async def publish(self, gateway: _Gateway, count: int) -> list[tuple[int, str]]:
        """Publish over the second pod; each event until it is accepted."""
        return [await self._publish_one(gateway, uuid4()) for _ in range(count)]

    async def _publish_one(self, gateway: _Gateway, event_id: UUID) -> tuple[int, str]:
        async def answer() -> dict[str, Any] | None:
            with suppress(Refused, aiohttp.ClientError):
                return await self.operator.publish(gateway.access.id, event_id=event_id)
            return None

        published = await eventually(answer)
        assert published is not None
        return published["offset"], published["eventId"]

    async def epoch(self) -> str:
        """The history that the pods follow."""
        position = (await self.operator.gateway(self.gateways[0].access.id))["position"]
        return str(position["epoch"])

    async def load(self) -> Load:
        """What publishes to every gateway, over both pods."""
        return Load(await self._deployment.publishers(*self.pods), [each.access.id for each in self.gateways])

    async def log(self, gateway: _Gateway) -> list[tuple[int, str]]:
        """Offsets and ids of what its log holds now."""
        answer = await self.operator.ask("GET", f"/gateways/{gateway.access.id}/events?limit=500")
        return [(each["offset"], each["eventId"]) for each in answer["items"]]

    async def lose_primary(self, primary: PostgresServer) -> None:
        """The primary dies, and with it the first pod."""
        self.pods[0].kill()
        primary.kill()

    async def find(self, standby: PostgresServer, way: TcpProxy) -> None:
        """The second pod reaches the standby that took over, and the gateways of the first pod reach the second."""
        for gateway in self.gateways[:2]:
            gateway.way.retarget(gateway_address(self.pods[1]))
        way.retarget(standby.socket)


def _behind(way: TcpProxy) -> str:
    return f"postgresql://postgres@{way.address}/postgres"


async def _publish_unseen(server: PostgresServer, gateway: _Gateway, count: int) -> list[tuple[int, str]]:
    """Publish without any pod."""
    published = []
    for event_id in (str(uuid4()) for _ in range(count)):
        words = f"'{gateway.access.id}', 'api.updated', 'UPDATE', 'Api', 'api-1', event_id => '{event_id}'"
        published.append((await server.fetch_value(f"SELECT gatecast.publish({words})"), event_id))
    return published


#: More transactions than a primary was ahead of its standby.
_OVERTAKE = """
    DO $$ BEGIN
        FOR number IN 1..3000 LOOP
            PERFORM pg_current_xact_id();
            COMMIT;
        END LOOP;
    END $$
"""


@pytest.mark.parametrize(
    ("servers", "lag", "unseen"),
    [(18, 0, False), (16, 1, True), (18, 2, False), (16, 4, False), (18, 20, True)],
    indirect=["servers"],
)
async def test_s20_what_a_promoted_standby_lacks_is_noticed(
    servers: tuple[PostgresServer, PostgresServer],
    lag: int,
    unseen: bool,  # noqa: FBT001 - a case
) -> None:
    """As many new events as were lost are published at once: the logs are as long as before, and hold other events.

    Unseen: they are published before any pod reaches the new primary, with transaction ids that pods have read up to on
    the old one; and then transaction ids overtake those, so that the pods' markers look as if they had a meaning.

    Every gateway gets the whole log that there is now, and those that can be told are told. Nobody knows that nothing
    was lost, so the same holds for a lag of 0.
    """
    primary, standby = servers
    async with AsyncExitStack() as stack, TcpProxy(primary.socket) as way:
        scene = _Scene(stack, _behind(way))
        await scene.begin()
        before = await scene.epoch()
        await standby.caught_up_with(primary)
        await standby.stop_receiving()
        for gateway in scene.gateways:
            gateway.lost = await scene.publish(gateway, lag)
            await gateway.has(_KEPT + lag)
        await scene.lose_primary(primary)
        await standby.promote()
        if unseen:
            for gateway in scene.gateways:
                gateway.new = await _publish_unseen(standby, gateway, lag)
            await standby.execute(_OVERTAKE)
        await scene.find(standby, way)
        for gateway in scene.gateways:
            gateway.new += await scene.publish(gateway, 1 if unseen else max(lag, 1))
        for gateway in scene.gateways:
            log = gateway.kept + gateway.new
            assert [offset for offset, _ in log] == list(range(1, len(log) + 1))
            await gateway.has(_KEPT + lag + len(log))
            assert gateway.received[: _KEPT + lag] == gateway.kept + gateway.lost
            assert gateway.received[-len(log) :] == log
            await scene.operator.confirmed(gateway.access.id, len(log))
            if isinstance(gateway.client, RecordingGateway):
                assert gateway.client.resyncs == [("epoch", 0)]
        assert await scene.epoch() != before


@pytest.mark.parametrize("servers", [16], indirect=True)
async def test_s20_a_standby_that_lacks_nothing_takes_over_and_nobody_resynchronizes(
    servers: tuple[PostgresServer, PostgresServer],
) -> None:
    """Commits waited for it, and that was recorded: the history goes on, and nothing comes twice to who had it."""
    primary, standby = servers
    await primary.configure(synchronous_standby_names="standby")
    async with AsyncExitStack() as stack, TcpProxy(primary.socket) as way:
        scene = _Scene(stack, _behind(way))
        await scene.begin()
        before = await scene.epoch()
        # The pods have recorded it once they have looked.
        await eventually(lambda: _records_that_commits_wait(standby))
        for gateway in scene.gateways:
            gateway.lost = await scene.publish(gateway, 2)
            await gateway.has(_KEPT + 2)
            await scene.operator.confirmed(gateway.access.id, _KEPT + 2)
        await standby.caught_up_with(primary)
        await scene.lose_primary(primary)
        await standby.promote()
        await standby.execute(_OVERTAKE)
        await scene.find(standby, way)
        for gateway in scene.gateways:
            gateway.new = await scene.publish(gateway, 2)
        for gateway in scene.gateways:
            log = gateway.kept + gateway.lost + gateway.new
            await gateway.has(len(log))
            await scene.operator.confirmed(gateway.access.id, len(log))
            assert gateway.received == log
            if isinstance(gateway.client, RecordingGateway):
                assert gateway.client.resyncs == []
        assert await scene.epoch() == before


async def test_s20_pods_find_the_new_primary_among_several_hosts_and_the_old_one_is_rewound(
    servers: tuple[PostgresServer, PostgresServer],
) -> None:
    """Nobody tells the pods: their URL names both servers. The primary dies while many publish.

    Nothing that was accepted is lost, nothing comes twice over one connection, nobody resynchronizes. The old primary
    then follows the new one, and gets what is published meanwhile.
    """
    primary, standby = servers
    await primary.configure(synchronous_standby_names="standby", **_FOR_REWIND)
    async with AsyncExitStack() as stack:
        scene = _Scene(stack, _hosts(primary, standby))
        await scene.begin()
        before = await scene.epoch()
        await eventually(lambda: _records_that_commits_wait(standby))
        load = await scene.load()
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            tasks.create_task(load.publish(_ROUNDS))
            await load.reached(_ROUNDS)
            await asyncio.to_thread(primary.kill)
            await standby.promote()
        await standby.execute("CHECKPOINT")
        await asyncio.to_thread(primary.rewind, standby)
        for gateway in scene.gateways:
            accepted = dict(gateway.kept) | load.accepted[gateway.access.id] | dict(await scene.publish(gateway, 1))
            await scene.operator.confirmed(gateway.access.id, len(accepted))
            # A connection may end meanwhile on a busy machine: what is not confirmed comes again over the next one.
            check_delivery(gateway.received, accepted, connections=gateway.way.accepted)
            if isinstance(gateway.client, RecordingGateway):
                assert gateway.client.resyncs == []
        assert await scene.epoch() == before
        await primary.caught_up_with(standby)
        assert await primary.fetch_value(_EVENTS) == len(scene.gateways) * (_KEPT + _ROUNDS + 1)


@pytest.mark.parametrize("servers", [16], indirect=True)
async def test_s20_what_is_lost_under_load_ends_with_its_epoch_and_the_old_primary_forgets_it(
    servers: tuple[PostgresServer, PostgresServer],
) -> None:
    """Many publish while the standby lags, the primary dies, and pods find the standby by themselves.

    Events were accepted and delivered that the new primary lacks: every gateway ends with exactly the log that there is
    now, after it was told. The old primary had them, too, and is rewound.
    """
    primary, standby = servers
    await primary.configure(**_FOR_REWIND)
    async with AsyncExitStack() as stack:
        scene = _Scene(stack, _hosts(primary, standby))
        await scene.begin()
        before = await scene.epoch()
        load = await scene.load()
        await standby.stop_receiving()
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            tasks.create_task(load.publish(_ROUNDS))
            for gateway in scene.gateways:
                await gateway.has(_KEPT + 2)
            await asyncio.to_thread(primary.kill)
            await standby.promote()
        for gateway in scene.gateways:
            newest = await scene.publish(gateway, 1)
            log = await scene.log(gateway)
            assert log[-1:] == newest
            assert [offset for offset, _ in log] == list(range(1, len(log) + 1))
            await scene.operator.confirmed(gateway.access.id, len(log))
            assert gateway.received[-len(log) :] == log
            # It had something that is lost.
            assert set(gateway.received) - set(log)
            if isinstance(gateway.client, RecordingGateway):
                assert gateway.client.resyncs == [("epoch", 0)]
        assert await scene.epoch() != before
        await standby.execute("CHECKPOINT")
        await asyncio.to_thread(primary.rewind, standby)
        await primary.caught_up_with(standby)
        assert await primary.fetch_value(_EVENTS) == await standby.fetch_value(_EVENTS)


async def _records_that_commits_wait(server: PostgresServer) -> bool:
    return bool(await server.fetch_value("SELECT synchronous FROM gatecast.epoch"))
