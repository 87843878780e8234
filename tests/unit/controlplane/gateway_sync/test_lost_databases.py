"""What shows that a gateway has lost its database, also where its lists do not; on every database.

A gateway reads the list of deployments once, when its process starts. When that call, or the documents that it asks for
then, are lost with the pod that should answer, nothing says later what it has, but for the ids of its own templates and
the APIs that it names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from gatecast import EventHub
from gatecast.controlplane.catalog.artifact_kinds import LLM_PROVIDER, MCP_PROXY, REST_API
from gatecast.controlplane.catalog.artifact_store import StoredArtifact
from gatecast.controlplane.deployments.placements import DeploymentState
from gatecast.controlplane.gateway_sync import synchronizations
from gatecast.controlplane.gateway_sync.synchronizations import Call
from gatecast.testing.doubles.control_plane_fixture import ORGANIZATION, Site

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub]]


@asynccontextmanager
async def _running(opening: AbstractAsyncContextManager[EventHub]) -> AsyncIterator[tuple[Site, StoredArtifact]]:
    """A gateway that runs an API and a provider, and has announced its templates."""
    async with Site.open(opening) as site:
        api, provider = await site.make(REST_API), await site.make(LLM_PROVIDER, "Provider")
        for each in (api, provider):
            await site.acknowledge((await site.deployments(each))[0])
        await _call(site, Call.FIRST)
        await _announce(site, "first")
        await _call(site, Call.LAST)
        yield site, api


async def _call(site: Site, *calls: Call) -> None:
    for each in calls:
        await site.control_plane.synchronizations.note(site.gateways[0], each)


async def _announce(site: Site, life: str, status: str = "deployed") -> None:
    configuration = {"kind": "LlmProviderTemplate", "metadata": {"name": "openai"}, "spec": {"displayName": "OpenAI"}}
    item = {"dpid": f"openai-{life}", "status": status, "configuration": configuration}
    await site.control_plane.imports.store(ORGANIZATION, site.gateways[0], [item])


async def _read_lists(site: Site, *, alone: bool = False) -> bool:
    seen = await site.control_plane.synchronizations.of_gateway(site.gateways[0])
    return await site.control_plane.desired_state.read_lists(ORGANIZATION, site.gateways[0], seen, alone=alone)


async def _told_since(site: Site, offset: int) -> list[str]:
    return [kind for kind, _ in await site.told(after=offset)]


_EVERYTHING = ["llmprovider.deployed", "api.deployed"]


async def test_templates_of_another_database_show_that_everything_is_gone(open_hub: OpenHub) -> None:
    async with _running(open_hub()) as (site, api):
        told = len(await site.told())
        await _call(site, Call.FIRST)
        await _announce(site, "second")
        assert await _told_since(site, told) == []
        await _call(site, Call.LAST)
        assert await _read_lists(site)
        assert await _told_since(site, told) == _EVERYTHING
        assert await site.state(api) is DeploymentState.PENDING
        # Once is enough.
        await _announce(site, "second")
        assert not await _read_lists(site)
        assert await _told_since(site, told) == _EVERYTHING


async def test_templates_that_come_after_the_lists_were_looked_at_are_not_missed(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synchronizations, "_LOOKED_AT_WITHIN", 0.0)
    async with _running(open_hub()) as (site, _):
        told = len(await site.told())
        desired_state, ids = site.control_plane.desired_state, (ORGANIZATION, site.gateways[0])
        assert not await desired_state.began_anew(*ids)
        await _call(site, Call.FIRST)
        await _announce(site, "second")
        # It still reads: its lists may be about to bring it everything.
        assert not await desired_state.began_anew(*ids)
        await _call(site, Call.LAST)
        assert await desired_state.began_anew(*ids)
        assert await _told_since(site, told) == _EVERYTHING
        assert not await desired_state.began_anew(*ids)


@pytest.mark.parametrize("early", [True, False], ids=["before the last list", "after it"])
async def test_what_the_lists_have_brought_to_a_new_database_is_not_sent_again(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch, *, early: bool
) -> None:
    monkeypatch.setattr(synchronizations, "_LOOKED_AT_WITHIN", 0.0)
    async with _running(open_hub()) as (site, api):
        told, gateway = len(await site.told()), site.gateways[0]
        await _call(site, Call.FIRST, Call.LIST)
        await site.control_plane.synchronizations.note_secrets_read(gateway)
        await site.control_plane.desired_state.note_listed(gateway)
        rows = await site.control_plane.artifacts.on_gateway(gateway)
        await site.control_plane.desired_state.note_fetched(gateway, [each.deployment.id for each in rows])
        if early:
            await _announce(site, "second")
        await site.control_plane.desired_state.named(gateway, api.id)
        await _call(site, Call.LAST)
        assert await _read_lists(site)
        if not early:
            await _announce(site, "second")
        assert not await site.control_plane.desired_state.began_anew(ORGANIZATION, gateway)
        assert await _told_since(site, told) == []


async def test_a_template_that_was_deleted_and_made_again_is_no_new_database(open_hub: OpenHub) -> None:
    async with _running(open_hub()) as (site, _):
        told = len(await site.told())
        await _call(site, Call.FIRST)
        await _announce(site, "first", "undeployed")
        await _announce(site, "second")
        await _call(site, Call.LAST)
        assert not await _read_lists(site)
        assert await _told_since(site, told) == []


@pytest.mark.parametrize("alone", [True, False])
async def test_a_gateway_that_does_not_name_an_api_that_it_had_has_lost_its_data(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch, *, alone: bool
) -> None:
    """While several connections of it are open, whose calls these are is not known."""

    async def one_connection(_site: object, _gateway_id: str) -> bool:
        return alone

    async with _running(open_hub()) as (site, api):
        desired_state = site.control_plane.desired_state
        monkeypatch.setattr(type(desired_state), "_has_one_connection", one_connection)
        told = len(await site.told())
        await _call(site, Call.FIRST)
        await desired_state.named(site.gateways[0], api.id)
        await _call(site, Call.LAST)
        assert not await _read_lists(site, alone=True)
        await _call(site, Call.FIRST, Call.LAST)
        assert not await _read_lists(site, alone=False)
        assert await _told_since(site, told) == []
        assert await _read_lists(site, alone=True) is alone
        assert await _told_since(site, told) == (_EVERYTHING if alone else [])


async def test_an_api_of_which_the_gateway_says_only_now_that_it_runs_need_not_be_named(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def one_connection(_site: object, _gateway_id: str) -> bool:
        return True

    async with Site.open(open_hub()) as site:
        monkeypatch.setattr(type(site.control_plane.desired_state), "_has_one_connection", one_connection)
        api = await site.make(REST_API)
        await _call(site, Call.FIRST, Call.LAST)
        await site.acknowledge((await site.deployments(api))[0])
        told = len(await site.told())
        await _read_lists(site, alone=True)
        assert await _told_since(site, told) == []


async def _start(site: Site, *, with_data: bool) -> None:
    """The gateway's process starts, and reads its lists."""
    gateway = site.gateways[0]
    await _call(site, Call.FIRST, Call.LIST)
    await site.control_plane.synchronizations.note_secrets_read(gateway)
    await site.control_plane.desired_state.note_listed(gateway)
    if not with_data:
        rows = await site.control_plane.artifacts.on_gateway(gateway)
        await site.control_plane.desired_state.note_fetched(gateway, [each.deployment.id for each in rows])
    await _call(site, Call.LAST)
    await _read_lists(site)


async def _may_have_more(site: Site) -> bool:
    query = "SELECT unlisted FROM gatecast_gateways WHERE id = $1"
    [row] = await site.hub.storage.database.fetch(query, site.gateways[0])
    return bool(row["unlisted"])


@pytest.mark.parametrize("with_mcp_proxy", [True, False])
async def test_a_process_that_starts_names_all_that_only_a_lost_history_knew_but_keys_of_mcp_proxies(
    open_hub: OpenHub, *, with_mcp_proxy: bool
) -> None:
    """It asks for no list of these; a database that is empty has none."""
    async with _running(open_hub()) as (site, _):
        if with_mcp_proxy:
            await site.make(MCP_PROXY, "Proxy")
        await site.control_plane.desired_state.lost(ORGANIZATION, site.gateways[0], "retention")
        assert not await _may_have_more(site)
        await site.control_plane.desired_state.lost(ORGANIZATION, site.gateways[0], "epoch")
        assert await _may_have_more(site)
        await _start(site, with_data=True)
        assert await _may_have_more(site) is with_mcp_proxy
        for placed in await site.control_plane.artifacts.on_gateway(site.gateways[0]):
            await site.acknowledge(placed.deployment)
        await _start(site, with_data=False)
        assert not await _may_have_more(site)
