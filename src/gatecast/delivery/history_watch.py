"""Makes sure that every read belongs to the same history as the reads before, whichever server answers."""

from __future__ import annotations

from gatecast.delivery.read_events import Memory
from gatecast.errors import StorageUnavailable
from gatecast.storage.changes import changes_since
from gatecast.storage.contract import Changes, EventLog, ReadRequest, ReadResult, Verdict
from gatecast.telemetry import get_logger

#: Most remembered events in one comparison with the log.
_EVENTS_PER_COMPARISON = 1_000

_logger = get_logger("reader")


class HistoryWatch:
    """Reads which logs have grown, and notices a history that lost events, or is found in another place.

    The pod that notices first decides. The others find its decision, and compare it with what they remember.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._memory = Memory()
        #: What was found last, and where; None before the first look.
        self.last: Changes | None = None

    async def look(self, *, at_everything: bool) -> Changes:
        """The changes, once it is certain which history they belong to, and that it holds everything that was read."""
        changes = await changes_since(self._log, None if at_everything else self.last)
        if await self._is_contradicted(changes):
            await self._log.renew_epoch(changes.epoch)
            _logger.error("history-replaced", ended=str(changes.epoch))
            changes = await self._log.changed_since(0)
        if not changes.settled:
            changes = await self._settle(changes)
        if self.last is not None and self.last.epoch != changes.epoch:
            self._memory.clear()
        self.last = changes
        return changes

    def check(self, request: ReadRequest, result: ReadResult) -> None:
        """Refuse a result from a server that was not checked: first the pod must notice what that server lacks.

        Raises:
            StorageUnavailable: check the server, and read again.
        """
        last = self.last
        if last is None or (result.epoch, result.server) != (last.epoch, last.server):
            raise StorageUnavailable("another server or history answers than before; the pod checks it first")
        if not self._memory.note(request, result):
            raise StorageUnavailable(f"the log of {request.gateway_id} ends before what was read from it")

    async def _settle(self, changes: Changes) -> Changes:
        """All changes, once it is decided whether the history continues where it is found now."""
        # While commits did not wait for a standby, the newest ones were on one server alone.
        doubts = self.last is not None and not self.last.synchronous
        epoch = await self._log.record_history(changes.epoch, Verdict.DOUBT if doubts else Verdict.RECORD)
        if epoch == changes.epoch:
            _logger.info("history-goes-on", epoch=str(epoch))
        else:
            _logger.error("history-replaced", ended=str(changes.epoch))
        changes = await self._log.changed_since(0)
        if not changes.settled:
            raise StorageUnavailable("another server answers each time, so the history cannot be determined")
        return changes

    async def _is_contradicted(self, changes: Changes) -> bool:
        """Whether the database lacks a decision or an event that this pod has read from it.

        The log is asked when another server answers, and when a log looks shorter than what was read from it. That may
        have an innocent reason: its gateway was deleted and registered again.
        """
        if self.last is None:
            return False
        if changes.lacks_what_followed(self.last):
            return True
        if self.last.epoch != changes.epoch:
            return False
        shorter = self._memory.longer_than(changes.heads)
        if not shorter and self.last.server == changes.server:
            return False
        for batch in self._memory.batches(_EVENTS_PER_COMPARISON):
            if await self._log.contradicts(batch):
                return True
        self._memory.forget(shorter)
        return False
