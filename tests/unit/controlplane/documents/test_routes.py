"""Where an artifact is served, in the form in which places are compared."""

from __future__ import annotations

from typing import Any

import pytest

from gatecast.controlplane.documents.routes import Route, announced_routes, routes_of


@pytest.mark.parametrize(
    ("context", "version", "path"),
    [
        ("/a", "v1.0", "/a"),
        ("/a/$version/b", "v1.0", "/a/v1.0/b"),
        ("/", "v1", "/"),
        (None, "v1", "/"),
        ("/A", "", "/A"),
    ],
)
def test_a_context_has_one_form(context: str | None, version: str, path: str) -> None:
    assert routes_of(["Host.TEST."], context, version) == {Route("host.test", path)}


@pytest.mark.parametrize(
    ("kind", "specification", "routes"),
    [
        ("LlmProvider", {"context": "/a"}, {("*", "/a")}),
        ("LlmProxy", {"context": "/a", "vhost": "H.test"}, {("h.test", "/a")}),
        ("Mcp", {"vhost": "h.test"}, {("h.test", "/")}),
        ("RestApi", {"context": "/a/"}, {("*", "/a")}),
        ("RestApi", {"context": "/a", "upstream": {"sandbox": {}}}, {("*", "/a")}),
        ("RestApi", {"context": "/a", "upstream": {"sandbox": {"url": "x"}}}, {("*", "/a"), ("sandbox-*", "/a")}),
        ("RestApi", {"context": "/a", "vhosts": {"main": "x;y"}}, {("x", "/a"), ("y", "/a")}),
        ("LlmProviderTemplate", {"context": "/a"}, set()),
        ("Unknown", {"context": "/a"}, set()),
        ("RestApi", {"context": 1, "vhosts": [], "upstream": "x", "version": None}, {("*", "/")}),
        ("RestApi", {"context": "/a\0b"}, {("*", "/")}),
        ("RestApi", {"context": "/a\ud800"}, {("*", "/")}),
        ("RestApi", {"context": "/" + "x" * 300}, set()),
        ("LlmProvider", {"context": "/a", "vhost": "x" * 300}, set()),
    ],
)
def test_what_a_gateway_says_of_its_own_is_read_as_far_as_it_can_be(
    kind: str, specification: dict[str, Any], routes: set[tuple[str, str]]
) -> None:
    assert {(each.host, each.context) for each in announced_routes(kind, specification)} == routes
