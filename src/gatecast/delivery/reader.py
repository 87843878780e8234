"""One loop per pod that reads the log for every connection of the pod."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from gatecast.delivery.feed import LOG_MOVED, Feed
from gatecast.delivery.memory import Memory
from gatecast.errors import StorageError, StorageUnavailable
from gatecast.events import Position
from gatecast.storage.changes import changes_since
from gatecast.storage.contract import Changes, Dismissal, EventLog, ReadRequest, ReadResult, Verdict
from gatecast.telemetry import get_logger, metrics
from gatecast.waiting import Backoff, Signal
from gatecast.wakeup.contract import Hint

#: Most gateways in one read; bounds the memory of one pass.
_GATEWAYS_PER_READ = 100

#: Most remembered events in one comparison with the log.
_EVENTS_PER_COMPARISON = 1_000

_logger = get_logger("reader")


class Reader:
    """Keeps every feed of this pod supplied.

    A hint names gateways to read for; behind it, every `poll_interval` seconds, the log is asked which gateways
    changed. Hints can be lost without harm. A gateway without a feed here costs nothing here.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        poll_interval: float,
        backoff: Backoff | None = None,
    ) -> None:
        self._log = log
        self._poll_interval = poll_interval
        self._backoff = backoff or Backoff(first=min(0.1, poll_interval), longest=max(2.0, poll_interval))
        self._feeds: defaultdict[str, list[Feed]] = defaultdict(list)
        #: Feeds that may want something; looking at these alone keeps a pass independent of how many feeds idle.
        self._due: dict[Feed, None] = {}
        self._signal = Signal()
        self._sweep_due_at = 0.0
        #: What the last sweep found.
        self._swept: Changes | None = None
        self._ask_for_everything = False
        self._memory = Memory()
        #: Why the last pass failed, or None when it succeeded.
        self.problem: str | None = None

    @property
    def feeds(self) -> int:
        """How many feeds are open."""
        return sum(map(len, self._feeds.values()))

    @property
    def last_sweep(self) -> Changes | None:
        """What this pod last found, and where; None before its first look."""
        return self._swept

    def open(self, gateway_id: str, after: Position) -> Feed:
        """A feed that begins behind `after`; reading for it begins at once."""
        feed = Feed(gateway_id, after, on_room=self._call_for)
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
        """Look at these gateways, or at everything, as soon as possible."""
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

    async def run(self) -> None:
        """Read until cancelled. The database may go and come back; the feeds keep their places."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            try:
                await self._sweep_if_due(loop.time())
                await self._read_due()
            except StorageError as error:
                failures += 1
                self.problem = str(error)
                self._distrust()
                _logger.warning("read-failed", error=str(error), attempt=failures)
                await asyncio.sleep(self._backoff.pause(failures))
                continue
            failures, self.problem = 0, None
            await self._signal.wait(max(0.0, self._sweep_due_at - loop.time()))

    def _distrust(self) -> None:
        """After an outage ask for every head: the database that comes back may be another one."""
        self._ask_for_everything = True
        self._sweep_due_at = 0.0

    async def _sweep_if_due(self, now: float) -> None:
        if now < self._sweep_due_at:
            return
        # Set before the question is asked: a demand for a sweep that comes meanwhile must not be forgotten.
        self._sweep_due_at = now + self._poll_interval
        found = await changes_since(self._log, None if self._ask_for_everything else self._swept)
        metrics.reader_passed()
        changes = await self._certain(found)
        if self._swept is not None and self._swept.epoch != changes.epoch:
            self._begin_history(changes.epoch)
        self._swept, self._ask_for_everything = changes, False
        for gateway_id, head in changes.heads.items():
            for feed in self._feeds.get(gateway_id, ()):
                feed.known_head = max(feed.known_head, head)
                self._due[feed] = None

    async def _certain(self, changes: Changes) -> Changes:
        """The changes, once it is certain which history they belong to, and that it holds everything that was read.

        Whichever pod notices first decides; the others find the decision, and compare it with what they remember.
        """
        if await self._is_contradicted(changes):
            await self._log.renew_epoch(changes.epoch)
            _logger.error("history-replaced", ended=str(changes.epoch))
            changes = await self._log.changed_since(0)
        if not changes.settled:
            changes = await self._settle(changes)
        return changes

    async def _settle(self, changes: Changes) -> Changes:
        """Everything, once it is decided whether the history goes on where it is found now."""
        # While commits did not wait for a standby, the newest ones were on one server alone.
        doubts = self._swept is not None and not self._swept.synchronous
        epoch = await self._log.settle_history(changes.epoch, Verdict.DOUBT if doubts else Verdict.RECORD)
        if epoch == changes.epoch:
            _logger.info("history-goes-on", epoch=str(epoch))
        else:
            _logger.error("history-replaced", ended=str(changes.epoch))
        changes = await self._log.changed_since(0)
        if not changes.settled:
            raise StorageUnavailable("another server answers each time; whose history it is cannot be settled")
        return changes

    async def _is_contradicted(self, changes: Changes) -> bool:
        """Whether the present history lacks what was read of it, or holds something else there.

        Asked when another server answers, and when a log looks shorter than what was read from it. That may have an
        innocent reason: its gateway was deleted and registered again.
        """
        if self._swept is None or self._swept.epoch != changes.epoch:
            return False
        shorter = self._memory.longer_than(changes.heads)
        if not shorter and self._swept.server == changes.server:
            return False
        for batch in self._memory.batches(_EVENTS_PER_COMPARISON):
            if await self._log.contradicts(batch):
                return True
        self._memory.forget(shorter)
        return False

    def _begin_history(self, epoch: UUID) -> None:
        """What was read belongs to a history that has ended: its connections come back and are told."""
        self._memory.clear()
        for feed in self._all_feeds():
            if feed.epoch != epoch:
                feed.end(LOG_MOVED)

    def _all_feeds(self) -> list[Feed]:
        return [feed for feeds in self._feeds.values() for feed in feeds]

    async def _read_due(self) -> None:
        """Read once for every feed that wants something; whoever wants more is due again."""
        due, self._due = self._due, {}
        wanted = [feed for feed in due if feed.wants_read]
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
        results = await self._log.read(requests)
        for request, result in zip(requests, results, strict=True):
            if result is not None:
                self._check(request, result)
        for feed, request, result in zip(feeds, requests, results, strict=True):
            if result is None:
                feed.end(Dismissal.GATEWAY_DELETED)
            else:
                self._memory.note(request, result)
                feed.accept(result)
            if feed.wants_read:
                self._call_for(feed)

    def _check(self, request: ReadRequest, result: ReadResult) -> None:
        """Take nothing from a server that the last sweep did not see: what it lacks must be noticed first."""
        swept = self._swept
        if swept is None or (result.epoch, result.server) != (swept.epoch, swept.server):
            raise StorageUnavailable("another server or history answers than before; it is looked at first")
        if self._memory.exceeds(request, result):
            raise StorageUnavailable(f"the log of {request.gateway_id} ends before what was read from it")
