from __future__ import annotations

from math import inf
from uuid import UUID

import pytest

from gatecast.protocol.heartbeat import Heartbeat


@pytest.fixture
def heartbeat(epoch: UUID) -> Heartbeat:
    """A heartbeat that began at second 0."""
    return Heartbeat(epoch, interval=15.0, timeout=90.0, now=0.0)


def test_the_first_ping_is_due_one_interval_after_the_beginning(heartbeat: Heartbeat) -> None:
    assert heartbeat.due_at == 15.0


def test_a_peer_that_owes_no_pong_is_never_silent(heartbeat: Heartbeat) -> None:
    assert heartbeat.silent_at == inf


def test_a_ping_fits_into_a_control_frame(heartbeat: Heartbeat) -> None:
    assert len(heartbeat.ping(2**63 - 1, 0.0)) <= 125


def test_silence_counts_from_the_first_unanswered_ping(heartbeat: Heartbeat) -> None:
    heartbeat.ping(1, 10.0)
    heartbeat.ping(2, 20.0)

    assert heartbeat.silent_at == 100.0


def test_a_pong_begins_the_silence_anew_while_others_are_owed(heartbeat: Heartbeat) -> None:
    first = heartbeat.ping(1, 10.0)
    second = heartbeat.ping(2, 10.0)

    heartbeat.answer(first, 50.0)
    assert heartbeat.silent_at == 140.0

    heartbeat.answer(second, 60.0)
    assert heartbeat.silent_at == inf


def test_equal_pings_are_answered_one_by_one(heartbeat: Heartbeat) -> None:
    pings = [heartbeat.ping(1, now) for now in (15.0, 30.0, 45.0)]

    assert [heartbeat.answer(payload, 50.0) for payload in pings] == [1, 1, 1]
    assert heartbeat.answer(pings[0], 50.0) is None


def test_a_pong_answers_the_pings_before_its_own(heartbeat: Heartbeat) -> None:
    first = heartbeat.ping(1, 0.0)
    second = heartbeat.ping(2, 0.0)

    assert heartbeat.answer(second, 1.0) == 2
    assert heartbeat.answer(first, 1.0) is None


@pytest.mark.parametrize("payload", [b"", b"7", b"\xff" * 125, b"99999999-2222-4333-8444-555555555555:8"])
def test_a_pong_that_echoes_no_ping_answers_nothing(heartbeat: Heartbeat, payload: bytes) -> None:
    heartbeat.ping(7, 0.0)

    assert heartbeat.answer(payload, 1.0) is None
    assert heartbeat.silent_at == 90.0


def test_a_peer_that_never_answers_costs_one_entry_per_offset(heartbeat: Heartbeat) -> None:
    for now in range(1_000):
        heartbeat.ping(7, float(now))

    assert len(heartbeat._unanswered) == 1
