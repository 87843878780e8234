"""Registers and deletes in the log what was registered and deleted in the outbox, also after a restore of either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final
from uuid import uuid4

from gatecast.containment import log_failure
from gatecast.errors import LogHeld, StatementFailed
from gatecast.outbox.reach import Reach
from gatecast.outbox.records import Mark, Records, Waiting
from gatecast.outbox.term import Term
from gatecast.storage.contract import Claim, EventLog

#: Seconds between checks that the history of the log continues.
_CHECK_EVERY: Final = 5.0


class Following:
    """Lets the log have the gateways that the outbox has."""

    def __init__(
        self,
        outbox: EventLog,
        log: EventLog,
        records: Records,
        reach: Reach,
        *,
        clock: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._outbox = outbox
        self._log = log
        self._records = records
        self._reach = reach
        self._clock = clock
        #: Wakes who waits until something was done.
        self._wake = wake

    async def check_history(self, term: Term) -> None:
        """Register again the gateways that lack their log, once in a history: the log or the outbox was restored.

        Asked from time to time also while nothing waits: a process that does not reach the log is not to forward.
        """
        if self._clock() < term.next_check:
            return
        term.next_check = self._clock() + _CHECK_EVERY
        if (earlier := term.history) is not None:
            found = await self._reach.changed_since(term, earlier.marker)
            if found.epoch == earlier.epoch and found.continues(earlier):
                term.history = found
                return
        term.history = None
        # First: a log that is created meanwhile belongs to a gateway that is not among these.
        marks = await self._records.with_logs()
        found = await self._reach.changed_since(term, 0)
        if await self._register_again(term, [mark for mark in marks if mark.gateway_id not in found.heads]):
            term.history = found

    async def _register_again(self, term: Term, marks: Sequence[Mark]) -> bool:
        """Whether all these gateways have a log now. A log that only a lagging replica did not know stays.

        A gateway that is deleted meanwhile still has its mark, so its log is deleted as well.
        """
        failed = False
        for mark in marks:
            await self._reach.keep(term)
            try:
                claim = await self._claimed(term)
                if await self._reach.in_time(term, partial(self._log.register, mark.gateway_id, claim=claim)):
                    await self._records.try_again(mark)
            except (StatementFailed, LogHeld) as error:
                log_failure("outbox-gateway-failed", error, gateway=mark.gateway_id)
                if isinstance(error, LogHeld):
                    return False
                failed = True
        return not failed

    async def follow_some(self, term: Term, changed: Sequence[Waiting]) -> None:
        """Register or delete these gateways in the log, up to the first that is held; set aside those that fail."""
        for each in changed:
            try:
                await self._follow(term, each, await self._claimed(term))
            except (StatementFailed, LogHeld) as error:
                log_failure("outbox-gateway-failed", error, gateway=each.gateway_id)
                term.aside.add(each.gateway_id)
                if isinstance(error, LogHeld):
                    return

    async def _follow(self, term: Term, waiting: Waiting, claim: Claim) -> None:
        """Return once the log of a gateway exists that is in the outbox, or is gone if the gateway was deleted there.

        A gateway that was registered again was deleted before: so is its log, with the entries that waited.
        """
        await self._reach.keep(term)
        gateway_id, mark = waiting.gateway_id, waiting.current
        if waiting.mark is not None and mark is None:
            await self._delete_log(term, gateway_id)
            if waiting.log_id is None:
                await self._records.drop(term.name, waiting.mark)
        if waiting.log_id is None:
            self._wake()
            return
        if mark is None:
            # Recorded first: should the gateway be deleted before the rest is done, its log is deleted as well.
            mark = Mark(gateway_id=gateway_id, outbox_log=waiting.log_id, forwarded=0, log_epoch="", log_head=0)
            await self._records.save(term.name, [mark])
        await self._reach.in_time(term, lambda: self._log.register(gateway_id, claim=claim))
        if (log := await self._reach.end_of(term, gateway_id)) is None:
            raise StatementFailed(f"the log of gateway {gateway_id} was deleted when it had just been registered")
        mark = replace(mark, log_epoch=str(log.epoch), log_head=log.head)
        await self._records.save(term.name, [mark])
        term.logs[gateway_id] = log.log_id
        term.is_sure(mark)
        self._wake()

    async def _claimed(self, term: Term) -> Claim:
        """The claim under which this term registers gateways. Once it is made, no earlier registration arrives."""
        if term.claim is None:
            await self._reach.keep(term)
            claim = Claim(str(await self._outbox.identity()), str(uuid4()))
            await self._reach.in_time(term, lambda: self._log.claim(claim))
            term.claim = claim
        return term.claim

    async def _delete_log(self, term: Term, gateway_id: str) -> None:
        """Delete the log that the gateway has now, in this term; whenever the request arrives, no later one."""
        log = await self._reach.end_of(term, gateway_id)
        if log is not None:
            log_id = log.log_id
            await self._reach.in_time(term, lambda: self._log.forget(gateway_id, log_id=log_id))
