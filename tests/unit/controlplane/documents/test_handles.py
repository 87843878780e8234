from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatecast.controlplane.documents import InvalidDocument, check_handle, derive_handle, first_free


@pytest.mark.parametrize(
    ("name", "handle"),
    [
        ("Demo Provider", "demo-provider"),
        ("  OpenAI (EU) v1.0 ", "openai-eu-v1-0"),
        ("Zürich Café", "zurich-cafe"),
        ("Cafe\u0301", "cafe"),
        ("CAFÉ", "cafe"),
        ("Łódź Ærø", "lodz-aero"),
        ("Straße", "strasse"),
        ("東京 Provider", "provider"),
        ("東京", "artifact-1lqs71d"),
        ("漢字", "artifact-p8s937b"),
        ("日本", "artifact-wgv71a"),
        ("😀", "artifact-e28h"),
        ("\ud800", "artifact"),
        ("--", "artifact"),
    ],
)
def test_a_handle_resembles_the_name(name: str, handle: str) -> None:
    assert derive_handle(name) == handle


@given(st.text(max_size=400))
def test_the_encoding_of_accents_and_the_letter_case_of_a_name_make_no_difference(name: str) -> None:
    for form in ("NFC", "NFD"):
        assert derive_handle(unicodedata.normalize(form, name)) == derive_handle(name)
    assert derive_handle(name.casefold()) == derive_handle(name)


def test_the_first_free_one_is_taken() -> None:
    assert first_free("demo", set()) == "demo"
    assert first_free("demo", {"demo"}) == "demo-2"
    assert first_free("demo", {"demo", "demo-2", "demo-4"}) == "demo-3"


@given(st.text(max_size=400))
def test_every_name_makes_a_valid_handle_with_room_for_a_suffix(name: str) -> None:
    check_handle(f"{derive_handle(name)}-{'9' * 40}")


@pytest.mark.parametrize("handle", ["a", "demo-provider", "a.b", "a-1.b-2", "0", "a" * 253])
def test_gateways_take_this_handle(handle: str) -> None:
    check_handle(handle)


@pytest.mark.parametrize(
    "handle", ["", "A", "a_b", "-a", "a-", ".a", "a.", "a..b", "a.-b", "a b", "a\n", "é", "a" * 254]
)
def test_gateways_do_not_take_this_handle(handle: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        check_handle(handle)
    assert caught.value.field == "handle"
