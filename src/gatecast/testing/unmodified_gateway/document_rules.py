"""What a gateway demands of a document before it applies it (gateway-protocol.md 4.1 to 4.6)."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from gatecast.testing.unmodified_gateway.families import API, BUILT_IN_TEMPLATES, LLM_PROVIDER, LLM_PROXY, MCP_PROXY

#: A reference to a secret, also with the quotes escaped as in JSON.
SECRET_REFERENCE: Final = re.compile(r"""\{\{\s*secret\s+\\?["']([^"'\\]+)\\?["']\s*\}\}""")

_DOMAIN_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_API_NAME = re.compile(r"[^\s/}\x00-\x1f\x7f]+")
_DISPLAY_NAME = re.compile(r"[a-zA-Z0-9\-_. ]+")
_LOCAL_NAME = re.compile(r"[a-zA-Z0-9\-_]+")
_VERSION = re.compile(r"v?\d+(\.\d+)?(\.\d+)?")
_MAJOR_VERSION = re.compile(r"v\d+")
_DURATION = re.compile(r"\d+(\.\d+)?(ms|s|m|h)")

_API_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"})
_SPEC_VERSIONS = frozenset({"2025-06-18", "2025-11-25"})
_RESERVED = "/_gateway-health"


class Rejected(Exception):
    """The gateway cannot apply something; it acknowledges `failed` and keeps what it had."""


def check_document(kind: str, document: Mapping[str, Any], policies: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a document that a gateway with these policies cannot apply, whatever else it has.

    Parameters are not compared with the policies' schemas.

    Raises:
        Rejected: names the first rule that does not hold.
    """
    _demand(document.get("kind") == kind, f"kind must be {kind}, not {document.get('kind')!r}")
    metadata, spec = _mapping(document, "metadata"), _mapping(document, "spec")
    _check_templating(spec)
    _check_strings(metadata, "labels")
    _check_strings(metadata, "annotations")
    _demand(not any(re.search(r"\s", key) for key in _mapping(metadata, "labels")), "a label's key has white space")
    name = _text(metadata, "name")
    pattern = _DOMAIN_NAME if kind in (LLM_PROVIDER.kind, LLM_PROXY.kind) else _API_NAME
    _demand(pattern.fullmatch(name) is not None and len(name) <= 253, f"metadata.name {name!r} is not a name")
    _check_everybodys(spec)
    _RULES[kind](spec)
    _check_policies(kind, spec, Counter((policy["name"], _major(policy["version"])) for policy in policies))
    check_loaded(_needed(kind, spec), policies)


def check_loaded(names: Iterable[str], policies: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what needs a policy that the gateway does not have.

    Raises:
        Rejected: names the policy.
    """
    loaded = {policy["name"] for policy in policies}
    for name in names:
        _demand(name in loaded, f"policy {name!r} is needed and not loaded")


# --- the four kinds -------------------------------------------------------------------------------------------------


def _check_llm_provider(spec: Mapping[str, Any]) -> None:
    _check_llm(spec)
    _demand(_text(spec, "template") in BUILT_IN_TEMPLATES, f"unknown template {spec.get('template')!r}")
    upstream = _mapping(spec, "upstream")
    _check_target(upstream, spec, "upstream")
    _check_llm_auth(upstream.get("auth"))
    access = _mapping(spec, "accessControl")
    _demand(access.get("mode") in ("allow_all", "deny_all"), "accessControl.mode must be allow_all or deny_all")
    for exception in _list(access, "exceptions"):
        _demand(
            bool(_text(exception, "path")) and bool(_list(exception, "methods")), "an exception needs path, methods"
        )


def _check_llm_proxy(spec: Mapping[str, Any]) -> None:
    _check_llm(spec)
    providers = [_mapping(spec, "provider"), *_list(spec, "additionalProviders")]
    for provider in providers:
        _demand(_DOMAIN_NAME.fullmatch(_text(provider, "id")) is not None, "a provider's id is not a name")
        _check_llm_auth(provider.get("auth"))
        if transformer := provider.get("transformer"):
            complete = bool(_text(transformer, "type")) and _MAJOR_VERSION.fullmatch(_text(transformer, "version"))
            _demand(bool(complete), "a transformer needs type and a version vN")
        alias = _text(provider, "as")
        _demand(not alias or _LOCAL_NAME.fullmatch(alias) is not None, f"as {alias!r} is not a name")
    names = [_text(provider, "as") or _text(provider, "id") for provider in providers]
    _demand(len(set(names)) == len(names), "two providers have the same name")


def _check_rest_api(spec: Mapping[str, Any]) -> None:
    _check_api(spec)
    _demand(bool(_text(spec, "context")), "context is missing")
    upstream = _mapping(spec, "upstream")
    _check_target(_mapping(upstream, "main"), spec, "upstream.main")
    if upstream.get("sandbox") is not None:
        _check_target(_mapping(upstream, "sandbox"), spec, "upstream.sandbox")
    operations = _list(spec, "operations")
    _demand(bool(operations), "at least one operation is needed")
    for operation in operations:
        _check_operation(operation)


def _check_mcp(spec: Mapping[str, Any]) -> None:
    _check_api(spec)
    _demand(bool(_text(spec, "context") or _text(spec, "vhost")), "context or vhost is needed")
    _demand("specVersion" not in spec or str(spec["specVersion"]) in _SPEC_VERSIONS, "specVersion is unknown")
    upstream = _mapping(spec, "upstream")
    _check_target(upstream, spec, "upstream")
    if (auth := upstream.get("auth")) is not None:
        parts = [_text(auth, name) for name in ("type", "header", "value")]
        _demand(all(parts), "upstream.auth needs type, header and value")
        _demand("'" not in parts[2], "a quote in a credential breaks the gateway's template")
        bearer = parts[0] != "bearer" or parts[2].startswith(("Bearer ", "bearer "))
        _demand(bearer, "a bearer's value begins with `Bearer `")


_RULES: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    LLM_PROVIDER.kind: _check_llm_provider,
    LLM_PROXY.kind: _check_llm_proxy,
    API.kind: _check_rest_api,
    MCP_PROXY.kind: _check_mcp,
}


# --- what several kinds have in common ------------------------------------------------------------------------------


def _check_everybodys(spec: Mapping[str, Any]) -> None:
    version = _text(spec, "version")
    _demand(not version or _VERSION.fullmatch(version) is not None, f"version {version!r} is not a version")
    for path in _served(spec):
        resolved = posixpath.normpath("/" + path.lstrip("/"))
        _demand(resolved != _RESERVED and not resolved.startswith(_RESERVED + "/"), f"{path!r} is reserved")
    _check_resilience(spec)
    names = [_text(definition, "name") for definition in _list(spec, "upstreamDefinitions")]
    _demand(len(set(names)) == len(names), "two upstreamDefinitions have the same name")
    for definition in _list(spec, "upstreamDefinitions"):
        _check_definition(definition)


def _served(spec: Mapping[str, Any]) -> Iterator[str]:
    """The context, and whatever is below it."""
    context = _text(spec, "context")
    yield context
    places = [*_list(spec, "operations"), *_list(_mapping(spec, "accessControl"), "exceptions")]
    for policy in [*_list(spec, "operationPolicies"), *_list(spec, "policies")]:
        places += _list(policy, "paths")
    for place in places:
        match = _mapping(place, "match")
        path = _text(_mapping(match, "path"), "value") if match else _text(place, "path")
        yield context.rstrip("/") + path


def _check_llm(spec: Mapping[str, Any]) -> None:
    _demand(0 < len(_text(spec, "displayName").encode()) <= 253, "displayName must have 1 to 253 bytes")


def _check_api(spec: Mapping[str, Any]) -> None:
    name, context = _text(spec, "displayName"), _text(spec, "context")
    _demand(len(name) <= 100 and _DISPLAY_NAME.fullmatch(name) is not None, f"displayName {name!r} is not a name")
    _demand(bool(_text(spec, "version")), "version is missing")
    whole = context.startswith("/") and (context == "/" or not context.endswith("/")) and len(context) <= 200
    _demand(not context or whole, f"context {context!r} is not a path")


def _check_operation(operation: Mapping[str, Any]) -> None:
    match = operation.get("match")
    if match is None:
        method, path = _text(operation, "method"), _text(operation, "path")
    else:
        method, value = _text(match, "method"), _mapping(match, "path")
        path = _text(value, "value")
        _demand(value.get("type") in ("Exact", "PathPrefix"), "match.path.type is unknown")
        for header in _list(match, "headers"):
            known = header.get("type") in ("Exact", "RegularExpression")
            _demand(known and bool(_text(header, "name")), "a header to match has no name, or an unknown type")
    _demand(method in _API_METHODS, f"unknown method {method!r}")
    _demand(path.startswith("/") and path.count("{") == path.count("}"), f"path {path!r} is not a path")
    _check_resilience(operation)


def _check_target(target: Mapping[str, Any], spec: Mapping[str, Any], place: str) -> None:
    url, reference = _text(target, "url"), _text(target, "ref")
    _demand(bool(url) != bool(reference), f"{place} needs exactly one of url and ref")
    _demand(target.get("hostRewrite") in (None, "auto", "manual"), f"{place}.hostRewrite is unknown")
    if url:
        _demand(_is_http(url), f"{place}.url {url!r} is not an http address")
    else:
        names = {_text(definition, "name") for definition in _list(spec, "upstreamDefinitions")}
        _demand(reference in names, f"{place}.ref {reference!r} is not defined")


def _check_definition(definition: Mapping[str, Any]) -> None:
    name, base_path = _text(definition, "name"), _text(definition, "basePath")
    _demand(len(name) <= 100 and _LOCAL_NAME.fullmatch(name) is not None, f"upstream {name!r} is not a name")
    whole = base_path.startswith("/") and not base_path.endswith("/")
    _demand("basePath" not in definition or whole, f"basePath {base_path!r} is not a path")
    connect = _text(_mapping(definition, "timeout"), "connect")
    positive = _DURATION.fullmatch(connect) is not None and float(connect.rstrip("msh")) > 0
    _demand(not connect or positive, f"timeout.connect {connect!r} is not a duration")
    _demand(bool(_list(definition, "upstreams")), f"upstream {name!r} has no servers")
    for server in _list(definition, "upstreams"):
        url, weight = _text(server, "url"), server.get("weight", 0)
        alone = _is_http(url) and not any(urlsplit(url)[2:])
        _demand(alone, f"{url!r} is not scheme://host:port")
        _demand(isinstance(weight, int) and 0 <= weight <= 100, f"weight {weight!r} is not within 0 to 100")


def _check_resilience(place: Mapping[str, Any]) -> None:
    resilience = _mapping(place, "resilience")
    for name in ("timeout", "idleTimeout"):
        duration = _text(resilience, name)
        _demand(not duration or _DURATION.fullmatch(duration) is not None, f"{name} {duration!r} is not a duration")


def _check_llm_auth(auth: object) -> None:
    if auth is None:
        return
    fields = _as_mapping(auth, "auth")
    kind = fields.get("type")
    _demand(kind in ("api-key", "other", "none"), f"unknown type of auth {kind!r}")
    complete = bool(_text(fields, "header")) and bool(_text(fields, "value"))
    _demand(kind != "api-key" or complete, "auth of type api-key needs header and value")


# --- policies -------------------------------------------------------------------------------------------------------


def _check_policies(kind: str, spec: Mapping[str, Any], loaded: Counter[tuple[str, str]]) -> None:
    legacy, by_place = _list(spec, "policies"), [_list(spec, name) for name in ("globalPolicies", "operationPolicies")]
    llm = kind in (LLM_PROVIDER.kind, LLM_PROXY.kind)
    _demand(not (llm and legacy and any(by_place)), "policies excludes globalPolicies and operationPolicies")
    everywhere, somewhere = (by_place[0], [*legacy, *by_place[1]]) if llm else (legacy, [])
    inside = [policy for operation in _list(spec, "operations") for policy in _list(operation, "policies")]
    for policy in [*everywhere, *somewhere, *inside]:
        _check_policy(policy, loaded)
    for policy in somewhere:
        _check_paths(policy)


def _check_policy(policy: Mapping[str, Any], loaded: Counter[tuple[str, str]]) -> None:
    name, version = _text(policy, "name"), _text(policy, "version")
    _demand(not version or _MAJOR_VERSION.fullmatch(version) is not None, f"policy version {version!r} is not vN")
    matching = sum(loaded[each] for each in loaded if each[0] == name and (not version or each[1] == version))
    _demand(matching == 1 or (matching > 0 and not version), f"policy {name!r} {version} is not loaded just once")


def _check_paths(policy: Mapping[str, Any]) -> None:
    paths = _list(policy, "paths")
    _demand(bool(paths), f"policy {policy.get('name')!r} has no paths")
    for path in paths:
        methods = path.get("methods")
        known = isinstance(methods, list) and methods and set(methods) <= _API_METHODS | {"*"}
        _demand(bool(_text(path, "path")) and bool(known), f"policy {policy.get('name')!r} has a path without methods")


def _needed(kind: str, spec: Mapping[str, Any]) -> Collection[str]:
    """Policies that the gateway adds by itself."""
    if kind == LLM_PROXY.kind:
        return ("set-headers",)
    if kind != LLM_PROVIDER.kind:
        return ()
    access, auth = _mapping(spec, "accessControl"), _mapping(_mapping(spec, "upstream"), "auth")
    refuses = access.get("mode") == "allow_all" and _list(access, "exceptions")
    return [*(["set-headers"] if auth.get("type") == "api-key" else []), *(["respond"] if refuses else [])]


def _major(version: str) -> str:
    return version.partition(".")[0]


# --- reading --------------------------------------------------------------------------------------------------------


def _check_templating(value: object) -> None:
    """Whatever is not a known secret would be executed as a template."""
    if isinstance(value, str):
        _demand("{{" not in SECRET_REFERENCE.sub("", value), f"{value!r} is a template")
    elif isinstance(value, Mapping):
        for each in value.values():
            _check_templating(each)
    elif isinstance(value, list):
        for each in value:
            _check_templating(each)


def _check_strings(metadata: Mapping[str, Any], name: str) -> None:
    pairs = _mapping(metadata, name).items()
    _demand(all(isinstance(each, str) for pair in pairs for each in pair), f"{name} must be texts")


def _text(fields: object, name: str) -> str:
    """A text, empty when absent; every text should be quoted, because some kinds take nothing else."""
    value = _as_mapping(fields, name).get(name)
    _demand(value is None or isinstance(value, str), f"{name} must be a text, not {value!r}")
    return value or ""


def _mapping(fields: object, name: str) -> Mapping[str, Any]:
    return _as_mapping(_as_mapping(fields, name).get(name), name)


def _list(fields: object, name: str) -> list[Any]:
    value = _as_mapping(fields, name).get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Rejected(f"{name} must be a list, not {value!r}")
    return value


def _as_mapping(value: object, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Rejected(f"{name} must be a mapping, not {value!r}")
    return value


def _is_http(url: str) -> bool:
    try:
        address = urlsplit(url)
    except ValueError:
        return False
    return address.scheme in ("http", "https") and bool(address.hostname)


def _demand(holds: bool, problem: str) -> None:  # noqa: FBT001 - it reads like the sentence it is
    if not holds:
        raise Rejected(problem)
