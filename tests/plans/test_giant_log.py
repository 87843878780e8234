"""A gateway with a million events costs work for other gateways nothing (scenario S12): rows are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta

import asyncpg
import pytest

from gatecast.storage.contract import ReadRequest, Storage, TrimPolicy
from gatecast.testing.contracts.backend import make_event, publish
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.postgres_reads import reads_of

_EVENTS = 1_000_000

#: Only the giant's log has this many rows; a statement that reads a share of them reads them for nothing.
_FEW = 200

_LONG = timedelta(days=3_650)

_FILL = f"""
INSERT INTO gatecast.gateway_streams (gateway_id, head, registered_in)
    SELECT name, head, current
    FROM (VALUES ('giant', {_EVENTS}), ('small', 10), ('empty', 0)) s (name, head), gatecast.epoch;
INSERT INTO gatecast.events (log_id, "offset", event_id, type, action, entity_type, entity_id, payload, size,
                             originated_at)
    SELECT log_id, o, (lpad(to_hex(log_id), 16, '0') || lpad(to_hex(o), 16, '0'))::uuid, 'api.updated', 'UPDATE',
           'Api', 'api-1', '{{}}', 2, now()
    FROM gatecast.gateway_streams, generate_series(1, head) o;
"""


@pytest.fixture(scope="module")
def giant_url(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """One gateway with a million events, and small ones beside it; right after the load, without statistics."""
    name = "giant"
    asyncio.run(_execute(postgres.url(), f'CREATE DATABASE "{name}" TEMPLATE "{postgres_template}"'))
    asyncio.run(_execute(postgres.url(name), _FILL))
    yield postgres.url(name)
    asyncio.run(_execute(postgres.url(), f'DROP DATABASE "{name}" WITH (FORCE)'))


async def _execute(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


async def _read_the_others(storage: Storage) -> None:
    requests = [
        ReadRequest(gateway_id=name, after=0, max_events=256, max_bytes=1_000_000) for name in ("small", "empty")
    ]
    small, empty = await storage.log.read(requests)
    assert small is not None
    assert empty is not None
    assert (len(small.events), len(empty.events)) == (10, 0)


async def _publish_to_another(storage: Storage) -> None:
    await publish(storage, make_event("empty"))
    await storage.log.trim(TrimPolicy(keep_confirmed=_LONG, keep_at_most=_LONG, max_events=_EVENTS))


async def _look_around(storage: Storage) -> None:
    marker = (await storage.log.changed_since(2**60)).marker
    await storage.log.changed_since(marker)
    await storage.presence.status(["giant", "small", "empty"])


async def _trim_nothing(storage: Storage) -> None:
    """Nothing is old: that much is seen at the oldest event of each log."""
    assert await storage.log.trim(TrimPolicy(keep_confirmed=_LONG, keep_at_most=_LONG, max_events=_EVENTS)) == 0


async def _find_the_giants_place(storage: Storage) -> None:
    """A log is read backwards, to what was recorded before the marker: here that is its last event."""
    marker = (await storage.log.changed_since(2**60)).lasting
    places = await storage.log.places(["giant", "small", "empty"], marker)
    assert places["giant"].offset == _EVENTS


async def _read_the_giant_in_the_middle(storage: Storage) -> None:
    """Also its own reads cost what they return."""
    request = ReadRequest(gateway_id="giant", after=_EVENTS // 2, max_events=100, max_bytes=1_000_000)
    [found] = await storage.log.read([request])
    assert found is not None
    assert len(found.events) == 100


@pytest.mark.parametrize(
    "work",
    [
        _read_the_others,
        _publish_to_another,
        _look_around,
        _trim_nothing,
        _find_the_giants_place,
        _read_the_giant_in_the_middle,
    ],
)
async def test_s12_a_million_events_of_one_gateway_are_not_read_for_the_others(
    giant_url: str, work: Callable[[Storage], Awaitable[None]]
) -> None:
    """However often it is asked: the plans for any parameters are as good as those for these."""

    async def often(storage: Storage) -> None:
        for _ in range(8):
            await work(storage)

    reads = await reads_of(giant_url, often)
    assert reads["events"].scans == 0
    assert reads["events"].rows <= 8 * _FEW, reads


async def test_s12_a_chunk_of_a_giant_log_reads_about_a_chunk(giant_url: str) -> None:
    """What goes is a thousand; the other 999,000 are left alone."""
    policy = TrimPolicy(keep_confirmed=_LONG, keep_at_most=_LONG, max_events=_EVENTS - 1_000, chunk=1_000)

    async def trim(storage: Storage) -> None:
        assert await storage.log.trim(policy) == 1_000

    reads = await reads_of(giant_url, trim)
    assert reads["events"].scans == 0
    assert reads["events"].rows <= 10_000, reads
