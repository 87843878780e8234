"""Policies: what a gateway does with requests besides sending them on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field

from gatecast.controlplane.documents.document import Part
from gatecast.controlplane.documents.texts import Condition, JsonObject, MajorVersion, Methods, Path, PolicyName


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PolicyReference:
    """A policy that a gateway must offer."""

    name: str
    #: `v1`; None: any.
    major: str | None = None


class NamedPolicy(Part):
    """A policy by name; without a version it is the newest that a gateway has."""

    name: PolicyName
    version: MajorVersion | None = None

    def reference(self) -> PolicyReference:
        """What a gateway must offer for it."""
        return PolicyReference(name=self.name, major=self.version)


class Policy(NamedPolicy):
    """A policy for every request."""

    params: JsonObject | None = None
    #: Expression over the request; the policy is left out where it is false.
    execution_condition: Condition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPolicy:
    """A policy whose parameters a gateway compares with its schema, and where an operator wrote it."""

    place: str
    policy: Policy


def checked(place: str, policies: Iterable[Policy]) -> Iterator[CheckedPolicy]:
    """The policies of a list."""
    return (CheckedPolicy(place=f"{place}.{index}", policy=policy) for index, policy in enumerate(policies))


class PolicyPath(Part):
    """Requests that a policy is for."""

    path: Path
    methods: Methods = Field(min_length=1)
    params: JsonObject | None = None


class LegacyPolicy(NamedPolicy):
    """A policy for some requests, in the form that excludes the other two lists."""

    paths: tuple[PolicyPath, ...] = Field(min_length=1)

    def by_path(self) -> Iterator[Self]:
        """One policy per path."""
        return (self.model_copy(update={"paths": (path,)}) for path in self.paths)


class OperationPolicy(LegacyPolicy):
    """A policy for some requests."""

    #: Expression over the request; the policy is left out where it is false.
    execution_condition: Condition | None = None


def most_specific_first(policies: Iterable[LegacyPolicy]) -> list[dict[str, Any]]:
    """Policies as gateways read them: one per path, specific paths first.

    A gateway applies a wildcard to the paths that it has met so far. Policies of one path keep their order.
    """
    single = (each for policy in policies for each in policy.by_path())
    return [policy.content() for policy in sorted(single, key=lambda each: _specificity(each.paths[0].path))]


def _specificity(path: str) -> tuple[int, bool, bool]:
    literal = path.partition("*")[0].partition("{")[0]
    return (-len(literal), "*" in path, literal != path)
