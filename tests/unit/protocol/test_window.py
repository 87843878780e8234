from __future__ import annotations

from gatecast.protocol.window import Window


def sent_through(last: int, *, start: int = 0, size: int = 8) -> Window:
    """A window in which everything up to `last` was sent."""
    window = Window(start, size)
    for _ in range(last - start):
        window.extend()
    return window


def test_room_shrinks_with_what_is_sent_and_grows_with_what_is_settled() -> None:
    window = sent_through(6)
    assert window.room == 2

    window.ack_through(4)
    assert window.room == 6


def test_settling_never_moves_back_nor_passes_what_was_sent() -> None:
    window = sent_through(3)

    window.ack_through(9)
    window.ack_through(1)

    assert window.confirmed == 3


def test_what_is_settled_out_of_turn_counts_once_everything_before_it_is_settled() -> None:
    window = sent_through(5)
    window.ack(3)
    window.ack(2)
    assert window.confirmed == 0
    assert [offset for offset in range(7) if window.is_open(offset)] == [1, 4, 5]

    window.ack(1)
    assert window.confirmed == 3


def test_skipping_ahead_of_open_events_waits_for_them() -> None:
    window = sent_through(2)
    window.skip_to(5)
    assert (window.sent, window.confirmed) == (5, 0)

    window.ack_through(2)
    assert window.confirmed == 5


def test_skipping_with_nothing_open_is_settled_at_once_and_leaves_room() -> None:
    window = sent_through(0)
    window.skip_to(1_000)

    assert (window.sent, window.confirmed, window.room) == (1_000, 1_000, 8)


def test_settling_into_the_middle_of_what_was_skipped_settles_all_of_it() -> None:
    window = sent_through(2)
    window.skip_to(5)
    window.ack_through(4)

    assert window.confirmed == 5


def test_skipping_again_and_again_remembers_one_range() -> None:
    window = sent_through(1)
    for offset in range(2, 100):
        window.skip_to(offset)

    assert len(window._ahead) == 1
