"""Whether a gateway supports the policies that a document uses (gateway-protocol.md 3.6, 4.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from gatecast.controlplane.documents import CheckedPolicy, PolicyReference
from gatecast.controlplane.policies.policy_schemas import Comparisons
from gatecast.errors import Conflict, shorten

_FULL_VERSION = re.compile(r"v([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})")

#: Longest path of a parameter that a refusal shows, in characters.
_SHOWN_PLACE_LENGTH = 200


class OfferedPolicies:
    """The policies that a gateway's manifest names, each in one or more versions; ignores entries without a name."""

    def __init__(self, gateway_id: str, entries: Iterable[object]) -> None:
        self._gateway_id = gateway_id
        #: By name, then by full version.
        self._definitions: dict[str, dict[str, Mapping[str, Any]]] = {}
        for entry in entries:
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                self._definitions.setdefault(entry["name"], {})[str(entry.get("version"))] = entry

    def check_loaded(self, required: Iterable[PolicyReference]) -> None:
        """Return if the gateway has loaded each of these policies in exactly one version of the wanted major version.

        A reference without a major version is satisfied by any number of versions.

        Raises:
            Conflict: names the first policy for which that is not so.
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
        """Return if the parameters keep to the gateway's schemas, as far as those can be applied.

        Raises:
            Conflict: names the policy, the parameter and the rule; never the value, which may be a secret.
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
        """The definition that the gateway would use, of the newest version; empty if none is known."""
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
