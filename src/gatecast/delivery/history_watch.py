"""Makes sure that what is read belongs to the history that was read before, whichever server answers."""

from __future__ import annotations

from gatecast.delivery.memory import Memory
from gatecast.errors import StorageUnavailable
from gatecast.storage.changes import changes_since
from gatecast.storage.contract import Changes, EventLog, ReadRequest, ReadResult, Verdict
from gatecast.telemetry import get_logger

#: Most remembered events in one comparison with the log.
_EVENTS_PER_COMPARISON = 1_000

_logger = get_logger("reader")


class HistoryWatch:
    """Asks which logs grew, and notices a history that lost events, or is found in another place.

    Whichever pod notices first decides; the others find the decision, and compare it with what they remember.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._memory = Memory()
        #: What was found last, and where; None before the first look.
        self.last: Changes | None = None

    async def look(self, *, at_everything: bool) -> Changes:
        """What changed, once it is certain which history it belongs to, and that it holds everything that was read."""
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
        """Take nothing from a server that was not looked at: what it lacks must be noticed first.

        Raises:
            StorageUnavailable: look at everything, and read again.
        """
        last = self.last
        if last is None or (result.epoch, result.server) != (last.epoch, last.server):
            raise StorageUnavailable("another server or history answers than before; the pod checks it first")
        if self._memory.exceeds(request, result):
            raise StorageUnavailable(f"the log of {request.gateway_id} ends before what was read from it")
        self._memory.note(request, result)

    async def _settle(self, changes: Changes) -> Changes:
        """Everything, once it is decided whether the history goes on where it is found now."""
        # While commits did not wait for a standby, the newest ones were on one server alone.
        doubts = self.last is not None and not self.last.synchronous
        epoch = await self._log.settle_history(changes.epoch, Verdict.DOUBT if doubts else Verdict.RECORD)
        if epoch == changes.epoch:
            _logger.info("history-goes-on", epoch=str(epoch))
        else:
            _logger.error("history-replaced", ended=str(changes.epoch))
        changes = await self._log.changed_since(0)
        if not changes.settled:
            raise StorageUnavailable("another server answers each time, so the history cannot be determined")
        return changes

    async def _is_contradicted(self, changes: Changes) -> bool:
        """Whether the database lacks a decision that was found there, or what was read of its history.

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
