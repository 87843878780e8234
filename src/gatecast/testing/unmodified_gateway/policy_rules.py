"""The rules of a gateway for the policies in a document (gateway-protocol.md 4.2)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from jsonschema import Draft7Validator

from gatecast.testing.unmodified_gateway.artifact_kinds import LLM_PROVIDER, LLM_PROXY
from gatecast.testing.unmodified_gateway.yaml_values import Rejected, as_mapping, demand, list_of, mapping_of, text_of

#: What an operation may be called with.
METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"})

#: `v1`: all that a document may say of a version.
MAJOR_VERSION: Final = re.compile(r"v\d+")


def check_policies(kind: str, spec: Mapping[str, Any], definitions: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a `spec` whose policies a gateway with these definitions cannot apply.

    Parameters of policies for single paths of LLM kinds are not looked at.

    Raises:
        Rejected: names the policy.
    """
    legacy, by_place = (
        list_of(spec, "policies"),
        [list_of(spec, name) for name in ("globalPolicies", "operationPolicies")],
    )
    llm = kind in (LLM_PROVIDER.kind, LLM_PROXY.kind)
    demand(not (llm and legacy and any(by_place)), "policies excludes globalPolicies and operationPolicies")
    everywhere, somewhere = (by_place[0], [*legacy, *by_place[1]]) if llm else (legacy, [])
    inside = [policy for operation in list_of(spec, "operations") for policy in list_of(operation, "policies")]
    for policy in [*everywhere, *inside]:
        _check_parameters(policy, _definition_of(policy, definitions))
    for policy in somewhere:
        _definition_of(policy, definitions)
        _check_paths(policy)
    check_loaded(_needed(kind, spec), definitions)


def check_loaded(names: Iterable[str], definitions: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what needs a policy that the gateway does not have.

    Raises:
        Rejected: names the policy.
    """
    loaded = {definition["name"] for definition in definitions}
    for name in names:
        demand(name in loaded, f"policy {name!r} is needed and not loaded")


def _definition_of(policy: Mapping[str, Any], definitions: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The only definition of the policy's major version, or of the newest one when it names none."""
    name, version = text_of(policy, "name"), text_of(policy, "version")
    demand(not version or MAJOR_VERSION.fullmatch(version) is not None, f"policy version {version!r} is not vN")
    loaded = [definition for definition in definitions if definition["name"] == name]
    wanted = version or max((_major(each) for each in loaded), key=_number, default="")
    matching = [each for each in loaded if _major(each) == wanted]
    if len(matching) != 1:
        raise Rejected(f"policy {name!r} {wanted} is loaded {len(matching)} times, not once")
    return matching[0]


def _check_parameters(policy: Mapping[str, Any], definition: Mapping[str, Any]) -> None:
    """No parameters are an empty object, so that required ones are missed."""
    schema = definition.get("parameters")
    if schema is not None:
        parameters = dict(as_mapping(policy.get("params"), "params"))
        for problem in Draft7Validator(schema).iter_errors(parameters):
            raise Rejected(f"params of {policy['name']}, {problem.json_path}: {problem.message}")


def _check_paths(policy: Mapping[str, Any]) -> None:
    paths = list_of(policy, "paths")
    demand(bool(paths), f"policy {policy.get('name')!r} has no paths")
    for path in paths:
        methods = path.get("methods")
        known = isinstance(methods, list) and methods and set(methods) <= METHODS | {"*"}
        demand(bool(text_of(path, "path")) and bool(known), f"policy {policy.get('name')!r} has a path without methods")


def _needed(kind: str, spec: Mapping[str, Any]) -> Collection[str]:
    """Policies that the gateway adds by itself."""
    if kind == LLM_PROXY.kind:
        return ("set-headers",)
    if kind != LLM_PROVIDER.kind:
        return ()
    access, auth = mapping_of(spec, "accessControl"), mapping_of(mapping_of(spec, "upstream"), "auth")
    refuses = access.get("mode") == "allow_all" and list_of(access, "exceptions")
    return [*(["set-headers"] if auth.get("type") == "api-key" else []), *(["respond"] if refuses else [])]


def _major(definition: Mapping[str, Any]) -> str:
    return str(definition["version"]).partition(".")[0]


def _number(major: str) -> int:
    return int(major.lstrip("v") or 0)
