"""No two artifacts at one place of a gateway, no names that block each other there; on every database."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from gatecast import EventHub
from gatecast.controlplane.catalog.artifact_kinds import (
    ARTIFACT_KINDS,
    LLM_PROVIDER,
    LLM_PROXY,
    MCP_PROXY,
    REST_API,
    ArtifactKind,
)
from gatecast.controlplane.catalog.artifact_store import StoredArtifact
from gatecast.controlplane.control_plane import ControlPlane, open_control_plane
from gatecast.controlplane.deployments.artifacts import Clash
from gatecast.controlplane.deployments.placements import DeploymentState
from gatecast.controlplane.documents import MODELS, STORED, Route
from gatecast.controlplane.documents.upstreams import Resilience
from gatecast.controlplane.encryption import Encryption
from gatecast.errors import Conflict
from gatecast.settings import Settings
from gatecast.storage.queries import Queries
from gatecast.testing.doubles.control_plane_fixture import ORGANIZATION, Site

_STORE = Queries("gatecast.controlplane.catalog", "artifact_store.sql")
_SNAPSHOT = Queries("gatecast.controlplane.deployments", "snapshot.sql")

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub]]


def _refused(text: str) -> pytest.RaisesExc[Conflict]:
    return pytest.RaisesExc(Conflict, match=re.escape(text))


async def _unplaced(site: Site, artifact_kind: ArtifactKind, name: str, **fields: object) -> StoredArtifact:
    """An artifact that runs nowhere."""
    return await Site(site.hub, site.control_plane, []).make(artifact_kind, name, **fields)


async def _providers_for(site: Site, artifact_kind: ArtifactKind) -> dict[str, object]:
    if artifact_kind is not LLM_PROXY:
        return {}
    return {"provider": {"id": (await site.make(LLM_PROVIDER, "Base", context="/base")).id}}


# --- contexts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("artifact_kind", ARTIFACT_KINDS, ids=lambda artifact_kind: artifact_kind.collection)
async def test_a_taken_place_is_refused_at_create_update_deploy_and_restore(
    open_hub: OpenHub, artifact_kind: ArtifactKind
) -> None:
    """Whatever kind has it, the error names it; elsewhere, and on another host, the context is free."""
    async with Site.open(open_hub()) as site:
        needed = await _providers_for(site, artifact_kind)
        own = await site.make(artifact_kind, "Own", context="/taken", **needed)
        [at_taken] = await site.deployments(own)
        await site.change(own, context="/free")
        await site.make(REST_API, "Holder", context="/taken")
        named = 'the REST API "holder" is served under the context "/taken" of the virtual host "*"'
        with _refused(named):
            await site.make(artifact_kind, "Another", context="/taken", **needed)
        with _refused(named):
            await site.change(own, context="/taken")
        with _refused(named):
            await site.restore(own, at_taken)
        elsewhere = await _unplaced(site, artifact_kind, "Elsewhere", context="/taken", **needed)
        with _refused(named) as caught:
            await site.deploy(elsewhere)
        assert caught.value.field == "context"
        hosts = {"vhosts": {"main": "other.test"}} if artifact_kind is REST_API else {"vhost": "other.test"}
        await site.make(artifact_kind, "On another host", context="/taken", **hosts, **needed)


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ({"context": "/x/$version"}, {"context": "/x/v1.0"}, True),
        ({"context": "/x/$version"}, {"context": "/x/v2.0"}, False),
        ({"context": "/x"}, {"context": "/X"}, False),
        ({"context": "/x"}, {"context": "/x/y"}, False),
        ({"vhosts": {"main": "a.test;b.test"}}, {"vhosts": {"main": "B.TEST"}}, True),
        ({"vhosts": {"main": "a.test"}}, {"vhosts": {"main": "b.test"}}, False),
        ({}, {"vhosts": {"main": "*"}}, True),
        ({"vhosts": {"main": "_gateway_default_"}}, {}, True),
        ({"vhosts": {"main": "a.test"}}, {}, False),
        ({"vhosts": {"main": "sandbox-*", "sandbox": "s.test"}}, {"sandbox": True}, True),
        ({"vhosts": {"main": "sandbox-*", "sandbox": "s.test"}}, {}, False),
        ({"vhosts": {"main": "a.test", "sandbox": "s.test"}, "sandbox": True}, {"vhosts": {"main": "s.test"}}, True),
        ({"vhosts": {"main": "a.test", "sandbox": "s.test"}}, {"vhosts": {"main": "s.test"}}, False),
    ],
)
async def test_places_are_compared_as_gateways_build_them(
    open_hub: OpenHub, first: dict[str, object], second: dict[str, object], *, clash: bool
) -> None:
    def fields(written: dict[str, object]) -> dict[str, object]:
        upstream = {"main": {"url": "http://a.test"}}
        if written.get("sandbox"):
            upstream["sandbox"] = {"url": "http://b.test"}
        return {**{name: value for name, value in written.items() if name != "sandbox"}, "upstream": upstream}

    async with Site.open(open_hub()) as site:
        await site.make(REST_API, "First", **fields(first))
        if clash:
            with _refused('the REST API "first"'):
                await site.make(REST_API, "Second", **fields(second))
        else:
            await site.make(REST_API, "Second", **fields(second))


async def test_a_place_is_free_once_its_artifact_runs_there_no_more(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 2) as site:
        holder = await site.make(REST_API, "Holder", context="/x")
        await site.undeploy(holder)
        other = await _unplaced(site, REST_API, "Other", context="/x")
        await site.deploy(other)
        with _refused('the REST API "other"'):
            await site.deploy(holder)
        await site.delete(other)
        await site.deploy(holder)


async def test_a_place_stays_taken_where_the_gateway_refused_to_leave_it(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        holder = await site.make(REST_API, "Holder", context="/x")
        await site.acknowledge((await site.deployments(holder))[0])
        await site.change(holder, context="/y")
        await site.acknowledge((await site.deployments(holder))[0], error="GATEWAY_PROCESSING_ERROR")
        for context in ("/x", "/y"):
            with _refused('the REST API "holder"'):
                await site.make(REST_API, "Other", context=context)
        await site.undeploy(holder)
        await site.acknowledge((await site.deployments(holder))[0], deployed=False, error="GATEWAY_PROCESSING_ERROR")
        with _refused('the REST API "holder"'):
            await site.make(REST_API, "Other", context="/x")


async def test_artifacts_that_share_a_place_already_keep_it(open_hub: OpenHub) -> None:
    """An older release let them: they can be changed and deployed, and leave the place, but nobody joins them."""
    async with Site.open(open_hub()) as site:
        one, two = await site.make(REST_API, "One", context="/one"), await site.make(REST_API, "Two", context="/two")
        await _as_an_older_release(site, "/one", "/two")
        await site.change(one, context="/two", description="As an older release stored it")
        await _know_routes_again(site)
        assert await site.control_plane.artifacts.clashes(one.id) == []
        await site.make(REST_API, "Makes routes known", context="/known")
        [clash] = await site.control_plane.artifacts.clashes(one.id)
        assert clash == Clash(site.gateways[0], REST_API.kind, "two", Route("*", "/two"))
        for artifact in (one, two):
            changed = await site.change(artifact, context="/two", description="Changed")
            await site.deploy(changed)
        with _refused('is served under the context "/two"'):
            await site.make(REST_API, "Three", context="/two")
        await site.change(one, context="/one")
        assert await site.control_plane.artifacts.clashes(one.id) == []
        with _refused('the REST API "two"'):
            await site.change(one, context="/two")


async def _as_an_older_release(site: Site, *contexts: str) -> None:
    """Forget the routes, as if the contents had been stored without them."""
    async with site.hub.storage.database.transaction() as transaction:
        for context in contexts:
            await transaction.execute("DELETE FROM gatecast_content_routes WHERE context = $1", context)


async def _know_routes_again(site: Site) -> None:
    async with site.hub.storage.database.transaction() as transaction:
        await transaction.execute("DELETE FROM gatecast_content_routes")
        await transaction.execute("UPDATE gatecast_contents SET routed = 0")


async def test_contents_of_an_older_release_hold_their_places(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        for number in range(3):
            await site.make(REST_API, f"Api {number}", context=f"/api-{number}")
        await _know_routes_again(site)
        with _refused('the REST API "api-1"'):
            await site.make(REST_API, "Other", context="/api-1")
        await site.make(REST_API, "Other", context="/other")
        assert await site.hub.storage.database.fetch(_STORE["unrouted"], "", 10) == []


async def test_what_would_end_a_gateway_is_not_sent_again(open_hub: OpenHub) -> None:
    """An older release stored and sent it; it can be undeployed, deleted, and changed."""
    async with Site.open(open_hub()) as site:
        model = (await _unplaced(site, REST_API, "Model", context="/model")).document
        too_long = Resilience.model_validate({"timeout": "9999999h"}, context=STORED)
        document = model.model_copy(update={"name": "Broken", "context": "/broken", "resilience": too_long})
        artifacts = site.control_plane.artifacts
        broken = (await artifacts.create(ORGANIZATION, REST_API, document)).artifact
        with _refused("resilience.timeout should be 0, or from 1 ns up to 2562047h"):
            await site.deploy(broken)
        await site.change(broken, resilience={"timeout": "1h"})
        await site.deploy(broken)


@pytest.mark.parametrize("artifact_kind", ARTIFACT_KINDS, ids=lambda artifact_kind: artifact_kind.collection)
async def test_a_place_of_what_a_gateway_made_itself_is_taken_while_it_runs(
    open_hub: OpenHub, artifact_kind: ArtifactKind
) -> None:
    async with Site.open(open_hub()) as site:
        needed = await _providers_for(site, artifact_kind)
        [gateway] = site.gateways
        specification = {"displayName": "Own", "version": "v2", "context": "/own/$version"}

        async def announce(status: str, **fields: str) -> None:
            configuration = {"kind": "RestApi", "metadata": {"name": "own"}, "spec": {**specification, **fields}}
            item = {"dpid": "local", "status": status, "configuration": configuration}
            await site.control_plane.imports.store(ORGANIZATION, gateway, [item])

        await announce("deployed")
        with _refused('the REST API "own", which was made there, is served under the context "/own/v2"'):
            await site.make(artifact_kind, "Other", context="/own/v2", **needed)
        await announce("deployed", context="/moved")
        await site.make(artifact_kind, "Other", context="/own/v2", **needed)
        await announce("undeployed", context="/moved")
        await site.make(artifact_kind, "Another", context="/moved", **needed)


# --- derived contexts -------------------------------------------------------------------------------------------------


async def test_derived_contexts_are_unique_over_all_kinds(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        model = {"upstream": {"url": "https://a.test"}}
        provider = {"name": "Café", "template": "openai", **model}
        made = []
        for artifact_kind, document in (
            (LLM_PROVIDER, provider),
            (LLM_PROVIDER, {**provider, "name": "Cafe\u0301"}),
            (LLM_PROVIDER, {**provider, "name": "CAFE"}),
            (MCP_PROXY, {"name": "cafe", **model}),
            (LLM_PROVIDER, {**provider, "name": "漢字"}),
            (LLM_PROVIDER, {**provider, "name": "日本"}),
        ):
            artifact = (
                await site.control_plane.artifacts.create(
                    ORGANIZATION,
                    artifact_kind,
                    MODELS[artifact_kind.kind].model_validate(document),
                    gateways=site.gateways,
                )
            ).artifact
            made.append((artifact.handle, getattr(artifact.document, "context", None)))
        assert made == [
            ("cafe", "/cafe"),
            ("cafe-2", "/cafe-2"),
            ("cafe-3", "/cafe-3"),
            ("cafe", "/cafe-4"),
            ("artifact-p8s937b", "/artifact-p8s937b"),
            ("artifact-wgv71a", "/artifact-wgv71a"),
        ]


# --- two pods at once -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["create", "update", "deploy", "restore"])
async def test_of_two_pods_that_want_one_place_at_once_one_gets_it(open_hub: OpenHub, change: str) -> None:
    async with Site.open(open_hub()) as site, open_hub() as other_hub:
        pods = [site, Site(other_hub, ControlPlane.on(other_hub, Encryption([bytes(32)])), site.gateways)]
        work = [_WORK[change](pod, number) for number, pod in enumerate(pods)]
        for each in work:
            await anext(each)
        ended = await asyncio.gather(*(anext(each, None) for each in work), return_exceptions=True)
        assert sorted(type(each).__name__ for each in ended) == ["Conflict", "NoneType"]
        rows = await site.hub.storage.database.fetch(
            _SNAPSHOT["routes_on_gateways"], f'{{"{site.gateways[0]}": 0}}', "/wanted", '{"*": 0}', ""
        )
        assert len(rows) == 1


async def _create(pod: Site, number: int) -> AsyncIterator[None]:
    yield None
    await pod.make(REST_API, f"Api {number}", context="/wanted")


async def _update(pod: Site, number: int) -> AsyncIterator[None]:
    artifact = await pod.make(REST_API, f"Api {number}", context=f"/api-{number}")
    yield None
    await pod.change(artifact, context="/wanted")


async def _deploy(pod: Site, number: int) -> AsyncIterator[None]:
    artifact = await _unplaced(pod, REST_API, f"Api {number}", context="/wanted")
    yield None
    await pod.deploy(artifact)


async def _restore(pod: Site, number: int) -> AsyncIterator[None]:
    artifact = await pod.make(REST_API, f"Api {number}", context="/wanted")
    [earlier] = await pod.deployments(artifact)
    await pod.change(artifact, context=f"/api-{number}")
    yield None
    await pod.restore(artifact, earlier)


_WORK = {"create": _create, "update": _update, "deploy": _deploy, "restore": _restore}


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "artifact_kind", [LLM_PROVIDER, MCP_PROXY, REST_API], ids=lambda artifact_kind: artifact_kind.collection
)
async def test_names_are_not_swapped_while_a_gateway_is_away(open_hub: OpenHub, artifact_kind: ArtifactKind) -> None:
    """It would fetch what is current for the first event already, and each would find its name taken by the other."""
    async with Site.open(open_hub()) as site:
        alpha = await site.make(artifact_kind, "Alpha", context="/a")
        beta = await site.make(artifact_kind, "Beta", context="/b")
        for artifact in (alpha, beta):
            await site.acknowledge((await site.deployments(artifact))[0])
        alpha = await site.change(alpha, name="Temp")
        beta = await site.change(beta, name="Alpha")
        with _refused(
            f'acknowledged neither that the {artifact_kind.noun} "beta" gave up the name "Beta" v1.0'
        ) as caught:
            await site.change(alpha, name="Beta")
        assert caught.value.field == "name"
        assert 'wait until "beta" is acknowledged there, then give its former name to "alpha"' in str(caught.value)
        # Other changes go on, under the name that it has.
        alpha = await site.change(alpha, description="Changed")
        for artifact in (alpha, beta):
            await site.acknowledge((await site.deployments(artifact))[0])
        await site.change(alpha, name="Beta")
        assert await site.state(alpha) is DeploymentState.PENDING


async def test_a_name_goes_from_hand_to_hand_where_nobody_blocks_anybody(open_hub: OpenHub) -> None:
    """Each event comes after the one by which the name is given up."""
    async with Site.open(open_hub()) as site:
        names = ["Alpha", "Beta", "Gamma"]
        made = [await site.make(REST_API, name, context=f"/{name}") for name in names]
        for artifact in made:
            await site.acknowledge((await site.deployments(artifact))[0])
        for artifact, name in zip(made, ["Omega", "Alpha", "Beta"], strict=True):
            await site.change(artifact, name=name)


async def test_a_pod_knows_the_routes_of_an_older_release_once_it_has_started(open_hub: OpenHub) -> None:
    async with Site.open(open_hub()) as site:
        await site.make(REST_API)
        await _know_routes_again(site)
        key = base64.b64encode(bytes(32)).decode()
        await open_control_plane(site.hub, Settings(secret_key=key), None)
        assert await site.hub.storage.database.fetch(_STORE["unrouted"], "", 10) == []
        rows = await site.hub.storage.database.fetch("SELECT host, context FROM gatecast_content_routes")
        assert [(row["host"], row["context"]) for row in rows] == [("*", "/demo-api")]
