"""Compares what operators want with what a simulated gateway runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gatecast.testing.eventually import eventually
from gatecast.testing.operator import Operator
from gatecast.testing.unmodified_gateway import UnmodifiedGateway

#: Where each kind of artifact is administered.
COLLECTIONS = ("llm-providers", "llm-proxies", "rest-apis", "mcp-proxies")

_DEPLOYED, _ACTIVE = "deployed", "active"


async def differences(operator: Operator, gateway_id: str, gateway: UnmodifiedGateway) -> list[str]:
    """Everything in which a gateway is not as its control plane says, in words; empty: it is in the desired state."""
    wanted, known = await _wanted(operator, gateway_id)
    running = {
        artifact_id: artifact for artifact_id, artifact in gateway.running.items() if artifact.state == _DEPLOYED
    }
    found = [f"{artifact_id} does not run" for artifact_id in wanted.keys() - running.keys()]
    found += [f"{artifact_id} runs" for artifact_id in running.keys() - wanted.keys()]
    found += [f"{artifact_id} is kept" for artifact_id in gateway.artifacts.keys() - known]
    for artifact_id in wanted.keys() & running.keys():
        found += _document_differences(wanted[artifact_id], running[artifact_id].document)
        found += await _key_differences(operator, wanted[artifact_id], gateway)
    found += [
        f"key {name} of {artifact_id} opens" for artifact_id, name in _opening(gateway) if artifact_id not in known
    ]
    return found


async def in_desired_state(
    operator: Operator, gateway_id: str, gateway: UnmodifiedGateway, *, within: float = 20.0
) -> None:
    """Return when a gateway is in the desired state.

    Raises:
        AssertionError: it is not, after `within` seconds; says in what.
    """
    last: list[str] = []

    async def reached() -> bool:
        last[:] = await differences(operator, gateway_id, gateway)
        return not last

    try:
        await eventually(reached, within=within)
    except TimeoutError:
        raise AssertionError(f"{last}; {gateway.describe()}") from None


async def _wanted(operator: Operator, gateway_id: str) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """The artifacts that should run on a gateway, by id, and the ids of those that exist."""
    wanted: dict[str, dict[str, Any]] = {}
    known: set[str] = set()
    for collection in COLLECTIONS:
        after: str | None = ""
        while after is not None:
            page = await operator.ask("GET", f"/{collection}?after={after}")
            for item in page["items"]:
                known.add(item["id"])
                if gateway_id in item["gateways"]:
                    wanted[item["id"]] = {**item, "collection": collection}
            after = page["next"]
    return wanted, known


def _document_differences(wanted: dict[str, Any], document: Any) -> list[str]:  # noqa: ANN401 - YAML
    if document is None:
        return [f"{wanted['handle']} has no document"]
    expected = (wanted["handle"], wanted["name"], wanted.get("context"), _url(wanted))
    spec = document["spec"]
    context = spec.get("context") if wanted.get("context") else None
    actual = (document["metadata"]["name"], spec["displayName"], context, _url(spec))
    return [] if expected == actual else [f"{wanted['handle']} runs as {actual}, not as {expected}"]


def _url(document: dict[str, Any]) -> str | None:
    upstream = document.get("upstream") or {}
    return upstream.get("url") or (upstream.get("main") or {}).get("url")


async def _key_differences(operator: Operator, wanted: dict[str, Any], gateway: UnmodifiedGateway) -> list[str]:
    path = f"/{wanted['collection']}/{wanted['id']}/api-keys"
    listed = (await operator.ask("GET", path))["items"]
    masks = {each["name"]: each["maskedValue"] for each in listed if each["revokedAt"] is None and not _expired(each)}
    opening = {name: key.mask for (artifact_id, name), key in _opening(gateway).items() if artifact_id == wanted["id"]}
    return [] if masks == opening else [f"{wanted['handle']} opens with {opening}, not with {masks}"]


def _opening(gateway: UnmodifiedGateway) -> dict[tuple[str, str], Any]:
    return {place: key for place, key in gateway.api_keys.items() if key.status == _ACTIVE}


def _expired(key: dict[str, Any]) -> bool:
    expires_at = key["expiresAt"]
    return expires_at is not None and datetime.fromisoformat(expires_at) <= datetime.now(UTC)
