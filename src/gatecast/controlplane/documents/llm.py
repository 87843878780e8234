"""The parts that LLM providers and LLM proxies share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import Field

from gatecast.controlplane.documents.artifact import FIRST_VERSION, Artifact, content, contents
from gatecast.controlplane.documents.contexts import LlmContext, default_context, reserved_paths
from gatecast.controlplane.documents.policies import (
    CheckedPolicy,
    LegacyPolicy,
    OperationPolicy,
    Policy,
    PolicyReference,
    checked,
    most_specific_first,
)
from gatecast.controlplane.documents.protection import API_KEY_AUTH, Security
from gatecast.controlplane.documents.refusals import Broken
from gatecast.controlplane.documents.routes import DEFAULT_HOST, Route, routes_of
from gatecast.controlplane.documents.texts import LlmName, LlmVersion, Vhost
from gatecast.controlplane.documents.upstreams import Resilience


class LlmArtifact(Artifact):
    """A provider or a proxy."""

    name: LlmName
    version: LlmVersion = FIRST_VERSION
    context: LlmContext = Field(default_factory=default_context)
    vhost: Vhost | None = None
    resilience: Resilience | None = None
    security: Security = Security()
    global_policies: tuple[Policy, ...] = ()
    operation_policies: tuple[OperationPolicy, ...] = ()
    #: The older form; excludes everything else that becomes a policy.
    policies: tuple[LegacyPolicy, ...] = ()

    def broken_rules(self) -> Iterator[Broken]:
        """Policies that exclude each other, and paths that belong to the gateway."""
        if self.policies and (self.all_global_policies() or self.all_operation_policies()):
            yield Broken("be empty beside globalPolicies, operationPolicies, security and rateLimits", ("policies",))
        if list(self.security.policies()) and any(each.name == API_KEY_AUTH for each in self.global_policies):
            yield Broken(f"not name {API_KEY_AUTH} beside security.apiKey", ("globalPolicies",))
        yield from reserved_paths(self.context, self._policy_paths())

    def _policy_paths(self) -> Iterator[tuple[str, tuple[str | int, ...]]]:
        for field, policies in (("operationPolicies", self.operation_policies), ("policies", self.policies)):
            for index, policy in enumerate(policies):
                for place, each in enumerate(policy.paths):
                    yield each.path, (field, index, "paths", place, "path")

    def routes(self) -> frozenset[Route]:
        """On the host that it names, or the gateway's own."""
        return routes_of([self.vhost or DEFAULT_HOST], self.context, self.version)

    def all_global_policies(self) -> list[Policy]:
        """Policies for every request: the key is checked before anything else happens."""
        return [*self.security.policies(), *self.global_policies]

    def all_operation_policies(self) -> list[OperationPolicy]:
        """Policies for some requests."""
        return list(self.operation_policies)

    def heading(self) -> dict[str, Any]:
        """The first fields of `spec`."""
        return {
            "displayName": self.name,
            "version": self.version,
            "context": self.context,
            "vhost": self.vhost,
        }

    def policy_lists(self) -> dict[str, Any]:
        """The last fields of `spec`."""
        return {
            "globalPolicies": contents(self.all_global_policies()),
            "operationPolicies": most_specific_first(self.all_operation_policies()),
            "policies": most_specific_first(self.policies),
            "resilience": content(self.resilience),
        }

    def named_policies(self) -> Iterator[PolicyReference]:
        """The policies that the document names."""
        lists: Iterable[Iterable[Policy | LegacyPolicy]] = (
            self.all_global_policies(),
            self.all_operation_policies(),
            self.policies,
        )
        return (policy.reference() for policies in lists for policy in policies)

    def checked_policies(self) -> Iterator[CheckedPolicy]:
        """Those for every request, also where other words stand for them."""
        for policy in self.security.policies():
            yield CheckedPolicy(place="security.apiKey", policy=policy)
        yield from checked("globalPolicies", self.global_policies)
