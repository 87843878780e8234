"""What JSON of tenants is."""

from __future__ import annotations

import json
from collections import OrderedDict
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatecast.errors import InvalidValue
from gatecast.events.grammar import MAX_DEPTH, MAX_INTEGER, MAX_STORED_DEPTH
from gatecast.events.json_values import check, decode, encode, is_same, read_stored

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER - 1, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
)
_KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_OBJECTS = st.dictionaries(
    _KEYS,
    st.recursive(
        _SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
        max_leaves=10,
    ),
    max_size=3,
)


class _Kind(StrEnum):
    NAME = "name"


def nested(depth: int, innermost: object = 1) -> dict[str, Any]:
    """A value inside so many objects."""
    value = innermost
    for _ in range(depth):
        value = {"a": value}
    assert isinstance(value, dict)
    return value


@settings(derandomize=True, suppress_health_check=list(HealthCheck))
@given(_OBJECTS)
def test_what_is_taken_is_read_back_equal(value: dict[str, Any]) -> None:
    text = encode("data", value)
    assert decode("data", text) == read_stored("data", text) == value


@pytest.mark.parametrize(
    "value",
    [
        {},
        nested(MAX_DEPTH),
        nested(MAX_DEPTH - 1, [1]),
        nested(MAX_DEPTH, {}),
        {"a": [MAX_INTEGER, -MAX_INTEGER - 1]},
        {"a": 1e308, "b": 5e-324, "c": -0.0},
        {"a": ("tuple", True, None)},
        {"\\u0000": "\\u0000 is no NUL", "number": "1234567890123456789012345"},
        OrderedDict(a=OrderedDict(b=1)),
        {_Kind.NAME: _Kind.NAME},
        MappingProxyType({"a": 1}),
    ],
)
def test_what_every_reader_can_read_is_taken(value: Any) -> None:  # noqa: ANN401 - JSON
    text = encode("data", value)
    assert json.loads(text) == json.loads(json.dumps(dict(value)))


@pytest.mark.parametrize(
    ("value", "rule", "place"),
    [
        ([], "be a JSON object", ""),
        (nested(MAX_DEPTH + 1), "nested at most 32", "a.a.a"),
        (nested(100_000), "nested at most 32", "a.a.a"),
        ({"a": [MAX_INTEGER + 1]}, "integers of at most 64 bits", "a.0"),
        ({"a": {"b": 10**5_000}}, "integers of at most 64 bits", "a.b"),
        ({"a": float("inf")}, "numbers that a double can carry", "a"),
        ({"a": float("nan")}, "numbers that a double can carry", "a"),
        ({"a": "\x00"}, "no NUL", "a"),
        ({"a": ["x", "\ud800"]}, "no lone surrogate", "a.1"),
        ({"a": {"\x00": 1}}, "keys without NUL", "a"),
        ({"\ud800": 1}, "keys without NUL", ""),
        ({"a": {1: "x"}}, "only strings as keys", "a"),
        ({"a": {None: "x"}}, "only strings as keys", "a"),
        ({"a": object()}, "expressible as JSON", "a"),
        ({"a": {"b": b"bytes"}}, "expressible as JSON", "a.b"),
        ({"a": MappingProxyType({})}, "expressible as JSON", "a"),
    ],
)
def test_what_some_reader_could_not_read_is_refused_with_its_place(value: Any, rule: str, place: str) -> None:  # noqa: ANN401 - JSON
    with pytest.raises(InvalidValue, match=rule) as refusal:
        encode("data", value)
    assert refusal.value.field == "data"
    assert place in str(refusal.value)


def test_what_contains_itself_is_refused() -> None:
    value: dict[str, Any] = {}
    value["a"] = [value, value]
    with pytest.raises(InvalidValue, match="nested at most 32"):
        encode("data", value)


def test_s39_a_refusal_does_not_repeat_the_value() -> None:
    for value in ({"a": "hunter2\x00"}, {"a": {"b": 10**30}}, {"a": {1: "hunter2"}}):
        with pytest.raises(InvalidValue) as refusal:
            encode("data", value)
        assert "hunter2" not in str(refusal.value)
        assert "1000000" not in str(refusal.value)


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "be JSON"),
        ("{", "be JSON"),
        ("{'a': 1}", "be JSON"),
        (b"\xff", "be JSON in UTF-8"),
        ('{"a": 1, "b": {"c": 1, "\\u0063": 2}}', "name each key of an object once"),
        ("[" * 100_000, "be nested at most 32 deep"),
    ],
)
def test_text_that_is_no_json_is_refused(text: str | bytes, rule: str) -> None:
    with pytest.raises(InvalidValue, match=rule) as refusal:
        decode("--data", text)
    assert refusal.value.field == "--data"


@pytest.mark.parametrize(
    "number", ["9" * 5_000, "-" + "9" * 41, "1e400", "-1e-400", "0." + "0" * 400 + "1", "NaN", "-Infinity"]
)
def test_a_number_that_nobody_carries_is_refused_at_its_place(number: str) -> None:
    value = decode("data", f'{{"a": [{number}]}}')
    with pytest.raises(InvalidValue, match=r"also at 'a\.0'"):
        check("data", value)


@pytest.mark.parametrize(
    ("number", "value"), [("0e-400", 0.0), ("-0", 0), ("1e3", 1000.0), (str(MAX_INTEGER), MAX_INTEGER)]
)
def test_a_number_that_a_double_or_64_bits_carry_is_read(number: str, value: float) -> None:
    assert decode("data", number) == value


# --- what is stored already -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(nested(MAX_STORED_DEPTH)),
        '{"a": "\\u0000", "b": "\\ud83d\\ude00", "c": 123456789012345678901234567890}',
        '{"a": 1, "a": 2}',
    ],
)
def test_what_was_let_in_before_is_read(text: str) -> None:
    assert read_stored("data", text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"a": ' + "9" * 5_000 + "}",
        json.dumps(nested(MAX_STORED_DEPTH + 1)),
        '{"a": ' * 2_000 + "1" + "}" * 2_000,
        '{"a": "\\uD800"}',
        '{"\\udfff": 1}',
        '{"a": 1e999}',
        '{"a": NaN}',
    ],
)
def test_what_nobody_can_read_says_so(text: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        read_stored("data", text)
    assert refusal.value.field == "data"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1}, {"a": True}, False),
        ({"a": [0.0, {"b": False}]}, {"a": [0.0, {"b": 0}]}, False),
        ({"a": 1, "b": True}, {"b": True, "a": 1.0}, True),
        ({"a": 2**53 + 1}, {"a": float(2**53)}, False),
        ({"a": None}, {"a": False}, False),
        ([True, 1], [1, True], False),
        (None, {}, False),
    ],
)
def test_which_values_are_the_same(one: object, other: object, *, same: bool) -> None:
    assert is_same(one, other) is same
    assert is_same(other, one) is same
