"""The waiting and the refused events of an outbox, for operators; works without the log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from gatecast.errors import GatecastError
from gatecast.events import UNKNOWN_ID, RecordedEvent
from gatecast.outbox.records import Mark, Records, Waiting
from gatecast.storage.contract import EventLog, ReadRequest, ReadResult
from gatecast.storage.reading import read_each

#: Most gateways that one request reads.
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEntry:
    """An event in the outbox that the log refused; later events of its gateway wait for a decision about it."""

    gateway_id: str
    event_id: UUID
    #: Why the log refused it.
    reason: str
    #: When it was stored in the outbox, by the clock of the outbox's database.
    stored_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStatus:
    """The events that wait in the outbox."""

    #: Number of events that are not in the log yet, by gateway; only gateways with such events.
    waiting: Mapping[str, int]
    #: When the oldest of them was stored, by the clock of the outbox's database; None if none waits.
    oldest: datetime | None
    #: The same for each gateway; without those whose event cannot be read, or was removed or forwarded in the meantime.
    since: Mapping[str, datetime] = field(default_factory=dict)
    #: The events that the log refused.
    refused: Sequence[RefusedEntry]
    #: The process that forwards; empty if none does.
    forwarder: str
    #: Why this process cannot forward now; None if it can, or another one does.
    problem: str | None = None
    #: Identity of the log that the outbox belongs to; empty if it was never opened with one.
    log: str = ""
    #: Where that log was when the outbox was last opened, without user and password.
    log_place: str = ""


class Entries:
    """The entries of one outbox."""

    def __init__(self, outbox: EventLog, records: Records) -> None:
        self._outbox = outbox
        self._records = records

    async def status(self) -> OutboxStatus:
        """What waits now. The cost grows with the number of gateways."""
        waiting = [each for each in await self._records.waiting() if each.entries > 0]
        entries = await self._next(waiting)
        # The stand-in for an unreadable entry does not know when it was stored.
        since = {name: entry.recorded_at for name, entry in entries.items() if entry.event_id != UNKNOWN_ID}
        forwarder = await self._records.forwarder()
        return OutboxStatus(
            waiting={each.gateway_id: each.entries for each in waiting},
            oldest=min(since.values(), default=None),
            since=since,
            refused=_refused(waiting, entries),
            forwarder=forwarder.pod_id,
            log=forwarder.log,
            log_place=forwarder.log_place,
        )

    async def refused(self) -> list[RefusedEntry]:
        """The events that the log refused, by gateway; at most one for each, its next one."""
        waiting = [each for each in await self._records.waiting() if each.is_refused]
        return _refused(waiting, await self._next(waiting))

    async def _next(self, waiting: Sequence[Waiting]) -> dict[str, RecordedEvent]:
        """The next entry of each of these gateways."""
        found: dict[str, RecordedEvent] = {}
        for start in range(0, len(waiting), _AT_ONCE):
            some = waiting[start : start + _AT_ONCE]
            requests = [_next_after(each.gateway_id, each.forwarded) for each in some]
            results = await read_each(self._outbox, requests)
            found |= {
                each.gateway_id: result.events[0]
                for each, result in zip(some, results, strict=True)
                if isinstance(result, ReadResult) and result.events
            }
        return found

    async def try_again(self, gateway_id: str, event_id: UUID | None = None) -> bool:
        """Forward the refused event of this gateway again; False if none is refused, or another one than `event_id`."""
        return await self._decide(gateway_id, event_id, self._records.try_again)

    async def leave_out(self, gateway_id: str, event_id: UUID | None = None) -> bool:
        """Never forward the refused event of this gateway; False if none is refused, or another one than `event_id`."""
        return await self._decide(gateway_id, event_id, self._records.leave_out)

    async def _decide(self, gateway_id: str, event_id: UUID | None, decide: Callable[[Mark], Awaitable[bool]]) -> bool:
        mark = await self._records.mark(gateway_id)
        if mark is None or not mark.is_refused:
            return False
        # The mark names the entry, so a concurrent decision cannot concern another one.
        if event_id is not None and not await self._is_refused(mark, event_id):
            return False
        return await decide(mark)

    async def _is_refused(self, mark: Mark, event_id: UUID) -> bool:
        # As it was shown: a stand-in, which has an id of its own, for an entry that cannot be read.
        [read] = await read_each(self._outbox, [_next_after(mark.gateway_id, mark.refused - 1)])
        if isinstance(read, GatecastError):
            raise read
        if read is None or read.log_id != mark.outbox_log:
            return False
        return [(entry.offset, entry.event_id.int) for entry in read.events] == [(mark.refused, event_id.int)]


def _refused(waiting: Sequence[Waiting], entries: Mapping[str, RecordedEvent]) -> list[RefusedEntry]:
    """The refused entries among these next entries of gateways, by gateway."""
    found = [
        (each.mark, entries[each.gateway_id]) for each in waiting if each.is_refused and each.gateway_id in entries
    ]
    return [
        RefusedEntry(
            gateway_id=entry.gateway_id,
            event_id=entry.event_id,
            reason=mark.reason,
            stored_at=entry.recorded_at,
        )
        for mark, entry in sorted(found, key=lambda one: one[1].gateway_id)
        if mark is not None and mark.refused == entry.offset
    ]


def _next_after(gateway_id: str, offset: int) -> ReadRequest:
    return ReadRequest(gateway_id=gateway_id, after=offset, max_events=1, max_bytes=1)
