"""Artifacts are created, changed and deleted through the admin API; simulated gateways end in the desired state."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from gatecast import EventHub
from gatecast.controlplane.migrations import MIGRATIONS
from gatecast.testing.desired_state import in_desired_state
from gatecast.testing.eventually import eventually
from gatecast.testing.operator import GatewayAccess, Operator, Refused
from gatecast.testing.pods import RunningPod
from gatecast.testing.processes.deployment import Deployment, Site, gateway_address
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.testing.unmodified_gateway import GatewayOptions, UnmodifiedGateway, template

pytestmark = pytest.mark.acceptance

_EAGER = GatewayOptions(reconnect_initial=0.05, reconnect_max=0.5)

_SECRET_KEY = "c2VjcmV0LWtleS1mb3ItdGVzdHMtb25seS0zMi1ieXQ="

#: Nothing listens there.
_NOWHERE = ("127.0.0.1", 9)

_CREDENTIAL = "Bearer a-credential-that-nobody-may-see"


#: Limits of every kind, everywhere and for single paths.
_RATE_LIMITS = {
    "global": {
        "requests": [{"count": 100, "duration": "1m"}],
        "totalTokens": [{"count": 100_000, "duration": "24h"}],
    },
    "paths": [{"path": "/chat/completions", "promptTokens": [{"count": 1_000, "duration": "30s"}]}],
}


def provider(name: str = "Demo Provider", **fields: object) -> dict[str, Any]:
    """A provider with a credential and limits."""
    auth = {"type": "api-key", "header": "Authorization", "value": _CREDENTIAL}
    return {
        "name": name,
        "version": "v1.0",
        "template": "openai",
        "upstream": {"url": "https://llm.example.test/v1", "auth": auth},
        "security": {"apiKey": {"in": "header"}},
        "accessControl": {"mode": "deny_all", "exceptions": [{"path": "/chat/completions", "methods": ["POST"]}]},
        "rateLimits": _RATE_LIMITS,
        **fields,
    }


def proxy(provider_id: str, name: str = "Demo Proxy", **fields: object) -> dict[str, Any]:
    """A proxy on a provider."""
    return {"name": name, "version": "v1.0", "context": "/demo-proxy", "provider": {"id": provider_id}, **fields}


def mcp_proxy(name: str = "Demo MCP", **fields: object) -> dict[str, Any]:
    """An MCP proxy."""
    upstream = {"url": "https://mcp.example.test/mcp"}
    return {"name": name, "version": "v1.0", "context": "/demo-mcp", "upstream": upstream, **fields}


def rest_api(name: str = "Demo API", **fields: object) -> dict[str, Any]:
    """A REST API."""
    return {
        "name": name,
        "version": "v1.0",
        "context": "/demo-api",
        "upstream": {"main": {"url": "http://backend.example.test:8080/base"}},
        "operations": [{"method": "GET", "path": "/items/{id}"}],
        **fields,
    }


@dataclass(frozen=True, slots=True)
class Edge:
    """A gateway, what it authenticates with, and the way it takes to a pod."""

    access: GatewayAccess
    gateway: UnmodifiedGateway
    way: TcpProxy

    @property
    def id(self) -> str:
        """The gateway's id."""
        return self.access.id


@dataclass(frozen=True, slots=True)
class Landscape:
    """Two pods and two gateways, one at each."""

    at: Site
    pods: list[RunningPod]
    operators: list[Operator]
    edges: list[Edge]

    async def settled(self) -> None:
        """Return when every gateway is in the desired state."""
        for edge in self.edges:
            await in_desired_state(self.operators[-1], edge.id, edge.gateway)


async def _reconciled(gateway: UnmodifiedGateway) -> None:
    await gateway.wait_until(lambda: gateway.records.reconciliations >= 1)


@asynccontextmanager
async def landscape(site: Site, **settings: str) -> AsyncIterator[Landscape]:
    """Start it."""
    async with Deployment(site, secret_key=_SECRET_KEY, **settings) as deployment, AsyncExitStack() as stack:
        pods = await deployment.start("one", "two")
        operators = await deployment.operators(*pods)
        edges = []
        for number, pod in enumerate(pods):
            access = await operators[0].create_gateway(f"gateway-{number}")
            way = await deployment.balancer(pod)
            gateway = UnmodifiedGateway(way.address, access.token, follow_artifacts=True, options=_EAGER)
            await stack.enter_async_context(gateway)
            edges.append(Edge(access, gateway, way))
        for edge in edges:
            await _reconciled(edge.gateway)
        yield Landscape(site, pods, operators, edges)


async def _everything(operator: Operator, gateways: list[str]) -> dict[str, str]:
    """One artifact of each kind on these gateways, with a key each; path by noun."""
    made = await operator.ask("POST", "/llm-providers", provider(gateways=gateways))
    paths = {"provider": f"/llm-providers/{made['id']}"}
    made = await operator.ask("POST", "/llm-proxies", proxy(made["id"], gateways=gateways))
    paths["proxy"] = f"/llm-proxies/{made['id']}"
    made = await operator.ask("POST", "/mcp-proxies", mcp_proxy(gateways=gateways))
    paths["mcp"] = f"/mcp-proxies/{made['id']}"
    made = await operator.ask("POST", "/rest-apis", rest_api(gateways=gateways))
    paths["api"] = f"/rest-apis/{made['id']}"
    for path in paths.values():
        await operator.ask("POST", f"{path}/api-keys", {"name": "first-key"})
    return paths


async def test_gateways_end_in_the_desired_state_whatever_happens(site: Site) -> None:
    """Artifacts are changed and deleted in every way, and in between gateways go and come back."""
    async with landscape(site) as land:
        one, two = land.edges
        operator = land.operators[0]
        paths = await _everything(operator, [one.id, two.id])
        await land.settled()

        await operator.ask("PATCH", paths["provider"], {"upstream": {"url": "https://other.example.test/v1"}})
        await operator.ask("POST", f"{paths['api']}/undeploy", {"gatewayId": one.id})
        two.gateway.cut()
        await operator.ask("POST", f"{paths['proxy']}/api-keys/first-key/rotate", {})
        await land.settled()

        await one.gateway.stop()
        await operator.ask("PATCH", paths["mcp"], {"context": "/moved-mcp"})
        await operator.ask("DELETE", f"{paths['provider']}/api-keys/first-key")
        await operator.ask("POST", f"{paths['mcp']}/api-keys", {"name": "second-key"})
        await operator.ask("DELETE", paths["proxy"])
        deployments = (await operator.ask("GET", f"{paths['api']}/deployments"))["items"]
        gone = next(each for each in deployments if each["gatewayId"] == one.id)
        await operator.ask("POST", f"{paths['api']}/deployments/{gone['id']}/restore")
        await one.gateway.restart()
        await land.settled()

        land.pods[0].kill()
        await land.pods[0].ended()
        one.way.retarget(gateway_address(land.pods[1]))
        operator = land.operators[1]
        await operator.ask("DELETE", paths["provider"])
        await operator.ask("PATCH", paths["api"], {"gateways": [two.id], "undeploy": [one.id]})
        await land.settled()
        assert not one.gateway.running.keys() - set(one.gateway.artifacts)


async def test_deployments_are_acknowledged(site: Site) -> None:
    """A deploy that waits answers once the gateway has applied it, and says so when the gateway could not."""
    async with landscape(site) as land:
        edge, operator = land.edges[0], land.operators[1]
        made = await operator.ask("POST", "/rest-apis", rest_api())
        path = f"/rest-apis/{made['id']}"
        assert made["deployments"] == []
        deployed = await operator.ask("POST", f"{path}/deployments?wait=applied", {"gatewayId": edge.id})
        assert (deployed["state"], deployed["revision"]) == ("DEPLOYED", 1)

        edge.gateway.fail_next_apply("no such upstream")
        failed = await operator.ask("POST", f"{path}/deployments?wait=applied", {"gatewayId": edge.id})
        assert (failed["state"], failed["revision"]) == ("FAILED", 2)
        assert failed["reason"] == "GATEWAY_PROCESSING_ERROR"

        undeployed = await operator.ask("POST", f"{path}/undeploy?wait=applied", {"gatewayId": edge.id})
        assert undeployed["state"] == "UNDEPLOYED"
        await land.settled()
        restored = await operator.ask("POST", f"{path}/deployments/{deployed['id']}/restore?wait=applied")
        assert (restored["state"], restored["revision"]) == ("DEPLOYED", 3)
        await land.settled()


async def test_s05_a_gateway_that_was_away_longer_than_retention_is_brought_to_the_desired_state(
    site: Site,
) -> None:
    """What it missed is gone from the log, so it gets everything that should run, and not run, as new events."""
    async with landscape(site) as land:
        edge, operator = land.edges[0], land.operators[1]
        paths = await _everything(operator, [edge.id])
        await land.settled()
        edge.way.retarget(_NOWHERE)
        edge.gateway.cut()
        await operator.connections(edge.id, 0)
        await operator.ask("DELETE", paths["proxy"])
        await operator.ask("POST", f"{paths['api']}/undeploy", {"gatewayId": edge.id})
        await operator.ask("PATCH", paths["provider"], {"upstream": {"url": "https://new.example.test"}})
        await operator.ask("DELETE", f"{paths['mcp']}/api-keys/first-key")
        await operator.ask("POST", f"{paths['mcp']}/api-keys", {"name": "other-key"})
        settings = site.settings(retention_events=1)
        async with EventHub.open(settings=settings, migrations=MIGRATIONS) as hub:
            await hub.clean_up()
        edge.way.retarget(gateway_address(land.pods[0]))
        await land.settled()
        why = await operator.ask("GET", f"/gateways/{edge.id}/why")
        assert why["code"] != "resync-needed"


async def test_s34_what_is_deleted_goes_from_gateways_that_are_offline_now(site: Site) -> None:
    """A proxy, then its provider, deleted while a gateway is away: both, and their keys, are gone when it is back."""
    async with landscape(site) as land:
        away, operator = land.edges[0], land.operators[1]
        paths = await _everything(operator, [edge.id for edge in land.edges])
        await land.settled()
        await away.gateway.stop()
        for noun in ("proxy", "provider", "mcp", "api"):
            await operator.ask("DELETE", paths[noun])
        await in_desired_state(operator, land.edges[1].id, land.edges[1].gateway)
        assert away.gateway.artifacts
        await away.gateway.restart()
        await land.settled()
        for edge in land.edges:
            assert not edge.gateway.artifacts
            assert not {key.status for key in edge.gateway.api_keys.values()} & {"active"}


async def test_s35_of_concurrent_deploys_the_gateway_ends_where_the_database_ends(site: Site) -> None:
    """Two pods change and deploy one artifact at the same time, again and again; undeploying it works afterwards."""
    async with landscape(site) as land:
        edge = land.edges[0]
        made = await land.operators[0].ask("POST", "/rest-apis", rest_api(gateways=[edge.id]))
        path = f"/rest-apis/{made['id']}"

        async def change(number: int) -> None:
            operator = land.operators[number % 2]
            await operator.ask("PATCH", path, {"context": f"/context-{number}"})
            await operator.ask("POST", f"{path}/deployments", {"gatewayId": edge.id})

        await asyncio.gather(*(change(number) for number in range(8)))
        await land.settled()
        shown = await land.operators[0].ask("GET", path)
        await eventually(lambda: _is_state(land.operators[0], path, "DEPLOYED"))
        assert len(shown["deployments"]) == 1
        stopped = await land.operators[1].ask("POST", f"{path}/undeploy?wait=applied", {"gatewayId": edge.id})
        assert stopped["state"] == "UNDEPLOYED"
        await land.settled()


async def _is_state(operator: Operator, path: str, state: str) -> bool:
    return [each["state"] for each in (await operator.ask("GET", path))["deployments"]] == [state]


async def test_s38_a_restarted_gateway_ends_in_the_desired_state(site: Site) -> None:
    """Its process was down while things were deployed, undeployed and deleted, and reads the list when it starts."""
    async with landscape(site) as land:
        edge, operator = land.edges[0], land.operators[1]
        paths = await _everything(operator, [edge.id])
        await land.settled()
        await edge.gateway.stop()
        await operator.ask("POST", f"{paths['api']}/undeploy", {"gatewayId": edge.id})
        await operator.ask("DELETE", paths["proxy"])
        await operator.ask("PATCH", paths["mcp"], {"context": "/elsewhere"})
        added = await operator.ask("POST", "/rest-apis", rest_api("Added", context="/added", gateways=[edge.id]))
        never = await operator.ask("POST", "/rest-apis", rest_api("Never", context="/never", gateways=[edge.id]))
        await operator.ask("POST", f"/rest-apis/{never['id']}/undeploy", {"gatewayId": edge.id})
        await edge.gateway.restart()
        await land.settled()
        await eventually(lambda: _is_state(operator, f"/rest-apis/{added['id']}", "DEPLOYED"))
        await eventually(lambda: _is_state(operator, f"/rest-apis/{never['id']}", "UNDEPLOYED"))


async def test_a_gateway_that_lost_its_database_gets_everything_again(site: Site) -> None:
    """A new one takes its place under the same token: the list gives it the artifacts, and their keys come, too."""
    async with landscape(site) as land:
        edge, operator = land.edges[0], land.operators[1]
        await _everything(operator, [edge.id])
        await land.settled()
        await edge.gateway.stop()
        async with UnmodifiedGateway(edge.way.address, edge.access.token, follow_artifacts=True) as fresh:
            await in_desired_state(operator, edge.id, fresh)


async def test_an_acknowledgement_that_was_lost_is_asked_for_again(site: Site) -> None:
    """The gateway applied a change, and what it said of it never arrived: it is told again when it comes back."""
    async with landscape(site) as land:
        edge, operator = land.edges[0], land.operators[1]
        made = await operator.ask("POST", "/rest-apis", rest_api(gateways=[edge.id]))
        path = f"/rest-apis/{made['id']}"
        await eventually(lambda: _is_state(operator, path, "DEPLOYED"))
        # As if the pod had died between the Pong that was stored and the acknowledgement that was not.
        async with (
            EventHub.open(settings=land.at.settings(), migrations=MIGRATIONS) as hub,
            hub.database.transaction() as transaction,
        ):
            await transaction.execute("UPDATE gatecast_deployments SET state = 'PENDING'")
        edge.gateway.cut()
        await eventually(lambda: _is_state(operator, path, "DEPLOYED"))


async def test_what_is_on_a_gateway_is_what_was_written(site: Site) -> None:
    """Limits, keys and access become policies, and the credential is the one that was written last, or none."""
    async with landscape(site) as land:
        edge, operator = land.edges[0], land.operators[1]
        made = await operator.ask("POST", "/llm-providers", provider(gateways=[edge.id]))
        await land.settled()
        running = edge.gateway.running[made["id"]]
        assert running.document is not None
        spec = running.document["spec"]
        names = ["api-key-auth", "basic-ratelimit", "token-based-ratelimit"]
        assert [each["name"] for each in spec["globalPolicies"]] == names
        assert [each["name"] for each in spec["operationPolicies"]] == names[2:]
        assert running.credentials["upstream.auth"]["value"] == _CREDENTIAL
        changed = {"upstream": {"auth": {"type": "other", "header": "X-Key", "value": "another"}}}
        await operator.ask("PATCH", f"/llm-providers/{made['id']}", changed)
        await land.settled()
        assert edge.gateway.running[made["id"]].credentials["upstream.auth"]["value"] == "another"
        await operator.ask("PATCH", f"/llm-providers/{made['id']}", {"upstream": {"auth": None}})
        await land.settled()
        assert edge.gateway.running[made["id"]].credentials == {}


async def test_a_provider_may_use_a_template_that_its_gateway_has_shown(site: Site) -> None:
    """Once it was made on the gateway; that it is removed there is shown, too."""
    async with landscape(site) as land:
        edge, operator = land.edges[0], land.operators[1]
        with pytest.raises(Refused, match="no gateway has shown one"):
            await operator.ask("POST", "/llm-providers", provider(template="my-own", gateways=[edge.id]))
        local_id = edge.gateway.make(template("my-own"))
        await eventually(lambda: _shows(operator, edge.id, local_id, "deployed"))
        made = await operator.ask("POST", "/llm-providers", provider(template="my-own", gateways=[edge.id]))
        await land.settled()
        await operator.ask("DELETE", f"/llm-providers/{made['id']}")
        edge.gateway.remove(local_id)
        await eventually(lambda: _shows(operator, edge.id, local_id, "undeployed"))
        with pytest.raises(Refused, match="no gateway has shown one"):
            await operator.ask("POST", "/llm-providers", provider(template="my-own", gateways=[edge.id]))


async def test_what_a_gateway_made_itself_is_shown_and_left_alone(site: Site) -> None:
    """Through reconnects and restarts, while artifacts of the control plane come and go beside it."""
    spec = {
        "displayName": "Own",
        "version": "v1.0",
        "context": "/own",
        "upstream": {"main": {"url": "http://backend.example.test"}},
        "operations": [{"method": "GET", "path": "/"}],
    }
    own = {"kind": "RestApi", "metadata": {"name": "own", "labels": {"project-id": "p-1"}}, "spec": spec}
    async with landscape(site) as land:
        edge, operator = land.edges[0], land.operators[1]
        local_id = edge.gateway.make(own)
        await eventually(lambda: _shows(operator, edge.id, local_id, "deployed"))
        paths = await _everything(operator, [edge.id])
        await land.settled()
        await operator.ask("DELETE", paths["api"])
        await edge.gateway.restart()
        await land.settled()
        assert local_id in edge.gateway.running


async def _shows(operator: Operator, gateway_id: str, local_id: str, status: str) -> bool:
    shown = (await operator.ask("GET", f"/gateways/{gateway_id}/imported-artifacts"))["items"]
    return [each["status"] for each in shown if each["localId"] == local_id] == [status]


async def test_s39_secrets_appear_nowhere(site: Site) -> None:
    """Not in logs, errors, events, lists or traces: neither credentials, nor keys, nor tokens."""
    async with landscape(site) as land:
        edge, operator = land.edges[0], land.operators[0]
        made = await operator.ask("POST", "/llm-providers", provider(gateways=[edge.id]))
        path = f"/llm-providers/{made['id']}"
        key = await operator.ask("POST", f"{path}/api-keys", {"name": "first-key"})
        await land.settled()
        assert edge.gateway.secrets
        assert set(edge.gateway.secrets.values()) == {_CREDENTIAL}
        told = [made, await operator.ask("GET", path), await operator.ask("GET", f"{path}/api-keys")]
        told.append(await operator.ask("GET", f"/gateways/{edge.id}/events"))
        told.append(await operator.ask("GET", f"/gateways/{edge.id}/deployments"))
        with pytest.raises(Refused) as refused:
            await operator.ask("PATCH", path, {"upstream": {"auth": {"type": "api-key", "value": _CREDENTIAL + "{{"}}})
        told.append(refused.value.body)
        told += [list(pod.log) for pod in land.pods]
        text = json.dumps(told)
        for secret in (_CREDENTIAL, key["value"], edge.access.token, _SECRET_KEY):
            assert secret not in text
