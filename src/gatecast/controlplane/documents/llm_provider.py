"""LLM providers (gateway-protocol.md 4.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints

from gatecast.controlplane.documents.artifact import SET_HEADERS, ProviderReference, Surroundings, contents
from gatecast.controlplane.documents.contexts import reserved_paths
from gatecast.controlplane.documents.credentials import Auth
from gatecast.controlplane.documents.document import Part
from gatecast.controlplane.documents.kinds import Kind
from gatecast.controlplane.documents.llm import LlmArtifact
from gatecast.controlplane.documents.openapi import OpenApi
from gatecast.controlplane.documents.policies import CheckedPolicy, OperationPolicy, Policy, PolicyReference
from gatecast.controlplane.documents.protection import RateLimits
from gatecast.controlplane.documents.refusals import Broken
from gatecast.controlplane.documents.templates import BUILT_IN_TEMPLATES, TemplateHandle
from gatecast.controlplane.documents.texts import Methods, Path
from gatecast.controlplane.documents.upstreams import (
    LlmUpstream,
    UpstreamDefinition,
    broken_references,
    references_to_several,
)

_BUILT_IN = frozenset(template.handle for template in BUILT_IN_TEMPLATES)

RESPOND = PolicyReference(name="respond")

_ModelId = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class AccessException(Part):
    """Requests for which the opposite of the mode holds."""

    path: Path
    #: `*` alone: every method.
    methods: Methods = Field(min_length=1)


class AccessControl(Part):
    """Which requests reach the provider; the others answer 404."""

    mode: Literal["allow_all", "deny_all"] = "allow_all"
    exceptions: tuple[AccessException, ...] = ()

    def rendered(self) -> dict[str, Any]:
        """The form that a gateway reads; it always needs the mode."""
        exceptions = {"exceptions": contents(self.exceptions)} if self.exceptions else {}
        return {"mode": self.mode} | exceptions


class LlmModel(Part):
    """A model that the provider offers; for people, not sent to gateways."""

    id: _ModelId
    name: _ModelId | None = None


class LlmProvider(LlmArtifact):
    """An LLM service, and who may use what of it."""

    kind: ClassVar[Kind] = Kind.LLM_PROVIDER
    for_people: ClassVar[frozenset[str]] = frozenset({"openapi"})

    #: Handle of a template that the gateway has.
    template: TemplateHandle
    upstream: LlmUpstream
    upstream_definitions: tuple[UpstreamDefinition, ...] = ()
    access_control: AccessControl = AccessControl()
    rate_limits: RateLimits = RateLimits()
    models: tuple[LlmModel, ...] = ()
    #: Description of the provider's API; for people, not sent to gateways.
    openapi: OpenApi | None = None

    def broken_rules(self) -> Iterator[Broken]:
        """Those of LLM kinds, names, and paths that belong to the gateway."""
        yield from super().broken_rules()
        yield from broken_references(self.upstream_definitions, upstream=self.upstream)
        exceptions = enumerate(self.access_control.exceptions)
        limits = enumerate(self.rate_limits.paths)
        places = (
            *((e.path, ("accessControl", "exceptions", i, "path")) for i, e in exceptions),
            *((e.path, ("rateLimits", "paths", i, "path")) for i, e in limits),
        )
        yield from reserved_paths(self.context, places)

    @property
    def has_built_in_template(self) -> bool:
        """Whether every gateway brings its template along."""
        return self.template in _BUILT_IN

    def all_global_policies(self) -> list[Policy]:
        """Policies for every request: the key first, then the limits."""
        return [*self.security.policies(), *self.rate_limits.global_policies(), *self.global_policies]

    def all_operation_policies(self) -> list[OperationPolicy]:
        """Policies for some requests: the limits first."""
        return [*self.rate_limits.operation_policies(), *self.operation_policies]

    def broken_later(self) -> Iterator[Broken]:
        """A reference to several servers."""
        return references_to_several(self.upstream_definitions, upstream=self.upstream)

    def auths(self) -> Iterator[tuple[str, Auth]]:
        """The upstream's."""
        if self.upstream.auth is not None:
            yield "upstream.auth", self.upstream.auth

    def masked(self) -> Self:
        """The same without credentials."""
        return self.model_copy(update={"upstream": self.upstream.masked()})

    def specification(self, surroundings: Surroundings) -> dict[str, Any]:
        """The `spec`; it states a missing credential, because a gateway would otherwise keep using the last one."""
        return {
            **self.heading(),
            "template": self.template,
            "upstream": self.upstream.rendered(surroundings.credentials.get("upstream.auth")),
            "upstreamDefinitions": contents(self.upstream_definitions),
            "accessControl": self.access_control.rendered(),
            **self.policy_lists(),
        }

    def policies_needed(self, providers: Iterable[ProviderReference]) -> Iterator[PolicyReference]:
        """What a gateway must offer."""
        del providers
        if self.upstream.auth is not None and self.upstream.auth.type == "api-key":
            yield SET_HEADERS
        if self.access_control.mode == "allow_all" and self.access_control.exceptions:
            yield RESPOND
        yield from self.named_policies()

    def checked_policies(self) -> Iterator[CheckedPolicy]:
        """Those for every request, also where other words stand for them."""
        yield from super().checked_policies()
        for policy in self.rate_limits.global_policies():
            yield CheckedPolicy(place="rateLimits.global", policy=policy)
