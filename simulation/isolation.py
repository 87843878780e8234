"""P7 while a world lives: what waits for a connection stays bounded, and who reads is supplied."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from gatecast.delivery import feed
from gatecast.protocol.session import ServerSession, SessionLimits
from simulation.history import History

#: A reader that lacks events gets the next one within this time, in simulated seconds, beside the poll interval.
PATIENCE = 10.0

#: A pod that hears wake-ups again looks at everything; who lacks something then gets it within this time.
PATIENCE_AFTER_SILENCE = 5.0

#: How often everything is looked at, in simulated seconds.
LOOK_INTERVAL = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """How generous the pods of one world are: small bounds are reached by few events, so most worlds have them."""

    feed_events: int
    feed_bytes: int
    session: SessionLimits
    poll_interval: float

    @classmethod
    def drawn(cls, random_source: random.Random) -> Limits:
        """The limits that a seed determines."""
        small = random_source.random() < 0.75
        return cls(
            feed_events=8 if small else feed.MAX_EVENTS,
            feed_bytes=random_source.choice((500, 100_000)) if small else feed.MAX_BYTES,
            session=SessionLimits(window_v1=4, window_v2=8) if small else SessionLimits(),
            # So long that only the sweep behind a lost wake-up makes good for it in time.
            poll_interval=random_source.choice((0.5, 0.5, 60.0)),
        )

    @contextmanager
    def of_feeds(self) -> Iterator[None]:
        """Let every feed have these limits meanwhile."""
        real = feed.MAX_EVENTS, feed.MAX_BYTES
        feed.MAX_EVENTS, feed.MAX_BYTES = self.feed_events, self.feed_bytes
        try:
            yield
        finally:
            feed.MAX_EVENTS, feed.MAX_BYTES = real

    @property
    def longest_pause(self) -> float:
        """How long a pod may pause, at the most, once its database has come back; in seconds."""
        return max(5.0, self.poll_interval)

    def is_full(self, one: feed.Feed) -> bool:
        """Whether nothing more should be read for it."""
        waiting = _waiting(one)
        return len(waiting) >= self.feed_events or sum(waiting) >= self.feed_bytes

    def check_feed(self, history: History, one: feed.Feed) -> None:
        """P7: what waits in a feed is bounded in number and size. Counted here, whatever the feed itself believes."""
        waiting = _waiting(one)
        if len(waiting) > self.feed_events:
            history.fail(f"P7: {len(waiting)} events wait for {one.gateway_id}, at most {self.feed_events} may")
        if sum(waiting[:-1]) > self.feed_bytes:
            history.fail(f"P7: {sum(waiting)} bytes wait for {one.gateway_id}, at most {self.feed_bytes} and one event")

    def check_window(self, history: History, gateway_id: str, session: ServerSession) -> None:
        """P7: what is sent and not settled is bounded; what was passed over is not on its way."""
        window = session._window  # noqa: SLF001 - nothing else tells what was settled out of turn
        settled = sum(last - first + 1 for first, last in window._ahead)  # noqa: SLF001 - the same
        if (flying := window.sent - window.confirmed - settled) > max(self.session.window_v1, self.session.window_v2):
            history.fail(f"P7: {flying} unconfirmed events are on their way to {gateway_id}")


def _waiting(one: feed.Feed) -> list[int]:
    """The size of each event that waits."""
    return [len(event.payload) for event in one._queue]  # noqa: SLF001 - nothing else tells what it holds


@dataclass(slots=True)
class Supply:
    """Whether one gateway gets what it lacks, as long as nothing of its own is in the way."""

    history: History
    gateway_id: str
    #: Since when nothing was in the way, and nothing came.
    waits_since: float = 0.0
    _deliveries: int = 0

    def look(self, epoch: UUID, *, now: float, hindered: bool) -> None:
        """Begin to count anew when something is in the way, when something came, and when nothing is lacking."""
        delivered = self.history.handled[self.gateway_id].deliveries
        # Of a history that lost events nothing can be expected, but that it ends.
        hindered = hindered or epoch in self.history.shaken
        if hindered or delivered != self._deliveries or self.history.has_everything(self.gateway_id, epoch):
            self.waits_since, self._deliveries = now, delivered

    def check(self, epoch: UUID, source: Source) -> None:
        """P3: who reads and lacks something gets something in time; P7: also while others take nothing."""
        waits = source.now - self.waits_since
        if waits > source.patience:
            self.history.fail(f"{source.promise}: {self.gateway_id} reads, and has got nothing for {waits:.0f} s")
        waits = source.now - max(self.waits_since, source.heard_since)
        if waits > PATIENCE_AFTER_SILENCE and self.history.lacks(self.gateway_id, epoch, source.head_then):
            self.history.fail(
                f"{source.promise}: {self.gateway_id} is not sent what its pod did not hear of, for {waits:.0f} s"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What can be expected of the pod that one gateway reads from."""

    now: float
    #: How long one may wait for it, in seconds.
    patience: float
    #: Since when it hears wake-ups, and how far the gateway's log went then.
    heard_since: float
    head_then: int
    #: The promise that it breaks when it does not supply: another connection that takes nothing is no excuse.
    promise: str
