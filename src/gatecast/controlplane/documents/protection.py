"""Protection of an LLM provider or proxy in operators' terms, and the well-known policies that implement it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt, StringConstraints

from gatecast.controlplane.documents.document import Part
from gatecast.controlplane.documents.policies import OperationPolicy, Policy, PolicyPath
from gatecast.controlplane.documents.refusals import Broken
from gatecast.controlplane.documents.texts import Methods, Path, WholeDuration

API_KEY_AUTH = "api-key-auth"
BASIC_RATE_LIMIT = "basic-ratelimit"
TOKEN_RATE_LIMIT = "token-based-ratelimit"  # noqa: S105 - a policy's name

_MAJOR = "v1"

#: Most rate limits of one kind in a document: what the policy `basic-ratelimit` takes.
MAX_LIMITS = 10
_MAX_COUNT = 1_000_000_000


class ApiKeySecurity(Part):
    """Whether callers need an API key, and where they put it."""

    enabled: StrictBool = True
    key: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9\-_]+$")] = "X-API-Key"
    in_: Annotated[Literal["header", "query"], Field(alias="in")] = "header"

    def policy(self) -> Policy:
        """The policy that a gateway checks keys with."""
        return Policy(name=API_KEY_AUTH, version=_MAJOR, params={"key": self.key, "in": self.in_})


class Security(Part):
    """Who may call."""

    api_key: ApiKeySecurity | None = None

    def policies(self) -> Iterator[Policy]:
        """The policies for every request."""
        if self.api_key is not None and self.api_key.enabled:
            yield self.api_key.policy()


class RateLimit(Part):
    """How much may happen in how much time."""

    count: Annotated[StrictInt, Field(ge=1, le=_MAX_COUNT)]
    duration: WholeDuration


_RateLimits = Annotated[tuple[RateLimit, ...], Field(max_length=MAX_LIMITS)]


class Limits(Part):
    """Limits of requests and of tokens; all of them hold at once."""

    requests: _RateLimits = ()
    prompt_tokens: _RateLimits = ()
    completion_tokens: _RateLimits = ()
    total_tokens: _RateLimits = ()

    def broken_rules(self) -> Iterator[Broken]:
        """None at all."""
        if not any((self.requests, self.prompt_tokens, self.completion_tokens, self.total_tokens)):
            yield Broken("have at least one limit")

    def params(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The policies that keep the limits, with their parameters."""
        if self.requests:
            limits = [{"duration": each.duration, "requests": each.count} for each in self.requests]
            yield BASIC_RATE_LIMIT, {"limits": limits}
        if tokens := self._token_limits():
            yield TOKEN_RATE_LIMIT, tokens

    def _token_limits(self) -> dict[str, Any]:
        kinds = {
            "completionTokenLimits": self.completion_tokens,
            "promptTokenLimits": self.prompt_tokens,
            "totalTokenLimits": self.total_tokens,
        }
        return {kind: [limit.content() for limit in limits] for kind, limits in kinds.items() if limits}


class PathLimits(Limits):
    """Limits of some requests."""

    path: Path
    methods: Methods = ("*",)

    def policies(self) -> Iterator[OperationPolicy]:
        """The policies for these requests."""
        for name, params in self.params():
            place = PolicyPath(path=self.path, methods=self.methods, params=params)
            yield OperationPolicy(name=name, version=_MAJOR, paths=(place,))


class RateLimits(Part):
    """Limits of everything together, and of single paths."""

    global_: Annotated[Limits | None, Field(alias="global")] = None
    paths: tuple[PathLimits, ...] = ()

    def global_policies(self) -> Iterator[Policy]:
        """The policies for every request."""
        if self.global_ is not None:
            yield from (Policy(name=name, version=_MAJOR, params=params) for name, params in self.global_.params())

    def operation_policies(self) -> Iterator[OperationPolicy]:
        """The policies for single paths."""
        for place in self.paths:
            yield from place.policies()
