from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gatecast.controlplane.documents import Kind, LlmProvider
from gatecast.controlplane.documents.refusals import MAX_KEY_LENGTH, MAX_REFUSALS
from gatecast.controlplane.documents.tenant_data import (
    MAX_DOCUMENT_BYTES,
    MAX_ELEMENTS,
    MAX_TEXT_BYTES,
    broken_tenant_data,
)
from gatecast.events import MAX_DEPTH

Refuse = Callable[..., str]


def place_of_refusal(value: object) -> tuple[int | str, ...]:
    return broken_tenant_data(value)[0].place


def nested(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ({"a": "x{{y"}, ("a",)),
        ({"a": ["x", {"b": '{{ env "HOME" }}'}]}, ("a", 1, "b")),
        ({"a": {"{{": 1}}, ("a",)),
        ({"a": "x\0"}, ("a",)),
        ({"a\0": "x"}, ()),
        ({"a": "\ud800"}, ("a",)),
        ({"a": {"\udfff": 1}}, ("a",)),
        ({"a": float("nan")}, ("a",)),
        ({"a": [float("inf")]}, ("a", 0)),
        ({"a": 2**63}, ("a",)),
        ({"a": "x" * (MAX_TEXT_BYTES + 1)}, ("a",)),
        ({"a": "é" * (MAX_TEXT_BYTES // 2 + 1)}, ("a",)),
        ({"a": ["x"] * (MAX_ELEMENTS + 1)}, ("a",)),
        ({"a": {str(number): 1 for number in range(MAX_ELEMENTS + 1)}}, ("a",)),
        ({"a": {"k" * (MAX_KEY_LENGTH + 1): 1}}, ("a",)),
        ({"a": {1: 1}}, ("a",)),
        ({"a": [["x" * 500] * 100] * 20}, ()),
    ],
)
def test_it_is_refused_at_its_place(written: object, place: tuple[int | str, ...]) -> None:
    assert place_of_refusal(written) == place


@pytest.mark.parametrize(
    "written",
    [
        {"a": "{ {", "b": "}}", "c": "{x}{y}"},
        {"a": "x" * MAX_TEXT_BYTES},
        {"a": ["x"] * MAX_ELEMENTS},
        {"k" * MAX_KEY_LENGTH: 1},
        {"a": [2**63 - 1, -(2**63) + 1, 0.5, True, None]},
        {"a": "😀"},
        nested(MAX_DEPTH),
    ],
)
def test_it_is_accepted(written: object) -> None:
    assert broken_tenant_data(written) == []


def test_nesting_ends_at_the_limit() -> None:
    assert place_of_refusal(nested(MAX_DEPTH + 1)) == (0,) * (MAX_DEPTH + 1)


def test_deep_nesting_is_refused_before_it_exhausts_the_stack() -> None:
    assert place_of_refusal(nested(100_000)) == (0,) * (MAX_DEPTH + 1)


def test_indentation_counts_because_small_values_deep_inside_take_room() -> None:
    value: Any = [1] * MAX_ELEMENTS
    for _ in range(20):
        value = [value]
    assert place_of_refusal([value] * (MAX_DOCUMENT_BYTES // (40 * MAX_ELEMENTS))) == ()


def test_the_error_does_not_show_what_was_refused() -> None:
    assert "password" not in str(broken_tenant_data({"a": "{{ my password }}"}))


def test_everything_that_is_wrong_is_told_at_once() -> None:
    written = {"a": "{{", "b": ["x", 2**63, {"{{": "{{"}], "c": "\0", "d": "x" * (MAX_TEXT_BYTES + 1)}
    places = [each.place for each in broken_tenant_data(written)]
    assert places == [("a",), ("b", 1), ("b", 2), ("c",), ("d",)]


def test_no_more_is_told_than_anybody_reads() -> None:
    assert len(broken_tenant_data(["{{"] * MAX_ELEMENTS)) == MAX_REFUSALS


TEXTS = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def _planted(value: Any, where: st.DataObject) -> Any:  # noqa: ANN401 - JSON
    """The value with `{{` in one of its texts, or beside it."""
    if isinstance(value, dict) and value:
        key = where.draw(st.sampled_from(sorted(value)))
        if where.draw(st.booleans()):
            return {**value, f"{key}{{{{": value[key]}
        return {**value, key: _planted(value[key], where)}
    if isinstance(value, list) and value:
        return [_planted(value[0], where), *value[1:]]
    return f"{value if isinstance(value, str) else ''}{{{{"


@given(params=JSON, where=st.data())
def test_a_template_is_refused_wherever_it_is(params: object, where: st.DataObject) -> None:
    policy = {"name": "any", "params": {"p": _planted(params, where)}}
    with pytest.raises(ValidationError, match=r"not contain"):
        LlmProvider.model_validate(
            {
                "name": "Demo",
                "template": "openai",
                "upstream": {"url": "https://llm.example.test"},
                "globalPolicies": [policy],
            }
        )


@pytest.mark.parametrize("field", ["name", "description", "context", "vhost", "version"])
@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.LLM_PROVIDER_TEMPLATE])
def test_a_template_is_refused_in_every_field(refuse: Refuse, kind: Kind, field: str) -> None:
    assert refuse(kind, **{field: "a{{b"}) == field
