"""The rules that a gateway checks before it applies a document (gateway-protocol.md 4.1 to 4.6)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

from gatecast.testing.unmodified_gateway.artifact_kinds import (
    API,
    BUILT_IN_TEMPLATES,
    LLM_PROVIDER,
    LLM_PROXY,
    MCP_PROXY,
)
from gatecast.testing.unmodified_gateway.policy_rules import MAJOR_VERSION, METHODS, check_policies
from gatecast.testing.unmodified_gateway.yaml_values import Rejected, as_mapping, demand, list_of, mapping_of, text_of

#: A reference to a secret, also with the quotes escaped as in JSON.
SECRET_REFERENCE: Final = re.compile(r"""\{\{\s*secret\s+\\?["']([^"'\\]+)\\?["']\s*\}\}""")

_DOMAIN_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_API_NAME = re.compile(r"[^\s/}\x00-\x1f\x7f]+")
_DISPLAY_NAME = re.compile(r"[a-zA-Z0-9\-_. ]+")
_LOCAL_NAME = re.compile(r"[a-zA-Z0-9\-_]+")
_VERSION = re.compile(r"v?\d+(\.\d+)?(\.\d+)?", re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)", re.ASCII)

#: Nanoseconds of each unit of a duration.
_UNITS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}

#: Nanoseconds of the longest duration (section 6).
_LONGEST = 2**63 - 1

_SPEC_VERSIONS = frozenset({"2025-06-18", "2025-11-25"})
_RESERVED = "/_gateway-health"


def check_document(
    kind: str,
    document: Mapping[str, Any],
    policies: Sequence[Mapping[str, Any]],
    templates: Collection[str] = BUILT_IN_TEMPLATES,
) -> None:
    """Refuse a document that a gateway with these policies and templates cannot apply, whatever else it has.

    Raises:
        Rejected: names the first rule that does not hold.
    """
    demand(document.get("kind") == kind, f"kind must be {kind}, not {document.get('kind')!r}")
    metadata, spec = mapping_of(document, "metadata"), mapping_of(document, "spec")
    check_templating(spec)
    _check_strings(metadata, "labels")
    _check_strings(metadata, "annotations")
    demand(not any(re.search(r"\s", key) for key in mapping_of(metadata, "labels")), "a label's key has white space")
    name = text_of(metadata, "name")
    pattern = _DOMAIN_NAME if kind in (LLM_PROVIDER.kind, LLM_PROXY.kind) else _API_NAME
    demand(pattern.fullmatch(name) is not None and len(name) <= 253, f"metadata.name {name!r} is not a name")
    _check_everybodys(spec)
    _RULES[kind](spec)
    template = text_of(spec, "template")
    demand(kind != LLM_PROVIDER.kind or template in templates, f"unknown template {template!r}")
    check_policies(kind, spec, policies)


# --- the four kinds -------------------------------------------------------------------------------------------------


def _check_llm_provider(spec: Mapping[str, Any]) -> None:
    _check_llm(spec)
    upstream = mapping_of(spec, "upstream")
    _check_target(upstream, spec, "upstream")
    _check_llm_auth(upstream.get("auth"))
    access = mapping_of(spec, "accessControl")
    demand(access.get("mode") in ("allow_all", "deny_all"), "accessControl.mode must be allow_all or deny_all")
    for exception in list_of(access, "exceptions"):
        demand(
            bool(text_of(exception, "path")) and bool(list_of(exception, "methods")), "an exception needs path, methods"
        )


def _check_llm_proxy(spec: Mapping[str, Any]) -> None:
    _check_llm(spec)
    providers = [mapping_of(spec, "provider"), *list_of(spec, "additionalProviders")]
    for provider in providers:
        demand(_DOMAIN_NAME.fullmatch(text_of(provider, "id")) is not None, "a provider's id is not a name")
        _check_llm_auth(provider.get("auth"))
        if transformer := provider.get("transformer"):
            complete = bool(text_of(transformer, "type")) and MAJOR_VERSION.fullmatch(text_of(transformer, "version"))
            demand(bool(complete), "a transformer needs type and a version vN")
        alias = text_of(provider, "as")
        demand(not alias or _LOCAL_NAME.fullmatch(alias) is not None, f"as {alias!r} is not a name")
    names = [text_of(provider, "as") or text_of(provider, "id") for provider in providers]
    demand(len(set(names)) == len(names), "two providers have the same name")


def _check_rest_api(spec: Mapping[str, Any]) -> None:
    _check_api(spec)
    demand(bool(text_of(spec, "context")), "context is missing")
    upstream = mapping_of(spec, "upstream")
    _check_target(mapping_of(upstream, "main"), spec, "upstream.main")
    if upstream.get("sandbox") is not None:
        _check_target(mapping_of(upstream, "sandbox"), spec, "upstream.sandbox")
    operations = list_of(spec, "operations")
    demand(bool(operations), "at least one operation is needed")
    for operation in operations:
        _check_operation(operation)


def _check_mcp(spec: Mapping[str, Any]) -> None:
    _check_api(spec)
    demand(bool(text_of(spec, "context") or text_of(spec, "vhost")), "context or vhost is needed")
    demand("specVersion" not in spec or str(spec["specVersion"]) in _SPEC_VERSIONS, "specVersion is unknown")
    upstream = mapping_of(spec, "upstream")
    _check_target(upstream, spec, "upstream")
    if (auth := upstream.get("auth")) is not None:
        parts = [text_of(auth, name) for name in ("type", "header", "value")]
        demand(all(parts), "upstream.auth needs type, header and value")
        demand("'" not in parts[2], "a quote in a credential breaks the gateway's template")
        bearer = parts[0] != "bearer" or parts[2].startswith(("Bearer ", "bearer "))
        demand(bearer, "a bearer's value begins with `Bearer `")


_RULES: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    LLM_PROVIDER.kind: _check_llm_provider,
    LLM_PROXY.kind: _check_llm_proxy,
    API.kind: _check_rest_api,
    MCP_PROXY.kind: _check_mcp,
}


# --- what several kinds have in common ------------------------------------------------------------------------------


def _check_everybodys(spec: Mapping[str, Any]) -> None:
    version = text_of(spec, "version")
    demand(not version or _VERSION.fullmatch(version) is not None, f"version {version!r} is not a version")
    for path in _served(spec):
        resolved = posixpath.normpath("/" + path.lstrip("/"))
        demand(resolved != _RESERVED and not resolved.startswith(_RESERVED + "/"), f"{path!r} is reserved")
    _check_resilience(spec)
    names = [text_of(definition, "name") for definition in list_of(spec, "upstreamDefinitions")]
    demand(len(set(names)) == len(names), "two upstreamDefinitions have the same name")
    for definition in list_of(spec, "upstreamDefinitions"):
        _check_definition(definition)


def _served(spec: Mapping[str, Any]) -> Iterator[str]:
    """The context, and whatever is below it."""
    context = text_of(spec, "context")
    yield context
    places = [*list_of(spec, "operations"), *list_of(mapping_of(spec, "accessControl"), "exceptions")]
    for policy in [*list_of(spec, "operationPolicies"), *list_of(spec, "policies")]:
        places += list_of(policy, "paths")
    for place in places:
        match = mapping_of(place, "match")
        path = text_of(mapping_of(match, "path"), "value") if match else text_of(place, "path")
        yield context.rstrip("/") + path


def _check_llm(spec: Mapping[str, Any]) -> None:
    demand(0 < len(text_of(spec, "displayName").encode()) <= 253, "displayName must have 1 to 253 bytes")


def _check_api(spec: Mapping[str, Any]) -> None:
    name, context = text_of(spec, "displayName"), text_of(spec, "context")
    demand(len(name) <= 100 and _DISPLAY_NAME.fullmatch(name) is not None, f"displayName {name!r} is not a name")
    demand(bool(text_of(spec, "version")), "version is missing")
    whole = context.startswith("/") and (context == "/" or not context.endswith("/")) and len(context) <= 200
    demand(not context or whole, f"context {context!r} is not a path")


def _check_operation(operation: Mapping[str, Any]) -> None:
    match = operation.get("match")
    if match is None:
        method, path = text_of(operation, "method"), text_of(operation, "path")
    else:
        method, value = text_of(match, "method"), mapping_of(match, "path")
        path = text_of(value, "value")
        demand(value.get("type") in ("Exact", "PathPrefix"), "match.path.type is unknown")
        for header in list_of(match, "headers"):
            known = header.get("type") in ("Exact", "RegularExpression")
            demand(known and bool(text_of(header, "name")), "a header to match has no name, or an unknown type")
    demand(method in METHODS, f"unknown method {method!r}")
    demand(path.startswith("/") and path.count("{") == path.count("}"), f"path {path!r} is not a path")
    _check_resilience(operation)


def _check_target(target: Mapping[str, Any], spec: Mapping[str, Any], place: str) -> None:
    url, reference = text_of(target, "url"), text_of(target, "ref")
    demand(bool(url) != bool(reference), f"{place} needs exactly one of url and ref")
    demand(target.get("hostRewrite") in (None, "auto", "manual"), f"{place}.hostRewrite is unknown")
    if url:
        demand(_is_http(url), f"{place}.url {url!r} is not an http address")
    else:
        names = {text_of(definition, "name") for definition in list_of(spec, "upstreamDefinitions")}
        demand(reference in names, f"{place}.ref {reference!r} is not defined")


def _check_definition(definition: Mapping[str, Any]) -> None:
    name, base_path = text_of(definition, "name"), text_of(definition, "basePath")
    demand(len(name) <= 100 and _LOCAL_NAME.fullmatch(name) is not None, f"upstream {name!r} is not a name")
    whole = base_path.startswith("/") and not base_path.endswith("/")
    demand("basePath" not in definition or whole, f"basePath {base_path!r} is not a path")
    connect = text_of(mapping_of(definition, "timeout"), "connect")
    demand(not connect or _nanoseconds(connect) > 0, f"timeout.connect {connect!r} is no time")
    demand(bool(list_of(definition, "upstreams")), f"upstream {name!r} has no servers")
    for server in list_of(definition, "upstreams"):
        url, weight = text_of(server, "url"), server.get("weight", 0)
        alone = _is_http(url) and not any(urlsplit(url)[2:])
        demand(alone, f"{url!r} is not scheme://host:port")
        demand(isinstance(weight, int) and 0 <= weight <= 100, f"weight {weight!r} is not within 0 to 100")


def _check_resilience(place: Mapping[str, Any]) -> None:
    resilience = mapping_of(place, "resilience")
    for name in ("timeout", "idleTimeout"):
        if duration := text_of(resilience, name):
            _nanoseconds(duration)


def _nanoseconds(duration: str) -> Decimal:
    """The length of a duration that Go can hold: 0, or from 1 ns on."""
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise Rejected(f"{duration!r} is not a duration")
    length = Decimal(match[1]) * _UNITS[match[2]]
    demand(length == 0 or 1 <= length <= _LONGEST, f"{duration!r} is out of the range of durations")
    return length


def _check_llm_auth(auth: object) -> None:
    if auth is None:
        return
    fields = as_mapping(auth, "auth")
    kind = fields.get("type")
    demand(kind in ("api-key", "other", "none"), f"unknown type of auth {kind!r}")
    complete = bool(text_of(fields, "header")) and bool(text_of(fields, "value"))
    demand(kind != "api-key" or complete, "auth of type api-key needs header and value")


# --- reading --------------------------------------------------------------------------------------------------------


def check_templating(value: object) -> None:
    """Refuse what would be executed as a template: whatever is not a reference to a secret."""
    if isinstance(value, str):
        demand("{{" not in SECRET_REFERENCE.sub("", value), f"{value!r} is a template")
    elif isinstance(value, Mapping):
        for each in value.values():
            check_templating(each)
    elif isinstance(value, list):
        for each in value:
            check_templating(each)


def _check_strings(metadata: Mapping[str, Any], name: str) -> None:
    pairs = mapping_of(metadata, name).items()
    demand(all(isinstance(each, str) for pair in pairs for each in pair), f"{name} must be texts")


def _is_http(url: str) -> bool:
    try:
        address = urlsplit(url)
    except ValueError:
        return False
    return address.scheme in ("http", "https") and bool(address.hostname)
