"""What gateways may have of an artifact: its present revision, an earlier one again, or one that they never left."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Self

import pytest

from gatecast import EventHub
from gatecast.controlplane.catalog.artifact_kinds import LLM_PROVIDER, LLM_PROXY, MCP_PROXY, REST_API
from gatecast.controlplane.catalog.artifact_store import StoredArtifact
from gatecast.controlplane.deployments.placements import Deployment, DeploymentState
from gatecast.errors import Conflict
from gatecast.storage.migrations import available
from gatecast.testing.doubles.control_plane_fixture import ORGANIZATION, Site

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub]]

_AUTH = {"type": "other", "header": "Authorization", "value": "Bearer a-credential"}
_MCP = {"url": "https://mcp.example.test/mcp"}


def _refused(text: str) -> pytest.RaisesExc[Conflict]:
    return pytest.RaisesExc(Conflict, match=re.escape(text))


# --- a new revision ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("had", [0, 1], ids=["the first", "the last"])
async def test_one_change_replaces_a_revision_on_one_gateway_and_brings_the_first_one_to_another(
    open_hub: OpenHub, had: int
) -> None:
    async with Site.open(open_hub(), gateways=2) as site:
        artifact = await Site(site.hub, site.control_plane, [site.gateways[had]]).make(REST_API)
        await site.change(artifact, gateways=site.gateways, context="/moved")
        newest = await site.deployments(artifact)
        assert [(each.revision, each.state) for each in newest] == [
            (2 if number == had else 1, DeploymentState.PENDING) for number in range(2)
        ]
        for each in newest:
            await site.acknowledge(each)
        assert {each.state for each in await site.deployments(artifact)} == {DeploymentState.DEPLOYED}


async def test_a_revision_that_was_taken_for_replaced_is_told_again(open_hub: OpenHub) -> None:
    """Databases of earlier releases hold some; the gateway has long handled their events."""
    [mend] = [each for each in available("gatecast.controlplane.migrations") if each.name == "newest_revisions"]
    async with Site.open(open_hub()) as site:
        artifact = await site.make(REST_API)
        told = len(await site.told())
        async with site.hub.storage.database.transaction() as transaction:
            await transaction.execute("UPDATE gatecast_deployments SET state = 'SUPERSEDED'")
            await transaction.execute(mend.text)
        assert await site.state(artifact) is DeploymentState.PENDING
        await site.control_plane.desired_state.answered_nothing(ORGANIZATION, site.gateways[0], told)
        assert [kind for kind, _ in await site.told(after=told)] == ["api.deployed"]


# --- restoring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _MovedProxy:
    """A proxy that was told to use another provider, without an answer yet."""

    site: Site
    first: StoredArtifact
    proxy: StoredArtifact
    #: What uses the first provider.
    on_first: Deployment

    @classmethod
    @asynccontextmanager
    async def made(cls, opening: AbstractAsyncContextManager[EventHub], gateways: int = 1) -> AsyncIterator[Self]:
        """On some gateways."""
        async with Site.open(opening, gateways) as site:
            first, second = await site.make(LLM_PROVIDER, "First"), await site.make(LLM_PROVIDER, "Second")
            proxy = await site.make(LLM_PROXY, provider={"id": first.id})
            before = await site.deployments(proxy)
            for each in before:
                await site.acknowledge(each)
            await site.change(proxy, provider={"id": second.id})
            yield cls(site, first, proxy, before[0])

    async def answer(self, error: str = "") -> None:
        """Each gateway says what became of its newest revision."""
        for each in await self.site.deployments(self.proxy):
            await self.site.acknowledge(each, error=error)


async def test_a_revision_whose_provider_is_gone_is_not_restored(open_hub: OpenHub) -> None:
    async with _MovedProxy.made(open_hub()) as moved:
        await moved.answer()
        await moved.site.delete(moved.first)
        with _refused("a provider that this revision needs no longer exists"):
            await moved.site.restore(moved.proxy, moved.on_first)


async def test_a_revision_whose_provider_does_not_run_there_is_not_restored(open_hub: OpenHub) -> None:
    async with _MovedProxy.made(open_hub()) as moved:
        await moved.answer()
        await moved.site.undeploy(moved.first)
        with _refused('does not run the LLM provider "first"'):
            await moved.site.restore(moved.proxy, moved.on_first)


async def test_a_revision_whose_name_another_artifact_has_now_is_not_restored(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        renamed = await site.make(REST_API, "Alpha")
        [as_alpha] = await site.deployments(renamed)
        await site.change(renamed, name="Omega")
        await site.make(REST_API, "Alpha", context="/other")
        with _refused('has the name "Alpha" v1.0'):
            await site.restore(renamed, as_alpha)


async def test_a_revision_of_an_mcp_proxy_without_the_credential_that_gateways_keep_is_not_restored(
    open_hub: OpenHub,
) -> None:
    """It would be sent to wherever that revision leads."""
    async with Site.open(open_hub()) as site:
        proxy = await site.make(MCP_PROXY)
        [without] = await site.deployments(proxy)
        await site.change(proxy, upstream=_MCP | {"auth": _AUTH})
        with _refused("gateways keep the credential of an MCP proxy"):
            await site.restore(proxy, without)


async def test_where_an_earlier_place_of_a_provider_is_restored_its_proxies_are_told_again(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        provider = await site.make(LLM_PROVIDER, context="/one")
        [at_one] = await site.deployments(provider)
        proxy = await site.make(LLM_PROXY, provider={"id": provider.id})
        for step in (lambda: site.change(provider, context="/moved"), lambda: site.restore(provider, at_one)):
            told = len(await site.told())
            await step()
            assert [(kind, data.get("proxyId")) for kind, data in await site.told(after=told)] == [
                ("llmprovider.deployed", None),
                ("llmproxy.deployed", proxy.id),
            ]
        told = len(await site.told())
        await site.restore(provider, at_one)
        assert [kind for kind, _ in await site.told(after=told)] == ["llmprovider.deployed"]


# --- what is still needed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gateways", "refusal"),
    [
        # It is what the proxy is from then on.
        (1, "proxies need the provider: demo; delete them first"),
        # The other gateway runs another revision, which the proxy is.
        (2, "proxies may still need the provider"),
    ],
)
async def test_a_provider_stays_while_a_restored_revision_of_a_proxy_needs_it(
    open_hub: OpenHub, gateways: int, refusal: str
) -> None:
    async with _MovedProxy.made(open_hub(), gateways) as moved:
        site, first = moved.site, moved.first
        await site.restore(moved.proxy, moved.on_first)
        await moved.answer()
        with _refused("may need it: demo; undeploy them first"):
            await site.undeploy(first)
        with _refused(refusal):
            await site.delete(first)


async def test_a_provider_stays_until_a_gateway_has_left_it(open_hub: OpenHub) -> None:
    """What fails leaves the revision before it in place; the provider's deletion would be refused, its keys gone."""
    async with _MovedProxy.made(open_hub()) as moved:
        with _refused("has acknowledged no later revision: demo"):
            await moved.site.delete(moved.first)
        await moved.answer("GATEWAY_PROCESSING_ERROR")
        with _refused("has acknowledged no later revision: demo"):
            await moved.site.delete(moved.first)
        await moved.site.deploy(moved.proxy)
        await moved.answer()
        await moved.site.delete(moved.first)


async def test_a_name_stays_taken_where_an_artifact_has_it_though_it_does_not_run(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        api = await site.make(REST_API, "Alpha")
        await site.undeploy(api)
        renamed = await site.change(api, name="Omega")
        with _refused('has the name "Alpha" v1.0'):
            await site.make(REST_API, "Alpha", context="/other")
        await site.deploy(renamed)
        await site.make(REST_API, "Alpha", context="/other")


async def test_a_name_stays_taken_where_the_new_one_was_refused(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        api = await site.make(REST_API, "Alpha")
        await site.acknowledge((await site.deployments(api))[0])
        await site.change(api, name="Omega")
        await site.acknowledge((await site.deployments(api))[0], error="GATEWAY_PROCESSING_ERROR")
        with _refused('has the name "Alpha" v1.0'):
            await site.make(REST_API, "Alpha", context="/other")


# --- trying again -----------------------------------------------------------------------------------------------------


async def test_an_undeploy_that_failed_can_be_tried_again(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        api = await site.make(REST_API)
        await site.undeploy(api)
        told = len(await site.told())
        assert (await site.undeploy(api)).state is DeploymentState.UNDEPLOYING
        assert await site.told(after=told) == []
        await site.acknowledge((await site.deployments(api))[0], deployed=False, error="GATEWAY_PROCESSING_ERROR")
        assert (await site.undeploy(api)).state is DeploymentState.UNDEPLOYING
        assert [kind for kind, _ in await site.told(after=told)] == ["api.undeployed"]
        await site.acknowledge((await site.deployments(api))[0], deployed=False)
        assert await site.state(api) is DeploymentState.UNDEPLOYED


async def test_the_revision_that_a_gateway_said_it_has_is_never_forgotten(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        api = await site.make(REST_API)
        [first] = await site.deployments(api)
        await site.acknowledge(first)
        for _ in range(25):
            await site.deploy(api)
        kept = await site.control_plane.artifacts.deployments(
            "default", REST_API, api.id, after=(1 << 62, ""), limit=50
        )
        assert [each.revision for each in kept] == [*range(26, 6, -1), 1]
