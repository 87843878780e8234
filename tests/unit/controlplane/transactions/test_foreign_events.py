"""Which gateways lost events that only another publisher can publish again; on every database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import asyncpg
import pytest

from gatecast import EventHub
from gatecast.controlplane.access.gateways import Gateways
from gatecast.controlplane.catalog.artifact_kinds import REST_API
from gatecast.errors import UnknownGateway
from gatecast.events import Action, Event
from gatecast.testing.contracts.backend import connect, make_connection, make_event
from gatecast.testing.doubles.control_plane_fixture import ORGANIZATION, Site

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub]]


async def _shown(site: Site) -> str:
    return (await Gateways(site.hub).get(ORGANIZATION, site.gateways[0])).unrecovered


def _plan(gateway_id: str) -> Event:
    return Event(
        gateway_id=gateway_id,
        type="subscriptionPlan.created",
        action=Action.CREATE,
        entity_type="subscriptionPlan",
        entity_id="gold",
        data={"planId": "gold", "planName": "Gold", "status": "ACTIVE"},
    )


async def test_s05_what_the_control_plane_publishes_is_never_lost_for_good(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 2) as site:
        api = await site.make(REST_API)
        await site.deploy(api)
        await site.control_plane.desired_state.lost(ORGANIZATION, site.gateways[0], "retention")
        for gateway_id in site.gateways:
            assert not await site.control_plane.foreign_events.note(gateway_id, "retention")
        assert await _shown(site) == ""


async def test_s05_what_is_kept_of_subscriptions_is_not_lost_either_also_when_it_is_published_twice(
    open_hub: OpenHub,
) -> None:
    async with Site.open(open_hub()) as site:
        plan = _plan(site.gateways[0])
        assert (await site.control_plane.subscriptions.publish(plan)).created
        assert not (await site.control_plane.subscriptions.publish(plan)).created
        assert not await site.control_plane.foreign_events.note(site.gateways[0], "retention")


async def test_s05_one_event_of_somebody_else_is_a_loss_until_it_was_made_good(open_hub: OpenHub) -> None:
    """Of the gateway that got it, and of no other."""
    async with Site.open(open_hub(), 2) as site:
        await site.make(REST_API)
        gateway_id, other = site.gateways
        await site.hub.publish(make_event(gateway_id))
        assert await site.control_plane.foreign_events.note(gateway_id, "retention")
        assert not await site.control_plane.foreign_events.note(other, "retention")
        assert await _shown(site) == "retention"
        await site.control_plane.foreign_events.made_good(gateway_id)
        assert await _shown(site) == ""


async def test_what_an_operator_declared_recovered_while_it_was_looked_at_stays_so(open_hub: OpenHub) -> None:
    """The gateway is shown as `resync-needed` from the connect on, long before what it lost is counted."""
    async with Site.open(open_hub()) as site:
        [gateway_id], foreign_events, presence = (
            site.gateways,
            site.control_plane.foreign_events,
            site.hub.engine.presence,
        )
        await site.hub.publish(make_event(gateway_id))
        await connect(site.hub.engine, make_connection("first", gateway_id), resync_reason="epoch")
        await presence.resynchronized(gateway_id, "", "epoch")
        await foreign_events.made_good(gateway_id)
        assert not await foreign_events.note(gateway_id, "epoch")
        assert await _shown(site) == ""
        await connect(site.hub.engine, make_connection("second", gateway_id), resync_reason="epoch")
        assert await foreign_events.note(gateway_id, "epoch")
        assert await _shown(site) == "epoch"


async def test_what_is_published_meanwhile_is_not_mistaken_for_somebody_elses(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        api = await site.make(REST_API)
        publishing = asyncio.gather(*(site.deploy(api) for _ in range(5)))
        while not publishing.done():
            assert not await site.control_plane.foreign_events.note(site.gateways[0], "retention")
        await publishing


async def test_s05_an_event_that_came_through_sql_is_somebody_elses(postgres_url: str) -> None:
    async with Site.open(EventHub.open(postgres_url, migrations=("gatecast.controlplane.migrations",))) as site:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(
            "SELECT gatecast.publish($1, 'application.updated', 'UPDATE', 'Application', 'a')", site.gateways[0]
        )
        await connection.close()
        assert await site.control_plane.foreign_events.note(site.gateways[0], "epoch")


async def test_a_gateway_that_was_deleted_has_lost_nothing(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        await Gateways(site.hub).delete(ORGANIZATION, site.gateways[0])
        with pytest.raises(UnknownGateway):
            await site.control_plane.foreign_events.note(site.gateways[0], "retention")
