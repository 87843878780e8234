"""Compares what operators want with what a simulated gateway runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.operator import Operator
from gatecast.testing.unmodified_gateway import CONTROL_PLANE, Artifact, UnmodifiedGateway
from gatecast.testing.unmodified_gateway.credentials import credentials_of, rendered, secrets_of
from gatecast.testing.unmodified_gateway.rest_calls import CallFailed
from gatecast.testing.unmodified_gateway.yaml_values import Rejected

#: Where each kind of artifact is administered.
COLLECTIONS = ("llm-providers", "llm-proxies", "rest-apis", "mcp-proxies")

_DEPLOYED, _ACTIVE = "deployed", "active"


async def differences(
    operator: Operator,
    gateway_id: str,
    gateway: UnmodifiedGateway,
    *,
    as_written: bool = True,
    now: datetime | None = None,
) -> list[str]:
    """Everything in which a gateway is not as its control plane says, in words; empty: it is in the desired state.

    What runs is compared with the deployment that the control plane names, and with what operators wrote last; False
    for `as_written` leaves out the latter, where an earlier deployment was restored on some of its gateways only. Keys
    that have expired `now` open nothing; None: by the clock of this machine.
    """
    now = now or datetime.now(UTC)
    wanted, known = await _wanted(operator, gateway_id)
    # What was made on the gateway itself is not the control plane's business.
    kept = {artifact_id for artifact_id, each in gateway.artifacts.items() if each.origin == CONTROL_PLANE}
    running = {
        artifact_id: artifact
        for artifact_id, artifact in gateway.running.items()
        if artifact.state == _DEPLOYED and artifact.origin == CONTROL_PLANE
    }
    own = gateway.artifacts.keys() - kept
    found = [f"{artifact_id} does not run" for artifact_id in wanted.keys() - running.keys()]
    found += [f"{artifact_id} runs" for artifact_id in running.keys() - wanted.keys()]
    found += [f"{artifact_id} is kept" for artifact_id in kept - known]
    for artifact_id in wanted.keys() & running.keys():
        found += _deployment_differences(wanted[artifact_id], gateway_id, running[artifact_id])
        found += _wording_differences(wanted, artifact_id, running[artifact_id]) if as_written else []
        found += await _key_differences(operator, wanted[artifact_id], gateway, now)
    found += [
        f"key {name} of {artifact_id} opens"
        for artifact_id, name in _opening(gateway)
        if artifact_id not in known | own
    ]
    # The whole documents only when everything else is right, because each of them is a download.
    return found or await _document_differences(gateway, {each: running[each] for each in wanted})


async def in_desired_state(
    operator: Operator,
    gateway_id: str,
    gateway: UnmodifiedGateway,
    *,
    within: float = PATIENCE,
    as_written: bool = True,
) -> None:
    """Return when a gateway is in the desired state; `as_written` as in `differences`.

    Raises:
        AssertionError: it is not, after `within` seconds; says in what.
    """
    last: list[str] = []

    async def reached() -> bool:
        last[:] = await differences(operator, gateway_id, gateway, as_written=as_written)
        return not last

    try:
        await eventually(reached, within=within)
    except TimeoutError:
        raise AssertionError(f"{last}; {gateway.describe()}") from None


async def _wanted(operator: Operator, gateway_id: str) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """The artifacts that should run on a gateway, by id, and the ids of those that exist."""
    wanted: dict[str, dict[str, Any]] = {}
    known: set[str] = set()
    async for collection, item in every_artifact(operator):
        known.add(item["id"])
        if gateway_id in item["gateways"]:
            wanted[item["id"]] = {**item, "collection": collection}
    return wanted, known


async def every_artifact(operator: Operator) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Every artifact, with its collection."""
    for collection in COLLECTIONS:
        after: str | None = ""
        while after is not None:
            page = await operator.ask("GET", f"/{collection}?limit=500&after={after}")
            for item in page["items"]:
                yield collection, item
            after = page["next"]


def _deployment_differences(wanted: dict[str, Any], gateway_id: str, running: Artifact) -> list[str]:
    current = next(each["id"] for each in wanted["deployments"] if each["gatewayId"] == gateway_id)
    if running.deployment_id == current:
        return []
    return [f"{wanted['handle']} runs as deployment {running.deployment_id}, not as {current}"]


def _wording_differences(wanted: dict[str, dict[str, Any]], artifact_id: str, running: Artifact) -> list[str]:
    """What an operator wrote, as far as it can be compared without rendering it, is what runs."""
    written, document = wanted[artifact_id], running.document
    if document is None:
        return [f"{written['handle']} has no document"]
    spec = document["spec"]
    expected = {"handle": written["handle"], "name": written["name"], "url": _url(written)}
    actual = {"handle": running.handle, "name": spec["displayName"], "url": _url(spec)}
    for name in ("version", "context", "template"):
        if written.get(name):
            expected[name], actual[name] = written[name], spec.get(name)
    if "provider" in written:
        # A provider runs wherever its proxies do.
        expected["provider"] = wanted.get(written["provider"]["id"], {}).get("handle")
        actual["provider"] = spec["provider"]["id"]
    expected["credentials"], actual["credentials"] = _headers(_auths(written)), _headers(running.credentials.values())
    different = [name for name in expected if expected[name] != actual[name]]
    return [
        f"{written['handle']} runs with {name} {actual[name]!r}, not {expected[name]!r} as written"
        for name in different
    ]


def _auths(written: dict[str, Any]) -> list[dict[str, Any]]:
    """Everything that carries a credential, in a document as operators see it."""
    owners = (written.get("upstream"), written.get("provider"), *written.get("additionalProviders", ()))
    auths = [owner.get("auth") for owner in owners if owner]
    return [auth for auth in auths if auth and auth.get("value")]


def _headers(auths: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return sorted((auth["type"], auth.get("header") or "") for auth in auths)


async def _document_differences(gateway: UnmodifiedGateway, running: Mapping[str, Artifact]) -> list[str]:
    """Each document that runs, and each credential in it, is what the control plane has for that revision."""
    found: list[str] = []
    try:
        async with gateway.lookup() as lookup:
            secrets = await lookup.secrets()
            for artifact_id, artifact in running.items():
                document = await lookup.document(artifact.kind, artifact_id)
                found += _parts_that_differ(artifact, document)
                found += _credentials_that_differ(artifact, document, secrets)
                found += _secrets_that_differ(gateway, document, secrets)
    except (CallFailed, Rejected) as problem:
        found.append(f"the control plane cannot say what should run: {problem}")
    return found


def _parts_that_differ(artifact: Artifact, wanted: Mapping[str, Any]) -> list[str]:
    actual, expected = _parts(artifact.document or {}), _parts(wanted)
    return [
        f"{artifact.handle} runs with {part} {actual.get(part)!r}, not {expected.get(part)!r}"
        for part in sorted(actual.keys() | expected.keys())
        if actual.get(part) != expected.get(part)
    ]


def _parts(document: Mapping[str, Any]) -> dict[str, Any]:
    return {**document, **{f"spec.{name}": part for name, part in document["spec"].items()}, "spec": None}


def _credentials_that_differ(artifact: Artifact, wanted: Mapping[str, Any], secrets: Mapping[str, str]) -> list[str]:
    """Without their values."""
    expected, actual = credentials_of(artifact.kind, rendered(wanted, secrets)), artifact.credentials
    return [
        f"{artifact.handle} runs with another credential at {place}"
        for place in sorted(expected.keys() | actual.keys())
        if expected.get(place) != actual.get(place)
    ]


def _secrets_that_differ(
    gateway: UnmodifiedGateway, wanted: Mapping[str, Any], secrets: Mapping[str, str]
) -> list[str]:
    return [
        f"secret {handle} has another value, or none"
        for handle in sorted(secrets_of(wanted))
        if not secrets.get(handle) or gateway.secrets.get(handle) != secrets[handle]
    ]


def _url(document: Mapping[str, Any]) -> str | None:
    upstream = document.get("upstream") or {}
    return upstream.get("url") or (upstream.get("main") or {}).get("url")


async def _key_differences(
    operator: Operator, wanted: dict[str, Any], gateway: UnmodifiedGateway, now: datetime
) -> list[str]:
    path = f"/{wanted['collection']}/{wanted['id']}/api-keys"
    listed = (await operator.ask("GET", path))["items"]
    masks = {
        each["name"]: each["maskedValue"] for each in listed if each["revokedAt"] is None and not expired(each, now)
    }
    opening = {
        name: key.mask
        for (artifact_id, name), key in _opening(gateway).items()
        if artifact_id == wanted["id"] and not (key.expires_at and key.expires_at <= now)
    }
    return [] if masks == opening else [f"{wanted['handle']} opens with {opening}, not with {masks}"]


def _opening(gateway: UnmodifiedGateway) -> dict[tuple[str, str], Any]:
    return {place: key for place, key in gateway.api_keys.items() if key.status == _ACTIVE}


def expired(key: Mapping[str, Any], now: datetime) -> bool:
    """Whether the time of a key, as operators see it, is over."""
    expires_at = key["expiresAt"]
    return expires_at is not None and datetime.fromisoformat(expires_at) <= now
