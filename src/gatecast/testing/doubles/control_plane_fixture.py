"""The control plane of one installation without its endpoints: what services do, and which events they publish."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Self

from gatecast.controlplane.access.gateways import GatewayFields, Gateways
from gatecast.controlplane.catalog.artifact_kinds import LLM_PROVIDER, LLM_PROXY, MCP_PROXY, REST_API, ArtifactKind
from gatecast.controlplane.catalog.artifact_store import StoredArtifact
from gatecast.controlplane.control_plane import ControlPlane
from gatecast.controlplane.deployments.artifacts import Edit
from gatecast.controlplane.deployments.placements import Deployment, DeploymentState
from gatecast.controlplane.documents import MODELS
from gatecast.controlplane.encryption import Encryption
from gatecast.controlplane.gateway_sync.acknowledgements import Acknowledgement
from gatecast.hub import EventHub
from gatecast.storage.contract import ReadRequest

#: Whom everything belongs to.
ORGANIZATION = "default"

_DOCUMENTS: Mapping[ArtifactKind, Mapping[str, Any]] = MappingProxyType(
    {
        LLM_PROVIDER: {"template": "openai", "upstream": {"url": "https://llm.example.test/v1"}},
        LLM_PROXY: {"context": "/demo-proxy"},
        MCP_PROXY: {"context": "/demo-mcp", "upstream": {"url": "https://mcp.example.test/mcp"}},
        REST_API: {
            "context": "/demo-api",
            "upstream": {"main": {"url": "http://backend.example.test:8080"}},
            "operations": [{"method": "GET", "path": "/items"}],
        },
    }
)


@dataclass(frozen=True, slots=True)
class Site:
    """An installation with some gateways, of which none is connected."""

    hub: EventHub
    control_plane: ControlPlane
    gateways: list[str]

    @classmethod
    @asynccontextmanager
    async def open(cls, opening: AbstractAsyncContextManager[EventHub], gateways: int = 1) -> AsyncIterator[Self]:
        """An installation on a hub that has the control plane's tables."""
        async with opening as hub:
            made = [await Gateways(hub).create(ORGANIZATION, GatewayFields(name=f"edge-{n}")) for n in range(gateways)]
            yield cls(hub, ControlPlane.on(hub, Encryption([bytes(32)])), sorted(each.gateway.id for each in made))

    async def make(self, artifact_kind: ArtifactKind, name: str = "Demo", **fields: object) -> StoredArtifact:
        """An artifact on every gateway."""
        document = {"name": name, "version": "v1.0", **_DOCUMENTS[artifact_kind], **fields}
        made = await self.control_plane.artifacts.create(
            ORGANIZATION, artifact_kind, MODELS[artifact_kind.kind].model_validate(document), gateways=self.gateways
        )
        return made.artifact

    async def change(
        self, artifact: StoredArtifact, *, gateways: Collection[str] | None = None, **fields: object
    ) -> StoredArtifact:
        """Another document for an artifact, wherever it runs, or on these gateways."""
        document = artifact.document.model_dump(by_alias=True, exclude_unset=True) | fields
        edit = Edit(document=lambda _: MODELS[artifact.artifact_kind.kind].model_validate(document), gateways=gateways)
        return (
            await self.control_plane.artifacts.update(ORGANIZATION, artifact.artifact_kind, artifact.id, edit)
        ).artifact

    async def deploy(self, artifact: StoredArtifact) -> Deployment:
        """A new revision on the first gateway."""
        return await self.control_plane.artifacts.deploy(
            ORGANIZATION, artifact.artifact_kind, artifact.id, self.gateways[0]
        )

    async def restore(self, artifact: StoredArtifact, earlier: Deployment) -> Deployment:
        """An earlier revision again, on its gateway."""
        return await self.control_plane.artifacts.restore(ORGANIZATION, artifact.artifact_kind, artifact.id, earlier.id)

    async def undeploy(self, artifact: StoredArtifact) -> Deployment:
        """The artifact runs no more on the first gateway."""
        return await self.control_plane.artifacts.undeploy(
            ORGANIZATION, artifact.artifact_kind, artifact.id, self.gateways[0]
        )

    async def delete(self, artifact: StoredArtifact) -> None:
        """It is gone."""
        await self.control_plane.artifacts.delete(ORGANIZATION, artifact.artifact_kind, artifact.id)

    async def deployments(self, artifact: StoredArtifact) -> list[Deployment]:
        """Its newest revision on each gateway."""
        return [each.deployment for each in await self.control_plane.artifacts.running(artifact.id)]

    async def state(self, artifact: StoredArtifact) -> DeploymentState:
        """The state of its newest revision on the first gateway."""
        return (await self.deployments(artifact))[0].state

    def report(
        self,
        deployment: Deployment,
        *,
        deployed: bool = True,
        error: str = "",
        named: bool = True,
        resource_type: str = "api",
    ) -> None:
        """The gateway says what became of this event."""
        self.control_plane.acknowledgements.report(
            Acknowledgement(
                organization=ORGANIZATION,
                gateway_id=deployment.gateway_id,
                artifact_id=deployment.artifact_id,
                deployment_id=deployment.id if named else "",
                performed_at=datetime.fromtimestamp(deployment.performed_at / 1000, UTC),
                deployed=deployed,
                succeeded=not error,
                error_code=error,
                resource_type=resource_type,
            )
        )

    async def acknowledge(
        self, deployment: Deployment, *, deployed: bool = True, error: str = "", named: bool = True
    ) -> None:
        """The same, stored at once."""
        self.report(deployment, deployed=deployed, error=error, named=named)
        await self.control_plane.acknowledgements.flush()

    async def told(self, gateway_id: str = "", *, after: int = 0) -> list[tuple[str, dict[str, Any]]]:
        """Type and data of a gateway's events after this offset; the first gateway's unless another is named."""
        request = ReadRequest(
            gateway_id=gateway_id or self.gateways[0], after=after, max_events=1_000, max_bytes=1 << 24
        )
        [result] = await self.hub.engine.log.read([request])
        assert result is not None
        return [(event.type, json.loads(event.payload)) for event in result.events]
