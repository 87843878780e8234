"""Collects the events of many callers into few statements, without a timer."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from gatecast.containment import contained, describe, in_halves, log_failure
from gatecast.errors import (
    GatecastError,
    HubClosed,
    InvalidValue,
    LogHeld,
    Overloaded,
    StatementFailed,
    StorageUnavailable,
)
from gatecast.events import Event
from gatecast.storage.contract import Busy, EventLog, PublishResult, Receipt
from gatecast.telemetry import metrics, traces
from gatecast.waiting import Backoff, Signal
from gatecast.wakeup.contract import Hint

#: Most events in one call of `publish`; a fan-out to more gateways is several calls.
MAX_EVENTS_PER_PUBLISH = 10_000

#: Most events that wait to be sent; more are refused, so that a hanging database does not fill the memory.
MAX_QUEUED_EVENTS = 50_000

#: Most bytes of payload that wait to be sent.
MAX_QUEUED_BYTES = 64 * 1024 * 1024

#: A statement carries at most about this much; bigger ones gain nothing.
_BATCH_EVENTS = 500
_BATCH_BYTES = 4 * 1024 * 1024

#: How many held logs are waited for at the same time, each on a connection of its own.
_LANES = 2

#: Pauses between checks whether a further log is still held.
_LANE_BACKOFF = Backoff(first=0.01, longest=0.25)


@dataclass(frozen=True, slots=True)
class _Pending:
    events: Sequence[Event]
    size: int
    receipts: asyncio.Future[tuple[Receipt, ...]]

    def settle(self, result: PublishResult | GatecastError) -> None:
        """Answer the caller, unless it has gone."""
        if self.receipts.done():
            return
        if isinstance(result, GatecastError):
            self.receipts.set_exception(result)
        elif not isinstance(result, Busy):
            self.receipts.set_result(result)


class Publisher:
    """Sends everything that queued while the previous statement ran; one statement is in flight.

    Under load batches grow by themselves; without load nothing waits. A log held by another transaction gets its own
    queue, which waits for it, so that it delays no other log (scenario S12). Events published to it meanwhile join that
    queue, in order.
    """

    def __init__(self, log: EventLog, *, send_hint: Callable[[Hint], None]) -> None:
        self._log = log
        self._send_hint = send_hint
        self._queue: deque[_Pending] = deque()
        self._queued_events = 0
        self._queued_bytes = 0
        self._signal = Signal()
        self._log_queues: dict[str, deque[_Pending]] = {}
        self._waiting = asyncio.Semaphore(_LANES)
        self._looking = asyncio.Semaphore(1)
        self._idle = asyncio.Event()
        self._idle.set()
        self._accepting = True
        #: Why the last statement stored nothing, or None if it did. Callers get the error; the pod stays ready.
        self.problem: str | None = None

    @property
    def queued_events(self) -> int:
        """How many events wait to be stored."""
        return self._queued_events

    async def publish(self, events: Sequence[Event]) -> tuple[Receipt, ...]:
        """Store events, all or none, and return their receipts after the commit.

        A caller that is cancelled while its events wait may or may not have published them.

        Raises:
            UnknownGateway: a gateway is not registered; nothing was stored.
            Overloaded: too many events wait already; nothing was stored.
            StorageUnavailable: the database cannot be reached; repeat with the same event ids.
            StatementFailed: the database refused these events; nothing of them was stored.
            HubClosed: the publisher has stopped.
        """
        if not events:
            return ()
        with traces.timed("commit", events):
            pending = self._enqueue(events)
            try:
                return await pending.receipts
            finally:
                self._forget(pending)

    def _enqueue(self, events: Sequence[Event]) -> _Pending:
        if not self._accepting:
            raise HubClosed
        if len(events) > MAX_EVENTS_PER_PUBLISH:
            raise InvalidValue("events", len(events), f"be at most {MAX_EVENTS_PER_PUBLISH:,} in one call")
        size = _size(events)
        if self._queued_events + len(events) > MAX_QUEUED_EVENTS or self._queued_bytes + size > MAX_QUEUED_BYTES:
            raise Overloaded("the queue of events to publish", MAX_QUEUED_EVENTS)
        pending = _Pending(events, size, asyncio.get_running_loop().create_future())
        self._queued_events += len(events)
        self._queued_bytes += size
        self._idle.clear()
        self._queue.append(pending)
        self._signal.set()
        return pending

    def _forget(self, pending: _Pending) -> None:
        self._queued_events -= len(pending.events)
        self._queued_bytes -= pending.size
        if not self._queued_events:
            self._idle.set()

    async def run(self) -> None:
        """Publish until cancelled; then answer the callers that still wait."""
        try:
            async with asyncio.TaskGroup() as log_queues:
                while True:
                    if not self._queue:
                        await self._signal.wait()
                    await self._publish_next(log_queues)
        finally:
            self._accepting = False
            for pending in [*self._queue, *(one for log_queue in self._log_queues.values() for one in log_queue)]:
                pending.settle(HubClosed())

    async def drain(self) -> None:
        """Accept nothing more and return when everything accepted has been answered."""
        self._accepting = False
        await self._idle.wait()

    async def _publish_next(self, log_queues: asyncio.TaskGroup) -> None:
        batch = _take_batch(self._queue)
        batch = [pending for pending in batch if not self._joins_queue(pending)]
        if not batch:
            return
        for pending, result in zip(batch, await self._append(batch, wait=False), strict=True):
            if isinstance(result, Busy):
                self._open_queue(log_queues, result.gateway_id, pending)

    def _joins_queue(self, pending: _Pending) -> bool:
        """Keep the order of one gateway: while its log has its own queue, all its events go there."""
        if not self._log_queues:
            return False
        log_queue = next(
            (self._log_queues[event.gateway_id] for event in pending.events if event.gateway_id in self._log_queues),
            None,
        )
        if log_queue is None:
            return False
        log_queue.append(pending)
        return True

    def _open_queue(self, log_queues: asyncio.TaskGroup, gateway_id: str, pending: _Pending) -> None:
        if gateway_id in self._log_queues:
            self._log_queues[gateway_id].append(pending)
            return
        self._log_queues[gateway_id] = deque([pending])
        log_queues.create_task(self._run_queue(gateway_id), name=f"publish-lane-{gateway_id}")

    async def _run_queue(self, gateway_id: str) -> None:
        """Wait for the log; if the limit of waiting logs is reached, check from time to time whether it is free.

        Logs that an application holds for long thus delay only each other, not a log that two pods wrote to at once.
        """
        log_queue = self._log_queues[gateway_id]
        try:
            await self._empty(log_queue)
        finally:
            # No await between the last check and this: nothing can join a queue that has ended, however it has.
            del self._log_queues[gateway_id]
            for pending in log_queue:
                pending.settle(HubClosed())

    async def _empty(self, log_queue: deque[_Pending]) -> None:
        looks = 0
        while log_queue:
            if not self._waiting.locked():
                async with self._waiting:
                    await self._append(_take_batch(log_queue), wait=True)
                continue
            looks += 1
            await asyncio.sleep(_LANE_BACKOFF.pause(looks))
            async with self._looking:
                batch = _take_batch(log_queue)
                results = await self._append(batch, wait=False)
            busy = [pending for pending, result in zip(batch, results, strict=True) if isinstance(result, Busy)]
            log_queue.extendleft(reversed(busy))

    async def _append(self, batch: Sequence[_Pending], *, wait: bool) -> Sequence[PublishResult | GatecastError]:
        """Send one statement and answer the callers; only `Busy` groups are left for the per-log queues."""
        try:
            results = await in_halves(
                [pending.events for pending in batch], lambda groups: self._attempt(groups, wait=wait)
            )
        except BaseException:
            for pending in batch:
                pending.settle(HubClosed())
            raise
        for pending, result in zip(batch, results, strict=True):
            pending.settle(result)
        self._note(results)
        self._hint(pending for pending, result in zip(batch, results, strict=True) if not isinstance(result, Busy))
        return results

    def _note(self, results: Sequence[PublishResult | GatecastError]) -> None:
        refusals = [each for each in results if isinstance(each, StatementFailed)]
        self.problem = describe(refusals[0]) if len(refusals) == len(results) else None
        if refusals:
            log_failure("publish-refused", refusals[0], groups=len(refusals), stored=len(results) - len(refusals))

    def _hint(self, answered: Iterable[_Pending]) -> None:
        """Send hints to the pods; the events are stored whether the hints arrive or not."""
        hint = Hint.at(event.gateway_id for pending in answered for event in pending.events)
        if hint.gateways:
            with contained("hint-lost"):
                self._send_hint(hint)

    async def _attempt(self, groups: Sequence[Sequence[Event]], *, wait: bool) -> Sequence[PublishResult]:
        """Send it, and once more if the connection breaks: event ids make the second attempt safe (scenario S16)."""
        metrics.stored(sum(map(len, groups)))
        began = time.time()
        try:
            results = await self._log.publish(groups, wait=wait)
        except LogHeld:
            raise
        except StorageUnavailable:
            results = await self._log.publish(groups, wait=wait)
        traces.told_together("store", chain.from_iterable(groups), began)
        return results


def _size(events: Sequence[Event]) -> int:
    """Characters of payload; a payload shared by events counts once."""
    if len(events) == 1:
        return len(events[0].payload)
    return sum({id(event.payload): len(event.payload) for event in events}.values())


def _take_batch(queue: deque[_Pending]) -> list[_Pending]:
    """The oldest groups that fit into one statement, at least one; callers that have gone are left out."""
    batch: list[_Pending] = []
    events = size = 0
    while queue:
        pending = queue[0]
        if batch and (events + len(pending.events) > _BATCH_EVENTS or size + pending.size > _BATCH_BYTES):
            break
        queue.popleft()
        if not pending.receipts.cancelled():
            batch.append(pending)
            events += len(pending.events)
            size += pending.size
    return batch
