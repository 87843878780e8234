"""A transaction in the log's own database holds what forwarding is to change there: no other gateway waits for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatecast.outbox.forwarder import Forwarder
from gatecast.testing.contracts.backend import GATEWAY, OTHER_GATEWAY, make_event, make_events
from tests.contract.outbox.site import Site, ids, opening_at

pytestmark = pytest.mark.slow


@asynccontextmanager
async def _opened(tmp_path: Path, postgres_url: str) -> AsyncIterator[tuple[Site, Forwarder]]:
    """A site whose log is in PostgreSQL, and has both gateways."""
    async with opening_at(f"sqlite:///{tmp_path}/application.db", tmp_path, log_url=postgres_url)() as site:
        forwarder = site.forwarder()
        await forwarder.forward()
        yield site, forwarder


async def test_a_gateway_whose_log_is_held_is_deleted_later(tmp_path: Path, postgres_url: str) -> None:
    """What waits for others is forwarded at once."""
    async with _opened(tmp_path, postgres_url) as (site, forwarder):
        async with site.storage.database.transaction() as transaction:
            await transaction.fetch("SELECT FROM gatecast.gateway_streams WHERE gateway_id = $1 FOR UPDATE", GATEWAY)
            await site.outbox.log.forget(GATEWAY)
            events = make_events(2, OTHER_GATEWAY)
            await site.store(*events)
            await forwarder.forward()
            assert await site.ids(OTHER_GATEWAY) == ids(events)
        await forwarder.forward()
        assert (await site.engine.log.changed_since(0)).heads.keys() == {OTHER_GATEWAY}
        assert await site.waiting() == {}


async def test_a_gateway_that_is_registered_in_an_open_transaction_is_registered_later(
    tmp_path: Path, postgres_url: str
) -> None:
    """And what waits for it is forwarded then; other new gateways do not wait."""
    async with _opened(tmp_path, postgres_url) as (site, forwarder):
        event, other = make_event("new-1"), make_event("new-2")
        for gateway_id in ("new-1", "new-2"):
            await site.outbox.log.register(gateway_id)
        await site.store(event, other, make_event(OTHER_GATEWAY))
        async with site.storage.database.transaction() as transaction:
            await site.engine.log.register("new-1", transaction=transaction)
            await forwarder.forward()
            assert await site.waiting() == {"new-1": 1}
            assert await site.ids("new-2") == ids([other])
        await forwarder.forward()
        assert (await site.waiting(), await site.ids("new-1")) == ({}, ids([event]))


async def test_a_claim_that_is_held_delays_no_known_gateway(tmp_path: Path, postgres_url: str) -> None:
    """A forwarder of before stands still while it registers; the next one registers once it has ended."""
    async with _opened(tmp_path, postgres_url) as (site, first):
        await first.lease.give_up()
        await site.outbox.log.register("new")
        event, new = make_event(), make_event("new")
        await site.store(event, new)
        forwarder = site.forwarder("second")
        async with site.storage.database.transaction() as transaction:
            await transaction.fetch("SELECT FROM gatecast.claims FOR SHARE")
            await forwarder.forward()
            assert (await site.ids(), await site.waiting()) == (ids([event]), {"new": 1})
        await forwarder.forward()
        assert await site.ids("new") == ids([new])
