"""A large database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from gatecast.testing.postgres_server import PostgresServer

_FILL = """
INSERT INTO gatecast.pods SELECT 'pod-' || n, now() + interval '1 day' FROM generate_series(1, 3) n;
INSERT INTO gatecast.gateway_streams (gateway_id, head, registered_in)
    SELECT 'gateway-' || n, 10, current FROM generate_series(1, 20000) n, gatecast.epoch;
INSERT INTO gatecast.events (log_id, "offset", event_id, type, action, entity_type, entity_id, payload, size,
                             originated_at)
    SELECT log_id, o, gen_random_uuid(), 'api.updated', 'UPDATE', 'Api', 'api-' || o, '{}', 2, now()
    FROM gatecast.gateway_streams, generate_series(1, 10) o;
INSERT INTO gatecast.cursors (gateway_id, replica, epoch, sent, confirmed)
    SELECT 'gateway-' || n, '', current, 8, 8 FROM generate_series(1, 20000) n, gatecast.epoch;
INSERT INTO gatecast.connections (connection_id, gateway_id, replica, pod_id, protocol, remote, token_id, sent,
                                  confirmed)
    SELECT 'connection-' || n, 'gateway-' || n, '', 'pod-' || (1 + n % 3), 'gateway.v1', '', 'token-' || n, 8, 8
    FROM generate_series(1, 20000) n;
INSERT INTO gatecast.outcomes (log_id, replica, "offset", kind, reason)
    SELECT log_id, '', 1, 'applied', '' FROM gatecast.gateway_streams;
"""


@pytest.fixture(scope="module", params=["fresh", "analyzed"])
def large_url(request: pytest.FixtureRequest, postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """20,000 gateways with 200,000 events: right after a bulk load, and with statistics as in daily life."""
    name = f"large_{request.param}"
    asyncio.run(_execute(postgres.url(), f'CREATE DATABASE "{name}" TEMPLATE "{postgres_template}"'))
    asyncio.run(_execute(postgres.url(name), _FILL))
    if request.param == "analyzed":
        asyncio.run(_execute(postgres.url(name), "VACUUM ANALYZE"))
    yield postgres.url(name)
    asyncio.run(_execute(postgres.url(), f'DROP DATABASE "{name}" WITH (FORCE)'))


async def _execute(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()
