from __future__ import annotations

from gatecast.protocol.close_codes import CLOSE_CODES, INTERNAL, RESTARTING, for_number, for_reason
from gatecast.storage.contract import DisconnectReason


def test_every_dismissal_has_a_code_of_the_same_name_that_says_whether_to_come_back() -> None:
    codes = [for_reason(dismissal) for dismissal in DisconnectReason]

    assert [code.reason for code in codes] == list(DisconnectReason)
    assert [code.reason for code in codes if code.reconnect] == [DisconnectReason.RESTARTING]


def test_a_restart_means_come_back() -> None:
    assert for_reason("restarting") is RESTARTING
    assert RESTARTING.number == 1012
    assert RESTARTING.reconnect


def test_an_unknown_reason_is_an_internal_error() -> None:
    assert for_reason("no such reason") is INTERNAL


def test_numbers_and_reasons_are_unique_and_sorted() -> None:
    numbers = [code.number for code in CLOSE_CODES]

    assert numbers == sorted(set(numbers))
    assert len({code.reason for code in CLOSE_CODES}) == len(CLOSE_CODES)


def test_every_code_can_stand_in_a_close_frame() -> None:
    """Private numbers are 4000 to 4999, and a reason has at most 123 bytes."""
    for code in CLOSE_CODES:
        assert code.number in {1000, 1009, 1011, 1012} or 4000 <= code.number <= 4999
        assert 0 < len(code.reason.encode()) <= 123


def test_codes_are_found_by_number() -> None:
    assert for_number(4029) is for_reason("rate-exceeded")
    assert for_number(1006) is None
    assert for_number(None) is None
