"""What a gateway stores and acknowledges, and never serves: refused when it is written (gateway-protocol.md 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from gatecast.controlplane.documents import MODELS, STORED, Kind

Accept = Callable[..., Any]
Refuse = Callable[..., str]
Document = dict[str, Any]

_ONE, _TWO = {"url": "https://a.example.test"}, {"url": "https://b.example.test"}
_POOL = {"name": "pool", "upstreams": [_ONE, _TWO]}
_SINGLE = {"name": "single", "upstreams": [_ONE]}
_WITH_REFERENCES = [Kind.LLM_PROVIDER, Kind.MCP, Kind.REST_API]


def _referring(kind: Kind, name: str) -> Document:
    target: Document = {"ref": name}
    return {
        "upstream": {"main": target} if kind is Kind.REST_API else target,
        "upstreamDefinitions": [_POOL, _SINGLE],
    }


# --- references -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", _WITH_REFERENCES)
def test_a_reference_to_several_servers_is_refused(refuse: Refuse, accept: Accept, kind: Kind) -> None:
    place = "upstream.main.ref" if kind is Kind.REST_API else "upstream.ref"
    assert refuse(kind, **_referring(kind, "pool")) == place
    accept(kind, **_referring(kind, "single"))


def test_a_sandbox_that_refers_to_several_servers_is_refused(refuse: Refuse) -> None:
    upstream = {"main": {"ref": "single"}, "sandbox": {"ref": "pool"}}
    changes = {"upstream": upstream, "upstreamDefinitions": [_POOL, _SINGLE]}
    assert refuse(Kind.REST_API, **changes) == "upstream.sandbox.ref"


@pytest.mark.parametrize("kind", _WITH_REFERENCES)
def test_several_servers_that_nothing_refers_to_are_accepted(accept: Accept, kind: Kind) -> None:
    accept(kind, upstreamDefinitions=[_POOL])


# --- virtual hosts ----------------------------------------------------------------------------------------------------

_SANDBOX = {"main": {"url": "https://a"}, "sandbox": {"url": "https://b"}}


@pytest.mark.parametrize(
    ("vhosts", "place"),
    [
        ({"main": "a.test", "sandbox": "a.test"}, "vhosts.sandbox"),
        ({"main": "a.test;b.test", "sandbox": "b.test"}, "vhosts.sandbox"),
        ({"main": "a.test", "sandbox": "b.test;a.test"}, "vhosts.sandbox"),
        ({"main": "A.test", "sandbox": "a.TEST"}, "vhosts.sandbox"),
        ({"main": "a.test.", "sandbox": "a.test"}, "vhosts.sandbox"),
        ({"main": "sandbox-*"}, "vhosts.sandbox"),
        ({"main": "a.test;sandbox-*"}, "vhosts.sandbox"),
        ({"main": "sandbox-*", "sandbox": "_gateway_default_"}, "vhosts.sandbox"),
        ({"sandbox": "*"}, "vhosts.sandbox"),
        ({"main": "_gateway_default_", "sandbox": "*"}, "vhosts.sandbox"),
        ({"main": "a.test;a.test"}, "vhosts.main"),
        ({"main": "*;_gateway_default_"}, "vhosts.main"),
        ({"main": "a.test", "sandbox": "b.test;B.test"}, "vhosts.sandbox"),
    ],
)
@pytest.mark.parametrize("upstream", [_SANDBOX, {"main": {"url": "https://a"}}], ids=["sandbox", "main-only"])
def test_a_host_that_a_gateway_would_have_twice_is_refused(
    refuse: Refuse, vhosts: Document, place: str, upstream: Document
) -> None:
    assert refuse(Kind.REST_API, upstream=upstream, vhosts=vhosts) == place


@pytest.mark.parametrize(
    "vhosts",
    [
        {},
        {"main": "a.test"},
        {"main": "a.test;b.test", "sandbox": "c.test"},
        {"main": "sandbox-*", "sandbox": "other.test"},
        {"main": "a.test", "sandbox": "_gateway_default_"},
        {"main": "_gateway_default_", "sandbox": "a.test"},
    ],
)
def test_different_hosts_are_accepted(accept: Accept, vhosts: Document) -> None:
    accept(Kind.REST_API, upstream=_SANDBOX, vhosts=vhosts)


# --- durations --------------------------------------------------------------------------------------------------------

_TOO_LONG = ["2562048h", "2562047.9h", "153722868m", "9223372037s", "9223372036855ms", "9223372036.9s", "9" * 30 + "h"]
_TOO_SHORT = ["0.0000001ms", "0.0000009ms", "0.0000000001s", "0.00000000001m", "0.0000000000001h"]
_COUNTABLE = ["2562047h", "2562047.7h", "153722867m", "9223372036s", "9223372036854ms", "0.000001ms", "0.000000001s"]

_PLACES: list[tuple[str, Kind, Callable[[str], Document]]] = [
    (f"{field}.{name}", kind, lambda value, field=field, name=name: {field: {name: value}})  # type: ignore[misc]
    for kind in (Kind.LLM_PROVIDER, Kind.LLM_PROXY, Kind.MCP, Kind.REST_API)
    for field, name in (("resilience", "timeout"), ("resilience", "idleTimeout"))
]
_PLACES += [
    (
        "upstreamDefinitions.0.timeout.connect",
        kind,
        lambda value: {"upstreamDefinitions": [{**_SINGLE, "timeout": {"connect": value}}]},
    )
    for kind in _WITH_REFERENCES
]
_PLACES.append(
    (
        "operations.0.resilience.timeout",
        Kind.REST_API,
        lambda value: {"operations": [{"method": "GET", "path": "/", "resilience": {"timeout": value}}]},
    )
)


@pytest.mark.parametrize(("place", "kind", "changes"), _PLACES, ids=[f"{place}-{kind}" for place, kind, _ in _PLACES])
def test_a_duration_that_gateways_cannot_count_is_refused(
    refuse: Refuse, accept: Accept, place: str, kind: Kind, changes: Callable[[str], Document]
) -> None:
    for duration in (*_TOO_LONG, *_TOO_SHORT):
        assert refuse(kind, **changes(duration)) == place, duration
    for duration in _COUNTABLE:
        accept(kind, **changes(duration))


@pytest.mark.parametrize("zero", ["0s", "0.0ms", "0.000000000000000h", "000s"])
def test_nothing_at_all_switches_a_limit_off(accept: Accept, zero: str) -> None:
    accept(Kind.REST_API, resilience={"timeout": zero, "idleTimeout": zero})


@pytest.mark.parametrize("duration", ["2562048h", "9999999999999h", "9223372036855ms"])
def test_a_rate_limit_over_more_time_than_gateways_can_count_is_refused(refuse: Refuse, duration: str) -> None:
    limits = {"global": {"requests": [{"count": 1, "duration": duration}]}}
    assert refuse(Kind.LLM_PROVIDER, rateLimits=limits) == "rateLimits.global.requests.0.duration"


# --- numbers ----------------------------------------------------------------------------------------------------------

_HUGE = [10**308, 10**309, -(10**309), 10**5_000, 2**63, -(2**63) - 1, float("inf"), float("-inf"), float("nan")]


@pytest.mark.parametrize("number", _HUGE, ids=lambda number: f"{number:.3g}" if isinstance(number, float) else "int")
def test_a_number_that_gateways_cannot_decode_is_refused(refuse: Refuse, number: float) -> None:
    assert refuse(Kind.REST_API, policies=[{"name": "p", "params": {"n": number}}]) == "policies.0.params.n"
    assert refuse(Kind.MCP, resources=[{"uri": "u", "name": "n", "size": number}]) == "resources.0.size"
    weighted = [{**_SINGLE, "upstreams": [{**_ONE, "weight": number}]}]
    assert refuse(Kind.LLM_PROVIDER, upstreamDefinitions=weighted) == "upstreamDefinitions.0.upstreams.0.weight"


@pytest.mark.parametrize("number", [2**63 - 1, 1.7976931348623157e308, -1e300, 5e-324, -0.0, 1e16, 1e-400])
def test_a_number_that_a_double_carries_is_accepted(accept: Accept, number: float) -> None:
    accept(Kind.REST_API, policies=[{"name": "p", "params": {"n": number}}])


@pytest.mark.parametrize("number", ["1" * 310, "-" + "1" * 310, "1" * 5_000, "1e400", "-1E+309", "2" * 309 + ".5"])
@pytest.mark.parametrize("field", ["inputSchema", "outputSchema"])
def test_a_schema_in_text_with_such_a_number_is_refused(refuse: Refuse, field: str, number: str) -> None:
    tool = {"name": "t", field: f'{{"maximum": [{number}]}}'}
    assert refuse(Kind.MCP, tools=[tool]) == f"tools.0.{field}"


@pytest.mark.parametrize("text", ['{"maximum": 1e308}', '{"n": 1e-400}', "no JSON at all", "", "[" * 10_000, "1" * 300])
def test_another_schema_in_text_is_accepted(accept: Accept, text: str) -> None:
    accept(Kind.MCP, tools=[{"name": "t", "inputSchema": text}])


# --- documents of earlier releases ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        *((kind, _referring(kind, "pool")) for kind in _WITH_REFERENCES),
        (Kind.REST_API, {"vhosts": {"main": "sandbox-*"}}),
        (Kind.LLM_PROXY, {"resilience": {"timeout": "2562048h"}}),
        (Kind.MCP, {"tools": [{"name": "t", "inputSchema": "1e400"}]}),
    ],
)
def test_what_an_earlier_release_stored_can_be_read(
    smallest: dict[Kind, Document], kind: Kind, changes: Document
) -> None:
    document = {**smallest[kind], **changes}
    with pytest.raises(ValidationError):
        MODELS[kind].model_validate(document)
    MODELS[kind].model_validate(document, context=STORED)


def test_every_fault_is_named(smallest: dict[Kind, Document]) -> None:
    document = {
        **smallest[Kind.REST_API],
        "upstream": {"main": {"ref": "pool"}, "sandbox": {"ref": "pool"}},
        "upstreamDefinitions": [_POOL],
        "vhosts": {"main": "a;a", "sandbox": "a"},
    }
    with pytest.raises(ValidationError) as caught:
        MODELS[Kind.REST_API].model_validate(document)
    places = {".".join(map(str, each["loc"])) for each in caught.value.errors()}
    assert places == {"upstream.main.ref", "upstream.sandbox.ref", "vhosts.main", "vhosts.sandbox"}
