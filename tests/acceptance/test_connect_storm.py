"""Hundreds of gateways, or thousands with `make storm`, and pods that leave them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

import pytest
from aiohttp import WSMsgType

from gatecast import Action, Event, EventHub, Settings
from gatecast.controlplane.access.gateway_tokens import GatewayTokens
from gatecast.controlplane.access.gateways import GatewayFields, Gateways
from gatecast.controlplane.migrations import MIGRATIONS
from gatecast.testing.doubles.raw_connection import CONNECT_PATH, RawConnection
from gatecast.testing.doubles.recording_gateway import RecordingGateway
from gatecast.testing.pods import RunningPod
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.deployment import Deployment, Site, gateway_address
from gatecast.testing.processes.load import Load, check_delivery

pytestmark = pytest.mark.acceptance

NewDatabase = Callable[[], Awaitable[str]]

_GATEWAYS = 500

_ROUNDS = 3


async def _register(hub: EventHub, count: int) -> list[tuple[str, str]]:
    """Ids and tokens of new gateways."""
    gateways, tokens = Gateways(hub), GatewayTokens(hub)
    made = []
    for number in range(count):
        gateway = (await gateways.create("default", GatewayFields(name=f"gateway-{number}"))).gateway
        made.append((gateway.id, (await tokens.issue("default", gateway.id)).token))
    return made


async def test_s30_five_hundred_gateways_get_exactly_what_was_committed_while_pods_die_and_stand_still(
    large_site: Site,
) -> None:
    """Events are published on all pods all the time.

    One pod dies, and everybody who was on it connects elsewhere at once. Another one stands still for longer than its
    lease, so that all others count it as dead; its gateways go away as well, and it runs on as if nothing had happened.
    """
    async with Deployment(large_site) as deployment, AsyncExitStack() as stack:
        dying, freezing, staying = pods = await deployment.start("dying", "freezing", "staying")
        operator = await deployment.operator(staying)
        async with EventHub.open(settings=large_site.settings(), migrations=MIGRATIONS) as hub:
            accesses = await _register(hub, _GATEWAYS)
        # Stays where it is, so that it is connected for as long as its pod counts as alive. It asks once, so it comes
        # before the crowd: a pod that is too busy answers 503.
        witness = await operator.create_gateway("witness")
        await stack.enter_async_context(RawConnection.open(freezing.gateways, witness.token))
        balancers = [await deployment.balancer(pod) for pod in pods]
        gateways = [
            await stack.enter_async_context(RecordingGateway(f"https://{balancers[number % len(pods)].address}", token))
            for number, (_, token) in enumerate(accesses)
        ]
        load = Load(await deployment.publishers(*pods), [gateway_id for gateway_id, _ in accesses])
        publishing = asyncio.create_task(load.publish(_ROUNDS, workers=16))
        await load.reached(_GATEWAYS)
        dying.kill()
        await dying.ended()
        balancers[0].retarget(gateway_address(staying))
        await load.reached(_GATEWAYS * 3 // 2)
        freezing.freeze()
        balancers[1].retarget(gateway_address(staying))
        await operator.connections(witness.id, 0)
        freezing.thaw()
        await publishing
        await asyncio.gather(*(gateway.until(_ROUNDS) for gateway in gateways))
        for gateway, (gateway_id, _) in zip(gateways, accesses, strict=True):
            check_delivery(gateway.received, load.accepted[gateway_id], connections=1)


# --- thousands: they take minutes and more open files than a process usually may have ---------------------------------

_STORM = int(os.environ.get("STORM", "0"))
_STORM_ROUNDS = 3
_STORM_TIME_LIMIT = 500.0

#: Sockets of this process and of each pod, and some more.
_OPEN_FILES = 2 * _STORM + 1_000


class _BareGateway:
    """As little as can be a gateway: reads frames, answers Pings, and connects again wherever a pod is left."""

    def __init__(self, access: tuple[str, str], pods: list[RunningPod], number: int) -> None:
        self.id, self._token = access
        self._pods = pods
        self._number = number
        #: Offset and id of each event, in the order of arrival.
        self.received: list[tuple[int, str]] = []
        self.connections = 0
        #: Where it was connected last.
        self.pod: RunningPod | None = None
        self._moved = asyncio.Event()

    async def run(self) -> None:
        while True:
            self._number += 1
            self.pod = self._pods[self._number % len(self._pods)]
            host, port = gateway_address(self.pod)
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    await self._speak(reader, writer)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(random.random())  # noqa: S311 - spreads load

    async def until(self, offset: int) -> None:
        """Return when it has been connected, and has got everything up to this offset."""
        while not self.connections or (self.received[-1][0] if self.received else 0) < offset:
            self._moved.clear()
            await self._moved.wait()

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            f"GET {CONNECT_PATH} HTTP/1.1\r\nHost: pod\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY}\r\napi-key: {self._token}\r\n\r\n".encode()
        )
        answer = await reader.readuntil(b"\r\n\r\n")
        status = int(answer.split()[1])
        assert status in (101, 503), answer
        if status == 101:
            self.connections += 1
            self._moved.set()
        while status == 101:
            kind, payload = await _read_frame(reader)
            if kind == WSMsgType.PING:
                # Masked with zeros.
                writer.write(bytes([0x80 | WSMsgType.PONG, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
            elif kind == WSMsgType.TEXT and (position := json.loads(payload).get("position")):
                self.received.append((int(position.rpartition(":")[2]), json.loads(payload)["eventId"]))
                self._moved.set()
            elif kind == WSMsgType.CLOSE:
                return


_KEY = b64encode(bytes(16)).decode()


async def _read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, length = await reader.readexactly(2)
    if length == 126:
        length = int.from_bytes(await reader.readexactly(2))
    return first & 0x0F, await reader.readexactly(length)


@pytest.mark.skipif(not _STORM, reason="STORM says how many gateways; make storm")
@pytest.mark.timeout(_STORM_TIME_LIMIT + 100)
def test_s30_thousands_of_gateways_resume_without_a_gap_after_a_pods_death(
    postgres: PostgresServer, new_database: NewDatabase
) -> None:
    """Each of three pods holds a third of them; when one dies, its third comes to the others at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < _OPEN_FILES:
        pytest.skip(f"needs {_OPEN_FILES} open files, and {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        asyncio.run(_storm(postgres, new_database))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _storm(postgres: PostgresServer, new_database: NewDatabase) -> None:
    database = postgres.url(await new_database())
    async with (
        asyncio.timeout(_STORM_TIME_LIMIT),
        Deployment(database, gateway_tls="off", max_connections_per_address="1000000") as deployment,
        EventHub.open(settings=Settings(database=database), migrations=MIGRATIONS) as hub,
    ):
        pods = await deployment.start("dying", "two", "three")
        gateways = [_BareGateway(access, pods, number) for number, access in enumerate(await _register(hub, _STORM))]
        # A gateway that fails ends the test.
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(gateway.run()) for gateway in gateways]
            await asyncio.gather(*(gateway.until(0) for gateway in gateways))
            accepted = [await _tell_all(hub, gateways)]
            await asyncio.gather(*(gateway.until(1) for gateway in gateways))
            dying = pods.pop(0)
            on_dying = [gateway for gateway in gateways if gateway.pod is dying]
            assert on_dying
            dying.kill()
            # While they connect elsewhere.
            accepted += [await _tell_all(hub, gateways) for _ in range(_STORM_ROUNDS - 1)]
            await asyncio.gather(*(gateway.until(_STORM_ROUNDS) for gateway in gateways))
            assert not any(gateway.pod is dying for gateway in on_dying)
            for task in running:
                task.cancel()
        for gateway in gateways:
            check_delivery(gateway.received, dict(enumerate(accepted, 1)), connections=gateway.connections)


async def _tell_all(hub: EventHub, gateways: list[_BareGateway]) -> str:
    """Publish one event to everybody, a thousand gateways at a time; its id."""
    event = Event(gateway_id=gateways[0].id, type="api.updated", action=Action.UPDATE, entity_type="Api", entity_id="a")
    for first in range(0, len(gateways), 1_000):
        await hub.publish([event.addressed_to(gateway.id) for gateway in gateways[first : first + 1_000]])
    return str(event.event_id)
