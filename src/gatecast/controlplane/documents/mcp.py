"""MCP proxies (gateway-protocol.md 4.6).

A gateway never removes the credential of an MCP proxy, so `upstream.auth` cannot be removed from a running proxy:
delete it and create it again. A `set-headers` policy has no such limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, StrictBool, StrictInt

from gatecast.controlplane.documents.artifact import (
    FIRST_VERSION,
    SET_HEADERS,
    Artifact,
    ProviderReference,
    Surroundings,
    content,
    contents,
)
from gatecast.controlplane.documents.contexts import ApiContext, default_context
from gatecast.controlplane.documents.credentials import Auth
from gatecast.controlplane.documents.document import Part
from gatecast.controlplane.documents.kinds import Kind
from gatecast.controlplane.documents.policies import CheckedPolicy, Policy, PolicyReference, checked
from gatecast.controlplane.documents.refusals import Broken
from gatecast.controlplane.documents.routes import DEFAULT_HOST, Route, routes_of
from gatecast.controlplane.documents.texts import ApiName, ApiVersion, JsonText, Text, Vhost
from gatecast.controlplane.documents.upstreams import (
    McpUpstream,
    Resilience,
    UpstreamDefinition,
    broken_references,
    references_to_several,
)


class Tool(Part):
    """A tool of the MCP server; its schemas are JSON as text."""

    name: Text
    title: str | None = None
    description: str | None = None
    input_schema: JsonText | None = None
    output_schema: JsonText | None = None


class Resource(Part):
    """A resource of the MCP server."""

    uri: Text
    name: Text
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: StrictInt | None = None


class PromptArgument(Part):
    """An argument of a prompt."""

    name: Text
    title: str | None = None
    description: str | None = None
    required: StrictBool | None = None


class Prompt(Part):
    """A prompt of the MCP server."""

    name: Text
    title: str | None = None
    description: str | None = None
    arguments: tuple[PromptArgument, ...] = ()


def _context_without_vhost(fields: dict[str, Any]) -> str | None:
    return None if fields.get("vhost") else default_context(fields)


class McpProxy(Artifact):
    """An MCP server behind gateways."""

    kind: ClassVar[Kind] = Kind.MCP

    name: ApiName
    version: ApiVersion = FIRST_VERSION
    vhost: Vhost | None = None
    #: May be left out where there is a vhost.
    context: ApiContext | None = Field(default_factory=_context_without_vhost)
    spec_version: Literal["2025-06-18", "2025-11-25"] | None = None
    upstream: McpUpstream
    upstream_definitions: tuple[UpstreamDefinition, ...] = ()
    resilience: Resilience | None = None
    tools: tuple[Tool, ...] = ()
    resources: tuple[Resource, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    policies: tuple[Policy, ...] = ()

    def broken_rules(self) -> Iterator[Broken]:
        """References to nothing, and a proxy that is nowhere."""
        yield from broken_references(self.upstream_definitions, upstream=self.upstream)
        if self.context is None and self.vhost is None:
            yield Broken("be given where there is no vhost", ("context",))

    def broken_later(self) -> Iterator[Broken]:
        """A reference to several servers."""
        return references_to_several(self.upstream_definitions, upstream=self.upstream)

    def routes(self) -> frozenset[Route]:
        """On the host that it names, or the gateway's own."""
        return routes_of([self.vhost or DEFAULT_HOST], self.context, self.version)

    def auths(self) -> Iterator[tuple[str, Auth]]:
        """The upstream's."""
        if self.upstream.auth is not None:
            yield "upstream.auth", self.upstream.auth

    def masked(self) -> Self:
        """The same without credentials."""
        return self.model_copy(update={"upstream": self.upstream.masked()})

    def specification(self, surroundings: Surroundings) -> dict[str, Any]:
        """`spec`."""
        return {
            "displayName": self.name,
            "version": self.version,
            "context": self.context,
            "vhost": self.vhost,
            "specVersion": self.spec_version,
            "upstream": self.upstream.rendered(surroundings.credentials.get("upstream.auth")),
            "tools": contents(self.tools),
            "resources": contents(self.resources),
            "prompts": contents(self.prompts),
            "policies": contents(self.policies),
            "resilience": content(self.resilience),
            "upstreamDefinitions": contents(self.upstream_definitions),
        }

    def policies_needed(self, providers: Iterable[ProviderReference]) -> Iterator[PolicyReference]:
        """What a gateway must offer; it makes a `set-headers` policy of the credential."""
        del providers
        if self.upstream.auth is not None:
            yield SET_HEADERS
        yield from (policy.reference() for policy in self.policies)

    def checked_policies(self) -> Iterator[CheckedPolicy]:
        """All of them."""
        return checked("policies", self.policies)
