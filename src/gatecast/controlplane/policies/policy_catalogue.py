"""The policies that every gateway of a set has loaded, according to their manifests (gateway-protocol.md 3.6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

_FULL_VERSION = re.compile(r"v([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})")

#: Longest description that is shown, in characters.
_LONGEST_DESCRIPTION = 512

#: Name and full version of a policy.
_Loaded: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonPolicy:
    """A policy that every gateway of a set has loaded."""

    name: str
    #: The newest version that all of them have loaded, like `v1.0.0`.
    version: str
    #: At most 512 characters, from the first manifest; empty if it has none.
    description: str
    #: JSON schema of its parameters, from the first manifest; empty if it has none.
    parameters: Mapping[str, Any]


def common_policies(manifests: Sequence[Mapping[str, Any]]) -> list[CommonPolicy]:
    """The policies that all these manifests name, by name, each in the newest version that all of them name.

    Entries without a full version like `v1.0.0` are ignored.
    """
    loaded = [_loaded(manifest) for manifest in manifests]
    if not loaded:
        return []
    shared = reduce(lambda one, other: one & other, (set(each) for each in loaded))
    newest = dict(sorted(shared, key=lambda each: (each[0], _numbers(each[1]))))
    return [_policy(loaded[0][name, version], name, version) for name, version in newest.items()]


def _loaded(manifest: Mapping[str, Any]) -> dict[_Loaded, Mapping[str, Any]]:
    """The policies in a manifest that have a name and a full version."""
    entries = manifest.get("policies")
    found: Iterable[object] = entries if isinstance(entries, list) else ()
    return {
        (each["name"], each["version"]): each
        for each in found
        if isinstance(each, dict)
        and isinstance(each.get("name"), str)
        and isinstance(each.get("version"), str)
        and _FULL_VERSION.fullmatch(each["version"])
    }


def _policy(entry: Mapping[str, Any], name: str, version: str) -> CommonPolicy:
    description, parameters = entry.get("description"), entry.get("parameters")
    return CommonPolicy(
        name=name,
        version=version,
        description=description[:_LONGEST_DESCRIPTION] if isinstance(description, str) else "",
        parameters=parameters if isinstance(parameters, dict) else {},
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version[1:].split("."))
