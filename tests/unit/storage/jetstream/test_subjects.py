"""Every text becomes one token of a subject, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatecast.storage.jetstream.subjects import Subjects, text_of, token


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300))
def test_a_text_comes_back_from_its_token(text: str) -> None:
    encoded = token(text)
    assert text_of(encoded) == text
    assert encoded
    assert not set(encoded) & set(" .*>\r\n\t\x00")
    assert encoded.isascii()


@given(st.text(max_size=5), st.text(max_size=5))
def test_two_texts_have_two_tokens(one: str, other: str) -> None:
    if one != other and not any(0xD800 <= ord(each) <= 0xDFFF for each in one + other):
        assert token(one) != token(other)


@pytest.mark.parametrize("name", ["a.b", "*", ">", "", "=", "ü", "a b", "$JS"])
def test_a_name_that_would_be_a_pattern_is_none(name: str) -> None:
    subject = Subjects("S").event(name, 7, 1)
    assert subject.split(".")[0::2] == ["S", token(name), "1"]
    assert len(subject.split(".")) == 5
