"""An installation in which nothing happens asks little and reads nothing."""

from __future__ import annotations

from gatecast.hub import EventHub
from gatecast.settings import Settings
from gatecast.storage.contract import Storage
from gatecast.testing.eventually import eventually
from gatecast.testing.postgres_reads import reads_of
from gatecast.testing.storage_backend import ALIVE, make_event, publish


async def test_s10_polls_of_idle_pods_read_next_to_nothing(large_url: str) -> None:
    """Three pods that look 40 times each at 20,000 gateways read a handful of rows for each look."""

    async def idle(storage: Storage) -> None:
        marker = (await storage.log.changed_since(2**60)).marker
        for number in range(120):
            pod_id = f"pod-{1 + number % 3}"
            marker = (await storage.log.changed_since(marker)).marker
            await storage.presence.dismissals(pod_id)
            await storage.presence.renew_lease(pod_id, ALIVE)

    reads = await reads_of(large_url, idle)
    assert sum(table.rows for table in reads.values()) <= 120 * 20, reads
    assert reads["events"].rows == 0


async def test_s09_a_pod_without_the_gateway_reads_no_events_for_it(large_url: str) -> None:
    """It learns of every change, by hint and by sweep, and leaves the events alone."""

    async def publish_beside_a_pod(storage: Storage) -> None:
        async with EventHub.open(settings=Settings(database=large_url, pod_id="bystander")) as bystander:
            for number in range(1, 101):
                await publish(storage, make_event(f"gateway-{number}"))
            marker = (await storage.log.changed_since(2**60)).marker
            await eventually(lambda: _has_looked(bystander, marker), within=20)

    reads = await reads_of(large_url, publish_beside_a_pod)
    assert reads["events"].scans == 0
    # Some entries of the index are looked at when an id proves to be new.
    assert reads["events"].rows <= 10


async def _has_looked(hub: EventHub, marker: int) -> bool:
    swept = hub.delivery.reader._swept
    return swept is not None and swept.marker >= marker
