"""A log moves, between databases and to a stream, while real pods publish to hundreds of gateways."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest

from gatecast.cli.move_log.moving import move
from gatecast.cli.move_log.places import opened_places
from gatecast.client import EventPublisher
from gatecast.testing.doubles.recording_gateway import RecordingGateway
from gatecast.testing.nats_server import NatsServer
from gatecast.testing.processes.deployment import Deployment, Site, address_of, gateway_address
from gatecast.testing.processes.load import Load, check_delivery
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.waiting import Backoff

#: Connected gateways, by the way that the log takes.
_GATEWAYS = {"sqlite-to-postgresql": 100, "sqlite-to-jetstream": 100, "postgresql-to-jetstream": 500}
_TOKEN = "an-admin-token-for-tests"


@pytest.fixture(params=_GATEWAYS)
def ways(request: pytest.FixtureRequest) -> tuple[str, Site, int]:
    """The database of the old pods, where the new ones keep what they have, and how many gateways there are."""
    kind, _, target = request.param.partition("-to-")
    source = str(request.getfixturevalue("sqlite_url" if kind == "sqlite" else "postgres_url"))
    if target == "postgresql":
        return source, Site(database=str(request.getfixturevalue("empty_postgres_url"))), _GATEWAYS[request.param]
    nats: NatsServer = request.getfixturevalue("nats")
    return source, Site(database=nats.url(f"A{uuid4().hex}"), outbox=source), _GATEWAYS[request.param]


async def test_hundreds_of_gateways_get_everything_and_nobody_resynchronizes(ways: tuple[str, Site, int]) -> None:
    """Publishers repeat what the old pod refuses, until the new one accepts it; each log is exact.

    The old pod goes on while the new one runs: whoever comes to it must be neither served nor led astray.
    """
    database, site, count = ways
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(Deployment(database, gateway_tls="off"))
        # Ends after the gateways: hundreds that look for a pod while one after the other of them ends take minutes.
        new = await stack.enter_async_context(Deployment(site, gateway_tls="off"))
        [pod] = await old.start("old")
        operator = await old.operator(pod)
        gateways = [await operator.create_gateway(f"edge-{number}") for number in range(count)]
        way = await stack.enter_async_context(TcpProxy(gateway_address(pod)))
        entrance = await stack.enter_async_context(TcpProxy(address_of(pod.api)))
        recorders = {each.id: RecordingGateway(f"http://{way.address}", each.token) for each in gateways}
        for recorder in recorders.values():
            await stack.enter_async_context(recorder)
        backoff = Backoff(first=0.02, longest=0.1)
        publisher = EventPublisher(f"http://{entrance.address}", _TOKEN, backoff=backoff)
        load = Load([await stack.enter_async_context(publisher)], list(recorders))
        moved_away = asyncio.Event()
        publishing = asyncio.create_task(_publish_until(moved_away, load))
        await load.reached(count)

        async with opened_places(database, site.database) as places:
            moved = await move(*places)
        assert load.count <= moved.rows["gatecast.events"]

        [pod] = await new.start("new")
        way.retarget(gateway_address(pod))
        entrance.retarget(address_of(pod.api))
        moved_away.set()
        await publishing
        assert load.count > moved.rows["gatecast.events"]
        for gateway_id, recorder in recorders.items():
            accepted = load.accepted[gateway_id]
            await recorder.until(len(accepted))
            check_delivery(recorder.received, accepted, connections=way.accepted)
            assert recorder.resyncs == []


async def _publish_until(moved_away: asyncio.Event, load: Load) -> None:
    """To every gateway in turn, however fast that is, and once more afterwards."""
    while not moved_away.is_set():
        await load.publish(1)
    await load.publish(1)
