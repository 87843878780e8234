"""A large database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import asyncpg
import pytest

from gatecast.testing.postgres_server import PostgresServer

NewDatabase = Callable[..., AbstractContextManager[str]]

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


#: What a database is called that is filled once, and copied for each module and each kind of statistics.
_TEMPLATE = "large_template"


@pytest.fixture(scope="session")
def large_template(postgres: PostgresServer, postgres_template: str) -> str:
    """20,000 gateways with 200,000 events, right after a bulk load; nobody else may connect to it."""
    asyncio.run(postgres.execute(f'CREATE DATABASE "{_TEMPLATE}" TEMPLATE "{postgres_template}"'))
    asyncio.run(_execute(postgres.url(_TEMPLATE), _FILL))
    return _TEMPLATE


@pytest.fixture(scope="module", params=["fresh", "analyzed"])
def large_url(request: pytest.FixtureRequest, new_postgres_database: NewDatabase, large_template: str) -> Iterator[str]:
    """20,000 gateways with 200,000 events: right after a bulk load, and with statistics as in daily life."""
    with new_postgres_database(large_template, f"large_{request.param}") as url:
        if request.param == "analyzed":
            asyncio.run(_execute(url, "VACUUM ANALYZE"))
        yield url


async def _execute(url: str, statements: str) -> None:
    """Run statements in a database."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()
