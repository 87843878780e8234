"""The artifact kinds, and their names in events, paths and documents (gateway-protocol.md 2.3, 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

from gatecast.controlplane.documents import Kind
from gatecast.controlplane.newer_releases import member
from gatecast.storage.contract import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactKind:
    """One artifact kind, and its names."""

    kind: Kind
    #: Prefix of its event types, and the entity type of its events.
    resource_type: str
    #: The field of its events that holds the artifact's id.
    id_field: str
    #: Last part of its path in the admin API.
    collection: str
    #: Last part of its path for downloads by gateways.
    download: str
    #: The name of one artifact, in prose.
    noun: str

    @property
    def name(self) -> str:
        """The name of one artifact in code: `LlmProvider`."""
        return "".join(word.capitalize() for word in self.noun.split())

    @property
    def plural(self) -> str:
        """The name of several artifacts in code: `LlmProviders`."""
        return "".join(word.capitalize() for word in self.collection.split("-"))


LLM_PROVIDER = ArtifactKind(
    kind=Kind.LLM_PROVIDER,
    resource_type="llmprovider",
    id_field="providerId",
    collection="llm-providers",
    download="llm-providers",
    noun="LLM provider",
)
LLM_PROXY = ArtifactKind(
    kind=Kind.LLM_PROXY,
    resource_type="llmproxy",
    id_field="proxyId",
    collection="llm-proxies",
    download="llm-proxies",
    noun="LLM proxy",
)
MCP_PROXY = ArtifactKind(
    kind=Kind.MCP,
    resource_type="mcpproxy",
    id_field="proxyId",
    collection="mcp-proxies",
    download="mcp-proxies",
    noun="MCP proxy",
)
REST_API = ArtifactKind(
    kind=Kind.REST_API,
    resource_type="api",
    id_field="apiId",
    collection="rest-apis",
    download="apis",
    noun="REST API",
)

#: Every kind, in the order in which a gateway needs them: providers before the proxies that use them.
ARTIFACT_KINDS = (LLM_PROVIDER, LLM_PROXY, REST_API, MCP_PROXY)

BY_KIND = {artifact_kind.kind: artifact_kind for artifact_kind in ARTIFACT_KINDS}


def kind_of(row: Row) -> Kind:
    """The artifact kind in a row.

    Raises:
        StoredByNewerRelease: this release does not know the kind.
    """
    return member(Kind, "an artifact of kind", row["kind"])


def noun_of(kind: str) -> str:
    """The name of an artifact of this kind, in prose, also for a kind that only a newer release knows."""
    return BY_KIND[Kind(kind)].noun if kind in BY_KIND else f"{kind} artifact"
