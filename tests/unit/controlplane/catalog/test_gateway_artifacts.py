"""What gateways announce as made on themselves, and what that forbids; on every database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from gatecast import EventHub
from gatecast.controlplane.access.gateways import GatewayFields, Gateways
from gatecast.controlplane.catalog import gateway_artifacts as imports
from gatecast.controlplane.catalog.artifact_kinds import LLM_PROVIDER, REST_API
from gatecast.controlplane.catalog.gateway_artifacts import GatewayOwnedArtifact
from gatecast.controlplane.documents import BUILT_IN_TEMPLATES, MODELS, LlmProviderTemplate
from gatecast.errors import Conflict
from gatecast.testing.doubles.control_plane_fixture import ORGANIZATION, Site

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub]]


def _item(
    local_id: str,
    handle: str,
    *,
    kind: str = "RestApi",
    name: str = "Own",
    version: str = "v1.0",
    status: str = "deployed",
) -> dict[str, Any]:
    configuration = {
        "kind": kind,
        "metadata": {"name": handle},
        "spec": {"displayName": name, "version": version},
    }
    return {"dpid": local_id, "status": status, "configuration": configuration}


async def _announce(site: Site, *items: dict[str, Any]) -> dict[str, str]:
    """What was wrong with each of them."""
    results = await site.control_plane.imports.store(ORGANIZATION, site.gateways[0], items)
    return {local_id: each.error for local_id, each in results.items()}


async def _shown(site: Site) -> list[GatewayOwnedArtifact]:
    return await site.control_plane.imports.of_gateway(site.gateways[0])


# --- storing ----------------------------------------------------------------------------------------------------------


async def test_a_gateway_that_forgets_its_ids_announces_the_same_artifacts(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "MAX_IMPORTED", 10)
    handles = [template.handle for template in BUILT_IN_TEMPLATES]
    async with Site.open(open_hub()) as site:
        for start in range(4):
            templates = [_item(f"{start}-{handle}", handle, kind="LlmProviderTemplate") for handle in handles]
            assert set((await _announce(site, *templates)).values()) == {""}
        shown = await _shown(site)
        assert sorted(each.handle for each in shown) == sorted(handles)
        assert all(each.local_id.startswith("3-") for each in shown)


async def test_only_the_same_kind_and_handle_is_the_same_artifact(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        await _announce(
            site, _item("1", "a"), _item("2", "b"), _item("3", "a", kind="Mcp"), _item("4", ""), _item("5", "")
        )
        assert len(await _shown(site)) == 5
        # An artifact may take another handle; its previous owner is gone, then.
        await _announce(site, _item("1", "b"))
        assert sorted((each.kind, each.handle, each.local_id) for each in await _shown(site)) == [
            ("Mcp", "a", "3"),
            ("RestApi", "", "4"),
            ("RestApi", "", "5"),
            ("RestApi", "b", "1"),
        ]


@pytest.mark.parametrize("turned", [False, True])
async def test_of_one_handle_in_one_import_the_running_one_stays(open_hub: OpenHub, *, turned: bool) -> None:
    async with Site.open(open_hub()) as site:
        items = [_item("old", "a", status="undeployed"), _item("new", "a")]
        assert set(await _announce(site, *(items[::-1] if turned else items))) == {"old", "new"}
        assert [each.local_id for each in await _shown(site)] == ["new"]


async def test_beyond_the_limit_what_is_new_is_refused_and_what_is_known_is_not(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "MAX_IMPORTED", 2)
    async with Site.open(open_hub()) as site:
        await _announce(site, _item("1", "a"), _item("2", "b"))
        errors = await _announce(site, _item("3", "c"), _item("4", "b"))
        assert "at most 2" in errors["3"]
        assert not errors["4"]
        assert {each.local_id for each in await _shown(site)} == {"1", "4"}


async def test_what_was_undeployed_longest_ago_makes_room(open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "MAX_IMPORTED", 3)
    async with Site.open(open_hub()) as site:
        await _announce(site, _item("1", "a"), _item("2", "b", status="undeployed"))
        await _announce(site, _item("3", "c", status="undeployed"))
        assert not (await _announce(site, _item("4", "d")))["4"]
        assert {each.local_id for each in await _shown(site)} == {"1", "3", "4"}


async def test_what_is_ours_is_not_shown_as_made_there(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        api = await site.make(REST_API)
        [result] = (
            await site.control_plane.imports.store(ORGANIZATION, site.gateways[0], [_item(api.id, api.handle)])
        ).values()
        assert (result.id, result.error) == (api.id, "")
        assert await _shown(site) == []


# --- names on the gateway ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (_item("1", "demo", name="Other"), "handle"),
        (_item("1", "other", name="Demo"), "name"),
    ],
)
async def test_a_name_that_an_artifact_of_the_gateway_has_is_taken_there(
    open_hub: OpenHub, item: dict[str, Any], field: str
) -> None:
    async with Site.open(open_hub()) as site:
        await _announce(site, item)
        with pytest.raises(Conflict, match=item["configuration"]["metadata"]["name"]) as caught:
            await site.make(REST_API)
        assert caught.value.field == field
        assert site.gateways[0] in str(caught.value)


@pytest.mark.parametrize(
    "item",
    [
        _item("1", "demo", name="Other", kind="Mcp"),
        _item("1", "other", name="Demo", version="v2.0"),
        # It may be deleted: that is announced in the same words.
        _item("1", "demo", status="undeployed"),
    ],
)
async def test_other_artifacts_of_the_gateway_take_no_name(open_hub: OpenHub, item: dict[str, Any]) -> None:
    async with Site.open(open_hub()) as site:
        await _announce(site, item)
        await site.make(REST_API)


async def test_another_gateway_takes_no_name(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 2) as site:
        await _announce(site, _item("1", "demo"))
        site.gateways.pop(0)
        await site.make(REST_API)


# --- templates --------------------------------------------------------------------------------------------------------


def _provider(template: str) -> Any:  # noqa: ANN401 - a document
    fields = {"name": "Demo", "template": template, "upstream": {"url": "https://llm.example.test/v1"}}
    return MODELS[LLM_PROVIDER.kind].model_validate(fields)


async def test_a_template_that_is_undeployed_may_be_deleted(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        await _announce(site, _item("1", "mine", kind="LlmProviderTemplate"))
        provider = await site.make(LLM_PROVIDER, template="mine")
        await _announce(site, _item("1", "mine", kind="LlmProviderTemplate", status="undeployed"))
        with pytest.raises(Conflict, match="mine") as caught:
            await site.control_plane.artifacts.deploy(ORGANIZATION, LLM_PROVIDER, provider.id, site.gateways[0])
        assert caught.value.field == "template"


async def test_a_provider_on_a_template_that_nobody_has_is_refused(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        artifacts = site.control_plane.artifacts
        with pytest.raises(Conflict, match="opneai") as caught:
            await artifacts.create(ORGANIZATION, LLM_PROVIDER, _provider("opneai"))
        assert caught.value.field == "template"
        # One of another organization is none.
        other = (await Gateways(site.hub).create("other", GatewayFields(name="edge"))).gateway
        await site.control_plane.imports.store("other", other.id, [_item("1", "opneai", kind="LlmProviderTemplate")])
        await site.control_plane.templates.create("other", LlmProviderTemplate(handle="opneai", name="Other"))
        with pytest.raises(Conflict, match="opneai"):
            await artifacts.create(ORGANIZATION, LLM_PROVIDER, _provider("opneai"))


async def test_a_template_is_known_once_it_is_made_or_shown(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        await site.control_plane.templates.create(ORGANIZATION, LlmProviderTemplate(handle="mine", name="Mine"))
        provider = (await site.control_plane.artifacts.create(ORGANIZATION, LLM_PROVIDER, _provider("mine"))).artifact
        with pytest.raises(Conflict, match="theirs"):
            await site.change(provider, template="theirs")
        await _announce(site, _item("1", "theirs", kind="LlmProviderTemplate"))
        await site.change(provider, template="theirs")
        # A template that is deleted leaves the providers that were made from it as they are.
        await _announce(site, _item("1", "theirs", kind="LlmProviderTemplate", status="undeployed"))
        await site.change(provider, description="still there")
