"""Which regular expressions of gateways are applied, and how long that may take."""

from __future__ import annotations

import time

import pytest

from gatecast.controlplane.policies.text_patterns import MAX_PATTERN_LENGTH, text_pattern


@pytest.mark.parametrize(
    ("pattern", "taken", "refused"),
    [
        ("^[0-9]+(ns|us|µs|ms|s|m|h)$", "30s", "one minute"),
        ("^[a-zA-Z0-9-_]+$", "X-Api-Key", "a b"),
        ("^https?://.+$", "https://a.example", "ftp://a"),
        (r"^\$\.", "$.model", "model"),
        ("[a-z]", "1a1", "1"),
        (r"^v\d{1,3}$", "v12", "v1234"),
        ("^(?:a|b)?c$", "bc", "d"),
        ("^a$", "a", "a\n"),
        (r"^\d$", "1", "٣"),
        ("^[^{}()]$", "a", "{"),
    ],
)
def test_a_plain_pattern_is_applied(pattern: str, taken: str, refused: str) -> None:
    found = text_pattern(pattern)
    assert found is not None
    assert not found.refuses(taken)
    assert found.refuses(refused)


@pytest.mark.parametrize(
    "pattern",
    [
        "^(a+)+$",
        "^(a|a)*$",
        "(?=a)a",
        "(?P<n>a)",
        r"(a)\1",
        r"\pL",
        "[[:alpha:]]",
        "a**",
        "(",
        ")",
        "a{3,1}",
        "a$b",
        "a^b",
        "[z-a]",
        "x" * (MAX_PATTERN_LENGTH + 1),
        "(" * 200,
        7,
        None,
    ],
)
@pytest.mark.timeout(5)
def test_any_other_is_not(pattern: object) -> None:
    assert text_pattern(pattern) is None


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("a*" * 20 + "b", "a" * 2_000),
        ("^" + "a?" * 60 + "a" * 60 + "$", "a" * 60),
        ("^" + "(a|a)" * 50 + "$", "a" * 49 + "b"),
        ("^" + "a{0,99}" * 30 + "$", "a" * 90 + "b"),
        (".*.*.*=.*", "x" * 60_000),
        ("[a-z]+[0-9]", "a" * 60_000),
    ],
)
def test_nothing_takes_long(pattern: str, text: str) -> None:
    found = text_pattern(pattern)
    assert found is not None
    started = time.perf_counter()
    found.refuses(text)
    assert time.perf_counter() - started < 0.5
