"""What gateways are told, in which order, and what their acknowledgements move; on every database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, LiteralString

import asyncpg
import pytest

from gatecast import EventHub
from gatecast.controlplane.access.gateway_tokens import GatewayTokens
from gatecast.controlplane.catalog.artifact_kinds import LLM_PROVIDER, LLM_PROXY, MCP_PROXY, REST_API, ArtifactKind
from gatecast.controlplane.catalog.artifact_store import ArtifactStore, StoredArtifact
from gatecast.controlplane.deployments.artifact_events import written
from gatecast.controlplane.deployments.placements import Deployment, DeploymentState
from gatecast.controlplane.deployments.reconcile import MAX_TRIES
from gatecast.controlplane.deployments.rollouts import Rollouts
from gatecast.controlplane.encryption import Encryption
from gatecast.controlplane.gateway_sync.acknowledgements import UnservedDownload
from gatecast.controlplane.gateway_sync.synchronizations import Call
from gatecast.controlplane.transactions.clock import milliseconds
from gatecast.controlplane.transactions.unit_of_work import begin_unit_of_work
from gatecast.errors import (
    InvalidValue,
    LimitReached,
    SecretKeyMissing,
    StatementFailed,
    StorageUnavailable,
    StoredByNewerRelease,
)
from gatecast.storage.contract import Row
from gatecast.storage.queries import Queries
from gatecast.storage.rows import as_keys
from gatecast.telemetry import metrics
from gatecast.testing.doubles.control_plane_fixture import ORGANIZATION, Site
from gatecast.testing.eventually import eventually

_RECONCILIATION = Queries("gatecast.controlplane.gateway_sync", "reconciliation.sql")

_IGNORED = "gatecast_acknowledgements_ignored_total"

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub]]

_MADE_THERE = {"kind": "RestApi", "metadata": {"name": "made-there"}, "spec": {}}

_STRANGERS = (
    ("lost-provider", "llmprovider"),
    ("lost-proxy", "llmproxy"),
    ("lost-api", "api"),
    ("lost-mcp", "mcpproxy"),
    ("made-there", "api"),
    ("of-no-kind", "websub"),
)

# --- acknowledgements -------------------------------------------------------------------------------------------------


async def test_s36_an_acknowledgement_moves_its_own_revision_only(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 1) as site:
        api = await site.make(REST_API)
        [first] = await site.deployments(api)
        await site.control_plane.artifacts.deploy(ORGANIZATION, REST_API, api.id, first.gateway_id)
        await site.acknowledge(first)
        assert await site.state(api) is DeploymentState.PENDING
        [second] = await site.deployments(api)
        await site.acknowledge(second)
        assert await site.state(api) is DeploymentState.DEPLOYED


@pytest.mark.parametrize(
    "words", [("", "INVALID_CONFIG"), ("INVALID_CONFIG", "")], ids=["success-first", "failure-first"]
)
async def test_where_replicas_say_different_things_they_are_asked_again_before_that_counts(
    open_hub: OpenHub, words: tuple[str, str]
) -> None:
    """They share a database: one may fail to store what another has stored."""
    async with Site.open(open_hub(), 1) as site:
        api = await site.make(REST_API)
        for _ in range(MAX_TRIES):
            [deployment] = await site.deployments(api)
            for word in words:
                await site.acknowledge(deployment, error=word)
            [again] = await site.deployments(api)
            assert (again.state, again.reason) == (DeploymentState.PENDING, "")
            assert again.performed_at > deployment.performed_at
        [deployment] = await site.deployments(api)
        for word in words:
            await site.acknowledge(deployment, error=word)
        [failed] = await site.deployments(api)
        assert (failed.state, failed.reason) == (DeploymentState.FAILED, "INVALID_CONFIG")
        # What operators want anew begins anew.
        await site.deploy(api)
        [deployment] = await site.deployments(api)
        for word in words:
            await site.acknowledge(deployment, error=word)
        [again] = await site.deployments(api)
        await site.acknowledge(again)
        assert await site.state(api) is DeploymentState.DEPLOYED


async def test_an_undeploy_names_the_deployment_only_where_the_gateway_is_known_to_have_it(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 1) as site:
        api = await site.make(REST_API)
        [deployment] = await site.deployments(api)
        await site.control_plane.artifacts.undeploy(ORGANIZATION, REST_API, api.id, deployment.gateway_id)
        assert (await site.told())[-1][1]["deploymentId"] == ""
        await site.control_plane.artifacts.deploy(ORGANIZATION, REST_API, api.id, deployment.gateway_id)
        [deployment] = await site.deployments(api)
        await site.acknowledge(deployment)
        await site.control_plane.artifacts.undeploy(ORGANIZATION, REST_API, api.id, deployment.gateway_id)
        assert (await site.told())[-1][1]["deploymentId"] == deployment.id


async def test_a_gateway_with_another_deployment_than_it_said_is_asked_to_undeploy_whatever_it_has(
    open_hub: OpenHub,
) -> None:
    async with Site.open(open_hub(), 1) as site:
        api = await site.make(REST_API)
        [deployment] = await site.deployments(api)
        await site.acknowledge(deployment)
        await site.control_plane.artifacts.undeploy(ORGANIZATION, REST_API, api.id, deployment.gateway_id)
        [undeploying] = await site.deployments(api)
        told = len(await site.told())
        await site.acknowledge(undeploying, deployed=False, error="DEPLOYMENT_ID_MISMATCH")
        [(kind, data)] = await site.told(after=told)
        assert (kind, data["deploymentId"]) == ("api.undeployed", "")
        assert await site.state(api) is DeploymentState.UNDEPLOYING
        [again] = await site.deployments(api)
        await site.acknowledge(again, deployed=False, named=False)
        assert await site.state(api) is DeploymentState.UNDEPLOYED


async def test_what_a_mismatch_leads_to_survives_an_outage(open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The acknowledgement is stored, and then the database is away."""

    async def away(*_: object) -> None:
        raise StorageUnavailable("away")

    async with Site.open(open_hub(), 1) as site:
        api = await site.make(REST_API)
        [deployment] = await site.deployments(api)
        await site.acknowledge(deployment)
        await site.control_plane.artifacts.undeploy(ORGANIZATION, REST_API, api.id, deployment.gateway_id)
        [undeploying] = await site.deployments(api)
        told = len(await site.told())
        with monkeypatch.context() as outage:
            outage.setattr(EventHub, "append", away)
            with pytest.raises(StorageUnavailable):
                await site.acknowledge(undeploying, deployed=False, error="DEPLOYMENT_ID_MISMATCH")
        ignored = metrics.registry.get_sample_value(_IGNORED)
        for _ in range(2):
            await site.control_plane.acknowledgements.flush()
        assert [data["deploymentId"] for _, data in await site.told(after=told)] == [""]
        # Stored once more, it moves nothing; that is no news of a gateway.
        assert metrics.registry.get_sample_value(_IGNORED) == ignored


async def test_acknowledgements_and_changes_take_their_locks_in_one_order(
    postgres_url: str, open_hub: OpenHub, request: pytest.FixtureRequest
) -> None:
    if "postgresql" not in request.node.name:
        pytest.skip("one writer at a time: nothing to lock")
    async with Site.open(open_hub(), 2) as site:
        api = await site.make(REST_API)
        first, second = await site.deployments(api)
        async with begin_unit_of_work(site.hub) as change:
            await change.lock_gateways(ORGANIZATION, site.gateways)
            store = ArtifactStore(Encryption([bytes(32)]))
            artifact = await store.find(change.transaction, ORGANIZATION, REST_API, api.id)
            await Rollouts(store).run_on(change, artifact, [second.gateway_id])
            site.report(first)
            site.report(second)
            flushing = asyncio.create_task(site.control_plane.acknowledgements.flush())
            await _somebody_waits_for_a_lock(postgres_url)
            await Rollouts(store).run_on(change, artifact, [first.gateway_id])
        await flushing
        assert [each.state for each in await site.deployments(api)] == [DeploymentState.PENDING] * 2


async def _somebody_waits_for_a_lock(url: str) -> None:
    observer = await asyncpg.connect(url)
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    try:
        await eventually(lambda: observer.fetchval(query))
    finally:
        await observer.close()


# --- the desired state once more --------------------------------------------------------------------------------------


async def test_everything_is_told_again_in_the_order_that_a_gateway_needs(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 1) as site:
        [gateway] = site.gateways
        artifacts = site.control_plane.artifacts
        # Created in an order that is not the one that is needed, as ids are random.
        provider = await site.make(LLM_PROVIDER, "Provider")
        proxies = [
            await site.make(LLM_PROXY, f"Proxy {n}", context=f"/proxy-{n}", provider={"id": provider.id})
            for n in range(3)
        ]
        stopped_provider = await site.make(LLM_PROVIDER, "Stopped provider")
        stopped_proxy = await site.make(LLM_PROXY, "Stopped", context="/stopped", provider={"id": stopped_provider.id})
        await artifacts.undeploy(ORGANIZATION, LLM_PROXY, stopped_proxy.id, gateway)
        await artifacts.undeploy(ORGANIZATION, LLM_PROVIDER, stopped_provider.id, gateway)
        gone_provider = await site.make(LLM_PROVIDER, "Gone provider")
        gone_proxy = await site.make(LLM_PROXY, "Gone", context="/gone", provider={"id": gone_provider.id})
        await artifacts.delete(ORGANIZATION, LLM_PROXY, gone_proxy.id)
        await artifacts.delete(ORGANIZATION, LLM_PROVIDER, gone_provider.id)
        await site.control_plane.keys.create(ORGANIZATION, LLM_PROVIDER, provider.id, "a-key")

        told = len(await site.told())
        assert await site.control_plane.desired_state.lost(ORGANIZATION, gateway, "retention") == 8
        again = await site.told(after=told)
        assert [kind for kind, _ in again] == [
            "llmproxy.deleted",
            "llmprovider.deleted",
            "llmproxy.undeployed",
            "llmprovider.undeployed",
            "llmprovider.deployed",
            "apikey.created",
            *["llmproxy.deployed"] * 3,
        ]
        assert {data["proxyId"] for kind, data in again if kind == "llmproxy.deployed"} == {each.id for each in proxies}


async def test_what_is_told_again_is_newer_and_waits_for_its_own_acknowledgement(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 1) as site:
        api = await site.make(REST_API)
        [before] = await site.deployments(api)
        await site.acknowledge(before)
        await site.control_plane.desired_state.lost(ORGANIZATION, site.gateways[0], "retention")
        [again] = await site.deployments(api)
        assert again.id == before.id
        assert again.performed_at > before.performed_at
        await site.acknowledge(before)
        assert await site.state(api) is DeploymentState.PENDING
        await site.acknowledge(again)
        assert await site.state(api) is DeploymentState.DEPLOYED


async def test_a_key_that_was_revoked_is_revoked_once_more(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 1) as site:
        api = await site.make(REST_API)
        keys = site.control_plane.keys
        for name in ("kept", "ended", "back-again"):
            await keys.create(ORGANIZATION, REST_API, api.id, name)
        for name in ("ended", "back-again"):
            await keys.revoke(ORGANIZATION, REST_API, api.id, name)
        await keys.create(ORGANIZATION, REST_API, api.id, "back-again")
        told = len(await site.told())
        await site.control_plane.desired_state.lost(ORGANIZATION, site.gateways[0], "retention")
        again = [(kind, data.get("keyName") or data.get("name")) for kind, data in await site.told(after=told)]
        assert again[0][0] == "api.deployed"
        assert again[1] == ("apikey.revoked", "ended")
        assert sorted(again[2:]) == [("apikey.created", "back-again"), ("apikey.created", "kept")]


async def test_keys_of_an_mcp_proxy_come_with_every_deploy(open_hub: OpenHub) -> None:
    """A gateway that has lost its database while the proxy was undeployed cannot ask for them."""
    async with Site.open(open_hub(), 1) as site:
        [gateway] = site.gateways
        proxy = await site.make(MCP_PROXY)
        await site.control_plane.keys.create(ORGANIZATION, MCP_PROXY, proxy.id, "a-key")
        [deployment] = await site.deployments(proxy)
        await site.acknowledge(deployment)
        await site.control_plane.artifacts.undeploy(ORGANIZATION, MCP_PROXY, proxy.id, gateway)
        [stopped] = await site.deployments(proxy)
        await site.acknowledge(stopped, deployed=False)
        told = len(await site.told())
        await site.control_plane.artifacts.deploy(ORGANIZATION, MCP_PROXY, proxy.id, gateway)
        assert [kind for kind, _ in await site.told(after=told)] == ["mcpproxy.deployed", "apikey.updated"]
        # It starts with an empty database and fetches from the list what it had acknowledged.
        await site.acknowledge((await site.deployments(proxy))[0])
        told = len(await site.told())
        await _read_lists(site, await site.deployments(proxy))
        assert [kind for kind, _ in await site.told(after=told)] == ["apikey.updated"]


async def _read_lists(site: Site, fetched: Sequence[Deployment], *, complete: bool = True) -> bool:
    """The first gateway's process starts, fetches these, and has read everything."""
    gateway, calls = site.gateways[0], site.control_plane.synchronizations
    await calls.note(gateway, Call.FIRST)
    if complete:
        await calls.note_secrets_read(gateway)
    await calls.note(gateway, Call.LIST)
    await site.control_plane.desired_state.note_listed(gateway)
    await site.control_plane.desired_state.note_fetched(gateway, [each.id for each in fetched])
    await calls.note(gateway, Call.LAST)
    seen = await calls.of_gateway(gateway)
    return await site.control_plane.desired_state.read_lists(ORGANIZATION, gateway, seen)


async def _two_apis(site: Site) -> list[StoredArtifact]:
    apis = [await site.make(REST_API, "One"), await site.make(REST_API, "Other", context="/other")]
    for api in apis:
        await site.acknowledge((await site.deployments(api))[0])
    return apis


async def test_what_the_list_has_delivered_to_an_empty_gateway_is_not_sent_again(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 1) as site:
        apis = await _two_apis(site)
        told = len(await site.told())
        fetched = [each for api in apis for each in await site.deployments(api)]
        assert await _read_lists(site, fetched)
        assert await site.told(after=told) == []
        assert [await site.state(api) for api in apis] == [DeploymentState.DEPLOYED] * 2
        # Nothing new: the next connect has nothing to look for.
        assert not await _read_lists(site, [])


async def test_what_a_gateway_fetches_is_doubted_where_it_had_the_rest(open_hub: OpenHub) -> None:
    """It says of events alone what came of them, so it is sent one more."""
    async with Site.open(open_hub(), 1) as site:
        [one, _] = await _two_apis(site)
        told = len(await site.told())
        await _read_lists(site, await site.deployments(one))
        assert [(kind, data["apiId"]) for kind, data in await site.told(after=told)] == [("api.deployed", one.id)]
        assert await site.state(one) is DeploymentState.PENDING
        await site.acknowledge((await site.deployments(one))[0])
        assert await site.state(one) is DeploymentState.DEPLOYED


async def test_what_a_gateway_fetches_without_the_secrets_in_it_is_doubted(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 1) as site:
        apis = await _two_apis(site)
        fetched = [each for api in apis for each in await site.deployments(api)]
        await _read_lists(site, fetched, complete=False)
        assert [await site.state(api) for api in apis] == [DeploymentState.PENDING] * 2


async def test_what_failed_and_is_fetched_is_not_the_last_word(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 1) as site:
        api = await site.make(REST_API)
        await site.acknowledge((await site.deployments(api))[0], error="GATEWAY_PROCESSING_ERROR")
        told = len(await site.told())
        await _read_lists(site, await site.deployments(api))
        assert [kind for kind, _ in await site.told(after=told)] == ["api.deployed"]
        await site.acknowledge((await site.deployments(api))[0])
        assert await site.state(api) is DeploymentState.DEPLOYED


async def test_what_waits_for_an_answer_is_not_sent_twice_because_it_is_fetched(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 1) as site:
        api = await site.make(REST_API)
        told = len(await site.told())
        await _read_lists(site, await site.deployments(api))
        assert await site.told(after=told) == []


async def test_what_could_not_be_given_to_a_gateway_has_not_failed(open_hub: OpenHub) -> None:
    """Whichever is stored first, its word or that it was not served."""
    async with Site.open(open_hub(), 1) as site:
        api, [gateway] = await site.make(REST_API), site.gateways
        token = (await GatewayTokens(site.hub).issue(ORGANIZATION, gateway)).token
        unserved = UnservedDownload(token=token, artifact_id=api.id)
        for number in range(MAX_TRIES):
            [before] = await site.deployments(api)
            if number % 2:
                site.report(before, error="GATEWAY_PROCESSING_ERROR")
            site.control_plane.acknowledgements.report(unserved)
            await site.control_plane.acknowledgements.flush()
            await site.acknowledge(before, error="GATEWAY_PROCESSING_ERROR")
            [again] = await site.deployments(api)
            assert again.state is DeploymentState.PENDING
            assert again.performed_at > before.performed_at
        # That it goes on like this is an answer, too.
        site.report(again, error="GATEWAY_PROCESSING_ERROR")
        site.control_plane.acknowledgements.report(unserved)
        await site.control_plane.acknowledgements.flush()
        assert await site.state(api) is DeploymentState.FAILED


async def test_of_a_stranger_nothing_is_believed(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 1) as site:
        api = await site.make(REST_API)
        told = len(await site.told())
        site.control_plane.acknowledgements.report(UnservedDownload(token="nobody's", artifact_id=api.id))
        await site.control_plane.acknowledgements.flush()
        assert await site.told(after=told) == []


async def test_after_a_lost_history_everything_is_newer_than_what_that_can_have_sent(open_hub: OpenHub) -> None:
    """Another pod's clock was ahead; a key that was rotated after the backup ends with it."""
    async with Site.open(open_hub(), 1) as site:
        api = await site.make(REST_API)
        await site.control_plane.keys.create(ORGANIZATION, REST_API, api.id, "a-key")
        ahead = milliseconds() + 5_000
        told = len(await site.told())
        await site.control_plane.desired_state.lost(ORGANIZATION, site.gateways[0], "epoch")
        [(_, deployed), (_, key)] = await site.told(after=told)
        assert deployed["performedAt"] > written(ahead)
        assert key["updatedAt"] > written(ahead)
        [listed] = await site.control_plane.files.keys(site.gateways[0], REST_API.kind)
        assert written(listed.updated_at) == key["updatedAt"]
        rotated = await site.control_plane.keys.rotate(ORGANIZATION, REST_API, api.id, "a-key")
        assert rotated.key.updated_at > listed.updated_at


async def test_keys_of_what_does_not_run_are_not_listed_and_come_with_the_next_deploy(open_hub: OpenHub) -> None:
    """A gateway without data would keep them, and not hear when they end."""
    async with Site.open(open_hub(), 1) as site:
        keys, api = site.control_plane.keys, await site.make(REST_API)
        for name in ("kept", "ended"):
            await keys.create(ORGANIZATION, REST_API, api.id, name)
        await site.acknowledge((await site.deployments(api))[0])
        await site.undeploy(api)
        await site.acknowledge((await site.deployments(api))[0], deployed=False)
        assert await site.control_plane.files.keys(site.gateways[0], REST_API.kind) == []
        told = len(await site.told())
        await keys.revoke(ORGANIZATION, REST_API, api.id, "ended")
        assert [kind for kind, _ in await site.told(after=told)] == ["apikey.revoked"]
        told = len(await site.told())
        await site.deploy(api)
        again = [(kind, data.get("keyName") or data.get("name")) for kind, data in await site.told(after=told)]
        assert again == [("api.deployed", None), ("apikey.revoked", "ended"), ("apikey.created", "kept")]


@pytest.mark.parametrize("artifact_kind", [MCP_PROXY, REST_API])
async def test_keys_end_with_their_time_also_where_their_last_value_came_too_late(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch, artifact_kind: ArtifactKind
) -> None:
    """A gateway drops the value that has expired before it came, and an older one would be good for ever."""
    async with Site.open(open_hub(), 2) as site:
        keys, artifact = site.control_plane.keys, await site.make(artifact_kind)
        for name in ("kept", "expiring", "revoked"):
            await keys.create(ORGANIZATION, artifact_kind, artifact.id, name)
        for name in ("expiring", "revoked"):
            soon = datetime.now(UTC) + timedelta(hours=1)
            await keys.rotate(ORGANIZATION, artifact_kind, artifact.id, name, soon)
        await keys.revoke(ORGANIZATION, artifact_kind, artifact.id, "revoked")
        told = len(await site.told())
        await keys.end_expired()
        assert await site.told(after=told) == []
        await _let_pass(site, 2)
        monkeypatch.setattr("gatecast.controlplane.deployments.api_keys._READ_AT_ONCE", 1)
        await asyncio.gather(*(keys.end_expired() for _ in range(3)))
        for gateway in site.gateways:
            again = [(kind, data.get("keyName")) for kind, data in await site.told(gateway)]
            assert again.count(("apikey.revoked", "expiring")) == 1
        # It is listed with its time, and can be given another one; then its earlier end is of no account.
        listed = await keys.of_artifact(ORGANIZATION, artifact_kind, artifact.id)
        assert [key.name for key in listed if key.revoked_at is None and key.expires_at] == ["expiring"]
        later = datetime.now(UTC) + timedelta(hours=3)
        rotated = await keys.rotate(ORGANIZATION, artifact_kind, artifact.id, "expiring", later)
        told = len(await site.told())
        await keys.end_expired()
        assert await site.told(after=told) == []
        await keys.outlive_revocations(ORGANIZATION, site.gateways[0], {(artifact.id, "expiring")})
        [(_, renewed)] = await site.told(after=told)
        assert renewed["updatedAt"] > written(rotated.key.updated_at)


async def test_a_key_that_cannot_be_ended_keeps_no_other_from_its_end(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer release has written its artifact, or the database refuses it."""
    async with Site.open(open_hub(), 1) as site:
        keys, soon = site.control_plane.keys, datetime.now(UTC) + timedelta(hours=1)
        apis = [await site.make(REST_API, f"Api {number}", context=f"/{number}") for number in range(3)]
        for api in apis:
            await keys.create(ORGANIZATION, REST_API, api.id, "expiring", soon)
        await _let_pass(site, 2)
        monkeypatch.setattr("gatecast.controlplane.deployments.api_keys._READ_AT_ONCE", 1)
        end = keys._end

        async def unreadable(
            organization: str, artifact_kind: ArtifactKind, artifact_id: str, name: str, now: int
        ) -> None:
            if artifact_id == apis[0].id:
                raise StoredByNewerRelease("its kind")
            if artifact_id == apis[1].id:
                raise StatementFailed("refused")
            await end(organization, artifact_kind, artifact_id, name, now)

        monkeypatch.setattr(keys, "_end", unreadable)
        told = len(await site.told())
        await keys.end_expired()
        assert [data["apiId"] for _, data in await site.told(after=told)] == [apis[2].id]


async def test_revoked_keys_of_an_mcp_proxy_are_not_forgotten(open_hub: OpenHub) -> None:
    """A gateway that has lost its position is told of each: it cannot ask for the keys of MCP proxies."""
    async with Site.open(open_hub(), 1) as site:
        keys, ids = site.control_plane.keys, (ORGANIZATION, MCP_PROXY)
        proxy = await site.make(MCP_PROXY)
        names = [*(f"key-{number}" for number in range(60)), "key-0"]
        for name in names:
            await keys.create(*ids, proxy.id, name)
            await keys.revoke(*ids, proxy.id, name)
        told = len(await site.told())
        await site.control_plane.desired_state.lost(ORGANIZATION, site.gateways[0], "retention")
        revoked = [data["keyName"] for kind, data in await site.told(after=told) if kind == "apikey.revoked"]
        assert sorted(revoked) == sorted(set(names))


async def test_the_names_of_keys_of_an_mcp_proxy_are_bounded(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatecast.controlplane.deployments.api_keys.MAX_KEY_NAMES", 3)
    async with Site.open(open_hub(), 1) as site:
        keys, ids = site.control_plane.keys, (ORGANIZATION, MCP_PROXY)
        proxy = await site.make(MCP_PROXY)
        for name in ("first", "second", "third", "first"):
            await keys.create(*ids, proxy.id, name)
            await keys.revoke(*ids, proxy.id, name)
        with pytest.raises(LimitReached, match="have had 3 names"):
            await keys.create(*ids, proxy.id, "fourth")
        await keys.create(*ids, proxy.id, "second")


async def test_what_was_handled_and_not_acknowledged_is_told_again_and_nothing_else(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 1) as site:
        [gateway] = site.gateways
        answered, silent = await site.make(REST_API, "Answered"), await site.make(REST_API, "Silent", context="/silent")
        [deployment] = await site.deployments(answered)
        await site.acknowledge(deployment)
        handled = len(await site.told())
        waiting = await site.make(REST_API, "Waiting", context="/waiting")
        look_again = await site.control_plane.desired_state.answered_nothing(ORGANIZATION, gateway, handled)
        assert look_again == handled + 1
        again = [data["apiId"] for _, data in await site.told(after=handled + 1)]
        assert again == [silent.id]
        # Everything is acknowledged: there is nothing to look for.
        for each in (silent, waiting):
            [deployment] = await site.deployments(each)
            await site.acknowledge(deployment)
        assert await site.control_plane.desired_state.answered_nothing(ORGANIZATION, gateway, handled + 2) is None


async def test_a_deletion_that_was_handled_is_forgotten(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 1) as site:
        [gateway] = site.gateways
        api = await site.make(REST_API)
        await site.control_plane.artifacts.delete(ORGANIZATION, REST_API, api.id)
        told = len(await site.told())
        desired_state = site.control_plane.desired_state
        assert await desired_state.answered_nothing(ORGANIZATION, gateway, told - 1) == told
        assert await desired_state.answered_nothing(ORGANIZATION, gateway, told) is None
        assert len(await site.told()) == told
        assert await desired_state.lost(ORGANIZATION, gateway, "retention") == 0


async def test_keys_that_change_while_a_gateway_reads_them_are_told_once_more(open_hub: OpenHub) -> None:
    """Its list is older than the events: it would remove what was made, and bring back what was revoked."""
    async with Site.open(open_hub(), 1) as site:
        [gateway] = site.gateways
        api, proxy = await site.make(REST_API), await site.make(MCP_PROXY)
        keys = site.control_plane.keys
        for name in ("old", "ended", "back-again"):
            await keys.create(ORGANIZATION, REST_API, api.id, name)
        await _a_moment_later()
        since = milliseconds()
        look_again = site.control_plane.desired_state.look_again
        told = len(await site.told())
        await look_again(ORGANIZATION, gateway, since)
        assert await site.told(after=told) == []
        for name in ("ended", "back-again"):
            await keys.revoke(ORGANIZATION, REST_API, api.id, name)
        for name in ("back-again", "new"):
            await keys.create(ORGANIZATION, REST_API, api.id, name)
        await keys.create(ORGANIZATION, MCP_PROXY, proxy.id, "of-a-proxy")
        told = len(await site.told())
        await look_again(ORGANIZATION, gateway, since)
        again = [(kind, data.get("keyName") or data.get("name")) for kind, data in await site.told(after=told)]
        assert again == [("apikey.revoked", "ended"), ("apikey.created", "back-again"), ("apikey.created", "new")]


async def test_looking_at_many_gateways_again_asks_once_for_all_of_them(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is nothing to publish, which is nearly always; one of them has a key that is too new."""
    async with Site.open(open_hub(), 20) as site:
        api = await site.make(REST_API)
        since = milliseconds()
        asked, fetch = 0, site.hub.storage.database.fetch

        async def counting(query: LiteralString, *arguments: object) -> list[Row]:
            nonlocal asked
            asked += 1
            return await fetch(query, *arguments)

        monkeypatch.setattr(site.hub.storage.database, "fetch", counting)
        look_again = site.control_plane.desired_state.look_again
        await asyncio.gather(*(look_again(ORGANIZATION, gateway, since) for gateway in site.gateways))
        assert asked <= 2
        await site.control_plane.keys.create(ORGANIZATION, REST_API, api.id, "new")
        told = [len(await site.told(gateway)) for gateway in site.gateways[:2]]
        await look_again(ORGANIZATION, site.gateways[0], since)
        again = [len(await site.told(gateway)) for gateway in site.gateways[:2]]
        assert again == [told[0] + 1, told[1]]


async def test_a_key_outlives_the_revocation_of_its_namesake_that_a_gateway_has_handled(open_hub: OpenHub) -> None:
    """A slow replica handles it after a fast one has taken the new key. Only that gateway is told once more."""
    async with Site.open(open_hub(), 2) as site:
        keys, api, proxy = site.control_plane.keys, await site.make(REST_API), await site.make(MCP_PROXY)
        slow, other = site.gateways
        for artifact_kind, artifact in ((REST_API, api), (MCP_PROXY, proxy)):
            for name in ("back-again", "ended", "untouched"):
                await keys.create(ORGANIZATION, artifact_kind, artifact.id, name)
            for name in ("back-again", "ended"):
                await keys.revoke(ORGANIZATION, artifact_kind, artifact.id, name)
            await keys.create(ORGANIZATION, artifact_kind, artifact.id, "back-again")
        told, others = await site.told(slow), await site.told(other)
        revoked = {(each.id, name) for each in (api, proxy) for name in ("back-again", "ended")}
        for _ in range(2):
            before = len(await site.told(slow))
            await keys.outlive_revocations(ORGANIZATION, slow, revoked | {("nothing", "here")})
            again = await site.told(slow, after=before)
            assert sorted((kind, data.get("name") or data["keyName"]) for kind, data in again) == [
                ("apikey.created", "back-again"),
                ("apikey.updated", "back-again"),
            ]
            for _, data in again:
                values = [each for _, each in told if "apiKeyHashes" in each]
                [*_, last] = [each for each in values if each["apiId"] == data["apiId"]]
                assert data["apiKeyHashes"] == last["apiKeyHashes"]
                assert data["updatedAt"] > last["updatedAt"]
            told += again
        assert await site.told(other) == others
        # What comes after it is newer than what the gateway was told, also in lists.
        listed = await site.control_plane.files.keys(slow, REST_API.kind)
        rotated = await keys.rotate(ORGANIZATION, REST_API, api.id, "back-again")
        assert rotated.key.version > max(each.version for each in listed) + 1


async def test_a_key_that_cannot_be_told_anew_keeps_no_other_from_it(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key to its artifact's document is gone."""
    async with Site.open(open_hub(), 1) as site:
        keys = site.control_plane.keys
        apis = [await site.make(REST_API, f"Api {number}", context=f"/{number}") for number in range(3)]
        for api in apis:
            await keys.create(ORGANIZATION, REST_API, api.id, "again")
        first, *others = sorted(api.id for api in apis)
        lock = keys._store.lock

        async def keyless(*arguments: Any) -> StoredArtifact:  # noqa: ANN401 - as it is called
            if first in arguments:
                raise SecretKeyMissing
            return await lock(*arguments)

        monkeypatch.setattr(keys._store, "lock", keyless)
        told = len(await site.told())
        await keys.outlive_revocations(ORGANIZATION, site.gateways[0], {(api.id, "again") for api in apis})
        assert [data["apiId"] for _, data in await site.told(after=told)] == others


async def test_gateways_that_revoke_a_name_at_the_same_time_are_told_its_new_key_together(open_hub: OpenHub) -> None:
    """One version for all of them; one that was deleted meanwhile keeps no other from it."""
    async with Site.open(open_hub(), 3) as site:
        keys, api = site.control_plane.keys, await site.make(REST_API)
        await keys.create(ORGANIZATION, REST_API, api.id, "again")
        told = {gateway: len(await site.told(gateway)) for gateway in site.gateways}
        asking = [*site.gateways, "deleted"]
        await asyncio.gather(*(keys.outlive_revocations(ORGANIZATION, each, {(api.id, "again")}) for each in asking))
        renewed = [await site.told(gateway, after=offset) for gateway, offset in told.items()]
        assert [[kind for kind, _ in each] for each in renewed] == [["apikey.created"]] * 3
        # The first one asks alone; those that ask while its change runs share the next one.
        assert len({data["updatedAt"] for [(_, data)] in renewed}) == 2


async def test_an_expired_key_is_not_told_again_because_its_namesake_was_revoked(open_hub: OpenHub) -> None:
    """It would be told as a revocation, and every revocation that is handled asks for this once more."""
    async with Site.open(open_hub(), 1) as site:
        keys, api = site.control_plane.keys, await site.make(REST_API)
        await keys.create(ORGANIZATION, REST_API, api.id, "again")
        await keys.revoke(ORGANIZATION, REST_API, api.id, "again")
        await keys.create(ORGANIZATION, REST_API, api.id, "again", datetime.now(UTC) + timedelta(hours=1))
        await _let_pass(site, 2)
        await keys.end_expired()
        told = await site.told()
        await keys.outlive_revocations(ORGANIZATION, site.gateways[0], {(api.id, "again")})
        assert await site.told() == told


async def _let_pass(site: Site, hours: int) -> None:
    """As if so much time had passed for every key."""
    statement = "UPDATE gatecast_api_keys SET expires_at = expires_at - $1"
    await site.hub.storage.database.execute(statement, hours * 60 * 60 * 1000)


async def test_the_time_of_a_key_is_over_by_the_clock_of_the_database(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod whose clock is two hours ahead ends no key that others accept, and refuses no time that is to come."""
    async with Site.open(open_hub(), 1) as site:
        keys, ids, soon = site.control_plane.keys, (ORGANIZATION, REST_API), datetime.now(UTC) + timedelta(hours=1)
        api = await site.make(REST_API)
        then = time.time_ns() + 2 * 60 * 60 * 10**9
        monkeypatch.setattr("gatecast.controlplane.transactions.clock.time", SimpleNamespace(time_ns=lambda: then))
        await keys.create(*ids, api.id, "expiring", soon)
        await keys.rotate(*ids, api.id, "expiring")
        await keys.rotate(*ids, api.id, "expiring", soon)
        await keys.end_expired()
        await site.deploy(api)
        said = [kind for kind, data in await site.told() if "keyName" in data or "name" in data]
        assert said == ["apikey.created", "apikey.updated", "apikey.updated", "apikey.created"]
        for given, rule in ((None, "be given"), (datetime.now(UTC) - timedelta(seconds=1), "lie in the future")):
            await _let_pass(site, 2)
            with pytest.raises(InvalidValue, match=rule):
                await keys.rotate(*ids, api.id, "expiring", given)


async def test_versions_of_keys_rise_by_more_than_lists_are_newer(open_hub: OpenHub) -> None:
    """Also those that rise because a history was lost: what is listed is 1 ms newer, and older than what follows."""
    async with Site.open(open_hub(), 1) as site:
        keys, api = site.control_plane.keys, await site.make(REST_API)
        made = (await keys.create(ORGANIZATION, REST_API, api.id, "a-key")).key
        async with site.hub.storage.database.transaction() as transaction:
            values = (as_keys([api.id]), made.updated_at + 1)
            await transaction.execute(_RECONCILIATION["raise_keys"], *values)
        [raised] = await keys.of_artifact(ORGANIZATION, REST_API, api.id)
        assert raised.version > made.version + 1


async def test_what_only_a_lost_history_knew_is_removed_once_the_gateway_acknowledges_it(open_hub: OpenHub) -> None:
    async with Site.open(open_hub(), 1) as site:
        [gateway] = site.gateways
        control_plane, api = site.control_plane, await site.make(REST_API)
        [deployment] = await site.deployments(api)
        announced = {"dpid": "made-there", "configuration": _MADE_THERE, "status": "deployed"}

        async def acknowledge_strangers() -> None:
            for name, resource_type in _STRANGERS:
                site.report(replace(deployment, artifact_id=name), resource_type=resource_type)
            await control_plane.acknowledgements.flush()

        async def removed() -> list[tuple[str, object]]:
            told = len(await site.told())
            await control_plane.desired_state.look_again(ORGANIZATION, gateway, milliseconds())
            return [
                (kind, data.get("apiId") or data.get("providerId") or data.get("proxyId"))
                for kind, data in await site.told(after=told)
            ]

        await control_plane.synchronizations.note(gateway, Call.FIRST)
        await control_plane.imports.store(ORGANIZATION, gateway, [announced])
        await acknowledge_strangers()
        assert await removed() == []
        await control_plane.desired_state.lost(ORGANIZATION, gateway, "epoch")
        await acknowledge_strangers()
        assert await removed() == [
            ("mcpproxy.deleted", "lost-mcp"),
            ("api.deleted", "lost-api"),
            ("llmproxy.deleted", "lost-proxy"),
            ("llmprovider.deleted", "lost-provider"),
        ]
        assert await removed() == []


async def test_a_provider_that_a_gateway_could_not_remove_at_its_start_is_removed_after_it(open_hub: OpenHub) -> None:
    """A proxy still used it there, and nobody here knows it any more."""
    async with Site.open(open_hub(), 1) as site:
        [gateway] = site.gateways
        state, api = site.control_plane.desired_state, await site.make(REST_API)
        for call in (Call.FIRST, Call.LIST):
            await site.control_plane.synchronizations.note(gateway, call)
        seen = await site.control_plane.synchronizations.of_gateway(gateway)
        await state.orphaned(gateway, {api.id, "of-another-history"})
        for expected in ([("llmprovider.deleted", "of-another-history")], []):
            told = len(await site.told())
            await state.read_lists(ORGANIZATION, gateway, seen)
            assert [(kind, data["providerId"]) for kind, data in await site.told(after=told)] == expected


async def _a_moment_later() -> None:
    """Return when the clock shows another millisecond."""
    before = milliseconds()
    while milliseconds() == before:
        await asyncio.sleep(0)
