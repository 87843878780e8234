"""Three servers with three copies: one may die under load, two may die for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from gatecast import Event, EventHub, Position, Settings
from gatecast.errors import DatabaseUnsuitable, StorageError, StorageUnavailable, SubscriptionClosed
from gatecast.testing.contracts.backend import GATEWAY, ids_of, make_event
from gatecast.testing.eventually import PATIENCE
from gatecast.testing.nats_server import NatsServer, nats_cluster

pytestmark = pytest.mark.slow

#: Events of each publisher before a server dies, and after.
_BEFORE, _AFTER = 8, 12


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[NatsServer]]:
    """Three servers; a test starts those again that it has killed."""
    with nats_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@asynccontextmanager
async def _hub(servers: list[NatsServer], stream: str, pod: str) -> AsyncIterator[EventHub]:
    url = f"nats://{','.join(server.address for server in servers)}/{stream}"
    settings = Settings(database=url, pod_id=pod, poll_interval=timedelta(milliseconds=200))
    async with asyncio.timeout(PATIENCE):
        while True:
            opening = EventHub.open(settings=settings)
            try:
                hub = await opening.__aenter__()
                break
            except (StorageError, DatabaseUnsuitable):
                # The servers have not found each other yet.
                await asyncio.sleep(0.1)
    try:
        yield hub
    finally:
        await opening.__aexit__(None, None, None)


async def _publish(hub: EventHub, event: Event) -> Position:
    """As a publisher does that repeats by the event's id what it does not know to be stored."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await hub.publish(event)
            except StorageUnavailable:
                await asyncio.sleep(0.05)


async def _publish_some(hub: EventHub, gateway_id: str, count: int) -> list[Event]:
    events = [make_event(gateway_id) for _ in range(count)]
    for event in events:
        await _publish(hub, event)
    return events


async def _receive(hub: EventHub, received: list[tuple[int, object]], count: int) -> None:
    """As a gateway that comes back when it is sent away, and confirms each event."""
    while len(received) < count:
        try:
            async with hub.subscribe(GATEWAY) as subscription:
                while len(received) < count:
                    event = await anext(subscription)
                    if not received or event.offset > received[-1][0]:
                        received.append((event.offset, event.event_id))
                    subscription.acknowledge(event)
        except (SubscriptionClosed, StorageUnavailable):
            await asyncio.sleep(0.05)


async def _leader(hub: EventHub) -> int:
    stream = hub.engine.log._stream  # type: ignore[attr-defined] # looks inside
    answer = await stream.connection.ask(f"$JS.API.STREAM.INFO.{stream.subjects.name}", {})
    return int(answer["cluster"]["leader"].rpartition("-")[2])


async def test_p1_the_server_that_leads_dies_under_load_and_no_accepted_event_is_lost(
    cluster: list[NatsServer],
) -> None:
    """Pods go on by themselves: each event is in the log once, and arrives once, in order."""
    total = 2 * (_BEFORE + _AFTER)
    async with _hub(cluster, "LOAD", "pod-1") as one, _hub(cluster, "LOAD", "pod-2") as two, asyncio.timeout(PATIENCE):
        await one.register_gateway(GATEWAY)
        received: list[tuple[int, object]] = []
        receiving = asyncio.create_task(_receive(two, received, total))
        await asyncio.gather(*(_publish_some(hub, GATEWAY, _BEFORE) for hub in (one, two)))
        publishing = [asyncio.create_task(_publish_some(hub, GATEWAY, _AFTER)) for hub in (one, two)]
        leader = cluster[await _leader(one)]
        leader.kill()
        accepted = [event for events in await asyncio.gather(*publishing) for event in events]
        await receiving
        stored = await ids_of(one.engine)
        assert len(stored) == len(set(stored)) == total
        assert {event.event_id for event in accepted} <= set(stored)
        assert received == list(enumerate(stored, 1))
    leader.start()


async def test_p10_without_a_majority_nothing_is_accepted_and_everything_goes_on_when_it_is_back(
    cluster: list[NatsServer],
) -> None:
    """Two of three servers are killed: a publish fails, and what was accepted before is there afterwards."""
    async with _hub(cluster, "MAJORITY", "pod-1") as hub, asyncio.timeout(PATIENCE):
        await hub.register_gateway(GATEWAY)
        accepted = await _publish_some(hub, GATEWAY, 5)
        for server in cluster[1:]:
            server.kill()
        event = make_event()
        with pytest.raises(StorageUnavailable):
            await hub.engine.log.publish([[event]])
        for server in cluster[1:]:
            server.start()
        await _publish(hub, event)
        assert await ids_of(hub.engine) == [*(each.event_id for each in accepted), event.event_id]
