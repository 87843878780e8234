from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gatecast.controlplane.documents import Kind, required_policies

Accept = Callable[..., Any]
Refuse = Callable[..., str]

KIND = Kind.MCP
URL = {"url": "https://mcp.example.test/mcp"}


def auth(**changes: object) -> dict[str, object]:
    return {"upstream": {**URL, "auth": {"type": "api-key", "header": "X-Key", "value": "x", **changes}}}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Demo-MCP_1.0 x"},
        {"name": "n" * 100},
        {"version": "1"},
        {"version": "v1.2.3"},
        {"context": "/"},
        {"context": "/mcp/$version"},
        {"context": "/mcp.server/v1.2"},
        {"context": None, "vhost": "mcp.example.test"},
        {"vhost": "mcp.example.test"},
        {"specVersion": "2025-06-18"},
        {"specVersion": "2025-11-25"},
        auth(),
        auth(type="bearer", value="Bearer x"),
        auth(type="bearer", value="bearer x"),
        auth(type="bearer", value="***"),
        auth(type="anything"),
        {"tools": [{"name": "t", "title": "T", "description": "d", "inputSchema": '{"type":"object"}'}]},
        {"resources": [{"uri": "file:///a", "name": "r", "mimeType": "text/plain", "size": 3}]},
        {"prompts": [{"name": "p", "arguments": [{"name": "a", "required": True}]}]},
        {"upstream": {"ref": "a"}, "upstreamDefinitions": [{"name": "a", "upstreams": [{"url": "https://a"}]}]},
    ],
)
def test_it_is_accepted(accept: Accept, changes: dict[str, object]) -> None:
    accept(KIND, **changes)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"name": "n" * 101}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "café"}, "name"),
        ({"version": "1.2.3.4"}, "version"),
        ({"version": ""}, "version"),
        ({"version": "latest"}, "version"),
        ({"context": None}, "context"),
        ({"context": "/a b"}, "context"),
        ({"context": "/a?b"}, "context"),
        ({"context": "/_gateway-health/mcp"}, "context"),
        ({"context": "/a/"}, "context"),
        ({"context": "/" + "a" * 200}, "context"),
        ({"specVersion": ""}, "specVersion"),
        ({"specVersion": "2024-01-01"}, "specVersion"),
        (auth(type="none"), "upstream.auth.type"),
        (auth(type="None"), "upstream.auth.type"),
        ({"upstream": {**URL, "auth": {"type": "none"}}}, "upstream.auth.header"),
        ({"upstream": {**URL, "auth": {"type": "api-key", "value": "x"}}}, "upstream.auth.header"),
        ({"upstream": {**URL, "auth": {"type": "api-key", "header": "X-Key"}}}, "upstream.auth.value"),
        ({"upstream": {**URL, "auth": {"header": "X-Key", "value": "x"}}}, "upstream.auth.type"),
        (auth(value="it's"), "upstream.auth.value"),
        (auth(value="100%"), "upstream.auth.value"),
        (auth(type="bearer"), "upstream.auth.value"),
        (auth(type="Bearer", value="Bearerx"), "upstream.auth.value"),
        (auth(type="bearer", value="***x"), "upstream.auth.value"),
        ({"upstream": {"ref": "unknown"}}, "upstream.ref"),
        ({"tools": [{"title": "without a name"}]}, "tools.0.name"),
    ],
)
def test_it_is_refused(refuse: Refuse, changes: dict[str, object], place: str) -> None:
    assert refuse(KIND, **changes) == place


def test_a_vhost_is_enough_without_a_context(accept: Accept) -> None:
    assert accept(KIND, vhost="mcp.example.test").context is None
    assert accept(KIND).context == "/demo-mcp"


def test_a_credential_becomes_a_policy_of_the_gateway(accept: Accept) -> None:
    assert not required_policies(accept(KIND))
    assert {each.name for each in required_policies(accept(KIND, **auth()))} == {"set-headers"}
