"""Values of a YAML document, read as strictly as the gateway reads them (gateway-protocol.md 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Rejected(Exception):
    """The gateway cannot apply something; it acknowledges `failed` and keeps what it had."""


def demand(holds: bool, problem: str) -> None:  # noqa: FBT001 - it reads like the sentence it is
    """Go on if it holds; raises Rejected otherwise."""
    if not holds:
        raise Rejected(problem)


def text_of(fields: object, name: str) -> str:
    """A text, empty when absent; every text should be quoted, because some kinds take nothing else."""
    value = as_mapping(fields, name).get(name)
    demand(value is None or isinstance(value, str), f"{name} must be a text, not {value!r}")
    return value or ""


def mapping_of(fields: object, name: str) -> Mapping[str, Any]:
    """A mapping, empty when absent."""
    return as_mapping(as_mapping(fields, name).get(name), name)


def list_of(fields: object, name: str) -> list[Any]:
    """A list, empty when absent."""
    value = as_mapping(fields, name).get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Rejected(f"{name} must be a list, not {value!r}")
    return value


def as_mapping(value: object, name: str) -> Mapping[str, Any]:
    """The value, which must be a mapping or absent."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Rejected(f"{name} must be a mapping, not {value!r}")
    return value
