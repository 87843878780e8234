"""Which offsets were sent and confirmed: one contiguous range, and the offsets that were acked ahead of it."""

from __future__ import annotations

import bisect
import sys


class Window:
    """Offsets of one connection. Always `confirmed` ≤ `sent`; neither ever moves back."""

    def __init__(self, start: int, size: int = sys.maxsize) -> None:
        #: Last offset that was handed out to be sent.
        self.sent = start
        #: Everything up to and including this offset is acked.
        self.confirmed = start
        self._size = size
        #: Ranges of offsets, first and last, that were acked out of turn; sorted, all greater than `confirmed`.
        self._ahead: list[tuple[int, int]] = []

    @property
    def room(self) -> int:
        """How many more events may be sent.

        Counted from `confirmed`, so that a peer that acknowledges all but one event cannot make `_ahead` grow.
        """
        return max(0, self._size - (self.sent - self.confirmed))

    def is_open(self, offset: int) -> bool:
        """Whether this offset was sent and is not acked yet."""
        return self.confirmed < offset <= self.sent and not any(first <= offset <= last for first, last in self._ahead)

    def extend(self) -> None:
        """Record that one more event was sent."""
        self.sent += 1

    def skip_to(self, offset: int) -> None:
        """Record that nothing up to `offset` will be sent any more."""
        skipped = self.sent + 1, offset
        if self._ahead and self._ahead[-1][1] == self.sent:
            skipped = self._ahead.pop()[0], offset
        self.sent = offset
        self._ahead.append(skipped)
        self._catch_up()

    def ack(self, offset: int) -> None:
        """Ack this one offset, perhaps out of turn."""
        bisect.insort(self._ahead, (offset, offset))
        self._catch_up()

    def ack_through(self, offset: int) -> None:
        """Ack everything up to and including `offset`."""
        self.confirmed = max(self.confirmed, min(offset, self.sent))
        self._catch_up()

    def _catch_up(self) -> None:
        while self._ahead and self._ahead[0][0] <= self.confirmed + 1:
            self.confirmed = max(self.confirmed, self._ahead.pop(0)[1])
