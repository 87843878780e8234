"""What the real gateway showed: each fault, with its interleaving forced, ends in what operators want, truly shown."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatecast.testing.eventually import eventually
from gatecast.testing.installation import Edge, Installation, restored_afterwards, synchronized
from gatecast.testing.operator import Refused
from gatecast.testing.unmodified_gateway import Gates

pytestmark = pytest.mark.acceptance

_AUTH = {"type": "api-key", "header": "Authorization", "value": "Bearer a-credential"}
_URL = "http://backend.example.test:8080"


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
        await eventually(happened, within=20)


async def restarted(installation: Installation, *, event: str, step: str, with_data: bool = True) -> None:
    """Start the gateway's process again, and let it handle an event at this step of its synchronization."""
    edge = installation.edge
    forcing = asyncio.create_task(interleaved(installation, edge, event=event, step=step))
    # What is held back is known before the process starts.
    await asyncio.sleep(0)
    await edge.gateway.restart(with_data=with_data)
    await forcing


async def test_a_number_that_a_gateway_cannot_decode_is_refused(database: str) -> None:
    """As a parameter of a policy, which may hold anything."""
    policies = [{"name": "set-headers", "version": "v1", "params": {"number": 10**309}}]
    async with Installation.open(database) as installation:
        with pytest.raises(Refused) as refused:
            await installation.operator.ask("POST", "/rest-apis", rest_api(policies=policies))
        assert refused.value.status == 422


async def _proxy_whose_gateway_is_away(installation: Installation) -> tuple[str, str]:
    """Paths of a provider and a proxy that were made while the gateway was away."""
    edge = installation.edge
    await edge.gateway.stop()
    made = await installation.operator.ask("POST", "/llm-providers", {**provider(), "gateways": [edge.id]})
    path = f"/llm-providers/{made['id']}"
    made = await installation.operator.ask("POST", "/llm-proxies", {**proxy(path), "gateways": [edge.id]})
    return path, f"/llm-proxies/{made['id']}"


@pytest.mark.parametrize("step", ["answered GET /deployments"])
async def test_a_proxy_whose_event_came_before_its_provider_ends_deployed(database: str, step: str) -> None:
    """Its provider's event is not repeated beside the list.

    1 the process handles the provider's event, and ends without its data, 2 the next one gets the proxy's event while
    the list is on its way.
    """
    async with Installation.open(database) as installation:
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


async def test_what_was_made_after_the_backup_is_removed_or_the_operator_is_told(database: str) -> None:
    """A process that runs names no LLM artifact; when it starts again, it asks."""
    async with Installation.open(database) as installation:
        edge = installation.edge
        await installation.create("llm-providers", provider("Kept"))
        async with restored_afterwards(installation, database):
            await installation.create("llm-providers", provider("Lost", context="/lost"))
        times = edge.gateway.records.reconciliations

        async def told() -> bool:
            return await installation.why() == "resync-needed"

        await eventually(told, within=20)
        await edge.gateway.restart()
        await synchronized(edge.gateway, times + 1)
        await installation.is_true()


async def test_what_was_deleted_by_hand_is_back_when_the_process_starts_again(database: str) -> None:
    async with Installation.open(database) as installation:
        edge = installation.edge
        path = await installation.create("llm-providers", provider())
        await installation.operator.ask("POST", f"{path}/api-keys", {"name": "my-key"})
        await installation.is_true()
        times = edge.gateway.records.reconciliations
        edge.gateway.delete_by_hand(_id(path))
        await edge.gateway.restart()
        await synchronized(edge.gateway, times + 1)
        await installation.is_true()
