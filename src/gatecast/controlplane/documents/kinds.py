"""The kinds of artifacts, as gateways call them."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """`kind` of a document."""

    LLM_PROVIDER = "LlmProvider"
    LLM_PROXY = "LlmProxy"
    MCP = "Mcp"
    REST_API = "RestApi"
    #: Known to gateways, but never sent to them.
    LLM_PROVIDER_TEMPLATE = "LlmProviderTemplate"
