"""What a gateway's manifest says of its policies (gateway-protocol.md 3.6), and what a document asks of them (4.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from gatecast.controlplane.documents import CheckedPolicy, PolicyReference
from gatecast.controlplane.policies.policy_schemas import Comparisons
from gatecast.errors import Conflict, shorten

_FULL_VERSION = re.compile(r"v([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})")

#: Longest place of a parameter that a refusal shows.
_SHOWN_PLACE_LENGTH = 200


class OfferedPolicies:
    """The policies that a gateway has loaded, each in one or more versions."""

    def __init__(self, gateway_id: str, entries: Iterable[object]) -> None:
        self._gateway_id = gateway_id
        #: By name, then by full version.
        self._definitions: dict[str, dict[str, Mapping[str, Any]]] = {}
        for entry in entries:
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                self._definitions.setdefault(entry["name"], {})[str(entry.get("version"))] = entry

    def check_loaded(self, required: Iterable[PolicyReference]) -> None:
        """See to it that the gateway has these policies, and knows which version is meant.

        Raises:
            Conflict: names the first one for which that is not so.
        """
        for policy in sorted(required, key=str):
            versions = self._versions(policy)
            if not versions:
                raise self._refused(f"does not offer the policy {_shown(policy)}")
            if policy.major is not None and len(versions) > 1:
                loaded = ", ".join(sorted(versions))
                raise self._refused(
                    f"has loaded the policy {_shown(policy)} as {shorten(loaded)} and applies none of them; "
                    "leave one of them there, or name no version"
                )

    def check_parameters(self, policies: Iterable[CheckedPolicy]) -> None:
        """See to it that parameters keep to the schemas that the gateway has, as far as those can be used.

        Raises:
            Conflict: names the policy, the parameter and the rule; not the value, which may be a secret.
        """
        comparisons = Comparisons()
        for checked in policies:
            reference = checked.policy.reference()
            definition = self._definition(reference)
            broken = comparisons.broken_rule(definition.get("parameters"), checked.policy.params or {})
            if broken is not None:
                place = ".".join(str(part) for part in ("params", *broken.path))[:_SHOWN_PLACE_LENGTH]
                problem = f"refuses {place} of the policy {_shown(reference)}: it {broken.rule}"
                raise self._refused(problem, field=checked.place)

    def _definition(self, policy: PolicyReference) -> Mapping[str, Any]:
        """The one that the gateway would take; empty where that cannot be told."""
        versions = self._versions(policy)
        if len(versions) > 1:
            versions = {name: each for name, each in versions.items() if _FULL_VERSION.fullmatch(name)}
        newest = max(versions, key=_numbers, default=None)
        return {} if newest is None else versions[newest]

    def _versions(self, policy: PolicyReference) -> dict[str, Mapping[str, Any]]:
        versions = self._definitions.get(policy.name, {})
        return {name: each for name, each in versions.items() if policy.major in (None, name.partition(".")[0])}

    def _refused(self, problem: str, *, field: str = "gateways") -> Conflict:
        return Conflict(f"gateway {self._gateway_id} {problem}", field=field)


def _shown(policy: PolicyReference) -> str:
    return policy.name if policy.major is None else f"{policy.name} {policy.major}"


def _numbers(version: str) -> tuple[int, ...]:
    found = _FULL_VERSION.fullmatch(version)
    return tuple(int(number) for number in found.groups()) if found else ()
