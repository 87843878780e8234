"""Rules that hold in several kinds of documents (gateway-protocol.md 4.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gatecast.controlplane.documents import Kind, render

Accept = Callable[..., Any]
Refuse = Callable[..., str]

KIND = Kind.LLM_PROVIDER
ORIGIN = {"url": "https://a.example.test"}


def defined(**changes: object) -> dict[str, object]:
    definition = {"name": "a", "upstreams": [ORIGIN], **changes}
    return {"upstream": {"ref": "a"}, "upstreamDefinitions": [definition]}


def policy(**changes: object) -> dict[str, object]:
    return {"globalPolicies": [{"name": "p", **changes}]}


def for_path(**changes: object) -> dict[str, object]:
    return {"operationPolicies": [{"name": "p", "paths": [{"path": "/a", "methods": ["GET"], **changes}]}]}


@pytest.mark.parametrize(
    "url",
    [
        "https://a",
        "http://a.example.test:8080/base/",
        "https://[::1]:443/x?api-version=1&b=%20c",
        "http://10.0.0.1/a;b=c(d)",
    ],
)
def test_an_address_is_accepted(accept: Accept, url: str) -> None:
    accept(KIND, upstream={"url": url})


@pytest.mark.parametrize(
    "url",
    ["", "a.example.test", "//a", "ftp://a", "https://", "https:///x", "https://:80", "https://a:0", "https://a:65536",
     "https://a:x", "https://user:secret@a", "https://a b", "https://a/b c", "https://a/%zz", "https://a\n",
     "https://a/#x", "https://é", "https://a/" + "x" * 2_048],
)  # fmt: skip
def test_an_address_is_refused(refuse: Refuse, url: str) -> None:
    assert refuse(KIND, upstream={"url": url}) == "upstream.url"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"basePath": "/v1"},
        {"basePath": "/a/b"},
        {"timeout": {"connect": "5s"}},
        {"timeout": {"connect": "0.5s"}},
        {"upstreams": [{**ORIGIN, "weight": 0}]},
        {"upstreams": [{"url": "http://b:8080", "weight": 100}]},
    ],
)
def test_an_upstream_definition_is_accepted(accept: Accept, changes: dict[str, object]) -> None:
    accept(KIND, **defined(**changes))


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"name": "a b"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "n" * 101}, "name"),
        ({"upstreams": []}, "upstreams"),
        ({"upstreams": [{}]}, "upstreams.0.url"),
        ({"upstreams": [{"url": "https://a/"}]}, "upstreams.0.url"),
        ({"upstreams": [{"url": "https://a/base"}]}, "upstreams.0.url"),
        ({"upstreams": [{"url": "https://a?x"}]}, "upstreams.0.url"),
        ({"upstreams": [{"url": "ws://a"}]}, "upstreams.0.url"),
        ({"upstreams": [{**ORIGIN, "weight": 101}]}, "upstreams.0.weight"),
        ({"upstreams": [{**ORIGIN, "weight": -1}]}, "upstreams.0.weight"),
        ({"upstreams": [{**ORIGIN, "weight": "1"}]}, "upstreams.0.weight"),
        ({"basePath": "/"}, "basePath"),
        ({"basePath": "v1"}, "basePath"),
        ({"basePath": "/v1/"}, "basePath"),
        ({"timeout": {"connect": "0s"}}, "timeout.connect"),
        ({"timeout": {"connect": "0.0ms"}}, "timeout.connect"),
        ({"timeout": {"connect": "5"}}, "timeout.connect"),
    ],
)
def test_an_upstream_definition_is_refused(refuse: Refuse, changes: dict[str, object], place: str) -> None:
    assert refuse(KIND, **defined(**changes)) == f"upstreamDefinitions.0.{place}"


def test_upstream_definitions_have_different_names(refuse: Refuse) -> None:
    twice = [{"name": "a", "upstreams": [ORIGIN]}] * 2
    assert refuse(KIND, upstream={"ref": "a"}, upstreamDefinitions=twice) == "upstreamDefinitions.1.name"


@pytest.mark.parametrize("duration", ["90s", "0s", "1.5m", "100ms", "2h"])
@pytest.mark.parametrize("field", ["timeout", "idleTimeout"])
def test_a_time_limit_is_accepted(accept: Accept, field: str, duration: str) -> None:
    accept(KIND, resilience={field: duration})


@pytest.mark.parametrize("duration", ["", "90", "s", "-1s", "1d", "1 s", "1.s", "1m30s", "1s\n"])
@pytest.mark.parametrize("field", ["timeout", "idleTimeout"])
def test_a_time_limit_is_refused(refuse: Refuse, field: str, duration: str) -> None:
    assert refuse(KIND, resilience={field: duration}) == f"resilience.{field}"


@pytest.mark.parametrize(
    "changes",
    [
        policy(),
        policy(version="v1"),
        policy(version="v12", params={"any": [1, {"deep": None}]}, executionCondition="request.path == '/a'"),
        for_path(),
        for_path(path="/*", methods=["*"]),
        for_path(path="/models/{model}/x", methods=["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]),
        for_path(params={"a": 1}),
    ],
)
def test_a_policy_is_accepted(accept: Accept, changes: dict[str, object]) -> None:
    accept(KIND, **changes)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        (policy(name=""), "globalPolicies.0.name"),
        (policy(name="a b"), "globalPolicies.0.name"),
        (policy(version=""), "globalPolicies.0.version"),
        (policy(version="1"), "globalPolicies.0.version"),
        (policy(version="v1.0.0"), "globalPolicies.0.version"),
        (policy(params=[1]), "globalPolicies.0.params"),
        (policy(executionCondition=""), "globalPolicies.0.executionCondition"),
        (policy(paths=[]), "globalPolicies.0.paths"),
        ({"operationPolicies": [{"name": "p"}]}, "operationPolicies.0.paths"),
        ({"operationPolicies": [{"name": "p", "paths": []}]}, "operationPolicies.0.paths"),
        (for_path(path="a"), "operationPolicies.0.paths.0.path"),
        (for_path(path="/a b"), "operationPolicies.0.paths.0.path"),
        (for_path(path="/a?x"), "operationPolicies.0.paths.0.path"),
        (for_path(methods=[]), "operationPolicies.0.paths.0.methods"),
        (for_path(methods=["get"]), "operationPolicies.0.paths.0.methods.0"),
        (for_path(methods=["TRACE"]), "operationPolicies.0.paths.0.methods.0"),
        (for_path(methods=["*", "GET"]), "operationPolicies.0.paths.0.methods"),
        (for_path(methods=["GET", "GET"]), "operationPolicies.0.paths.0.methods"),
        ({"policies": [{"name": "p", "paths": [{"path": "/", "methods": ["*"]}], "executionCondition": "x"}]},
         "policies.0.executionCondition"),
    ],
)  # fmt: skip
def test_a_policy_is_refused(refuse: Refuse, changes: dict[str, object], place: str) -> None:
    assert refuse(KIND, **changes) == place


def test_the_same_content_has_the_same_bytes_whatever_the_order_of_keys(accept: Accept) -> None:
    one = accept(KIND, **policy(params={"a": 1, "b": {"c": 1, "d": 2}}))
    other = accept(KIND, **policy(params={"b": {"d": 2, "c": 1}, "a": 1}))
    assert render(one, handle="h", credentials={}) == render(other, handle="h", credentials={})
