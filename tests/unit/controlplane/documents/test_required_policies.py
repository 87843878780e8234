from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gatecast.controlplane.documents import Kind, required_policies

Accept = Callable[..., Any]

URL = {"url": "https://a"}
EXCEPTIONS = [{"path": "/a", "methods": ["*"]}]
PATHS = [{"path": "/a", "methods": ["GET"]}]
LIMIT = [{"count": 1, "duration": "1s"}]


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({}, set()),
        ({"upstream": {**URL, "auth": {"type": "api-key", "header": "A", "value": "x"}}}, {("set-headers", None)}),
        ({"upstream": {**URL, "auth": {"type": "other", "value": "x"}}}, set()),
        ({"upstream": {**URL, "auth": {"type": "none"}}}, set()),
        ({"accessControl": {"mode": "allow_all", "exceptions": EXCEPTIONS}}, {("respond", None)}),
        ({"accessControl": {"mode": "deny_all", "exceptions": EXCEPTIONS}}, set()),
        ({"accessControl": {"mode": "allow_all"}}, set()),
        ({"security": {"apiKey": {}}}, {("api-key-auth", "v1")}),
        ({"security": {"apiKey": {"enabled": False}}}, set()),
        ({"globalPolicies": [{"name": "g", "version": "v2"}, {"name": "h"}]}, {("g", "v2"), ("h", None)}),
        ({"operationPolicies": [{"name": "o", "version": "v1", "paths": PATHS}]}, {("o", "v1")}),
        ({"policies": [{"name": "l", "paths": PATHS}]}, {("l", None)}),
        ({"rateLimits": {"global": {"requests": LIMIT}, "paths": [{"path": "/a", "totalTokens": LIMIT}]}},
         {("basic-ratelimit", "v1"), ("token-based-ratelimit", "v1")}),
    ],
)  # fmt: skip
def test_a_provider_needs_these(
    accept: Accept, changes: dict[str, object], needed: set[tuple[str, str | None]]
) -> None:
    found = required_policies(accept(Kind.LLM_PROVIDER, **changes))
    assert {(each.name, each.major) for each in found} == needed


def test_a_rest_api_needs_the_policies_of_its_operations_too(accept: Accept) -> None:
    operations = [{"method": "GET", "path": "/", "policies": [{"name": "o", "version": "v1"}]}]
    found = required_policies(accept(Kind.REST_API, operations=operations, policies=[{"name": "p"}]))
    assert {(each.name, each.major) for each in found} == {("o", "v1"), ("p", None)}


def test_an_mcp_proxy_needs_the_policies_that_it_names(accept: Accept) -> None:
    found = required_policies(accept(Kind.MCP, policies=[{"name": "mcp-auth", "version": "v1"}]))
    assert {(each.name, each.major) for each in found} == {("mcp-auth", "v1")}
