"""What identifiers, instants and trace parents are."""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta, timezone
from functools import cache

import pytest

from gatecast.errors import InvalidValue
from gatecast.events import MAX_IDENTIFIER_LENGTH, clean_identifier, is_storable, printable
from gatecast.events.grammar import (
    EARLIEST_INSTANT,
    LATEST_INSTANT,
    clean_instant,
    clean_trace_parent,
    is_printable,
)

_TRACE = "0af7651916cd43dd8448eb211c80319c"
_PARENT = "b7ad6b7169203331"


def test_the_length_counts_after_trimming() -> None:
    assert clean_identifier("name", f" {'x' * MAX_IDENTIFIER_LENGTH} ") == "x" * MAX_IDENTIFIER_LENGTH
    with pytest.raises(InvalidValue, match="at most 255"):
        clean_identifier("name", "x" * (MAX_IDENTIFIER_LENGTH + 1))


@pytest.mark.parametrize(
    "value", ["", " \t", "\u2003\u00a0", "a\nb", "a\x00", "\ud800", "a\u202eb", "a\u200bb", "a\ue000", None, 1, b"a"]
)
def test_what_is_no_identifier_is_refused(value: object) -> None:
    with pytest.raises(InvalidValue) as refusal:
        clean_identifier("name", value)
    assert refusal.value.field == "name"


@cache
def _every_character() -> list[str]:
    return list(map(chr, range(0x110000)))


@cache
def _printable_characters() -> list[str]:
    return list(filter(is_printable, _every_character()))


def test_what_is_trimmed_is_the_white_space_of_unicode() -> None:
    for each in filter(str.isspace, _every_character()):
        assert clean_identifier("name", f"{each}a{each}") == "a"
    others = [each for each in _printable_characters() if not each.isspace()]
    # All of them in pieces, each of which would be shorter if one of its characters were trimmed.
    for start in range(0, len(others), 250):
        piece = "".join(others[start : start + 250])
        assert clean_identifier("name", piece) == piece


def test_what_is_unprintable_is_named_by_its_category() -> None:
    """Everything that this release of Unicode calls a control, format, separator, surrogate or private character."""
    categories = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs"}
    found = set(_every_character()).difference(_printable_characters())
    expected = {each for each in _every_character() if unicodedata.category(each) in categories} - {" "}
    assert expected - found == set()
    # Besides these only what has no character assigned to it.
    assert set(map(unicodedata.category, found - expected)) == {"Cn"}


def test_a_peers_words_are_cut_and_made_printable() -> None:
    assert printable("a\n\x00\u202e\ud800b" + "ä" * 300, 8) == "a    bää"


def test_text_without_nul_and_surrogates_can_be_stored() -> None:
    assert is_storable("ü\n\U0001f600")
    assert not is_storable("\x00")
    assert not is_storable("\udc00")


@pytest.mark.parametrize("edge", [EARLIEST_INSTANT, LATEST_INSTANT])
def test_the_first_and_the_last_instant_are_taken(edge: datetime) -> None:
    """And nothing before or after them, in any zone."""
    assert clean_instant("at", edge) == edge
    beyond = timezone(timedelta(hours=1) if edge == EARLIEST_INSTANT else timedelta(hours=-1))
    with pytest.raises(InvalidValue, match="years 1 to 9999"):
        clean_instant("at", edge.replace(tzinfo=beyond))


def test_an_instant_comes_out_in_utc() -> None:
    moment = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert clean_instant("at", moment).isoformat() == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize("value", [None, "2026-01-01T00:00:00Z", 0, datetime(2026, 1, 1)])  # noqa: DTZ001 - refused
def test_what_is_no_instant_is_refused(value: object) -> None:
    with pytest.raises(InvalidValue, match="time zone"):
        clean_instant("at", value)


def test_a_trace_parent_is_taken_as_it_is() -> None:
    text = f"00-{_TRACE}-{_PARENT}-01"
    assert clean_trace_parent("trace_parent", text) == text
    assert clean_trace_parent("trace_parent", f"cc-{_TRACE}-{_PARENT}-00") == f"cc-{_TRACE}-{_PARENT}-00"


@pytest.mark.parametrize(
    "value",
    [
        "",
        7,
        f"ff-{_TRACE}-{_PARENT}-01",
        f"00-{'0' * 32}-{_PARENT}-01",
        f"00-{_TRACE}-{'0' * 16}-01",
        f"00-{_TRACE.upper()}-{_PARENT}-01",
        f"00-{_TRACE}-{_PARENT}-01\n",
    ],
)
def test_what_is_no_trace_parent_is_refused(value: object) -> None:
    with pytest.raises(InvalidValue, match="traceparent"):
        clean_trace_parent("trace_parent", value)
