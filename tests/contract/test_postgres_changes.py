"""A server that takes another one's place is noticed, even when its transaction ids have overtaken the marker."""

from __future__ import annotations

import asyncio

import asyncpg

from gatecast.storage.changes import changes_since
from gatecast.storage.contract import Storage
from gatecast.storage.postgres import PostgresStorage
from gatecast.testing.contracts.backend import GATEWAY, OTHER_GATEWAY, make_events, publish
from gatecast.testing.postgres_server import PostgresServer

#: What a standby holds that has not received the last event: the row as it was before.
_LAG = "UPDATE gatecast.gateway_streams SET head = 2, changed_xid = $2::text::xid8 WHERE gateway_id = $1"


async def _lose_the_last_event(url: str, old_xid: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute('DELETE FROM gatecast.events WHERE "offset" = 3')
        await connection.execute(_LAG, GATEWAY, old_xid)
    finally:
        await connection.close()


async def _xid_of_the_log(storage: Storage) -> str:
    [row] = await storage.database.fetch("SELECT changed_xid::text AS xid FROM gatecast.gateway_streams")
    return str(row["xid"])


async def test_s20_a_lagging_server_whose_ids_overtook_the_marker_tells_every_head() -> None:
    with PostgresServer(fsync="off") as server:
        async with PostgresStorage.open(server.url()) as storage:
            await storage.database.migrate()
            await storage.log.register(GATEWAY)
            await publish(storage, *make_events(2))
            old_xid = await _xid_of_the_log(storage)
            await publish(storage, *make_events(1))
            earlier = await storage.log.changed_since(0)
            assert (await storage.log.changed_since(earlier.marker)).continues(earlier)
            await _lose_the_last_event(server.url(), old_xid)
            await asyncio.to_thread(_restart, server)
        # As a pool does that replaces its dead connections in silence.
        async with PostgresStorage.open(server.url()) as storage:
            await storage.log.register(OTHER_GATEWAY)
            answer = await storage.log.changed_since(earlier.marker)
            assert answer.marker > earlier.marker
            assert GATEWAY not in answer.heads
            assert (await changes_since(storage.log, earlier)).heads == {GATEWAY: 2, OTHER_GATEWAY: 0}


def _restart(server: PostgresServer) -> None:
    server.kill()
    server.start()


async def test_s20_tables_that_were_loaded_anew_tell_every_head(postgres_url: str) -> None:
    """A logical restore needs no other server."""
    async with PostgresStorage.open(postgres_url) as storage:
        await storage.log.register(GATEWAY)
        earlier = await storage.log.changed_since(0)
        async with storage.database.transaction() as transaction:
            [row] = await transaction.fetch("DELETE FROM gatecast.epoch RETURNING current")
            await transaction.execute("INSERT INTO gatecast.epoch (current) VALUES ($1)", row["current"])
        await storage.log.register(OTHER_GATEWAY)
        answer = await changes_since(storage.log, earlier)
        assert answer.epoch == earlier.epoch
        assert answer.heads.keys() == {GATEWAY, OTHER_GATEWAY}
