"""The check of what gateways received finds what it is for."""

from __future__ import annotations

import pytest

from gatecast.testing.processes.load import check_delivery

_ACCEPTED = {1: "a", 2: "b", 3: "c"}


def test_everything_in_order_passes() -> None:
    """Once each."""
    check_delivery([(1, "a"), (2, "b"), (3, "c")], _ACCEPTED, connections=1)


def test_a_repeat_after_a_reconnect_passes() -> None:
    """At least once is the promise."""
    check_delivery([(1, "a"), (2, "b"), (1, "a"), (2, "b"), (3, "c")], _ACCEPTED, connections=2)


@pytest.mark.parametrize(
    ("received", "complaint"),
    [
        ([(1, "a"), (3, "c"), (2, "b")], "something is missing"),
        ([(1, "a"), (2, "b")], "3 events were accepted, 2 arrived"),
        ([(1, "a"), (2, "b"), (2, "b"), (3, "c")], "1 rewinds on 1 connections"),
        ([(1, "a"), (2, "c"), (3, "b")], "offset 2 is another event"),
        ([], "3 events were accepted, 0 arrived"),
    ],
)
def test_anything_else_fails(received: list[tuple[int, str]], complaint: str) -> None:
    """With the reason."""
    with pytest.raises(AssertionError, match=complaint):
        check_delivery(received, _ACCEPTED, connections=1)


def test_a_gap_among_the_accepted_offsets_fails() -> None:
    """Two publishers must never be told the same offset, nor skip one."""
    with pytest.raises(AssertionError, match="accepted offsets have gaps"):
        check_delivery([(1, "a"), (3, "c")], {1: "a", 3: "c"}, connections=1)
