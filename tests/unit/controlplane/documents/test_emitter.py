from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gatecast.controlplane.documents.emitter import emit, quoted

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(TEXTS, VALUES.filter(lambda value: value not in (math.inf, -math.inf)), max_size=5))
def test_whatever_is_written_is_read_back(document: dict[str, Any]) -> None:
    if "inf" in repr(document):
        return
    written = emit(document)
    assert yaml.safe_load(written) == document
    assert _kinds(yaml.safe_load(written)) == _kinds(document)
    assert emit(document) == written


def _kinds(value: object) -> object:
    """Types, because True equals 1 and 1 equals 1.0."""
    if isinstance(value, dict):
        return {key: _kinds(item) for key, item in value.items()}
    return [_kinds(item) for item in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize(
    "text",
    ["", "yes", "null", "~", "1.0", "1e3", "0x10", "2025-06-18", "12:30:45", "- a", "a: b", "# a", "<<", "*a", "&a",
     "!a", "%a", "@a", "`a", "'", '"', "\\", " a ", "a\nb", "a\r\nb", "\t", "\x7f", "\x85", "\u2028", "\ufeff", "😀"],
)  # fmt: skip
def test_a_text_is_always_a_text(text: str) -> None:
    assert yaml.safe_load(emit({"key": text, text: "value", "list": [text]})) == {
        "key": text,
        text: "value",
        "list": [text],
    }


@pytest.mark.parametrize("key", ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "<<", "1", "a b", "="])
def test_a_key_that_yaml_could_misread_is_quoted(key: str) -> None:
    assert emit({key: 1}) == f'"{key}": 1\n'.encode()


def test_a_key_of_a_document_is_plain() -> None:
    assert emit({"apiVersion": "v1"}) == b'apiVersion: "v1"\n'


def test_keys_stay_in_their_order_and_lines_end_with_lf() -> None:
    assert emit({"b": {"d": 1, "c": [True, None]}, "a": []}) == b"b:\n  d: 1\n  c:\n    - true\n    - null\na: []\n"


def test_lists_and_objects_nest_in_blocks() -> None:
    written = emit({"list": [{"a": 1, "b": [[1, 2], {}]}]})
    assert written == b"list:\n  - a: 1\n    b:\n      - - 1\n        - 2\n      - {}\n"


@pytest.mark.parametrize(
    ("number", "text"), [(1e16, "1.0e+16"), (-1e-7, "-1.0e-07"), (1.5e300, "1.5e+300"), (0.5, "0.5")]
)
def test_a_number_is_a_number_in_every_version_of_yaml(number: float, text: str) -> None:
    assert emit({"number": number}) == f"number: {text}\n".encode()
    assert yaml.safe_load(emit({"number": number})) == {"number": number}


def test_no_text_takes_more_than_a_line() -> None:
    assert len(emit({"text": "word " * 10_000}).splitlines()) == 1


def test_characters_outside_ascii_stay_readable() -> None:
    assert quoted("Zürich 😀") == '"Zürich 😀"'
