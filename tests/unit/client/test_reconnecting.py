"""When a client connects again."""

from __future__ import annotations

import pytest

from gatecast.client.reconnecting import (
    Lost,
    ReconnectPlan,
    ReconnectTimes,
    Refused,
    Unreachable,
    parse_retry_after,
)
from gatecast.errors import Forbidden, ProtocolViolation, SubscriptionClosed, Unauthenticated
from gatecast.protocol.close_codes import CLOSE_CODES, RESTARTING, CloseCode

USEFUL, USELESS = Lost(None, useful=True), Lost(None, useful=False)


@pytest.fixture
def plan() -> ReconnectPlan:
    return ReconnectPlan(ReconnectTimes())


def test_after_a_loss_it_connects_at_once(plan: ReconnectPlan) -> None:
    assert plan.pause_after(USELESS) == 0.0


def test_after_every_loss_of_a_useful_connection_it_connects_at_once(plan: ReconnectPlan) -> None:
    assert [plan.pause_after(USEFUL) for _ in range(20)] == [0.0] * 20


def test_connections_that_are_good_for_nothing_are_no_busy_loop(plan: ReconnectPlan) -> None:
    pauses = [plan.pause_after(USELESS) for _ in range(10)]
    assert pauses[0] == 0.0
    assert all(pause >= 0.1 for pause in pauses[1:])
    assert pauses[-1] >= 3.0


def test_pauses_grow_to_thirty_seconds_and_no_further(plan: ReconnectPlan) -> None:
    pauses = [plan.pause_after(Unreachable("refused")) for _ in range(200)]
    assert 0.1 <= pauses[0] <= 1.0
    assert all(3.0 <= pause <= 30.0 for pause in pauses[5:])
    assert len(set(pauses)) > 100, "pauses are jittered"


def test_a_useful_connection_starts_the_pauses_anew(plan: ReconnectPlan) -> None:
    for _ in range(10):
        plan.pause_after(Unreachable("refused"))
    assert plan.pause_after(USEFUL) == 0.0
    assert plan.pause_after(Unreachable("refused")) <= 2.0


def test_a_restarting_server_is_given_a_moment_with_spread(plan: ReconnectPlan) -> None:
    pauses = {plan.pause_after(Lost(RESTARTING.number, useful=True)) for _ in range(50)}
    assert all(0.1 <= pause <= 1.0 for pause in pauses)
    assert len(pauses) > 40


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_the_least_pause_but_not_believed_beyond_its_limit(plan: ReconnectPlan, status: int) -> None:
    assert 20.0 <= plan.pause_after(Refused(status, 20.0)) <= 30.0
    assert plan.pause_after(Refused(status, 1_000_000.0)) == 300.0


@pytest.mark.parametrize(("status", "error"), [(401, Unauthenticated), (403, Forbidden)])
def test_a_refused_token_is_an_error(plan: ReconnectPlan, status: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        plan.pause_after(Refused(status))


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (Refused(404), "name the gateway listener"),
        (Unreachable("self-signed", distrusted=True), "self-signed; say with"),
    ],
    ids=["404", "certificate"],
)
def test_what_trying_again_will_not_mend_is_an_error_unless_it_is_told_to_persist(
    plan: ReconnectPlan, ending: Refused | Unreachable, said: str
) -> None:
    with pytest.raises(ProtocolViolation, match=said):
        plan.pause_after(ending)
    assert ReconnectPlan(ReconnectTimes(), persistent=True).pause_after(ending) > 0


@pytest.mark.parametrize("status", [400, 409, 422, 429, 500, 502, 503])
def test_any_other_status_is_tried_again(plan: ReconnectPlan, status: int) -> None:
    assert plan.pause_after(Refused(status)) > 0


@pytest.mark.parametrize("code", [code for code in CLOSE_CODES if code.reconnect], ids=lambda code: code.reason)
def test_most_close_codes_mean_to_come_back(plan: ReconnectPlan, code: CloseCode) -> None:
    assert plan.pause_after(Lost(code.number, useful=True)) <= 1.0


@pytest.mark.parametrize("code", [code for code in CLOSE_CODES if not code.reconnect], ids=lambda code: code.reason)
def test_the_others_are_errors_that_name_the_reason(plan: ReconnectPlan, code: CloseCode) -> None:
    with pytest.raises(SubscriptionClosed) as caught:
        plan.pause_after(Lost(code.number, useful=True))
    assert caught.value.reason == code.reason


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("5", 5.0), ("0", 0.0), (None, None), ("", None), ("-1", None), ("soon", None), ("٣", None)],
)
def test_retry_after_is_read_as_seconds_or_not_at_all(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header) == seconds


def test_retry_after_as_a_date_is_not_read() -> None:
    assert parse_retry_after("Fri, 02 Jan 2026 03:04:05 GMT") is None
