"""The simulated gateway refuses what gateway-protocol.md section 4 says the real one refuses, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from gatecast.testing.unmodified_gateway import GatewayOptions
from gatecast.testing.unmodified_gateway.document_rules import check_document
from gatecast.testing.unmodified_gateway.packages import parse_document
from gatecast.testing.unmodified_gateway.yaml_values import Rejected

GOLDEN = Path(__file__).parents[1] / "controlplane" / "documents" / "golden"
POLICIES = [
    {"name": name, "version": "v1.2.3"}
    for name in ("api-key-auth", "basic-ratelimit", "host-rewrite", "respond", "set-headers", "token-based-ratelimit")
]
ABSENT = object()
KEY = {"type": "api-key", "header": "X-Key", "value": "k"}
SERVER = {"url": "http://a.example.test:8080"}


def smallest(kind: str) -> dict[str, Any]:
    """The document of sections 4.3 to 4.6."""
    name = {"LlmProvider": "llm_provider", "LlmProxy": "llm_proxy", "Mcp": "mcp", "RestApi": "rest_api"}[kind]
    return deepcopy(dict(parse_document((GOLDEN / f"{name}.yaml").read_text())))


def changed(document: dict[str, Any], place: str, value: object) -> Mapping[str, Any]:
    """The document with this place of it changed, or taken out."""
    *path, last = place.split(".")
    inner = document
    for step in path:
        inner = inner.setdefault(step, {})
    if value is ABSENT:
        inner.pop(last)
    else:
        inner[last] = value
    return document


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_deployed_on_a_real_gateway_is_applied(path: Path) -> None:
    document = parse_document(path.read_text())
    check_document(document["kind"], document, POLICIES)


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        ("LlmProvider", "apiVersion", ABSENT),
        ("LlmProvider", "spec.version", ABSENT),
        ("LlmProvider", "spec.context", "bad/"),
        ("LlmProvider", "spec.upstream.auth", ABSENT),
        ("LlmProvider", "spec.upstream.auth", {"type": "none"}),
        ("LlmProvider", "spec.unknown", 1),
        ("LlmProvider", "spec.resilience", {"timeout": "2562047h", "idleTimeout": "0s"}),
        ("LlmProvider", "spec.resilience", {"timeout": "0.000001ms"}),
        ("LlmProvider", "metadata.annotations", {"a b": "x"}),
        ("LlmProvider", "spec.policies", [{"name": "respond", "paths": [{"path": "/a", "methods": ["*"]}]}]),
        ("LlmProvider", "spec.globalPolicies", [{"name": "respond", "version": "v1"}]),
        ("LlmProvider", "spec.displayName", '{{ secret "handle" }}'),
        ("LlmProxy", "spec.additionalProviders", [{"id": "a.b"}, {"id": "a.b", "as": "again"}]),
        ("RestApi", "metadata.name", "A_B~c"),
        ("RestApi", "spec.context", "/"),
        ("RestApi", "spec.upstream.main.url", "https://a.example.test/b?c=d"),
        (
            "RestApi",
            "spec.operations",
            [{"match": {"method": "GET", "path": {"value": "/a", "type": "Exact"}, "headers": []}}],
        ),
        ("Mcp", "spec.specVersion", "2025-11-25"),
        ("Mcp", "spec.upstream.auth", {"type": "bearer", "header": "Authorization", "value": "Bearer x"}),
    ],
)
def test_it_takes(kind: str, place: str, value: object) -> None:
    check_document(kind, changed(smallest(kind), place, value), POLICIES)


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        # Everybody's.
        ("LlmProvider", "kind", "LlmProxy"),
        ("LlmProvider", "metadata", "name"),
        ("LlmProvider", "metadata.name", "NOT A VALID name!"),
        ("LlmProvider", "metadata.name", ABSENT),
        ("LlmProvider", "metadata.labels", {"a b": "x"}),
        ("LlmProvider", "metadata.labels", {"a": 1}),
        ("LlmProvider", "metadata.annotations", {"a": None}),
        ("LlmProvider", "spec.description", '{{ env "HOME" }}'),
        ("LlmProvider", "spec.anything", [{"deep": "a {{ b"}]),
        ("LlmProvider", "spec.version", "1.x"),
        ("LlmProvider", "spec.context", "/_gateway-health/x"),
        ("LlmProvider", "spec.context", "/a/../_gateway-health"),
        ("LlmProvider", "spec.accessControl.exceptions", [{"path": "/../_gateway-health", "methods": ["*"]}]),
        (
            "LlmProvider",
            "spec.policies",
            [{"name": "respond", "paths": [{"path": "/../_gateway-health", "methods": ["*"]}]}],
        ),
        ("RestApi", "spec.operations", [{"method": "GET", "path": "/../../_gateway-health"}]),
        (
            "RestApi",
            "spec.operations",
            [{"match": {"method": "GET", "path": {"value": "/x/../../../_gateway-health/ready", "type": "Exact"}}}],
        ),
        ("LlmProvider", "spec.resilience", {"timeout": "5"}),
        ("LlmProvider", "spec.resilience", {"timeout": "2562048h"}),
        ("LlmProvider", "spec.resilience", {"idleTimeout": "0.0000009ms"}),
        ("LlmProvider", "spec.resilience", {"timeout": "\u0661s"}),
        (
            "LlmProvider",
            "spec.upstreamDefinitions",
            [{"name": "a", "upstreams": [SERVER], "timeout": {"connect": "9223372036.854775808s"}}],
        ),
        ("LlmProvider", "spec.upstreamDefinitions", [{"name": "a b", "upstreams": [SERVER]}]),
        ("LlmProvider", "spec.upstreamDefinitions", [{"name": "a", "upstreams": []}]),
        ("LlmProvider", "spec.upstreamDefinitions", [{"name": "a", "upstreams": [SERVER]}] * 2),
        ("LlmProvider", "spec.upstreamDefinitions", [{"name": "a", "upstreams": [{"url": "http://a.test/b"}]}]),
        ("LlmProvider", "spec.upstreamDefinitions", [{"name": "a", "upstreams": [{**SERVER, "weight": 101}]}]),
        ("LlmProvider", "spec.upstreamDefinitions", [{"name": "a", "upstreams": [SERVER], "basePath": "/"}]),
        (
            "LlmProvider",
            "spec.upstreamDefinitions",
            [{"name": "a", "upstreams": [SERVER], "timeout": {"connect": "0s"}}],
        ),
        # LLM providers.
        ("LlmProvider", "spec.displayName", ABSENT),
        ("LlmProvider", "spec.displayName", "é" * 127),
        ("LlmProvider", "spec.template", "my-own"),
        ("LlmProvider", "spec.upstream", ABSENT),
        ("LlmProvider", "spec.upstream.url", "ftp://a.example.test"),
        ("LlmProvider", "spec.upstream.url", "http://[broken"),
        ("LlmProvider", "spec.upstream.ref", "both"),
        ("LlmProvider", "spec.upstream", {"ref": "unknown"}),
        ("LlmProvider", "spec.upstream.hostRewrite", "maybe"),
        ("LlmProvider", "spec.upstream.auth", {"type": "bearer", "header": "a", "value": "b"}),
        ("LlmProvider", "spec.upstream.auth", {**KEY, "value": ""}),
        ("LlmProvider", "spec.accessControl", ABSENT),
        ("LlmProvider", "spec.accessControl.mode", "allow"),
        ("LlmProvider", "spec.accessControl.exceptions", [{"path": "/a", "methods": []}]),
        # LLM proxies.
        ("LlmProxy", "spec.provider", ABSENT),
        ("LlmProxy", "spec.provider.id", "Not a name"),
        ("LlmProxy", "spec.additionalProviders", [{"id": "demo-provider"}]),
        ("LlmProxy", "spec.additionalProviders", [{"id": "other", "as": "a.b"}]),
        ("LlmProxy", "spec.additionalProviders", [{"id": "other", "transformer": {"type": "t", "version": "v1.0"}}]),
        # REST APIs.
        ("RestApi", "metadata.name", "a/b"),
        ("RestApi", "spec.displayName", "Né"),
        ("RestApi", "spec.version", ABSENT),
        ("RestApi", "spec.version", 1.0),
        ("RestApi", "spec.context", ABSENT),
        ("RestApi", "spec.context", "bad/"),
        ("RestApi", "spec.context", "/bad/"),
        ("RestApi", "spec.context", "/" + "a" * 200),
        ("RestApi", "spec.upstream.main", ABSENT),
        ("RestApi", "spec.upstream.sandbox", {}),
        ("RestApi", "spec.operations", []),
        ("RestApi", "spec.operations", {"method": "GET"}),
        ("RestApi", "spec.operations", [{"method": "get", "path": "/"}]),
        ("RestApi", "spec.operations", [{"method": "GET", "path": "a"}]),
        ("RestApi", "spec.operations", [{"method": "GET", "path": "/{a"}]),
        ("RestApi", "spec.operations", [{"match": {"method": "GET", "path": {"value": "/a", "type": "Regex"}}}]),
        # MCP proxies.
        ("Mcp", "spec.specVersion", ""),
        ("Mcp", "spec.context", ABSENT),
        ("Mcp", "spec.upstream.auth", {"type": "none"}),
        ("Mcp", "spec.upstream.auth", {"type": "bearer", "header": "Authorization", "value": "x"}),
        ("Mcp", "spec.upstream.auth", {**KEY, "value": "it's"}),
        # Policies.
        ("LlmProvider", "spec.globalPolicies", [{"name": "not-loaded"}]),
        ("LlmProvider", "spec.globalPolicies", [{"name": "respond", "version": "v1.2.3"}]),
        ("LlmProvider", "spec.globalPolicies", [{"name": "respond", "version": "v2"}]),
        ("LlmProvider", "spec.operationPolicies", [{"name": "respond", "paths": []}]),
        ("LlmProvider", "spec.operationPolicies", [{"name": "respond", "paths": [{"path": "/", "methods": ["X"]}]}]),
        ("RestApi", "spec.operations", [{"method": "GET", "path": "/", "policies": [{"name": "not-loaded"}]}]),
    ],
)
def test_it_refuses(kind: str, place: str, value: object) -> None:
    with pytest.raises(Rejected):
        check_document(kind, changed(smallest(kind), place, value), POLICIES)


def test_the_two_forms_of_policies_exclude_each_other() -> None:
    document = changed(smallest("LlmProvider"), "spec.globalPolicies", [{"name": "respond"}])
    paths = [{"path": "/", "methods": ["*"]}]
    with pytest.raises(Rejected, match="excludes"):
        check_document(
            "LlmProvider", changed(dict(document), "spec.policies", [{"name": "respond", "paths": paths}]), POLICIES
        )


@pytest.mark.parametrize(
    ("kind", "place", "value", "needed"),
    [
        ("LlmProvider", "spec.upstream.auth", KEY, "set-headers"),
        ("LlmProxy", "spec.context", "/x", "set-headers"),
        (
            "LlmProvider",
            "spec.accessControl",
            {"mode": "allow_all", "exceptions": [{"path": "/", "methods": ["*"]}]},
            "respond",
        ),
    ],
)
def test_what_the_gateway_adds_by_itself_must_be_loaded(kind: str, place: str, value: object, needed: str) -> None:
    document = changed(smallest(kind), place, value)
    check_document(kind, document, POLICIES)
    with pytest.raises(Rejected, match=needed):
        check_document(kind, document, [each for each in POLICIES if each["name"] != needed])


def test_a_policy_of_two_versions_needs_one_named() -> None:
    twice = [*POLICIES, {"name": "respond", "version": "v2.0.0"}]
    document = changed(smallest("LlmProvider"), "spec.globalPolicies", [{"name": "respond", "version": "v2"}])
    check_document("LlmProvider", document, twice)


def test_two_definitions_of_one_major_version_are_none() -> None:
    twice = [*POLICIES, {"name": "respond", "version": "v1.3.0"}]
    for policy in ({"name": "respond", "version": "v1"}, {"name": "respond"}):
        document = changed(smallest("LlmProvider"), "spec.globalPolicies", [policy])
        with pytest.raises(Rejected, match="2 times"):
            check_document("LlmProvider", document, twice)


def test_a_template_of_the_gateways_own_is_taken() -> None:
    document = changed(smallest("LlmProvider"), "spec.template", "my-own")
    check_document("LlmProvider", document, POLICIES, ["my-own"])


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_default_policies_take_what_deployed_on_a_real_gateway(path: Path) -> None:
    document = parse_document(path.read_text())
    check_document(document["kind"], document, GatewayOptions().policies)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("api-key-auth", None),
        ("api-key-auth", {"key": "X-Key", "in": "cookie"}),
        ("api-key-auth", {"key": "X-Key", "in": "header", "prefix": "x"}),
        ("basic-ratelimit", {}),
        ("basic-ratelimit", {"limits": []}),
        ("basic-ratelimit", {"limits": [{"requests": 0, "duration": "1m"}]}),
        ("basic-ratelimit", {"limits": [{"requests": 1, "duration": "1 minute"}]}),
        ("basic-ratelimit", {"limits": [{"requests": 1, "duration": "1m"}] * 11}),
        ("host-rewrite", {"host": "a/b"}),
        ("respond", {"statusCode": 600}),
        ("set-headers", None),
        ("set-headers", {"requestHeaders": [{"name": "a b", "value": "x"}]}),
        ("set-headers", "text"),
        ("token-based-ratelimit", {"totalTokenLimits": [{"count": 1}]}),
        ("token-based-ratelimit", {"tokens": []}),
    ],
)
def test_parameters_must_fit_the_definition(name: str, params: object) -> None:
    policy = {"name": name, "version": "v1", **({} if params is None else {"params": params})}
    at_operation = [{"method": "GET", "path": "/", "policies": [policy]}]
    for kind, place, value in (
        ("LlmProvider", "spec.globalPolicies", [policy]),
        ("LlmProxy", "spec.globalPolicies", [policy]),
        ("RestApi", "spec.policies", [policy]),
        ("RestApi", "spec.operations", at_operation),
        ("Mcp", "spec.policies", [policy]),
    ):
        with pytest.raises(Rejected, match="params"):
            check_document(kind, changed(smallest(kind), place, value), GatewayOptions().policies)
    somewhere = {**policy, "paths": [{"path": "/", "methods": ["*"], "params": {"not": "looked at"}}]}
    for place in ("spec.operationPolicies", "spec.policies"):
        check_document("LlmProvider", changed(smallest("LlmProvider"), place, [somewhere]), GatewayOptions().policies)


def test_a_document_with_a_key_twice_is_none() -> None:
    with pytest.raises(Rejected, match="twice"):
        parse_document("spec: {a: 1, b: {c: 2, c: 3}}")


@pytest.mark.parametrize("digits", [309, 5000])
def test_an_integer_that_the_gateway_cannot_decode_makes_a_document_none(digits: int) -> None:
    with pytest.raises(Rejected, match="too long"):
        parse_document(f"a: {'9' * digits}")
    assert parse_document(f"a: {'9' * 308}") == {"a": int("9" * 308)}
