"""Who may connect is decided before the upgrade, by counting (scenario S27)."""

from __future__ import annotations

from contextlib import ExitStack
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatecast import Settings
from gatecast.errors import TooManyAttempts, Unauthenticated
from gatecast.server.admission import Admission, AttemptRate, TokenAttempts, client_address

_PROXY = "10.0.0.1"
_TRUSTED = (ip_network("10.0.0.0/8"),)


def _admission(**limits: Any) -> Admission:  # noqa: ANN401 - as Settings
    return Admission(Settings(**limits), clock=lambda: 0.0)


def test_a_full_pod_sends_everybody_elsewhere() -> None:
    admission = _admission(max_connections=1)
    with admission.holding("edge", "192.0.2.1"):
        refusal = admission.attempt("192.0.2.2")
        assert refusal is not None
        assert refusal.status == 503
        assert "1 connections" in refusal.problem
    assert admission.attempt("192.0.2.2") is None
    assert admission.connections == 0


def test_connections_of_one_gateway_and_of_one_address_are_limited() -> None:
    admission = _admission(max_connections_per_gateway=1, max_connections_per_address=2)
    with admission.holding("edge", "192.0.2.1"), admission.holding("other", "192.0.2.1"):
        by_gateway, by_address = admission.fits("edge", "192.0.2.2"), admission.attempt("192.0.2.1")
        assert by_gateway is not None
        assert by_address is not None
        assert by_gateway.status == by_address.status == 429
        assert admission.fits("third", "192.0.2.2") is None


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_address", "max_connections_per_gateway"])
def test_those_who_come_at_once_do_not_pass_a_limit_together(limit: str) -> None:
    """All of them asked before any of them was counted: who they are is looked up in between."""
    admission = _admission(**{limit: 3})
    assert all(admission.attempt("192.0.2.1") is None for _ in range(10))
    with ExitStack() as held:
        for _ in range(10):
            if admission.fits("edge", "192.0.2.1") is None:
                held.enter_context(admission.holding("edge", "192.0.2.1"))
        assert admission.connections == 3


def test_nobody_is_admitted_while_the_pod_shuts_down() -> None:
    """Nor are those who came before it began and were looked up meanwhile."""
    admission = _admission()
    admission.closed = True
    for refusal in (admission.attempt("192.0.2.1"), admission.fits("edge", "192.0.2.1")):
        assert refusal is not None
        assert refusal.status == 503


def test_attempts_are_limited_by_address_and_allowed_again_with_time() -> None:
    now = 0.0
    rate = AttemptRate(60, clock=lambda: now)
    assert [rate.allows("192.0.2.1") for _ in range(61)] == [True] * 60 + [False]
    assert rate.allows("192.0.2.2")
    now = 1.0
    assert [rate.allows("192.0.2.1") for _ in range(2)] == [True, False]


def test_an_attacker_with_many_addresses_takes_bounded_memory() -> None:
    rate = AttemptRate(60, clock=lambda: 0.0)
    for number in range(20_000):
        rate.allows(str(number))
    assert len(rate._buckets) == 10_000


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "counted"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        (_PROXY, "", _PROXY),
        (_PROXY, "198.51.100.7", "198.51.100.7"),
        (_PROXY, "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        (_PROXY, "203.0.113.9, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        (_PROXY, "nonsense", _PROXY),
        (_PROXY, "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (_PROXY, "203.0.113.9, nonsense, 10.0.0.2", "10.0.0.2"),
        (_PROXY, "203.0.113.9:51234", "203.0.113.9"),
        (_PROXY, "[2001:db8::1]:51234", "2001:db8::1"),
        (f"::ffff:{_PROXY}", "198.51.100.7", "198.51.100.7"),
        ("unknown", "198.51.100.7", "unknown"),
        (_PROXY, "2001:db8::1", "2001:db8::1"),
    ],
)
def test_a_forwarded_address_counts_only_from_a_trusted_proxy(peer: str, forwarded_for: str, counted: str) -> None:
    assert client_address(peer, forwarded_for, _TRUSTED) == counted


@given(st.text(max_size=200))
def test_no_header_lets_a_client_choose_its_own_address(header: str) -> None:
    assert client_address("192.0.2.1", header, _TRUSTED) == "192.0.2.1"


async def _try(attempts: TokenAttempts, address: str, digest: str, *, good: bool) -> str:
    try:
        async with attempts.counted(address, digest):
            _look_up(good=good)
    except (Unauthenticated, TooManyAttempts) as refused:
        return type(refused).__name__
    return "good"


def _look_up(*, good: bool) -> None:
    if not good:
        raise Unauthenticated


async def test_bad_tokens_are_limited_and_good_ones_are_not() -> None:
    """For each address by itself; time gives attempts back."""
    now = 0.0
    attempts = TokenAttempts(3, clock=lambda: now)
    assert {await _try(attempts, "192.0.2.1", "known", good=True) for _ in range(20)} == {"good"}
    bad = [await _try(attempts, "192.0.2.1", f"guess-{number}", good=False) for number in range(5)]
    assert bad == ["Unauthenticated"] * 3 + ["TooManyAttempts"] * 2
    assert await _try(attempts, "192.0.2.2", "other", good=True) == "good"
    now = 20.0
    assert await _try(attempts, "192.0.2.1", "new", good=True) == "good"


async def test_who_worked_before_is_not_locked_out_by_who_guesses() -> None:
    """Unless the token is bad by now; a good one that nobody has seen waits like a guess."""
    attempts = TokenAttempts(1, clock=lambda: 0.0)
    assert await _try(attempts, "192.0.2.1", "known", good=True) == "good"
    assert await _try(attempts, "192.0.2.1", "guess", good=False) == "Unauthenticated"
    assert await _try(attempts, "192.0.2.1", "known", good=True) == "good"
    assert await _try(attempts, "192.0.2.1", "guess", good=False) == "TooManyAttempts"
    assert await _try(attempts, "192.0.2.1", "known", good=False) == "Unauthenticated"
    assert await _try(attempts, "192.0.2.1", "known", good=True) == "TooManyAttempts"
