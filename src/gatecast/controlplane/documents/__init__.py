"""Artifacts as operators write them, the rules that gateways have for them, and the YAML that gateways download.

Values and pure functions (gateway-protocol.md, section 4). What a gateway would reject is refused when it is written:
a model raises pydantic's `ValidationError`, with the place at fault and without the content.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gatecast.controlplane.documents.artifact import Artifact, ProviderReference
from gatecast.controlplane.documents.credentials import MASK
from gatecast.controlplane.documents.handles import check_handle, derive_handle
from gatecast.controlplane.documents.kinds import Kind
from gatecast.controlplane.documents.llm_provider import LlmProvider
from gatecast.controlplane.documents.llm_proxy import LlmProxy
from gatecast.controlplane.documents.mcp import McpProxy
from gatecast.controlplane.documents.policies import CheckedPolicy, PolicyReference
from gatecast.controlplane.documents.refusals import STORED, InvalidDocument
from gatecast.controlplane.documents.rendering import credential_paths, render, required_policies, take_credentials
from gatecast.controlplane.documents.rest_api import RestApi
from gatecast.controlplane.documents.routes import Route
from gatecast.controlplane.documents.templates import BUILT_IN_TEMPLATES, LlmProviderTemplate

#: The model of each kind that gateways download.
MODELS: Mapping[Kind, type[Artifact]] = MappingProxyType(
    {model.kind: model for model in (LlmProvider, LlmProxy, McpProxy, RestApi)}
)

__all__ = [
    "BUILT_IN_TEMPLATES",
    "MASK",
    "MODELS",
    "STORED",
    "Artifact",
    "CheckedPolicy",
    "InvalidDocument",
    "Kind",
    "LlmProvider",
    "LlmProviderTemplate",
    "LlmProxy",
    "McpProxy",
    "PolicyReference",
    "ProviderReference",
    "RestApi",
    "Route",
    "check_handle",
    "credential_paths",
    "derive_handle",
    "render",
    "required_policies",
    "take_credentials",
]
