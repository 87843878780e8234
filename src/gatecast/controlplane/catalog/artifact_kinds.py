"""The kinds of artifacts, and what events, paths and documents call them (gateway-protocol.md 2.3, 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

from gatecast.controlplane.documents import Kind
from gatecast.controlplane.newer_releases import member
from gatecast.storage.contract import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactKind:
    """One kind of artifact."""

    kind: Kind
    #: Prefix of its event types, and the entity type of its events.
    resource_type: str
    #: Field of its events that holds the artifact's id.
    id_field: str
    #: Last part of its path, for operators.
    collection: str
    #: Last part of its path, for gateways.
    download: str
    #: What people call one of them.
    noun: str

    @property
    def name(self) -> str:
        """What programs call one of them: `LlmProvider`."""
        return "".join(word.capitalize() for word in self.noun.split())

    @property
    def plural(self) -> str:
        """What programs call several of them: `LlmProviders`."""
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

#: In the order in which a gateway needs them: providers before the proxies that use them.
ARTIFACT_KINDS = (LLM_PROVIDER, LLM_PROXY, REST_API, MCP_PROXY)

BY_KIND = {artifact_kind.kind: artifact_kind for artifact_kind in ARTIFACT_KINDS}


def kind_of(row: Row) -> Kind:
    """The kind of artifact in a row.

    Raises:
        StoredByNewerRelease: it is not known.
    """
    return member(Kind, "an artifact of kind", row["kind"])


def noun_of(kind: str) -> str:
    """What people call an artifact of this kind, which only a newer release may know."""
    return BY_KIND[Kind(kind)].noun if kind in BY_KIND else f"{kind} artifact"
