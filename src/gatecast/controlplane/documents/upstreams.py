"""Where gateways send requests, and how long they wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictInt

from gatecast.controlplane.documents.credentials import NO_CREDENTIAL, LlmAuth, McpAuth
from gatecast.controlplane.documents.document import Part, Target
from gatecast.controlplane.documents.refusals import Broken
from gatecast.controlplane.documents.texts import BasePath, Duration, LocalName, Origin, PositiveDuration, Url


class Upstream(Target):
    """Where requests go."""

    url: Url | None = None
    ref: LocalName | None = None
    host_rewrite: Literal["auto", "manual"] | None = None


class LlmUpstream(Upstream):
    """Where an LLM provider answers."""

    auth: LlmAuth | None = None

    def masked(self) -> Self:
        """The same without the credential."""
        return self if self.auth is None else self.model_copy(update={"auth": self.auth.masked()})

    def rendered(self, secret: str | None) -> dict[str, Any]:
        """What a gateway reads; `secret` is the handle of the stored credential."""
        auth = NO_CREDENTIAL if self.auth is None else self.auth.rendered(secret)
        return self.content() | {"auth": auth}


class McpUpstream(Upstream):
    """Where an MCP server answers."""

    auth: McpAuth | None = None

    def masked(self) -> Self:
        """The same without the credential."""
        return self if self.auth is None else self.model_copy(update={"auth": self.auth.masked()})

    def rendered(self, secret: str | None) -> dict[str, Any]:
        """What a gateway reads; `secret` is the handle of the stored credential."""
        return self.content() | ({} if self.auth is None else {"auth": self.auth.rendered(secret)})


class Timeout(Part):
    """How long a gateway waits for an upstream."""

    connect: PositiveDuration | None = None


class WeightedOrigin(Part):
    """One of the servers that share a name."""

    url: Origin
    weight: Annotated[StrictInt, Field(ge=0, le=100)] | None = None


class UpstreamDefinition(Part):
    """A name for one or more servers."""

    name: LocalName
    base_path: BasePath | None = None
    timeout: Timeout | None = None
    upstreams: tuple[WeightedOrigin, ...] = Field(min_length=1)


class Resilience(Part):
    """Time limits of requests; `0s` switches one off."""

    timeout: Duration | None = None
    idle_timeout: Duration | None = None


def broken_references(definitions: Iterable[UpstreamDefinition], **targets: Upstream | None) -> Iterator[Broken]:
    """Definitions with the same name, and references to none; a target is named by its place with `_` for a dot."""
    names: set[str] = set()
    for index, definition in enumerate(definitions):
        if definition.name in names:
            yield Broken("be different from the other names", ("upstreamDefinitions", index, "name"))
        names.add(definition.name)
    for place, target in targets.items():
        if target is not None and target.ref is not None and target.ref not in names:
            yield Broken("name one of upstreamDefinitions", (*place.split("_"), "ref"))


def references_to_several(definitions: Iterable[UpstreamDefinition], **targets: Upstream | None) -> Iterator[Broken]:
    """References to several servers: a gateway stores them, and never serves them (gateway-protocol.md 6)."""
    pools = {definition.name for definition in definitions if len(definition.upstreams) > 1}
    for place, target in targets.items():
        if target is not None and target.ref in pools:
            rule = "name an entry of upstreamDefinitions with one URL; gateways serve none with several"
            yield Broken(rule, (*place.split("_"), "ref"))
