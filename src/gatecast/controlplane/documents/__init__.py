"""Artifacts as operators write them, the rules that gateways have for them, and the YAML that gateways download.

Values and pure functions (gateway-protocol.md, section 4). What a gateway would reject is refused when it is written:
a model raises pydantic's `ValidationError`, with the place at fault and without the content.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pydantic import ValidationError

from gatecast.controlplane.documents.artifact import Artifact, ProviderReference
from gatecast.controlplane.documents.credentials import MASK
from gatecast.controlplane.documents.handles import check_handle, derive_handle, first_free
from gatecast.controlplane.documents.kinds import Kind
from gatecast.controlplane.documents.llm_provider import LlmProvider
from gatecast.controlplane.documents.llm_proxy import LlmProxy
from gatecast.controlplane.documents.mcp import McpProxy
from gatecast.controlplane.documents.policies import CheckedPolicy, PolicyReference
from gatecast.controlplane.documents.refusals import STORED, Broken, InvalidDocument, broken_in
from gatecast.controlplane.documents.rendering import credential_paths, render, required_policies, take_credentials
from gatecast.controlplane.documents.rest_api import RestApi
from gatecast.controlplane.documents.routes import Route
from gatecast.controlplane.documents.templates import BUILT_IN_TEMPLATES, LlmProviderTemplate

#: The model of each kind that gateways download.
MODELS: Mapping[Kind, type[Artifact]] = MappingProxyType(
    {model.kind: model for model in (LlmProvider, LlmProxy, McpProxy, RestApi)}
)


def faults_in(document: Artifact) -> list[Broken]:
    """The rules that a document breaks which was read back: an earlier release had fewer."""
    try:
        type(document).model_validate(document.model_dump(by_alias=True, exclude_unset=True))
    except ValidationError as error:
        return broken_in(error)
    return []


__all__ = [
    "BUILT_IN_TEMPLATES",
    "MASK",
    "MODELS",
    "STORED",
    "Artifact",
    "Broken",
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
    "faults_in",
    "first_free",
    "render",
    "required_policies",
    "take_credentials",
]
