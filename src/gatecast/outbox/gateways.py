"""Single gateways in an outbox and its log: their waiting events, number of published events, and status."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from math import isfinite
from typing import Final
from uuid import UUID

from gatecast.errors import GatecastError, UnknownGateway
from gatecast.events import UNKNOWN_ID, RecordedEvent
from gatecast.outbox.records import Records, Waiting
from gatecast.storage.contract import (
    DeliverySummary,
    EventLog,
    GatewayStatus,
    Presence,
    ReadRequest,
    ReadResult,
    Storage,
    Survey,
    Transaction,
)
from gatecast.storage.reading import read_each

#: Most entries, and bytes of their data, that a look at one gateway reads.
_ENTRIES: Final = 500
_BYTES: Final = 1024 * 1024


#: Most gateways whose summaries are read at once: others go on in between.
_SUMMARIES: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayQueue:
    """The events of one gateway that wait in the outbox."""

    #: How many events.
    events: int = 0
    #: The ids of the first of them.
    event_ids: Sequence[UUID] = ()
    #: When the first was stored, by the clock of the outbox's database; None if none waits.
    since: datetime | None = None
    #: Why the log refused the first; None if it has not.
    refusal: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the ids are those of all that wait."""
        return self.events == len(self.event_ids)


class OutboxGateways:
    """The gateways of an outbox, one at a time: no cost depends on the other gateways."""

    def __init__(self, outbox: Storage, log: EventLog, records: Records) -> None:
        self._outbox = outbox
        self._log = log
        self._records = records

    async def queue(self, gateway_id: str) -> GatewayQueue:
        """The waiting events of this gateway; none if it is not registered."""
        mark = await self._records.mark(gateway_id)
        after = mark.forwarded if mark is not None else 0
        read = await self._read(gateway_id, after, _ENTRIES)
        if read is not None and mark is not None and mark.outbox_log != read.log_id:
            # Registered again, and not looked at since: nothing of this log was forwarded.
            mark, after = None, 0
            read = await self._read(gateway_id, after, _ENTRIES)
        if read is None or not read.events:
            return GatewayQueue()
        first = read.events[0]
        return GatewayQueue(
            events=read.head - max(read.low_water_mark, after),
            event_ids=[UUID(int=entry.event_id.int) for entry in read.events],
            # What stands in for an entry that cannot be read does not know when it was stored.
            since=first.recorded_at if first.event_id != UNKNOWN_ID else None,
            refusal=mark.reason if mark is not None and mark.refused == first.offset else None,
        )

    async def entry(self, gateway_id: str, event_id: UUID) -> RecordedEvent | None:
        """The event as it is in the outbox; None: it is not there, or no longer."""
        found = await self._outbox.log.find(gateway_id, [event_id])
        if event_id not in found:
            return None
        read = await self._read(gateway_id, found[event_id].offset - 1, 1)
        entry = next(iter(read.events), None) if read is not None else None
        return entry if entry is not None and entry.event_id.int == event_id.int else None

    async def _read(self, gateway_id: str, after: int, most: int) -> ReadResult | None:
        """Entries of one gateway; an event stands in for one that cannot be read.

        Raises:
            GatecastError: nothing of it can be read.
        """
        [read] = await read_each(self._outbox.log, [_entries_after(gateway_id, after, most)])
        if isinstance(read, GatecastError):
            raise read
        return read

    async def published(self, gateway_id: str) -> int:
        """How many events were ever published to it: through the outbox, or into its log without the outbox.

        The log has events without the outbox if others publish there, or if the outbox was restored from a backup.

        Raises:
            UnknownGateway: the gateway is not registered in the outbox.
        """
        mark = await self._records.mark(gateway_id)
        log_end = 0
        with suppress(UnknownGateway):
            log_end = await end_of(self._log, gateway_id)
        # Afterwards, so that it shows every entry that was in the log by then.
        read = await self._read(gateway_id, mark.forwarded if mark is not None else 0, _ENTRIES)
        if read is None:
            raise UnknownGateway(gateway_id)
        if mark is not None and mark.outbox_log != read.log_id:
            # Registered again: a log that is still there is an earlier one, and goes.
            return read.head
        # Entries that were left out never got into the log, and a log that was lost began anew.
        recorded = min(mark.forwarded, mark.log_head) if mark is not None else 0
        past_mark = max(0, log_end - recorded)
        waiting = [UUID(int=entry.event_id.int) for entry in read.events[:past_mark]]
        arrived = await self._log.find(gateway_id, waiting) if waiting else {}
        return read.head + past_mark - sum(position.offset <= log_end for position in arrived.values())

    async def status(
        self,
        presence: Presence,
        gateway_ids: Sequence[str],
        *,
        epoch: UUID,
        transaction: Transaction | None = None,
    ) -> dict[str, GatewayStatus]:
        """The status of each of these gateways that is registered in the outbox; one without a log has an empty one.

        `presence` and `epoch` are of the log. In a transaction all are empty: nothing waits for the log while it holds
        locks.
        """
        registered = (await self._outbox.presence.status(gateway_ids, transaction=transaction)).keys()
        found = await presence.status(list(registered)) if registered and transaction is None else {}
        empty = _empty_status(epoch)
        return found | {name: replace(empty, gateway_id=name) for name in registered if name not in found}

    async def waiting(self, gateway_ids: Collection[str]) -> dict[str, int]:
        """How many events of each of these gateways wait; only those with such events."""
        return await self._records.entries(gateway_ids) if gateway_ids else {}

    async def behind(self, survey: Survey) -> list[tuple[DeliverySummary | None, DeliverySummary]]:
        """The gateways with waiting events: the summary in the log, None without a log, and the one with these events.

        The cost grows with the number of gateways.
        """
        waiting = [each for each in await self._records.waiting() if each.entries > 0]
        now, found = time.time(), dict[str, DeliverySummary]()
        for start in range(0, len(waiting), _SUMMARIES):
            names = [each.gateway_id for each in waiting[start : start + _SUMMARIES]]
            found |= {each.gateway_id: each for each in await survey.summaries(names)}
        return [
            (there, _with_waiting(there or _empty_summary(each.gateway_id), each, now))
            for each, there in ((each, found.get(each.gateway_id)) for each in waiting)
        ]

    async def summaries(self, survey: Survey, gateway_ids: Sequence[str]) -> list[DeliverySummary]:
        """The summary of each registered gateway among these; empty for a gateway without a log.

        Waiting events count as if they were in the log.
        """
        waiting = {each.gateway_id: each for each in await self._records.waiting() if each.entries > 0}
        registered = await self._outbox.survey.summaries(gateway_ids)
        found = {each.gateway_id: each for each in await survey.summaries(gateway_ids)}
        here = [found.get(each.gateway_id) or _empty_summary(each.gateway_id) for each in registered]
        now = time.time()
        return [
            _with_waiting(each, waiting[each.gateway_id], now) if each.gateway_id in waiting else each for each in here
        ]


async def end_of(log: EventLog, gateway_id: str) -> int:
    """The offset of the last event in the gateway's log.

    Raises:
        UnknownGateway: it has none.
    """
    [read] = await log.read([_entries_after(gateway_id, 0, 1)])
    if read is None:
        raise UnknownGateway(gateway_id)
    return read.head


def _empty_status(epoch: UUID) -> GatewayStatus:
    return GatewayStatus(
        gateway_id="",
        epoch=epoch,
        head=0,
        low_water_mark=0,
        sent=0,
        confirmed=0,
        lag_seconds=0.0,
        last_seen_at=None,
        resync_reason=None,
        connections=(),
    )


def _empty_summary(gateway_id: str) -> DeliverySummary:
    return DeliverySummary(
        gateway_id=gateway_id, head=0, lag=0, lag_seconds=0.0, last_seen=None, resync_reason="", pods=(), parked=False
    )


def _with_waiting(summary: DeliverySummary, waiting: Waiting, now: float) -> DeliverySummary:
    age = max(0.0, now - waiting.since) if waiting.since is not None and isfinite(waiting.since) else 0.0
    return replace(
        summary,
        head=summary.head + waiting.entries,
        lag=summary.lag + waiting.entries,
        lag_seconds=max(summary.lag_seconds, age),
    )


def _entries_after(gateway_id: str, offset: int, most: int) -> ReadRequest:
    return ReadRequest(gateway_id=gateway_id, after=offset, max_events=most, max_bytes=1 if most == 1 else _BYTES)
