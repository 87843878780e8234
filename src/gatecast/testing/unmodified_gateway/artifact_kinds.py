"""The four kinds of artifacts, and what events, paths and acknowledgements call them (gateway-protocol.md 2.3, 3.3)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArtifactKind:
    """One kind of artifact."""

    #: Prefix of its event types, and `resourceType` of its acknowledgements.
    resource_type: str
    #: `kind` in its YAML and in `/deployments`.
    kind: str
    #: Field of its events that holds the artifact's id.
    id_field: str
    #: Path segment of its downloads.
    path: str


API = ArtifactKind("api", "RestApi", "apiId", "apis")
LLM_PROVIDER = ArtifactKind("llmprovider", "LlmProvider", "providerId", "llm-providers")
LLM_PROXY = ArtifactKind("llmproxy", "LlmProxy", "proxyId", "llm-proxies")
MCP_PROXY = ArtifactKind("mcpproxy", "Mcp", "proxyId", "mcp-proxies")

ARTIFACT_KINDS = (LLM_PROVIDER, LLM_PROXY, API, MCP_PROXY)

BY_RESOURCE_TYPE = {artifact_kind.resource_type: artifact_kind for artifact_kind in ARTIFACT_KINDS}

#: Kinds in the order in which start-up sync fetches them.
FETCH_ORDER = tuple(artifact_kind.kind for artifact_kind in ARTIFACT_KINDS)

#: Kinds in the order in which start-up sync deletes them.
DELETION_ORDER = (MCP_PROXY.kind, API.kind, LLM_PROXY.kind, LLM_PROVIDER.kind)

#: What providers are made from: no event, no download, no sync brings one to a gateway (section 4.7).
LLM_PROVIDER_TEMPLATE = "LlmProviderTemplate"

#: Handles of the LLM provider templates that every gateway has (section 3.7).
BUILT_IN_TEMPLATES = (
    "openai",
    "anthropic",
    "mistralai",
    "gemini",
    "azure-openai",
    "azureai-foundry",
    "awsbedrock",
)
