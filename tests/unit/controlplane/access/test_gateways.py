"""The gateways of an organization."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gatecast.controlplane.access.gateway_tokens import GatewayTokens
from gatecast.controlplane.access.gateways import (
    MAX_MANIFEST_BYTES,
    MAX_PROPERTIES_BYTES,
    ConnectionPolicy,
    GatewayFields,
    Gateways,
    GatewayType,
)
from gatecast.errors import Conflict, InvalidValue, NotFound, StaleWrite, UnknownGateway
from gatecast.events import Action, Event
from gatecast.hub import EventHub

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub]]

_ALL = GatewayFields(
    name="edge-eu",
    display_name="Europe",
    description="Frankfurt",
    vhost="eu.example",
    type=GatewayType.AI,
    connection_policy=ConnectionPolicy.NEWEST_ONLY,
    properties={"region": "eu", "lone": "\x01"},
)


def _event(gateway_id: str) -> Event:
    return Event(gateway_id=gateway_id, type="api.deployed", action=Action.CREATE, entity_type="Api", entity_id="a")


async def test_a_gateway_is_found_as_it_was_created(open_hub: OpenHub) -> None:
    """Every field comes back, and times are in UTC."""
    async with open_hub() as hub:
        gateways = Gateways(hub)
        created = (await gateways.create("acme", _ALL)).gateway
        assert await gateways.get("acme", created.id) == created
    assert created.fields == _ALL
    assert created.version == 1
    assert created.created_at <= created.updated_at
    assert created.created_at.utcoffset() == timedelta(0)


async def test_a_new_gateway_has_an_empty_log(open_hub: OpenHub) -> None:
    """What is published to it gets the first offset."""
    async with open_hub() as hub:
        gateway = (await Gateways(hub).create("acme", _ALL)).gateway
        assert (await hub.publish(_event(gateway.id))).offset == 1


async def test_a_name_is_unique_in_its_organization_and_free_in_others(open_hub: OpenHub) -> None:
    """The error names the field, and leaves no log behind."""
    async with open_hub() as hub:
        gateways = Gateways(hub)
        await gateways.create("acme", _ALL)
        with pytest.raises(Conflict) as taken:
            await gateways.create("acme", replace(_ALL, name=" edge-eu "))
        assert taken.value.field == "name"
        await gateways.create("other", _ALL)
        assert len((await hub.storage.log.changed_since(0)).heads) == 2


async def test_of_two_that_take_a_name_at_once_one_gets_it(open_hub: OpenHub) -> None:
    """Created on one pod, renamed on another."""
    async with open_hub() as one, open_hub() as two:
        old = (await Gateways(one).create("acme", replace(_ALL, name="old"))).gateway
        results = await asyncio.gather(
            Gateways(one).create("acme", replace(_ALL, name="wanted")),
            Gateways(two).update("acme", old.id, {"name": "wanted"}),
            Gateways(two).create("acme", replace(_ALL, name="wanted")),
            return_exceptions=True,
        )
        assert sum(isinstance(result, Conflict) for result in results) == 2
        names = [gateway.fields.name for gateway in await Gateways(one).page("acme", after="", limit=10)]
    assert names.count("wanted") == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "x"),
        ("name", " x "),
        ("name", "x" * 121),
        ("name", "two\nlines"),
        ("display_name", "x" * 513),
        ("description", "nul\x00"),
        ("vhost", "x" * 513),
    ],
)
def test_a_field_that_breaks_its_rule_is_refused(field: str, value: str) -> None:
    changes: dict[str, Any] = {field: value}
    with pytest.raises(InvalidValue) as refused:
        replace(_ALL, **changes)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "properties", [{"x": "y" * MAX_PROPERTIES_BYTES}, {"x": float("nan")}, {"x": object()}, {"x": "\ud800"}]
)
async def test_properties_that_cannot_be_kept_are_refused(open_hub: OpenHub, properties: dict[str, Any]) -> None:
    async with open_hub() as hub:
        with pytest.raises(InvalidValue):
            await Gateways(hub).create("acme", replace(_ALL, properties=properties))


async def test_pages_follow_the_order_of_names(open_hub: OpenHub) -> None:
    """Each page begins behind the last name of the one before."""
    async with open_hub() as hub:
        gateways = Gateways(hub)
        for name in ("gw-b", "gw-d", "gw-a", "gw-c"):
            await gateways.create("acme", replace(_ALL, name=name))
        await gateways.create("other", replace(_ALL, name="gw-aa"))
        first = await gateways.page("acme", after="", limit=3)
        second = await gateways.page("acme", after="gw-c", limit=3)
        ids = {each.id for each in [*first, *second]}
        assert await gateways.among("acme", [*ids, "nobody"]) == ids
        assert await gateways.among("other", ids) == await gateways.among("acme", []) == frozenset()
    assert [gateway.fields.name for gateway in first] == ["gw-a", "gw-b", "gw-c"]
    assert [gateway.fields.name for gateway in second] == ["gw-d"]


async def test_an_update_changes_what_it_names_and_nothing_else(open_hub: OpenHub) -> None:
    async with open_hub() as hub:
        gateways = Gateways(hub)
        created = (await gateways.create("acme", _ALL)).gateway
        changed = (await gateways.update("acme", created.id, {"vhost": "new.example"}, version=1)).gateway
        same_name = (await gateways.update("acme", created.id, {"name": "edge-eu"})).gateway
    assert changed.fields == replace(_ALL, vhost="new.example")
    assert (changed.version, same_name.version) == (2, 3)
    assert changed.created_at == created.created_at


async def test_a_stale_update_is_refused_and_says_what_is_current(open_hub: OpenHub) -> None:
    """Of two who read the same version, the second one is told."""
    async with open_hub() as hub:
        gateways = Gateways(hub)
        created = (await gateways.create("acme", _ALL)).gateway
        results = await asyncio.gather(
            *(gateways.update("acme", created.id, {"vhost": f"{number}.example"}, version=1) for number in range(3)),
            return_exceptions=True,
        )
        stale = [result for result in results if isinstance(result, StaleWrite)]
        assert [error.current for error in stale] == ['"2"', '"2"']


async def test_a_taken_name_is_refused_on_update(open_hub: OpenHub) -> None:
    async with open_hub() as hub:
        gateways = Gateways(hub)
        await gateways.create("acme", _ALL)
        other = (await gateways.create("acme", replace(_ALL, name="other"))).gateway
        with pytest.raises(Conflict) as taken:
            await gateways.update("acme", other.id, {"name": "edge-eu"})
        assert taken.value.field == "name"
        assert (await gateways.get("acme", other.id)).fields.name == "other"


async def test_s17_a_deleted_gateway_leaves_neither_log_nor_token(open_hub: OpenHub) -> None:
    """Publishing to it is refused, its token is unknown, and its name is free."""
    async with open_hub() as hub:
        gateways, tokens = Gateways(hub), GatewayTokens(hub)
        gateway = (await gateways.create("acme", _ALL)).gateway
        issued = await tokens.issue("acme", gateway.id)
        await hub.publish(_event(gateway.id))
        await gateways.delete("acme", gateway.id)
        with pytest.raises(UnknownGateway):
            await hub.publish(_event(gateway.id))
        assert await tokens.authenticate(issued.token) is None
        assert not await tokens.confirm_use(issued.id)
        assert await tokens.of_gateway(gateway.id) == []
        assert (await hub.storage.log.changed_since(0)).heads == {}
        with pytest.raises(NotFound):
            await gateways.delete("acme", gateway.id)
        await gateways.create("acme", _ALL)


async def test_s31_a_gateway_of_another_organization_does_not_exist(open_hub: OpenHub) -> None:
    """Neither reading nor changing nor deleting nor giving it a token finds it."""
    async with open_hub() as hub:
        gateways = Gateways(hub)
        gateway = (await gateways.create("acme", _ALL)).gateway
        for attempt in (
            gateways.get("other", gateway.id),
            gateways.update("other", gateway.id, {"vhost": "mine.example"}),
            gateways.delete("other", gateway.id),
            GatewayTokens(hub).issue("other", gateway.id),
        ):
            with pytest.raises(NotFound):
                await attempt
        assert await gateways.page("other", after="", limit=10) == []
        assert await gateways.manifest("other", gateway.id) is None
        assert await gateways.get("acme", gateway.id) == gateway


async def test_what_a_gateway_says_of_itself_is_kept(open_hub: OpenHub) -> None:
    """The last manifest counts, and is no change of the gateway."""
    async with open_hub() as hub:
        gateways = Gateways(hub)
        gateway = (await gateways.create("acme", _ALL)).gateway
        assert await gateways.manifest("acme", gateway.id) is None
        await gateways.record_manifest(gateway.id, {"version": "1.0"})
        await gateways.record_manifest(gateway.id, {"version": "1.1", "policies": [{"name": "set-headers"}]})
        manifest = await gateways.manifest("acme", gateway.id)
        assert manifest == {"version": "1.1", "policies": [{"name": "set-headers"}]}
        assert await gateways.get("acme", gateway.id) == gateway


async def test_a_manifest_that_is_too_large_is_refused(open_hub: OpenHub) -> None:
    async with open_hub() as hub:
        gateways = Gateways(hub)
        gateway = (await gateways.create("acme", _ALL)).gateway
        with pytest.raises(InvalidValue):
            await gateways.record_manifest(gateway.id, {"text": "x" * MAX_MANIFEST_BYTES})
        assert await gateways.manifest("acme", gateway.id) is None
