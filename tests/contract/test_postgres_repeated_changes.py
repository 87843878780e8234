"""A change that PostgreSQL gave up for the sake of another transaction is done again, as a whole."""

from __future__ import annotations

import asyncio

import asyncpg

from gatecast import EventHub, Settings
from gatecast.controlplane.catalog.artifact_kinds import REST_API
from gatecast.testing.doubles.control_plane_fixture import Site
from gatecast.testing.eventually import PATIENCE

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


async def test_a_change_that_is_the_victim_of_a_deadlock_is_done_again(postgres_url: str) -> None:
    """A foreign session takes the same locks in another order, and waits for longer."""
    settings = Settings(database=postgres_url, migrate="always", notifications=False)
    opening = EventHub.open(settings=settings, migrations=("gatecast.controlplane.migrations",))
    async with Site.open(opening) as site:
        other = await asyncpg.connect(postgres_url)
        watch = await asyncpg.connect(postgres_url)
        try:
            async with other.transaction():
                await other.execute("SET LOCAL deadlock_timeout = '60s'")
                await other.execute("LOCK TABLE gatecast_gateways IN SHARE ROW EXCLUSIVE MODE")
                making = asyncio.create_task(site.make(REST_API))
                async with asyncio.timeout(PATIENCE):
                    while not await watch.fetchval(_WAITING):
                        await asyncio.sleep(0.01)
                    await other.execute("UPDATE gatecast_organizations SET id = id")
            made = await making
        finally:
            await other.close()
            await watch.close()
        [running] = await site.control_plane.artifacts.running(made.id)
        assert running.deployment.revision == 1
