"""Credentials of documents: what a redeploy inherits, and what the runtime is given (gateway-protocol.md 4.1, 4.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from gatecast.testing.unmodified_gateway.artifact_kinds import LLM_PROVIDER, LLM_PROXY, MCP_PROXY
from gatecast.testing.unmodified_gateway.document_rules import SECRET_REFERENCE
from gatecast.testing.unmodified_gateway.yaml_values import Rejected, demand, list_of, mapping_of, text_of

#: Takes a stored credential away; of LLM kinds only.
_NONE = "none"


def inherited(kind: str, document: Mapping[str, Any], stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document with the credentials that it leaves out taken from the stored one, references as they are.

    Raises:
        Rejected: the type of a credential changed, and there is no value for it.
    """
    complete = deepcopy(dict(document))
    before = dict(_places(kind, stored))
    for place, owner in _places(kind, complete):
        auth, old = owner.get("auth"), mapping_of(before.get(place), "auth")
        if not old.get("value") or text_of(auth, "type") == _NONE:
            continue
        if auth is None:
            owner["auth"] = dict(old)
        elif not text_of(auth, "value"):
            demand(auth.get("type") == old.get("type"), "another type of auth needs a value")
            owner["auth"] = {**auth, "value": old["value"]}
    return complete


def rendered(document: Mapping[str, Any], secrets: Mapping[str, str]) -> Mapping[str, Any]:
    """The document with values in the place of its references.

    Raises:
        Rejected: a secret has no value here.
    """

    def value_of(handle: str) -> str:
        if handle not in secrets:
            raise Rejected(f"secret {handle!r} cannot be resolved")
        return secrets[handle]

    return {**document, "spec": _rendered(document.get("spec"), value_of)}


def credentials_of(kind: str, document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What requests are given on their way, by the place where a rendered document says so."""
    auths = {place: mapping_of(owner, "auth") for place, owner in _places(kind, document)}
    return {
        place: auth
        for place, auth in auths.items()
        # A gateway takes `none` of an MCP proxy for a type like any other.
        if auth.get("value") and (auth.get("type") != _NONE or kind == MCP_PROXY.kind)
    }


def secrets_of(document: Mapping[str, Any]) -> frozenset[str]:
    """Handles of the secrets that a document refers to."""
    found: list[str] = []

    def note(handle: str) -> str:
        found.append(handle)
        return ""

    _rendered(document.get("spec"), note)
    return frozenset(found)


def _places(kind: str, document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where a credential may stand, and what it belongs to: a provider's belongs to that very provider."""
    spec = mapping_of(document, "spec")
    owners: list[tuple[str, object]] = []
    if kind in (LLM_PROVIDER.kind, MCP_PROXY.kind):
        owners = [("upstream.auth", spec.get("upstream"))]
    elif kind == LLM_PROXY.kind:
        owners = [("provider", spec.get("provider"))]
        owners += [("additionalProviders", each) for each in list_of(spec, "additionalProviders")]
    for place, owner in owners:
        if isinstance(owner, dict):
            yield (f"{place}/{text_of(owner, 'id')}" if kind == LLM_PROXY.kind else place), owner


def _rendered(value: Any, value_of: Callable[[str], str]) -> Any:  # noqa: ANN401 - YAML
    if isinstance(value, str):
        return SECRET_REFERENCE.sub(lambda found: value_of(found[1]), value)
    if isinstance(value, Mapping):
        return {key: _rendered(each, value_of) for key, each in value.items()}
    return [_rendered(each, value_of) for each in value] if isinstance(value, list) else value
