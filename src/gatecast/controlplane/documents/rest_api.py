"""REST APIs (gateway-protocol.md 4.5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from gatecast.controlplane.documents.artifact import (
    FIRST_VERSION,
    Artifact,
    ProviderReference,
    Surroundings,
    content,
    contents,
)
from gatecast.controlplane.documents.contexts import ApiContext, default_context, reserved_paths
from gatecast.controlplane.documents.document import Part
from gatecast.controlplane.documents.kinds import Kind
from gatecast.controlplane.documents.openapi import OpenApi
from gatecast.controlplane.documents.policies import CheckedPolicy, Policy, PolicyReference, checked
from gatecast.controlplane.documents.refusals import Broken
from gatecast.controlplane.documents.routes import DEFAULT_HOST, DEFAULT_SANDBOX_HOST, Route, hosts_in, routes_of
from gatecast.controlplane.documents.texts import ApiName, ApiVersion, HeaderName, Method, Path, Text, Vhosts
from gatecast.controlplane.documents.upstreams import (
    Resilience,
    Upstream,
    UpstreamDefinition,
    broken_references,
    references_to_several,
)


class RestUpstream(Part):
    """Where requests go. A credential for it is a `set-headers` policy."""

    main: Upstream
    sandbox: Upstream | None = None


class Hosts(Part):
    """Hosts that the API answers on, several of them separated by `;`; left out: the gateway's own."""

    main: Vhosts | None = None
    sandbox: Vhosts | None = None

    def all_main(self) -> list[str]:
        """Where the API itself answers."""
        return list(hosts_in(self.main, DEFAULT_HOST))

    def all_sandbox(self) -> list[str]:
        """Where its sandbox answers."""
        return list(hosts_in(self.sandbox, DEFAULT_SANDBOX_HOST))

    def shared_hosts(self) -> Iterator[Broken]:
        """A host twice: a gateway builds one virtual host for each, and none of a name that it has."""
        main, sandbox = self.all_main(), self.all_sandbox()
        for name, hosts in (("main", main), ("sandbox", sandbox)):
            if len(set(hosts)) != len(hosts):
                yield Broken("name each host once", ("vhosts", name))
        if shared := sorted(set(main) & set(sandbox)):
            rule = f'differ from main, which has "{shared[0]}" too'
            if self.sandbox is None:
                rule = f'be given and differ from main: left out it is "{DEFAULT_SANDBOX_HOST}", which main has too'
            yield Broken(rule, ("vhosts", "sandbox"))


class PathMatch(Part):
    """How a path is compared."""

    value: Path
    type: Literal["Exact", "PathPrefix"]


class HeaderMatch(Part):
    """How a header is compared."""

    name: HeaderName
    value: Text
    type: Literal["Exact", "RegularExpression"]


class Match(Part):
    """Which requests an operation is for."""

    method: Method
    path: PathMatch
    headers: tuple[HeaderMatch, ...] = ()


class Operation(Part):
    """Some requests, and what holds for them: method and path, or `match`."""

    method: Method | None = None
    path: Path | None = None
    match: Match | None = None
    policies: tuple[Policy, ...] = ()
    resilience: Resilience | None = None

    def broken_rules(self) -> Iterator[Broken]:
        """Both ways to say which requests, or none."""
        given = (self.method is not None, self.path is not None, self.match is not None)
        if given not in ((True, True, False), (False, False, True)):
            yield Broken("have either method and path, or match")

    def place(self) -> tuple[str, tuple[str, ...]]:
        """The path, and its place in the document."""
        if self.match is not None:
            return self.match.path.value, ("match", "path", "value")
        return self.path or "/", ("path",)


class RestApi(Artifact):
    """An HTTP API behind gateways."""

    kind: ClassVar[Kind] = Kind.REST_API
    for_people: ClassVar[frozenset[str]] = frozenset({"openapi"})

    name: ApiName
    version: ApiVersion = FIRST_VERSION
    context: ApiContext = Field(default_factory=default_context)
    upstream: RestUpstream
    upstream_definitions: tuple[UpstreamDefinition, ...] = ()
    vhosts: Hosts | None = None
    operations: tuple[Operation, ...] = Field(min_length=1)
    policies: tuple[Policy, ...] = ()
    resilience: Resilience | None = None
    #: Description of the API; for people, not sent to gateways.
    openapi: OpenApi | None = None
    subscription_plans: tuple[Annotated[str, StringConstraints(min_length=1, max_length=256)], ...] = ()

    def broken_rules(self) -> Iterator[Broken]:
        """References to nothing, and paths that belong to the gateway."""
        main, sandbox = self.upstream.main, self.upstream.sandbox
        yield from broken_references(self.upstream_definitions, upstream_main=main, upstream_sandbox=sandbox)
        places = ((index, *each.place()) for index, each in enumerate(self.operations))
        yield from reserved_paths(
            self.context, ((path, ("operations", index, *place)) for index, path, place in places)
        )

    def broken_later(self) -> Iterator[Broken]:
        """References to several servers, and hosts that main and sandbox share."""
        main, sandbox = self.upstream.main, self.upstream.sandbox
        yield from references_to_several(self.upstream_definitions, upstream_main=main, upstream_sandbox=sandbox)
        yield from (self.vhosts or Hosts()).shared_hosts()

    def routes(self) -> frozenset[Route]:
        """On the hosts of the API, and on those of its sandbox if it has one."""
        hosts = self.vhosts or Hosts()
        sandbox = [] if self.upstream.sandbox is None else hosts.all_sandbox()
        return routes_of([*hosts.all_main(), *sandbox], self.context, self.version)

    def specification(self, surroundings: Surroundings) -> dict[str, Any]:
        """`spec`."""
        del surroundings
        return {
            "displayName": self.name,
            "version": self.version,
            "context": self.context,
            "upstream": self.upstream.content(),
            "vhosts": content(self.vhosts),
            "operations": contents(self.operations),
            "policies": contents(self.policies),
            "resilience": content(self.resilience),
            "upstreamDefinitions": contents(self.upstream_definitions),
            "subscriptionPlans": list(self.subscription_plans),
        }

    def policies_needed(self, providers: Iterable[ProviderReference]) -> Iterator[PolicyReference]:
        """What a gateway must offer."""
        del providers
        for policy in self.policies:
            yield policy.reference()
        for operation in self.operations:
            yield from (policy.reference() for policy in operation.policies)

    def checked_policies(self) -> Iterator[CheckedPolicy]:
        """Those of the API, and those of its operations."""
        yield from checked("policies", self.policies)
        for index, operation in enumerate(self.operations):
            yield from checked(f"operations.{index}.policies", operation.policies)
