"""Pings that carry an offset, and the Pongs that echo it."""

from __future__ import annotations

import math
from uuid import UUID


class Heartbeat:
    """Which Pings are unanswered, when the next one is due, and how long the peer has been silent."""

    def __init__(self, epoch: UUID, *, interval: float, timeout: float, now: float) -> None:
        self._epoch = str(epoch)
        self._interval = interval
        self._timeout = timeout
        # The client counts the moment of the upgrade as a first Ping.
        self._last_ping_at = now
        #: When an idle connection needs the next Ping.
        self.due_at = now + interval
        #: When the peer counts as gone, unless a Pong arrives before; infinite if it owes none.
        self.silent_at = math.inf
        #: Payload of each unanswered Ping, oldest first, and how many carried it: an idle connection repeats itself.
        self._unanswered: dict[bytes, int] = {}

    def age(self, now: float) -> float:
        """Seconds since the last Ping."""
        return now - self._last_ping_at

    def ping(self, offset: int, now: float) -> bytes:
        """The payload of a Ping that covers everything up to `offset`; at most 56 bytes."""
        payload = f"{self._epoch}:{offset}".encode()
        if not self._unanswered:
            self.silent_at = now + self._timeout
        self._unanswered[payload] = self._unanswered.get(payload, 0) + 1
        self._last_ping_at = now
        self.due_at = now + self._interval
        return payload

    def answer(self, payload: bytes, now: float) -> int | None:
        """The offset that this Pong echoes; None if it answers no Ping of this connection.

        A Pong answers the Pings before its own too: a peer may leave out all but the newest (RFC 6455, 5.5.3).
        """
        if payload not in self._unanswered:
            return None
        while (oldest := next(iter(self._unanswered))) != payload:
            del self._unanswered[oldest]
        self._unanswered[payload] -= 1
        if not self._unanswered[payload]:
            del self._unanswered[payload]
        self.silent_at = now + self._timeout if self._unanswered else math.inf
        return int(payload.rpartition(b":")[2])
