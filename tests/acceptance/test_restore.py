"""The database is restored from an older backup while everything stands still (scenario S20)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from gatecast import EventHub, Settings
from gatecast.client import GatewayClient, GatewayEvent
from gatecast.controlplane.access.gateway_tokens import GatewayTokens
from gatecast.controlplane.access.gateways import GatewayFields, Gateways
from gatecast.controlplane.migrations import MIGRATIONS
from gatecast.events import Position
from gatecast.testing.doubles.recording_gateway import EAGER
from gatecast.testing.eventually import eventually
from gatecast.testing.operator import Operator
from gatecast.testing.pods import RunningPod
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.deployment import Deployment, gateway_address
from gatecast.testing.unmodified_gateway import GatewayOptions, UnmodifiedGateway

pytestmark = pytest.mark.acceptance

_EAGER = GatewayOptions(reconnect_initial=0.05, reconnect_max=0.5)

_NAMES = ("speaks-v2", "unmodified")

#: Does what a person does with a backup.
Restore = Callable[[], Awaitable[None]]


class _Explicit:
    """A gateway of `gatecast.v2`: remembers offsets and ids, and what it was told to read anew."""

    def __init__(self) -> None:
        self.received: list[tuple[int, str]] = []
        self.resyncs: list[tuple[str, int]] = []

    async def handle(self, event: GatewayEvent) -> None:
        self.received.append((event.position.offset, event.event_id))

    async def resynchronize(self, reason: str, position: Position) -> None:
        self.resyncs.append((reason, position.offset))

    @asynccontextmanager
    async def connected_to(self, address: str, token: str) -> AsyncIterator[None]:
        async with GatewayClient(f"https://{address}", token, ssl=False, options=EAGER) as client:
            running = asyncio.create_task(client.run(self.handle, on_resync=self.resynchronize))
            try:
                yield
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running

    async def until(self, count: int) -> None:
        async def reached() -> bool:
            return len(self.received) >= count

        await eventually(reached)


async def _prepare(database: str) -> list[tuple[str, str]]:
    """A database with two gateways; their ids and tokens."""
    async with EventHub.open(settings=Settings(database=database), migrations=MIGRATIONS) as hub:
        gateways = [(await Gateways(hub).create("default", GatewayFields(name=name))).gateway for name in _NAMES]
        return [(each.id, (await GatewayTokens(hub).issue("default", each.id)).token) for each in gateways]


async def _publish(operator: Operator, gateway_ids: list[str], count: int) -> list[list[tuple[int, str]]]:
    """Offsets and ids of new events, for each gateway."""
    answers = [[await operator.publish(gateway_id) for _ in range(count)] for gateway_id in gateway_ids]
    return [[(each["offset"], each["eventId"]) for each in one] for one in answers]


async def _back_up(database: str, postgres: PostgresServer) -> Restore:
    if database.startswith("sqlite"):
        return _copy_of_file(Path(database.removeprefix("sqlite:///")))
    return await _copy_of_database(urlsplit(database).path[1:], postgres.url())


def _copy_of_file(file: Path) -> Restore:
    kept = file.with_suffix(".backup")
    shutil.copy(file, kept)
    # The last process to close the file leaves nothing beside it.
    assert not file.with_name(f"{file.name}-wal").exists()

    async def restore() -> None:
        assert not file.with_name(f"{file.name}-wal").exists()
        shutil.copy(kept, file)

    return restore


async def _copy_of_database(name: str, server: str) -> Restore:
    await _execute(server, f'CREATE DATABASE "{name}_backup" TEMPLATE "{name}"')

    async def restore() -> None:
        await _execute(server, f'DROP DATABASE "{name}"', f'ALTER DATABASE "{name}_backup" RENAME TO "{name}"')

    return restore


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_s20_after_a_restore_gateways_are_told_and_take_nothing_for_delivered(
    database: str, postgres: PostgresServer
) -> None:
    """Offsets that they have had before come again with other events, and reach them; nobody has to say anything."""
    [(explicit_id, explicit_token), (unmodified_id, unmodified_token)] = await _prepare(database)
    gateway_ids = [explicit_id, unmodified_id]
    async with Deployment(database) as deployment:
        [pod] = await deployment.start("one")
        way = await deployment.balancer(pod)
        explicit, unmodified = _Explicit(), UnmodifiedGateway(way.address, unmodified_token, options=_EAGER)
        async with explicit.connected_to(way.address, explicit_token), unmodified:
            kept = await _publish(await deployment.operator(pod), gateway_ids, 2)
            await _stop_when_confirmed(deployment, pod, gateway_ids, 2)
            restore = await _back_up(database, postgres)

            [pod] = await deployment.start("one")
            way.retarget(gateway_address(pod))
            lost = await _publish(await deployment.operator(pod), gateway_ids, 3)
            await _stop_when_confirmed(deployment, pod, gateway_ids, 5)
            await restore()

            [pod] = await deployment.start("one")
            way.retarget(gateway_address(pod))
            operator = await deployment.operator(pod)
            new = await _publish(operator, gateway_ids, 1)
            await explicit.until(8)
            await unmodified.wait_until(lambda: len(unmodified.received) == 8)
            received = [explicit.received, [(each.offset, each.event_id) for each in unmodified.received]]
            # What is retained comes again, and then what took the place of what was lost.
            assert received == [k + gone + k + n for k, gone, n in zip(kept, lost, new, strict=True)]
            assert [offset for [(offset, _)] in new] == [3, 3]
            await operator.confirmed(explicit_id, 3)
            assert explicit.resyncs == [("epoch", 0)]
            await eventually(lambda: _is_current(operator, explicit_id))
            # Nobody can tell an unmodified gateway, and what the operator published only the operator can say again.
            assert not await _is_current(operator, unmodified_id)
            await operator.ask("POST", f"/gateways/{unmodified_id}/resynchronized")
            assert await _is_current(operator, unmodified_id)


async def test_s20_a_client_that_names_its_last_event_notices_what_nobody_else_can(tmp_path: Path) -> None:
    """The whole folder was put back while no pod ran: only the client remembers that another event stood there."""
    folder, backup = tmp_path / "database", tmp_path / "backup"
    folder.mkdir()
    database = f"sqlite:///{folder}/gatecast.db"
    [(gateway_id, token), _] = await _prepare(database)
    async with Deployment(database) as deployment:
        [pod] = await deployment.start("one")
        way = await deployment.balancer(pod)
        explicit = _Explicit()
        async with explicit.connected_to(way.address, token):
            [kept] = await _publish(await deployment.operator(pod), [gateway_id], 3)
            await _stop_when_confirmed(deployment, pod, [gateway_id], 3)
            shutil.copytree(folder, backup, ignore=shutil.ignore_patterns("*.sock"))
            [pod] = await deployment.start("one")
            way.retarget(gateway_address(pod))
            [lost] = await _publish(await deployment.operator(pod), [gateway_id], 2)
            await explicit.until(5)
            await _stop_when_confirmed(deployment, pod, [gateway_id], 5)
            way.cut()
            shutil.rmtree(folder)
            shutil.copytree(backup, folder)
            [pod] = await deployment.start("one")
            operator = await deployment.operator(pod)
            [new] = await _publish(operator, [gateway_id], 4)
            way.retarget(gateway_address(pod))
            way.heal()
            await explicit.until(12)
            assert explicit.received == kept + lost + kept + new
            assert explicit.resyncs == [("epoch", 0)]
            await operator.confirmed(gateway_id, 7)


async def _is_current(operator: Operator, gateway_id: str) -> bool:
    return (await operator.gateway(gateway_id))["resyncReason"] is None


async def _stop_when_confirmed(deployment: Deployment, pod: RunningPod, gateway_ids: list[str], offset: int) -> None:
    operator = await deployment.operator(pod)
    for gateway_id in gateway_ids:
        await operator.confirmed(gateway_id, offset)
    pod.terminate()
    assert await pod.ended() == 0
