"""One event for every gateway of a large organization is one statement, whose cost follows the number of gateways."""

from __future__ import annotations

import asyncpg

from gatecast.storage.postgres import PostgresStorage
from gatecast.testing.contracts.backend import make_event, publish

_GATEWAYS = 20_000

_FILL = f"""
INSERT INTO gatecast.gateway_streams (gateway_id, registered_in)
SELECT 'gateway-' || n, e.current FROM generate_series(1, {_GATEWAYS}) n, gatecast.epoch e
"""


async def test_p8_a_fan_out_to_twenty_thousand_gateways_is_stored_within_the_time_limit_of_a_statement(
    postgres_url: str,
) -> None:
    """Also by a connection that has published little until then, whose plan it uses.

    If each event were compared with each other one, that would take a minute, and every such fan-out would fail.
    """
    async with PostgresStorage.open(postgres_url, pool_size=1) as storage:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(_FILL)
        await connection.close()
        event = make_event("gateway-1")
        for _ in range(7):
            await publish(storage, *(make_event(f"gateway-{number}") for number in (1, 2)))
        receipts = await publish(storage, *(event.addressed_to(f"gateway-{n}") for n in range(1, _GATEWAYS + 1)))
        assert [receipt.position.offset for receipt in receipts] == [8, 8] + [1] * (_GATEWAYS - 2)
        again = await publish(storage, *(event.addressed_to(f"gateway-{n}") for n in range(1, _GATEWAYS + 1)))
        assert [receipt.created for receipt in again] == [False] * _GATEWAYS
