from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatecast.controlplane.documents import InvalidDocument, check_handle, derive_handle


@pytest.mark.parametrize(
    ("name", "handle"),
    [
        ("Demo Provider", "demo-provider"),
        ("  OpenAI (EU) v1.0 ", "openai-eu-v1-0"),
        ("Zürich Café", "zurich-cafe"),
        ("東京", "artifact"),
        ("--", "artifact"),
    ],
)
def test_a_handle_resembles_the_name(name: str, handle: str) -> None:
    assert derive_handle(name) == handle


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
