"""One loop per pod that reads the log for every connection of the pod."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

from gatecast.containment import RetryLoop, concerns_everyone, log_failure
from gatecast.delivery.database_clock import DatabaseClock
from gatecast.delivery.feed import LOG_MOVED, Feed
from gatecast.delivery.history_watch import HistoryWatch
from gatecast.errors import GatecastError
from gatecast.events import Position
from gatecast.storage.contract import Changes, DisconnectReason, EventLog, ReadResult
from gatecast.storage.reading import read_each
from gatecast.telemetry import metrics, traces
from gatecast.waiting import Backoff, Signal
from gatecast.wakeup.contract import Hint

#: Most gateways in one read; bounds the memory of one pass.
_GATEWAYS_PER_READ = 100

#: A log that alone cannot be read is tried again after this time; in seconds.
_PUT_OFF = 5.0


class Reader:
    """Keeps every feed of this pod supplied.

    A hint names gateways to read for. Hints can be lost without harm: every `poll_interval` seconds the reader asks the
    log which gateways changed. A gateway without a feed here costs nothing here.
    """

    def __init__(self, log: EventLog, *, poll_interval: float, backoff: Backoff | None = None) -> None:
        self._log = log
        self._poll_interval = poll_interval
        #: Keeps the pod reading, and remembers why it does not.
        self.loop = RetryLoop(
            "read-failed",
            "the log cannot be read",
            backoff=backoff or Backoff(first=min(0.1, poll_interval), longest=max(2.0, poll_interval)),
            on_failure=self._distrust,
        )
        self._feeds: defaultdict[str, list[Feed]] = defaultdict(list)
        #: Feeds that may want events; a pass visits only these, so its cost does not depend on idle feeds.
        self._due: dict[Feed, None] = {}
        #: Feeds of logs that cannot be read; whatever hints arrive for these, they wait for their next attempt.
        self._refused: set[Feed] = set()
        self._signal = Signal()
        self._sweep_due_at = 0.0
        self._history = HistoryWatch(log)
        #: The database's clock, as its answers show it.
        self.clock = DatabaseClock()
        self._ask_for_everything = False

    @property
    def feeds(self) -> int:
        """How many feeds are open."""
        return sum(map(len, self._feeds.values()))

    @property
    def last_sweep(self) -> Changes | None:
        """What this pod found at its last sweep, and where; None before the first."""
        return self._history.last

    def open(self, gateway_id: str, after: Position) -> Feed:
        """A feed that begins after `after`; reading for it begins at once."""
        feed = Feed(gateway_id, after, on_room=self._call_for, clock=self.clock)
        self._feeds[gateway_id].append(feed)
        self._call_for(feed)
        return feed

    def close(self, feed: Feed) -> None:
        """Stop reading for a feed; closing it twice does nothing."""
        feeds = self._feeds.get(feed.gateway_id, [])
        if feed in feeds:
            feeds.remove(feed)
            if not feeds:
                del self._feeds[feed.gateway_id]

    def hint(self, hint: Hint) -> None:
        """Read these gateways' logs, or every log, as soon as possible."""
        if hint.gateways is None:
            self._sweep_due_at = 0.0
            self._signal.set()
            return
        for gateway_id in sorted(hint.gateways & self._feeds.keys()):
            for feed in self._feeds[gateway_id]:
                feed.suspect = True
                self._call_for(feed)

    def _call_for(self, feed: Feed) -> None:
        self._due[feed] = None
        self._signal.set()

    @property
    def problem(self) -> str | None:
        """Why the last pass failed, or None if it succeeded."""
        return self.loop.problem

    async def run(self) -> None:
        """Read until cancelled. The database may fail and return; the feeds keep their positions."""
        await self.loop.run(self._pass, rest=self._rest)

    async def _pass(self) -> None:
        await self._sweep_if_due(_now())
        await self._read_due()

    async def _rest(self) -> None:
        await self._signal.wait(max(0.0, self._sweep_due_at - _now()))

    def _distrust(self) -> None:
        """After an outage, ask for every head: the database that returns may be another one."""
        self._ask_for_everything = True
        self._sweep_due_at = 0.0

    async def _sweep_if_due(self, now: float) -> None:
        if now < self._sweep_due_at:
            return
        # Set before the query: a request for a sweep that arrives in the meantime must not be forgotten.
        self._sweep_due_at = now + self._poll_interval
        before = self._history.last
        asked_at = self.clock.now()
        changes = await self._history.look(at_everything=self._ask_for_everything)
        if changes.answered_at:
            self.clock.measure(asked_at=asked_at, answered_at=self.clock.now(), shown=changes.answered_at)
        self._ask_for_everything = False
        metrics.reader_passed()
        if before is not None and before.epoch != changes.epoch:
            self._end_other_histories(changes)
        for gateway_id, head in changes.heads.items():
            for feed in self._feeds.get(gateway_id, ()):
                feed.known_head = max(feed.known_head, head)
                self._due[feed] = None

    def _end_other_histories(self, changes: Changes) -> None:
        """End the connections of a history that has ended: their gateways reconnect and resynchronize."""
        for feed in self._all_feeds():
            if feed.epoch != changes.epoch:
                feed.end(LOG_MOVED)

    def _all_feeds(self) -> list[Feed]:
        return [feed for feeds in self._feeds.values() for feed in feeds]

    async def _read_due(self) -> None:
        """Read once for every feed that wants events; feeds that want more are due again."""
        due, self._due = self._due, {}
        wanted = [feed for feed in due if feed.wants_read and feed not in self._refused]
        for start in range(0, len(wanted), _GATEWAYS_PER_READ):
            try:
                await self._read(wanted[start : start + _GATEWAYS_PER_READ])
            except BaseException:
                for feed in wanted[start:]:
                    feed.suspect = True
                    self._call_for(feed)
                raise

    async def _read(self, feeds: Sequence[Feed]) -> None:
        requests = [feed.request() for feed in feeds]
        began = time.time()
        results = await read_each(self._log, requests)
        found = (result for result in results if isinstance(result, ReadResult))
        traces.told_together("read", chain.from_iterable(result.events for result in found), began)
        for request, result in zip(requests, results, strict=True):
            if isinstance(result, ReadResult):
                self._history.check(request, result)
        for feed, result in zip(feeds, results, strict=True):
            if isinstance(result, GatecastError):
                self._put_off(feed, result)
            elif result is None:
                feed.end(DisconnectReason.GATEWAY_DELETED)
            else:
                feed.accept(result)
            if feed.wants_read:
                self._call_for(feed)

    def _put_off(self, feed: Feed, error: GatecastError) -> None:
        """Read this log again later: the others do not wait for it.

        Raises:
            GatecastError: the log is not at fault.
        """
        if concerns_everyone(error):
            raise error
        log_failure("read-refused", error, gateway=feed.gateway_id, after=feed.read_through)
        self._refused.add(feed)
        asyncio.get_running_loop().call_later(_PUT_OFF, self._look_again, feed)

    def _look_again(self, feed: Feed) -> None:
        self._refused.discard(feed)
        feed.suspect = True
        self._call_for(feed)


def _now() -> float:
    return asyncio.get_running_loop().time()
