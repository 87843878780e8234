"""What each change publishes: the whole event, field by field (scenarios.md, "Events of a change")."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gatecast.controlplane.access.gateways import GatewayFields, Gateways
from gatecast.controlplane.catalog.api_key import ApiKey
from gatecast.controlplane.catalog.artifact_kinds import (
    ARTIFACT_KINDS,
    LLM_PROVIDER,
    LLM_PROXY,
    MCP_PROXY,
    REST_API,
    ArtifactKind,
)
from gatecast.controlplane.catalog.artifact_store import StoredArtifact
from gatecast.controlplane.control_plane import ControlPlane
from gatecast.controlplane.deployments.artifacts import Edit
from gatecast.controlplane.documents import MODELS, Artifact
from gatecast.controlplane.encryption import Encryption
from gatecast.controlplane.gateway_sync.acknowledgements import Acknowledgement
from gatecast.events import RecordedEvent
from gatecast.hub import EventHub
from gatecast.storage.contract import ReadRequest

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub]]

_ORGANIZATION = "default"
_PROVIDER = {
    "name": "Demo Provider",
    "template": "openai",
    "context": "/demo-provider",
    "upstream": {"url": "https://llm.example.test/v1"},
}
_DOCUMENTS: dict[ArtifactKind, dict[str, Any]] = {
    LLM_PROVIDER: {**_PROVIDER, "name": "Another Provider", "context": "/another"},
    LLM_PROXY: {"name": "Demo Proxy", "context": "/demo-proxy"},
    MCP_PROXY: {"name": "Demo MCP", "context": "/demo-mcp", "upstream": {"url": "https://mcp.example.test/mcp"}},
    REST_API: {
        "name": "Demo API",
        "context": "/demo-api",
        "upstream": {"main": {"url": "http://backend.example.test:8080"}},
        "operations": [{"method": "GET", "path": "/items"}],
    },
}

#: UTC with `Z` and milliseconds.
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@dataclass(frozen=True)
class _Site:
    """One gateway, and an artifact of one kind that was just deployed to it for the first time."""

    hub: EventHub
    control_plane: ControlPlane
    gateway_id: str
    artifact_kind: ArtifactKind
    artifact: StoredArtifact
    #: What was recorded before the change that is looked at.
    start: int

    @property
    def of(self) -> tuple[str, ArtifactKind, str]:
        """What says which artifact is meant."""
        return _ORGANIZATION, self.artifact_kind, self.artifact.id

    async def events(self, after: int) -> list[RecordedEvent]:
        """What is recorded behind an offset."""
        request = ReadRequest(gateway_id=self.gateway_id, after=after, max_events=100, max_bytes=10**6)
        [result] = await self.hub.storage.log.read([request])
        assert result is not None
        return list(result.events)

    async def deployment_id(self) -> str:
        """The newest deployment."""
        [running] = await self.control_plane.artifacts.running(self.artifact.id)
        return running.deployment.id

    async def acknowledge(self) -> None:
        """The gateway says that it has what it was told last."""
        [running] = await self.control_plane.artifacts.running(self.artifact.id)
        acknowledgement = Acknowledgement(
            organization=_ORGANIZATION,
            gateway_id=self.gateway_id,
            artifact_id=self.artifact.id,
            deployment_id=running.deployment.id,
            performed_at=datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=running.deployment.performed_at),
            deployed=True,
            succeeded=True,
            error_code="",
        )
        self.control_plane.acknowledgements.report(acknowledgement)
        await self.control_plane.acknowledgements.flush()


@asynccontextmanager
async def _site(open_hub: OpenHub, artifact_kind: ArtifactKind) -> AsyncIterator[_Site]:
    async with open_hub() as hub:
        control_plane = ControlPlane.on(hub, Encryption([bytes(32)]))
        gateway = (await Gateways(hub).create(_ORGANIZATION, GatewayFields(name="edge"))).gateway
        written = dict(_DOCUMENTS[artifact_kind])
        if artifact_kind is LLM_PROXY:
            document = MODELS[LLM_PROVIDER.kind].model_validate(_PROVIDER)
            provider = (
                await control_plane.artifacts.create(_ORGANIZATION, LLM_PROVIDER, document, gateways=[gateway.id])
            ).artifact
            written["provider"] = {"id": provider.id}
        start = (await hub.storage.presence.status([gateway.id]))[gateway.id].head
        artifact = (
            await control_plane.artifacts.create(
                _ORGANIZATION, artifact_kind, MODELS[artifact_kind.kind].model_validate(written), gateways=[gateway.id]
            )
        ).artifact
        yield _Site(hub, control_plane, gateway.id, artifact_kind, artifact, start)


# --- changes ----------------------------------------------------------------------------------------------------------


async def _nothing(_site: _Site) -> None:
    """It was deployed already."""


async def _deploy(site: _Site) -> None:
    await site.control_plane.artifacts.deploy(*site.of, site.gateway_id)


async def _change(site: _Site) -> None:
    def edited(stored: Artifact) -> Artifact:
        return stored.model_copy(update={"description": "changed"})

    await site.control_plane.artifacts.update(*site.of, Edit(document=edited))


async def _restore(site: _Site) -> None:
    await site.control_plane.artifacts.restore(*site.of, await site.deployment_id())


async def _undeploy(site: _Site) -> None:
    await site.control_plane.artifacts.undeploy(*site.of, site.gateway_id)


async def _delete(site: _Site) -> None:
    await site.control_plane.artifacts.delete(*site.of)


@dataclass(frozen=True)
class _Row:
    """A row of the table: what is done, and what is published for it."""

    name: str
    change: Callable[[_Site], Awaitable[None]]
    verb: str
    action: str
    #: Fields of the payload beside the artifact's id.
    fields: tuple[str, ...]


_DEPLOYED = ("deploymentId", "performedAt", "gatewayId", "organizationId", "status")
_UNDEPLOYED = ("deploymentId", "performedAt", "gatewayId", "organizationId")

_ARTIFACT_ROWS = [
    _Row("deployed", _nothing, "deployed", "CREATE", _DEPLOYED),
    _Row("redeployed", _deploy, "deployed", "UPDATE", _DEPLOYED),
    _Row("changed", _change, "deployed", "UPDATE", _DEPLOYED),
    _Row("restored", _restore, "deployed", "UPDATE", _DEPLOYED),
    _Row("undeployed", _undeploy, "undeployed", "DELETE", _UNDEPLOYED),
    _Row("deleted", _delete, "deleted", "DELETE", ()),
]

#: Of each kind: how its events are called, and its id in them.
_NAMES = {
    LLM_PROVIDER: ("llmprovider", "providerId"),
    LLM_PROXY: ("llmproxy", "proxyId"),
    MCP_PROXY: ("mcpproxy", "proxyId"),
    REST_API: ("api", "apiId"),
}


@pytest.mark.parametrize("row", _ARTIFACT_ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("artifact_kind", ARTIFACT_KINDS, ids=lambda artifact_kind: artifact_kind.collection)
async def test_what_a_change_of_an_artifact_publishes(
    open_hub: OpenHub, artifact_kind: ArtifactKind, row: _Row
) -> None:
    """One event: type, action, entity, and exactly these fields."""
    async with _site(open_hub, artifact_kind) as site:
        await site.acknowledge()
        [before] = await site.events(site.start)
        deployment = await site.deployment_id()
        await row.change(site)
        *_, event = await site.events(site.start)
        assert event.offset == before.offset + (0 if row.change is _nothing else 1)
        if row.verb == "deployed":
            deployment = await site.deployment_id()
        data = dict(event.data)
        resource, id_field = _NAMES[artifact_kind]
        assert (event.type, event.action, event.gateway_id) == (f"{resource}.{row.verb}", row.action, site.gateway_id)
        assert (event.entity_type, event.entity_id) == (resource, site.artifact.id)
        expected = {
            "deploymentId": deployment,
            "performedAt": data.get("performedAt"),
            "gatewayId": site.gateway_id,
            "organizationId": _ORGANIZATION,
            "status": "DEPLOYED",
        }
        assert data == {id_field: site.artifact.id, **{name: expected[name] for name in row.fields}}
        if "performedAt" in row.fields:
            assert _INSTANT.fullmatch(data["performedAt"])
            rises = data["performedAt"] > before.data["performedAt"]
            assert rises is (row.change is not _nothing)


# --- keys -------------------------------------------------------------------------------------------------------------


def _written(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _payloads(key: ApiKey) -> dict[str, dict[str, Any]]:
    """The payload of each verb; the hashes are JSON inside a string."""
    shown = {
        "apiKeyHashes": json.dumps({"sha256": key.sha256}, separators=(",", ":")),
        "maskedApiKey": key.mask,
        "updatedAt": _written(key.updated_at),
    }
    if key.expires_at is not None:
        shown["expiresAt"] = _written(key.expires_at)
    created = {"uuid": key.id, "apiId": key.artifact_id, "name": key.name, "createdAt": _written(key.created_at)}
    named = {"apiId": key.artifact_id, "keyName": key.name}
    return {"created": {**created, **shown}, "updated": {**named, **shown}, "revoked": named}


@pytest.mark.parametrize("expires", [False, True], ids=["for-ever", "expiring"])
@pytest.mark.parametrize("artifact_kind", ARTIFACT_KINDS, ids=lambda artifact_kind: artifact_kind.collection)
async def test_what_a_change_of_a_key_publishes(
    open_hub: OpenHub, artifact_kind: ArtifactKind, *, expires: bool
) -> None:
    """Created, rotated, revoked: type, action, entity, and exactly these fields; expiresAt only where it expires."""
    expires_at = datetime.now(UTC) + timedelta(days=1) if expires else None
    async with _site(open_hub, artifact_kind) as site:
        keys = site.control_plane.keys
        created = (await keys.create(*site.of, "first-key", expires_at)).key
        rotated = (await keys.rotate(*site.of, "first-key")).key
        await keys.revoke(*site.of, "first-key")
        deployed, *events = await site.events(site.start)
        assert deployed.type.endswith(".deployed")
        found = [(event.type, event.action, event.entity_type, event.entity_id, dict(event.data)) for event in events]
        assert found == [
            ("apikey.created", "PROVISION", "apikey", created.id, _payloads(created)["created"]),
            ("apikey.updated", "UPDATE", "apikey", created.id, _payloads(rotated)["updated"]),
            ("apikey.revoked", "REVOKE", "apikey", created.id, _payloads(rotated)["revoked"]),
        ]
        assert ("expiresAt" in found[0][4], "expiresAt" in found[1][4]) == (expires, expires)
        assert {event.gateway_id for event in events} == {site.gateway_id}
