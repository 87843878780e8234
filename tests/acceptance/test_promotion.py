"""A standby takes over while pods run: what it lacks is noticed, and what it does not lack disturbs nobody (S20)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from gatecast.testing.doubles.recording_gateway import RecordingGateway
from gatecast.testing.eventually import eventually
from gatecast.testing.operator import GatewayAccess, Operator, Refused
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.deployment import Deployment, gateway_address
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.testing.unmodified_gateway import GatewayOptions, UnmodifiedGateway

pytestmark = pytest.mark.acceptance

_EAGER = GatewayOptions(reconnect_initial=0.05, reconnect_max=0.5)

#: What every gateway has before the standby begins to lag.
_KEPT = 3


@pytest.fixture
def servers() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A primary and its standby."""
    with PostgresServer(fsync="off", wal_log_hints="on") as primary, primary.standby(fsync="off") as standby:
        yield primary, standby


@dataclass
class _Gateway:
    """A gateway of one kind, on one pod."""

    access: GatewayAccess
    client: UnmodifiedGateway | RecordingGateway
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

        await eventually(arrived, within=40)


class _Scene:
    """Two pods on a database that can move, and on each of them a gateway of either kind."""

    def __init__(self, stack: AsyncExitStack, database: str) -> None:
        self._stack = stack
        self._database = database
        self.gateways: list[_Gateway] = []

    async def begin(self) -> None:
        """Start everything, and let every gateway confirm what it has."""
        deployment = await self._stack.enter_async_context(Deployment(self._database, poll_interval="0.5s"))
        self.pods = await deployment.start("one", "two")
        self.ways = [await deployment.balancer(pod) for pod in self.pods]
        self.operator: Operator = await deployment.operator(self.pods[1])
        for number in range(4):
            access = await self.operator.create_gateway(f"gateway-{number}")
            await self._connect(access, self.ways[number // 2].address, explicit=bool(number % 2))
        for gateway in self.gateways:
            gateway.kept = await self.publish(gateway, _KEPT)
            await gateway.has(_KEPT)
            await self.operator.confirmed(gateway.access.id, _KEPT)

    async def _connect(self, access: GatewayAccess, address: str, *, explicit: bool) -> None:
        client = (
            RecordingGateway(f"https://{address}", access.token)
            if explicit
            else UnmodifiedGateway(address, access.token, options=_EAGER)
        )
        await self._stack.enter_async_context(client)
        self.gateways.append(_Gateway(access, client))

    async def publish(self, gateway: _Gateway, count: int) -> list[tuple[int, str]]:
        """Publish over the second pod; each event until it is accepted."""
        return [await self._publish_one(gateway, uuid4()) for _ in range(count)]

    async def _publish_one(self, gateway: _Gateway, event_id: UUID) -> tuple[int, str]:
        async def answer() -> dict[str, Any] | None:
            with suppress(Refused, aiohttp.ClientError):
                return await self.operator.publish(gateway.access.id, event_id=event_id)
            return None

        published = await eventually(answer, within=40)
        assert published is not None
        return published["offset"], published["eventId"]

    async def epoch(self) -> str:
        """The history that the pods follow."""
        position = (await self.operator.gateway(self.gateways[0].access.id))["position"]
        return str(position["epoch"])

    async def move_to(self, standby: PostgresServer, primary: PostgresServer, way: TcpProxy) -> None:
        """The primary dies, and with it the first pod; the standby takes over."""
        self.pods[0].kill()
        primary.kill()
        await standby.promote()
        self.ways[0].retarget(gateway_address(self.pods[1]))
        way.retarget(standby.socket)


def _behind(way: TcpProxy) -> str:
    return f"postgresql://postgres@{way.address}/postgres"


@pytest.mark.parametrize("lag", [0, 1, 2, 4, 20])
async def test_s20_what_a_promoted_standby_lacks_is_noticed(
    servers: tuple[PostgresServer, PostgresServer], lag: int
) -> None:
    """As many new events as were lost are published at once: the logs are as long as before, and hold other events.

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
        await scene.move_to(standby, primary, way)
        for gateway in scene.gateways:
            gateway.new = await scene.publish(gateway, max(lag, 1))
        for gateway in scene.gateways:
            log = gateway.kept + gateway.new
            assert [offset for offset, _ in log] == list(range(1, len(log) + 1))
            await gateway.has(_KEPT + lag + len(log))
            assert gateway.received[: _KEPT + lag] == gateway.kept + gateway.lost
            assert gateway.received[-len(log) :] == log
            await scene.operator.confirmed(gateway.access.id, len(log), within=40)
            if isinstance(gateway.client, RecordingGateway):
                assert gateway.client.resyncs == [("epoch", 0)]
        assert await scene.epoch() != before


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
        await eventually(lambda: _records_that_commits_wait(standby), within=20)
        for gateway in scene.gateways:
            gateway.lost = await scene.publish(gateway, 2)
            await gateway.has(_KEPT + 2)
            await scene.operator.confirmed(gateway.access.id, _KEPT + 2)
        await standby.caught_up_with(primary)
        await scene.move_to(standby, primary, way)
        for gateway in scene.gateways:
            gateway.new = await scene.publish(gateway, 2)
        for gateway in scene.gateways:
            log = gateway.kept + gateway.lost + gateway.new
            await gateway.has(len(log))
            await scene.operator.confirmed(gateway.access.id, len(log), within=40)
            assert gateway.received == log
            if isinstance(gateway.client, RecordingGateway):
                assert gateway.client.resyncs == []
        assert await scene.epoch() == before


async def test_s20_pods_find_the_new_primary_among_several_hosts_and_the_old_one_is_rewound(
    servers: tuple[PostgresServer, PostgresServer],
) -> None:
    """Nobody tells the pods: their URL names both servers. Nothing that was accepted is lost, nobody resynchronizes.

    The old primary then follows the new one, and gets what is published meanwhile.
    """
    primary, standby = servers
    # What is rewound reads its log from before the two parted.
    await primary.configure(synchronous_standby_names="standby", wal_keep_size="64MB")
    hosts = f"{primary.folder},{standby.folder}"
    database = f"postgresql://postgres@/postgres?host={hosts}&target_session_attrs=read-write"
    async with AsyncExitStack() as stack:
        scene = _Scene(stack, database)
        await scene.begin()
        before = await scene.epoch()
        await eventually(lambda: _records_that_commits_wait(standby), within=20)
        logs = {gateway.access.id: gateway.kept + await scene.publish(gateway, 2) for gateway in scene.gateways}
        primary.kill()
        await standby.promote()
        for gateway in scene.gateways:
            logs[gateway.access.id] += await scene.publish(gateway, 2)
        await standby.execute("CHECKPOINT")
        primary.rewind(standby)
        for gateway in scene.gateways:
            log = logs[gateway.access.id] = logs[gateway.access.id] + await scene.publish(gateway, 1)
            assert [offset for offset, _ in log] == list(range(1, len(log) + 1))
            await gateway.has(len(log))
            await scene.operator.confirmed(gateway.access.id, len(log), within=40)
            if isinstance(gateway.client, RecordingGateway):
                assert gateway.client.received == log
                assert gateway.client.resyncs == []
        assert await scene.epoch() == before
        await primary.caught_up_with(standby)
        heads = "SELECT count(*) FROM gatecast.events"
        assert await primary.fetch_value(heads) == sum(map(len, logs.values()))


async def _records_that_commits_wait(server: PostgresServer) -> bool:
    return bool(await server.fetch_value("SELECT synchronous FROM gatecast.epoch"))
