from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gatecast.controlplane.documents import Kind

Accept = Callable[..., Any]
Refuse = Callable[..., str]

KIND = Kind.REST_API
MAIN = {"main": {"url": "https://a"}}


#: Values that would confuse a router.
API_CONTEXT_TRAPS = (
    *(
        " b",
        "\tb",
        "\n",
        "\x7f",
        "b?c",
        "b#c",
        "%2fb",
        "b%",
        "{b}",
        "{{b}}",
        "b*",
        "b|c",
        "b\\c",
        "b'c",
        "(b)",
        "b+",
        "é",
    ),
    *("//b", "/./b", "/../b", "/.", "/..", "/$other", "[b]", "^b", '"b"'),
)

#: Contexts and paths that resolve to what belongs to the gateway.
RESERVED = (
    ("/a", "/../_gateway-health"),
    ("/a/b", "/../../_gateway-health/ready"),
    ("/", "//_gateway-health"),
    ("/", "/./_gateway-health/x"),
    ("/", "/x/../_gateway-health/"),
    ("/", "/_gateway-health/{id}"),
    ("/", "/%5fgateway-health"),
    ("/", "/a/%2e%2e/_gateway-health"),
    ("/$version", "/../_gateway-health/*"),
)


def match(**changes: object) -> dict[str, object]:
    return {"method": "GET", "path": {"value": "/a", "type": "Exact"}, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Demo-API_1.0 x"},
        {"version": "v1"},
        {"version": "1.0.0"},
        {"context": "/"},
        {"context": "/demo-api/$version"},
        {"context": "/pet.store/v1.2/x"},
        {"context": "/~a/b_c-d/e;f=1,2/@me:x!&"},
        {"context": "/.well-known/..."},
        {"context": "/_gateway-healthy"},
        {"context": "/a", "operations": [{"method": "GET", "path": "/_gateway-health"}]},
        {"context": "/_gateway-health.", "operations": [{"method": "GET", "path": "/x/.."}]},
        {"upstream": {**MAIN, "sandbox": {"url": "http://b:8080/base?x=1"}}},
        {"vhosts": {"main": "a.example.test;b.example.test", "sandbox": "_gateway_default_"}},
        {
            "operations": [
                {"method": method, "path": "/"} for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD")
            ]
        },
        {"operations": [{"match": match(headers=[{"name": "X-A", "value": ".*", "type": "RegularExpression"}])}]},
        {"operations": [{"match": match(path={"value": "/a", "type": "PathPrefix"}), "policies": [{"name": "p"}]}]},
        {"operations": [{"method": "OPTIONS", "path": "/{a}/x-{b}", "resilience": {"timeout": "1.5s"}}]},
        {"subscriptionPlans": ["gold", "silver"]},
    ],
)
def test_it_is_accepted(accept: Accept, changes: dict[str, object]) -> None:
    accept(KIND, **changes)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"name": "n" * 101}, "name"),
        ({"name": "a&b"}, "name"),
        ({"version": "one"}, "version"),
        ({"context": "a"}, "context"),
        ({"context": "/a/"}, "context"),
        *(({"context": f"/a{each}"}, "context") for each in API_CONTEXT_TRAPS),
        ({"context": "/" + "a" * 200}, "context"),
        ({"context": "/_gateway-health"}, "context"),
        ({"upstream": {}}, "upstream.main"),
        ({"upstream": {"main": {}}}, "upstream.main"),
        ({"upstream": {"main": {"url": "https://a", "auth": {"type": "none"}}}}, "upstream.main.auth"),
        ({"upstream": {"main": {"ref": "unknown"}}}, "upstream.main.ref"),
        ({"upstream": {**MAIN, "sandbox": {"ref": "unknown"}}}, "upstream.sandbox.ref"),
        ({"vhosts": {"main": "a;;b"}}, "vhosts.main"),
        ({"operations": []}, "operations"),
        ({"operations": [{}]}, "operations.0"),
        ({"operations": [{"method": "GET"}]}, "operations.0"),
        ({"operations": [{"path": "/"}]}, "operations.0"),
        ({"operations": [{"method": "GET", "path": "/", "match": match()}]}, "operations.0"),
        ({"operations": [{"method": "TRACE", "path": "/"}]}, "operations.0.method"),
        ({"operations": [{"method": "*", "path": "/"}]}, "operations.0.method"),
        ({"operations": [{"method": "GET", "path": "a"}]}, "operations.0.path"),
        ({"operations": [{"method": "GET", "path": "/{a"}]}, "operations.0.path"),
        ({"operations": [{"method": "GET", "path": "/a}"}]}, "operations.0.path"),
        ({"operations": [{"method": "GET", "path": "/{a{b}}"}]}, "operations.0.path"),
        ({"operations": [{"match": match(path={"value": "/a", "type": "Regex"})}]}, "operations.0.match.path.type"),
        ({"operations": [{"match": match(headers=[{"name": "X", "value": "y", "type": "Prefix"}])}]},
         "operations.0.match.headers.0.type"),
        ({"context": "/", "operations": [{"method": "GET", "path": "/_gateway-health"}]}, "operations.0.path"),
        *(
            ({"context": context, "operations": [{"method": "GET", "path": path}]}, "operations.0.path")
            for context, path in RESERVED
        ),
        ({"context": "/", "operations": [{"match": match(path={"value": "/_gateway-health/x", "type": "Exact"})}]},
         "operations.0.match.path.value"),
    ],
)  # fmt: skip
def test_it_is_refused(refuse: Refuse, changes: dict[str, object], place: str) -> None:
    assert refuse(KIND, **changes) == place
