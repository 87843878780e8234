from __future__ import annotations

from gatecast.protocol.token_bucket import TokenBucket


def test_the_burst_is_there_at_once_and_no_more() -> None:
    bucket = TokenBucket(10.0, 3.0, now=0.0)

    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]


def test_it_fills_up_with_time_but_not_beyond_the_burst() -> None:
    bucket = TokenBucket(10.0, 3.0, now=0.0)
    assert bucket.take(0.0, 3.0)

    assert not bucket.take(0.05)
    assert bucket.take(0.1)
    assert not bucket.take(1_000.0, 4.0)
    assert bucket.take(1_000.0, 3.0)


def test_a_refused_take_takes_nothing() -> None:
    bucket = TokenBucket(0.0, 2.0, now=0.0)

    assert not bucket.take(0.0, 3.0)
    assert bucket.take(0.0, 2.0)
