"""What an answer of the server means."""

from __future__ import annotations

import pytest

from gatecast.errors import StatementFailed, StorageUnavailable
from gatecast.storage.jetstream.stream import Stale, raise_error


@pytest.mark.parametrize(
    ("code", "number", "raised"),
    [
        (503, 10077, StorageUnavailable),  # the stream has reached its largest size
        (503, 10023, StorageUnavailable),  # the server has no room
        (500, 10047, StorageUnavailable),  # the server's disk has no room
        (500, 10028, StorageUnavailable),  # its memory has none
        (400, 10002, StorageUnavailable),  # the account has reached its limits
        (404, 10059, StorageUnavailable),  # the stream is gone
        (400, 10054, StatementFailed),  # this message is too large
        (400, 10071, Stale),
    ],
)
def test_what_concerns_everybody_refuses_no_single_event(code: int, number: int, raised: type[Exception]) -> None:
    """An outbox would hold back the first event of each gateway, until an operator decides."""
    with pytest.raises(raised, match=rf"JetStream says: no \({number}\)"):
        raise_error({"error": {"code": code, "err_code": number, "description": "no"}})


def test_an_answer_without_an_error_is_one() -> None:
    """Nothing is raised."""
    raise_error({"seq": 1})
