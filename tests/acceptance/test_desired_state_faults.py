"""What the real gateway showed: each fault, with its interleaving forced, ends in what operators want, truly shown."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from gatecast.testing.eventually import eventually
from gatecast.testing.operator import Refused
from gatecast.testing.processes.deployment import Site
from gatecast.testing.processes.installation import (
    Edge,
    Installation,
    declare_resynchronized,
    restored_afterwards,
    synchronized,
)
from gatecast.testing.unmodified_gateway import Gates

pytestmark = pytest.mark.acceptance

_AUTH = {"type": "api-key", "header": "Authorization", "value": "Bearer a-credential"}
_URL = "http://backend.example.test:8080"
_POOL = [{"name": "pool", "upstreams": [{"url": "http://a.example.test"}, {"url": "http://b.example.test"}]}]


def provider(name: str = "Demo Provider", **fields: object) -> dict[str, Any]:
    """A provider."""
    return {"name": name, "version": "v1.0", "template": "openai", "upstream": {"url": _URL, "auth": _AUTH}, **fields}


def proxy(path: str, name: str = "Demo Proxy", **fields: object) -> dict[str, Any]:
    """A proxy on the provider at this path."""
    context = f"/{name.lower().replace(' ', '-')}"
    return {"name": name, "version": "v1.0", "context": context, "provider": {"id": _id(path)}, **fields}


def rest_api(name: str = "Demo API", **fields: object) -> dict[str, Any]:
    """A REST API."""
    context = f"/{name.lower().replace(' ', '-')}"
    upstream = {"main": {"url": _URL}}
    operations = [{"method": "GET", "path": "/items"}]
    return {
        "name": name,
        "version": "v1.0",
        "context": context,
        "upstream": upstream,
        "operations": operations,
        **fields,
    }


def mcp_proxy(**fields: object) -> dict[str, Any]:
    """An MCP proxy."""
    return {"name": "Demo MCP", "version": "v1.0", "context": "/mcp", "upstream": {"url": _URL}, **fields}


def _id(path: str) -> str:
    return path.rpartition("/")[2]


async def interleaved(installation: Installation, edge: Edge, *, event: str, step: str) -> None:
    """Let the gateway handle an event when it has come to a step of its synchronization, and then take that step.

    Or return when the control plane says that it waits with its events: then this cannot come about.
    """
    begin, gates = len(edge.gateway.records.steps), Gates()

    async def happened() -> bool:
        return f"handled {event}" in edge.gateway.records.steps[begin:] or await installation.why() == "synchronizing"

    edge.gateway.schedule_steps(gates)
    async with gates.held(step) as reached:
        async with gates.held(f"event {event}"):
            await reached.wait()
        await eventually(happened)


async def restarted(installation: Installation, *, event: str, step: str, with_data: bool = True) -> None:
    """Start the gateway's process again, and let it handle an event at this step of its synchronization."""
    edge = installation.edge
    forcing = asyncio.create_task(interleaved(installation, edge, event=event, step=step))
    # What is held back is known before the process starts.
    await asyncio.sleep(0)
    await edge.gateway.restart(with_data=with_data)
    await forcing


# --- 1: accepted, acknowledged, never served ----------------------------------------------------------------------


_TWO_TARGETS = {"main": {"url": _URL}, "sandbox": {"url": "http://sandbox.example.test"}}

_UNSERVABLE = [
    ("llm-providers", provider(upstream={"ref": "pool"}, upstreamDefinitions=_POOL)),
    ("mcp-proxies", mcp_proxy(upstream={"ref": "pool"}, upstreamDefinitions=_POOL)),
    ("rest-apis", rest_api(upstream={"main": {"ref": "pool"}}, upstreamDefinitions=_POOL)),
    ("rest-apis", rest_api(upstream={"main": {"url": _URL}, "sandbox": {"ref": "pool"}}, upstreamDefinitions=_POOL)),
    ("rest-apis", rest_api(upstream=_TWO_TARGETS, vhosts={"main": "a.test", "sandbox": "a.test"})),
    ("rest-apis", rest_api(upstream=_TWO_TARGETS, vhosts={"main": "a.test;b.test", "sandbox": "b.test"})),
    ("rest-apis", rest_api(upstream=_TWO_TARGETS, vhosts={"main": "sandbox-*"})),
    ("rest-apis", rest_api(upstream=_TWO_TARGETS, vhosts={"sandbox": "*"})),
    ("rest-apis", rest_api(resilience={"timeout": "2562048h"})),
    ("rest-apis", rest_api(resilience={"idleTimeout": "153722868m"})),
    ("rest-apis", rest_api(resilience={"timeout": "0.0000001ms"})),
    ("llm-providers", provider(resilience={"timeout": "9223372037s"})),
]


async def test_what_a_gateway_could_never_serve_is_refused(site: Site) -> None:
    """It would acknowledge it, and its process would end at every start from then on."""
    accepted: list[str] = []
    async with Installation.open(site) as installation:
        for collection, body in _UNSERVABLE:
            try:
                made = await installation.operator.ask("POST", f"/{collection}", body)
            except Refused as refused:
                accepted += [] if refused.status == 422 else [str(refused)]
            else:
                accepted.append(f"{collection} {body}")
                await installation.operator.ask("DELETE", f"/{collection}/{made['id']}")
    assert accepted == []


async def test_a_number_that_a_gateway_cannot_decode_is_refused(site: Site) -> None:
    """As a parameter of a policy, which may hold anything."""
    policies = [{"name": "set-headers", "version": "v1", "params": {"number": 10**309}}]
    async with Installation.open(site) as installation:
        with pytest.raises(Refused) as refused:
            await installation.operator.ask("POST", "/rest-apis", rest_api(policies=policies))
        assert refused.value.status == 422


# --- 2: a revoked key lives on ------------------------------------------------------------------------------------


async def _key_of_what_is_gone(installation: Installation) -> str:
    """The path of a provider that is undeployed, and that a gateway without data knows by its key alone."""
    edge = installation.edge
    path = await installation.create("llm-providers", provider())
    await installation.operator.ask("POST", f"{path}/api-keys", {"name": "my-key"})
    await installation.is_true()
    await installation.operator.ask("POST", f"{path}/undeploy", {"gatewayId": edge.id})
    await installation.reaches(path, "UNDEPLOYED")
    times = edge.gateway.records.reconciliations
    await edge.gateway.restart(with_data=False)
    await synchronized(edge.gateway, times + 1)
    await installation.undisturbed()
    return path


async def test_a_key_that_was_revoked_while_its_artifact_was_away_does_not_live_on(site: Site) -> None:
    async with Installation.open(site) as installation:
        path = await _key_of_what_is_gone(installation)
        await installation.operator.ask("DELETE", f"{path}/api-keys/my-key?wait=confirmed&timeout=10")
        await installation.operator.ask("POST", f"{path}/deployments", {"gatewayId": installation.edge.id})
        await installation.reaches(path, "DEPLOYED")
        await installation.is_true()
        assert not [key for key in installation.edge.gateway.api_keys.values() if key.status == "active"]


async def test_a_key_that_was_rotated_while_its_artifact_was_away_is_the_new_one(site: Site) -> None:
    async with Installation.open(site) as installation:
        path = await _key_of_what_is_gone(installation)
        await installation.operator.ask("POST", f"{path}/api-keys/my-key/rotate?wait=confirmed&timeout=10", {})
        await installation.operator.ask("POST", f"{path}/deployments", {"gatewayId": installation.edge.id})
        await installation.reaches(path, "DEPLOYED")
        await installation.is_true()


# --- 3: a rotated key is lost -------------------------------------------------------------------------------------


async def test_a_key_that_was_rotated_while_its_gateway_was_away_is_not_lost(site: Site) -> None:
    """The gateway comes back without data, and has handled the events before it reads the list of keys."""
    async with Installation.open(site) as installation:
        edge = installation.edge
        path = await installation.create("llm-providers", provider())
        await installation.operator.ask("POST", f"{path}/api-keys", {"name": "my-key"})
        await installation.is_true()
        await edge.gateway.stop()
        await installation.operator.ask("PATCH", path, {"context": "/moved"})
        await installation.operator.ask("POST", f"{path}/api-keys/my-key/rotate", {})
        event = f"apikey.updated {_id(path)}"
        await restarted(installation, event=event, step="GET /llm-providers/api-keys", with_data=False)
        await installation.is_true()


# --- 4: events beside the start-up synchronization ----------------------------------------------------------------


async def _proxy_whose_gateway_is_away(installation: Installation) -> tuple[str, str]:
    """Paths of a provider and a proxy that were made while the gateway was away."""
    edge = installation.edge
    await edge.gateway.stop()
    made = await installation.operator.ask("POST", "/llm-providers", {**provider(), "gateways": [edge.id]})
    path = f"/llm-providers/{made['id']}"
    made = await installation.operator.ask("POST", "/llm-proxies", {**proxy(path), "gateways": [edge.id]})
    return path, f"/llm-proxies/{made['id']}"


@pytest.mark.parametrize("step", ["answered POST /deployments/fetch-batch", "answered GET /deployments"])
async def test_a_proxy_whose_event_came_before_its_provider_ends_deployed(site: Site, step: str) -> None:
    """Its provider's event is not repeated beside the list.

    1 the process handles the provider's event, and ends without its data, 2 the next one gets the proxy's event while
    the list is on its way.
    """
    async with Installation.open(site) as installation:
        edge = installation.edge
        provider_path, proxy_path = await _proxy_whose_gateway_is_away(installation)
        gates, event = Gates(), f"llmproxy.deployed {_id(proxy_path)}"
        edge.gateway.schedule_steps(gates)
        async with gates.held(f"event {event}") as reached:
            await edge.gateway.restart()
            # A control plane that holds events back until the gateway has synchronized sends it then.
            await reached.wait()
            await installation.operator.confirmed(edge.id, 1)
            await restarted(installation, event=event, step=step, with_data=False)
        for path in (provider_path, proxy_path):
            await installation.reaches(path, "DEPLOYED")
        await installation.is_true()


async def test_an_event_that_fails_before_the_list_deploys_the_same_is_not_the_last_word(site: Site) -> None:
    async with Installation.open(site) as installation:
        edge = installation.edge
        await edge.gateway.stop()
        made = await installation.operator.ask("POST", "/rest-apis", {**rest_api(), "gateways": [edge.id]})
        edge.gateway.fail_next_apply("no reason")
        event = f"api.deployed {made['id']}"
        await restarted(installation, event=event, step="answered POST /deployments/fetch-batch")
        await installation.reaches(f"/rest-apis/{made['id']}", "DEPLOYED")
        await installation.is_true()


# --- 5: a second without the database -----------------------------------------------------------------------------


async def test_a_second_without_the_database_fails_no_deployment(site: Site) -> None:
    async with Installation.open(site) as installation:
        edge, operator = installation.edge, installation.operator
        gates = Gates()
        edge.gateway.schedule_steps(gates)
        paths: list[str] = []
        for number in range(10):
            body = {**provider(f"Provider {number}"), "context": f"/p-{number}"}
            made = await operator.ask("POST", "/llm-providers", body)
            paths.append(f"/llm-providers/{made['id']}")
        async with gates.held(f"GET {paths[0]}") as reached:
            for path in paths:
                await operator.ask("POST", f"{path}/deployments", {"gatewayId": edge.id})
            await reached.wait()
            with installation.replicas[0].without_database():
                gates.release(f"GET {paths[0]}")
                with suppress(TimeoutError):
                    await edge.gateway.wait_until(lambda: len(edge.gateway.acks_sent) == 10, limit=1.0)
        for path in paths:
            await installation.reaches(path, "DEPLOYED")
        await installation.is_true()


# --- 6: replicas --------------------------------------------------------------------------------------------------


async def test_what_one_replica_stored_and_the_other_failed_to_store_is_deployed(site: Site) -> None:
    async with Installation.open(site) as installation:
        edge = installation.edge
        async with edge.gateway.replica() as second:
            await synchronized(second, 1)
            made = await installation.operator.ask("POST", "/rest-apis", rest_api())
            path, step, winner, loser = f"/rest-apis/{made['id']}", f"store {made['id']}", Gates(), Gates()
            edge.gateway.schedule_steps(winner)
            second.schedule_steps(loser)
            async with loser.held(step) as reached:
                # Neither has stored it when the other looks.
                async with winner.held(step) as ready:
                    await installation.operator.ask("POST", f"{path}/deployments", {"gatewayId": edge.id})
                    await ready.wait()
                    await reached.wait()
                await edge.gateway.wait_until(lambda: made["id"] in edge.gateway.artifacts)
            await second.wait_until(lambda: bool(second.acks_sent))
            assert second.acks_sent[0]["status"] == "failed"
            await installation.reaches(path, "DEPLOYED")
            await installation.is_true()


# --- 7: restore ---------------------------------------------------------------------------------------------------


async def test_what_was_made_after_the_backup_is_removed_or_the_operator_is_told(site: Site) -> None:
    """A process that runs names no LLM artifact; when it starts again, it asks."""
    async with Installation.open(site) as installation:
        edge = installation.edge
        await installation.create("llm-providers", provider("Kept"))
        async with restored_afterwards(installation, site):
            await installation.create("llm-providers", provider("Lost", context="/lost"))
        times = edge.gateway.records.reconciliations

        async def told() -> bool:
            return await installation.why() == "resync-needed"

        await eventually(told)
        await edge.gateway.restart()
        await synchronized(edge.gateway, times + 1)
        await declare_resynchronized(installation, site)
        await installation.is_true()


async def test_an_api_that_was_made_after_the_backup_is_removed_because_the_gateway_names_it(site: Site) -> None:
    async with Installation.open(site) as installation:
        async with restored_afterwards(installation, site):
            path = await installation.create("rest-apis", rest_api("Lost"))

        async def gone() -> bool:
            return _id(path) not in installation.edge.gateway.artifacts

        await eventually(gone)


async def test_a_key_that_was_rotated_after_the_backup_is_the_older_one_again(site: Site) -> None:
    async with Installation.open(site) as installation:
        edge = installation.edge
        path = await installation.create("llm-providers", provider())
        await installation.operator.ask("POST", f"{path}/api-keys", {"name": "my-key"})
        await installation.is_true()
        async with restored_afterwards(installation, site):
            await installation.operator.ask("POST", f"{path}/api-keys/my-key/rotate", {})
            await installation.is_true()
        times = edge.gateway.records.reconciliations
        await edge.gateway.restart()
        await synchronized(edge.gateway, times + 1)
        await declare_resynchronized(installation, site)
        await installation.is_true()


# --- 8: names that are swapped ------------------------------------------------------------------------------------


async def test_names_that_are_swapped_while_the_gateway_is_away_are_refused_with_the_reason(site: Site) -> None:
    async with Installation.open(site) as installation:
        edge, ask = installation.edge, installation.operator.ask
        alpha = await installation.create("rest-apis", rest_api("Alpha"))
        beta = await installation.create("rest-apis", rest_api("Beta"))
        await edge.gateway.stop()
        await ask("PATCH", alpha, {"name": "Temp"})
        refusals: list[Refused] = []
        for path, name in ((beta, "Alpha"), (alpha, "Beta")):
            try:
                await ask("PATCH", path, {"name": name})
            except Refused as refused:
                refusals.append(refused)
        assert {each.status for each in refusals} == {409}
        assert "Alpha" in refusals[0].body or "Beta" in refusals[0].body
        await edge.gateway.restart()
        for path in (alpha, beta):
            await installation.reaches(path, "DEPLOYED")
        await installation.is_true()


# --- 9: events that no list repeats -------------------------------------------------------------------------------


async def test_an_event_that_no_list_repeats_is_repeated_or_its_loss_is_shown(site: Site) -> None:
    data = {"applicationId": "a", "applicationUuid": "a-1", "applicationName": "A", "applicationType": "t"}
    async with Installation.open(site) as installation:
        edge = installation.edge
        event = {
            "type": "application.updated",
            "action": "UPDATE",
            "entityType": "Application",
            "entityId": "a-1",
            "data": {**data, "mappings": []},
        }
        await installation.operator.ask("POST", f"/gateways/{edge.id}/events", event)
        await edge.gateway.wait_until(lambda: "a-1" in edge.gateway.applications)
        times = edge.gateway.records.reconciliations
        await edge.gateway.restart(with_data=False)
        await synchronized(edge.gateway, times + 1)

        async def honest() -> bool:
            return "a-1" in edge.gateway.applications or await installation.why() == "resync-needed"

        await eventually(honest)


# --- 10: the rest -------------------------------------------------------------------------------------------------


async def test_what_the_list_has_delivered_is_not_sent_again_as_an_event(site: Site) -> None:
    async with Installation.open(site) as installation:
        edge = installation.edge
        for number in range(10):
            await installation.create("rest-apis", rest_api(f"API {number}"))
        await installation.is_true()
        times, received = edge.gateway.records.reconciliations, len(edge.gateway.received)
        await edge.gateway.restart(with_data=False)
        await synchronized(edge.gateway, times + 1)
        await installation.has_delivered()
        await installation.is_true()
        await installation.undisturbed()
        again = [event.type for event in edge.gateway.received[received:] if event.type == "api.deployed"]
        assert again == []


async def test_a_gateway_that_is_away_is_offline_also_when_nothing_waits_for_it(site: Site) -> None:
    async with Installation.open(site) as installation:
        await installation.edge.gateway.stop()

        async def offline() -> bool:
            return await installation.why() == "offline"

        await eventually(offline)


async def test_what_was_deleted_by_hand_is_back_when_the_process_starts_again(site: Site) -> None:
    async with Installation.open(site) as installation:
        edge = installation.edge
        path = await installation.create("llm-providers", provider())
        await installation.operator.ask("POST", f"{path}/api-keys", {"name": "my-key"})
        await installation.is_true()
        times = edge.gateway.records.reconciliations
        edge.gateway.delete_by_hand(_id(path))
        await edge.gateway.restart()
        await synchronized(edge.gateway, times + 1)
        await installation.is_true()


async def test_a_change_after_a_restore_starts_from_what_was_restored(site: Site) -> None:
    async with Installation.open(site) as installation:
        ask = installation.operator.ask
        path = await installation.create("rest-apis", rest_api(context="/first"))
        await ask("PATCH", path, {"context": "/second"})
        await installation.reaches(path, "DEPLOYED")
        first = (await ask("GET", f"{path}/deployments"))["items"][-1]
        await ask("POST", f"{path}/deployments/{first['id']}/restore")
        await installation.reaches(path, "DEPLOYED")
        await ask("PATCH", path, {"resilience": {"timeout": "5s"}})
        assert (await ask("GET", path))["context"] == "/first"
        await installation.is_true()
        document = installation.edge.gateway.running[_id(path)].document
        assert document is not None
        assert document["spec"]["context"] == "/first"
        assert document["spec"]["resilience"] == {"timeout": "5s"}
