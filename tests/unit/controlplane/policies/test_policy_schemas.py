"""What parameters of policies are refused for, and what schemas of gateways cannot do."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from gatecast.controlplane.policies.policy_schemas import MAX_SCHEMA_DEPTH, MAX_SCHEMA_SIZE, Comparisons, policy_schema

_LIMITS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["limits"],
    "properties": {
        "limits": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["requests", "duration"],
                "properties": {
                    "requests": {"type": "integer", "minimum": 1},
                    "duration": {"type": "string", "pattern": "^[0-9]+(ns|us|µs|ms|s|m|h)$"},
                },
            },
        },
        "mode": {"enum": ["strict", "lenient"]},
    },
}


def _broken(schema: object, params: dict[str, Any]) -> tuple[str, str] | None:
    found = policy_schema(schema)
    broken = None if found is None else found.broken_rule(params)
    return None if broken is None else (".".join(str(each) for each in broken.path), broken.rule)


def _limit(**fields: object) -> dict[str, Any]:
    return {"limits": [{"requests": 1, "duration": "1m", **fields}]}


@pytest.mark.parametrize(
    ("params", "path", "rule"),
    [
        ({}, "limits", "is required"),
        ({"limits": []}, "limits", "minItems: 1"),
        ({**_limit(), "more": 1}, "more", "is not a parameter of this policy"),
        (_limit(requests="many"), "limits.0.requests", "type: 'integer'"),
        (_limit(requests=0), "limits.0.requests", "minimum: 1"),
        (_limit(duration="a minute"), "limits.0.duration", "pattern: '^[0-9]+"),
        ({**_limit(), "mode": "soft"}, "mode", "enum: ['strict', 'lenient']"),
        ({"limits": {}}, "limits", "type: 'array'"),
    ],
)
def test_a_broken_rule_is_told_with_its_place(params: dict[str, Any], path: str, rule: str) -> None:
    broken = _broken(_LIMITS, params)
    assert broken is not None
    assert broken[0] == path
    assert rule in broken[1]


def test_what_keeps_to_the_schema_is_taken() -> None:
    assert _broken(_LIMITS, {**_limit(requests=5.0), "mode": "strict"}) is None


def test_no_value_is_told() -> None:
    schema = {"properties": {"token": {"type": "string", "maxLength": 3}, "n": {"not": {"type": "string"}}}}
    for params in ({"token": "a-secret"}, {"n": "a-secret"}):
        broken = _broken(schema, params)
        assert broken is not None
        assert "a-secret" not in str(broken)


@pytest.mark.parametrize(
    ("schema", "taken", "refused"),
    [
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"b": 1}, {}),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"b": 1}, {"a": 1, "b": 1}),
        ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, {"a": 1, "b": 1}, {"a": 1}),
        ({"dependencies": {"a": ["b"]}}, {"a": 1, "b": 1}, {"a": 1}),
        ({"properties": {"$ref": {"type": "string"}}}, {"$ref": "a"}, {"$ref": 1}),
        ({"properties": {"a": False}}, {}, {"a": 1}),
        ({"properties": {"a": {"const": 1}}}, {"a": 1}, {"a": 2}),
    ],
)
def test_schemas_in_schemas_are_applied(schema: object, taken: dict[str, Any], refused: dict[str, Any]) -> None:
    assert _broken(schema, taken) is None
    assert _broken(schema, refused) is not None


@pytest.mark.parametrize(
    ("schema", "params"),
    [
        # Left out, so that what would demand more because of it is left out, too.
        ({"properties": {"a": {"not": {"pattern": "^(x+)+$"}}}}, {"a": "b"}),
        ({"oneOf": [{"properties": {"a": {"format": "uri"}}}, {"properties": {"a": {"pattern": "^b$"}}}]}, {"a": "b"}),
        ({"if": {"properties": {"a": {"$ref": "#/definitions/x"}}}, "then": False, "definitions": {"x": False}}, {}),
        ({"patternProperties": {"^x-": {}}, "additionalProperties": False}, {"x-a": 1}),
        ({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "b"}),
    ],
)
def test_what_is_not_applied_refuses_nothing(schema: object, params: dict[str, Any]) -> None:
    assert _broken(schema, params) is None


def _deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "schema",
    [
        None,
        [],
        "schema",
        {},
        {"type": "nothing"},
        {"type": 7},
        {"required": "limits"},
        {"minimum": "x"},
        {"multipleOf": 0},
        {"properties": []},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"$ref": "http://192.0.2.1/schema.json"},
        {"$schema": "http://192.0.2.1/schema.json", "properties": {"a": {"$ref": "file:///etc/passwd"}}},
        {"$id": "http://192.0.2.1/", "allOf": [{"$ref": "other.json"}]},
        {"properties": {"a": {"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#/x"}}},
        {"properties": {"a": {"$dynamicRef": "#x"}}},
        {"properties": {"a": {"pattern": "("}}},
        {"properties": {"a": {"pattern": "(a+)+$"}}},
        {"properties": {"a": {"pattern": "[[:alpha:]]"}}},
        {"patternProperties": {"(": {"type": "integer"}}},
        {"properties": {"a": {"multipleOf": 1e-320}}},
        _deep(MAX_SCHEMA_DEPTH + 1),
        {"type": "object", "required": ["n"], "description": "long " * 40_000},
        {"properties": {str(n): {"type": "integer"} for n in range(MAX_SCHEMA_SIZE)}},
    ],
)
def test_an_unusable_schema_refuses_nothing_and_fetches_nothing(
    schema: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object) -> None:
        pytest.fail("a schema was fetched")

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert _broken(schema, {"a": "a" * 40 + "b"}) is None


def test_the_cost_is_known_before() -> None:
    schema = policy_schema(_LIMITS)
    assert schema is not None
    assert schema.cost({"limits": [{"requests": 1, "duration": "1m"}] * 100}) > 100 * schema.cost({})


@pytest.mark.timeout(10)
def test_one_document_is_compared_for_a_moment_only() -> None:
    schema = {"type": "object", "allOf": [{"properties": {str(n): {"type": "string"}}} for n in range(300)]}
    comparisons = Comparisons()
    assert comparisons.broken_rule(schema, {"0": 1}) is not None
    for _ in range(100):
        comparisons.broken_rule(schema, {str(n): "text" for n in range(1_000)})
    assert comparisons.broken_rule(schema, {"0": 1}) is None


@pytest.mark.timeout(10)
def test_an_endless_schema_is_left_alone() -> None:
    schema: Any = {}
    for _ in range(50_000):
        schema = {"not": schema}
    assert Comparisons().broken_rule(schema, {}) is None


def test_long_texts_cost_more() -> None:
    schema = policy_schema({"properties": {"a": {"anyOf": [{"type": "integer"}] * 100}}})
    assert schema is not None
    assert schema.cost({"a": "x" * 64_000}) > 100 * schema.cost({"a": "x"})
