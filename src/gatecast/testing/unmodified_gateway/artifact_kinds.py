"""The four kinds of artifacts, and what events, paths and acknowledgements call them (gateway-protocol.md 2.3, 3.3)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of artifact."""

    #: Prefix of its event types, and `resourceType` of its acknowledgements.
    resource_type: str
    #: `kind` in its YAML and in `/deployments`.
    kind: str
    #: Field of its events that holds the artifact's id.
    id_field: str
    #: Path segment of its downloads.
    path: str


API = Family("api", "RestApi", "apiId", "apis")
LLM_PROVIDER = Family("llmprovider", "LlmProvider", "providerId", "llm-providers")
LLM_PROXY = Family("llmproxy", "LlmProxy", "proxyId", "llm-proxies")
MCP_PROXY = Family("mcpproxy", "Mcp", "proxyId", "mcp-proxies")

FAMILIES = (LLM_PROVIDER, LLM_PROXY, API, MCP_PROXY)

BY_RESOURCE_TYPE = {family.resource_type: family for family in FAMILIES}

#: Kinds in the order in which start-up sync fetches them.
FETCH_ORDER = tuple(family.kind for family in FAMILIES)

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
