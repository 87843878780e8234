"""The event log on a stream: a subject for each event, for each event's id, and for the head of each log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID, uuid4

from gatecast.errors import StorageUnavailable
from gatecast.events import Event, Position, RecordedEvent
from gatecast.storage.contract import (
    Changes,
    Claim,
    Place,
    PublishResult,
    ReadRequest,
    ReadResult,
    Receipt,
    Remembered,
    TrimPass,
    TrimPolicy,
    Verdict,
)
from gatecast.storage.jetstream.documents import (
    ForgottenLog,
    Head,
    History,
    LowWaterMark,
    decode_event,
    offset_in,
)
from gatecast.storage.jetstream.gateways import Gateways
from gatecast.storage.jetstream.publishing import Publishing
from gatecast.storage.jetstream.repeating import repeated
from gatecast.storage.jetstream.retention import Retention
from gatecast.storage.jetstream.stream import Message, Snapshot, Stream, Write
from gatecast.storage.jetstream.transactions import refuse
from gatecast.waiting import Backoff, together

#: Most decisions about histories that are remembered.
_LINEAGE = 100

#: Most events of one gateway that one request reads.
_EVENTS_PER_READ = 1_000

#: Scans for heads are repeated so often, after these pauses, while a replica answers that lags.
_LOOKS, _LOOK_PAUSE = 10, Backoff(first=0.002, longest=0.04)

#: Seconds for which the head of a deleted gateway is kept, so that its earlier readers notice the deletion.
_TOMBSTONE_LASTS = 86_400

#: A log whose front retention is removing is read again so often.
_READS = 20


@dataclass(frozen=True, slots=True)
class _Log:
    """One log as it was found."""

    epoch: UUID
    head: Head
    low_water_mark: int


class JetStreamLog:
    """`gatecast.storage.contract.EventLog` on a stream."""

    def __init__(self, stream: Stream, gateways: Gateways) -> None:
        self._stream = stream
        self._gateways = gateways
        self._publishing = Publishing(stream)
        self._retention = Retention(stream, gateways)

    async def publish(
        self,
        groups: Sequence[Sequence[Event]],
        *,
        wait: bool = True,  # noqa: ARG002 - nobody holds a log
        logs: Mapping[str, int] | None = None,
    ) -> list[PublishResult]:
        """The result of each group of events; never `Busy`."""
        return await self._publishing.publish(groups, logs or {})

    async def publish_in(self, transaction: object, events: Sequence[Event]) -> tuple[Receipt, ...]:  # noqa: ARG002 - it is refused
        """Refuse: a stream cannot take part in a transaction.

        Raises:
            TransactionUnusable: always; says what to do instead.
        """
        refuse(transaction)
        return ()

    # --- reading ------------------------------------------------------------------------------------------------

    async def identity(self) -> UUID:
        """Which log this is."""
        return UUID((await self._history()).log)

    async def changed_since(self, marker: int) -> Changes:
        """The logs that have grown since `marker`, which is a sequence of the stream."""
        info = await self._stream.info()
        if not marker:
            # Later questions about these logs are not answered by a replica that lacks what the leader has now.
            self._stream.floor = max(self._stream.floor, info.last_sequence)
        history = await self._history()
        changed, reached = await self._heads_after(marker)
        return Changes(
            epoch=UUID(history.epoch),
            heads=changed,
            # A stream that ends before the marker was put back to an older state: then the marker goes back as well.
            marker=min(reached, info.last_sequence),
            server=info.created,
            synchronous=True,
            settled=info.created == history.created,
            lineage=tuple(map(UUID, history.lineage)),
            answered_at=info.now,
            copy=info.created,
            lasting=min(reached, info.last_sequence),
        )

    async def _heads_after(self, marker: int) -> tuple[dict[str, int], int]:
        """The head of each log that has grown, and the sequence of the last one; asks again while a replica lags."""
        heads: dict[str, int] = {}
        for look in range(1, _LOOKS + 1):
            found = [message async for message in self._stream.scan(self._stream.subjects.heads, after=marker)]
            marker = found[-1].sequence if found else marker
            heads |= {head.gateway_id: head.head for head in Head.readable(each for each in found if each.data)}
            if marker >= self._stream.head_floor:
                break
            if look < _LOOKS:
                await asyncio.sleep(_LOOK_PAUSE.pause(look))
        else:
            # No replica knows it, because its gateway was deleted long ago, or because all of them lag far behind.
            self._stream.head_floor = marker
        return heads, marker

    async def _history(self) -> History:
        found = await self._stream.snapshot([])
        return History.decode(found.messages[self._stream.subjects.history].data)

    async def places(self, gateway_ids: Sequence[str], marker: int) -> Mapping[str, Place]:
        """How far each of these logs had grown when `marker` was taken."""
        logs = await self._logs(gateway_ids)
        found = await together(self._place(name, log, marker) for name, log in logs.items())
        return dict(zip(logs, found, strict=True))

    async def _place(self, gateway_id: str, log: _Log, marker: int) -> Place:
        subjects = self._stream.subjects
        every_event = subjects.event_id(gateway_id, log.head.log, "*")
        later = [message async for message in self._stream.scan(every_event, after=marker, limit=1)]
        offset = offset_in(later[0]) - 1 if later else log.head.head
        low = await self._stream.snapshot([subjects.low_water_mark(gateway_id)])
        removed = LowWaterMark.of(low.messages.get(subjects.low_water_mark(gateway_id)), log.head)
        return Place(log.head.log, offset, is_gap=removed is not None and removed.sequence > marker)

    async def _logs(self, gateway_ids: Sequence[str]) -> dict[str, _Log]:
        """The log of each registered gateway among these."""
        subjects, names = self._stream.subjects, list(dict.fromkeys(gateway_ids))
        groups = [[subjects.head(name), subjects.low_water_mark(name)] for name in names]
        found = zip(names, await self._stream.snapshots(groups), strict=True)
        logs = ((name, self._log(name, snapshot)) for name, snapshot in found)
        return {name: log for name, log in logs if log is not None}

    def _log(self, gateway_id: str, found: Snapshot) -> _Log | None:
        subjects = self._stream.subjects
        message = found.messages.get(subjects.head(gateway_id))
        if message is None or not message.data:
            return None
        head = Head.decode(message.data)
        low = LowWaterMark.of(found.messages.get(subjects.low_water_mark(gateway_id)), head)
        epoch = UUID(History.decode(found.messages[subjects.history].data).epoch)
        return _Log(epoch, head, low.offset if low is not None else 0)

    async def read(self, requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
        """The result of each request, in order; None where the gateway is not registered."""
        logs = await self._logs([request.gateway_id for request in requests])
        return await together(self._read(each, logs.get(each.gateway_id)) for each in requests)

    async def _read(self, request: ReadRequest, log: _Log | None) -> ReadResult | None:
        if log is None:
            return None
        events = await self._events(request, log)
        return self._result(log, events) if events is not None else await self._read_first(request, log)

    async def _read_first(self, request: ReadRequest, log: _Log) -> ReadResult | None:
        """The result with the first event alone, from a replica that has it.

        The replica that was asked lags, or retention has removed the front meanwhile.
        """
        subjects, name = self._stream.subjects, request.gateway_id
        for _ in range(_READS):
            first = _first(request, log)
            subject = subjects.event(name, log.head.log, first)
            found = await self._stream.snapshot([subjects.head(name), subjects.low_water_mark(name), subject])
            now = self._log(name, found)
            if now is None:
                return None
            if (_first(request, now), now.head.log) == (first, log.head.log):
                return self._result(now, [_event_or_stand_in(name, first, found.messages.get(subject))])
            log = now
        raise StorageUnavailable("retention removes what is to be read again and again")

    def _result(self, log: _Log, events: list[RecordedEvent]) -> ReadResult:
        return ReadResult(
            epoch=log.epoch,
            events=events,
            head=log.head.head,
            low_water_mark=log.low_water_mark,
            server=self._stream.created,
            log_id=log.head.log,
            last_event_id=UUID(log.head.last) if log.head.last else None,
        )

    async def _events(self, request: ReadRequest, log: _Log) -> list[RecordedEvent] | None:
        """The next events, without gaps; None if the first of them is no longer there."""
        first = _first(request, log)
        last = min(log.head.head, first + min(request.max_events, _EVENTS_PER_READ) - 1)
        offsets = range(first, last + 1)
        if not offsets:
            return []
        subjects = {self._stream.subjects.event(request.gateway_id, log.head.log, each): each for each in offsets}
        found = await self._stream.read(list(subjects), max_bytes=request.max_bytes + _ROOM_FOR_HEADERS * len(offsets))
        events: list[RecordedEvent] = []
        size = 0
        for offset, message in zip(offsets, found, strict=False):
            if subjects[message.subject] != offset:
                return events or None
            event = decode_event(request.gateway_id, offset, message)
            size += len(event.payload.encode())
            if events and size > request.max_bytes:
                break
            events.append(event)
        return events or None

    async def find(self, gateway_id: str, event_ids: Sequence[UUID]) -> Mapping[UUID, Position]:
        """Where these events are in the gateway's log, by id."""
        log = (await self._logs([gateway_id])).get(gateway_id)
        if log is None:
            return {}
        subjects = {self._stream.subjects.event_id(gateway_id, log.head.log, each): each for each in event_ids}
        found = await self._stream.newest(list(subjects))
        return {subjects[subject]: Position(log.epoch, offset_in(message)) for subject, message in found.items()}

    async def is_held(self, gateway_id: str) -> bool:  # noqa: ARG002 - nobody can hold a log
        """Never: nothing holds a log longer than one batch takes."""
        return False

    # --- gateways -----------------------------------------------------------------------------------------------

    async def register(self, gateway_id: str, *, transaction: object | None = None, claim: Claim | None = None) -> bool:
        """Create an empty log for the gateway; False if it has one."""
        refuse(transaction)
        return await repeated(partial(self._register, gateway_id, claim))

    async def _register(self, gateway_id: str, claim: Claim | None) -> bool:
        subject = self._stream.subjects.head(gateway_id)
        claimed = [self._stream.subjects.claim(claim.owner)] if claim is not None else []
        found = await self._stream.snapshot([subject, *claimed])
        if claim is not None and not _is_newest(claim, found.messages.get(claimed[0])):
            return claim.checked(None)
        if self._log(gateway_id, found) is not None:
            return False
        history = History.decode(found.messages[self._stream.subjects.history].data)
        history.check_in_use()
        # Later than everything that is stored: an earlier log of the same gateway has a lower number.
        head = Head(gateway_id=gateway_id, log=found.through + 1, head=0, last=None, registered_in=history.epoch)
        # Written again as they are, so that nothing is stored if there is a newer claim by then.
        claims = [Write(subject=each, data=found.messages[each].data, expect=found.sequence(each)) for each in claimed]
        write = Write(subject=subject, data=head.encode(), expect=found.sequence(subject))
        sequence = await self._stream.write_all([*claims, write])
        self._stream.head_floor = max(self._stream.head_floor, sequence)
        await self._check_in_use(subject, sequence)
        return True

    async def _check_in_use(self, head: str, sequence: int) -> None:
        """Return if no log was being moved into the stream when the head was stored; otherwise remove that.

        A move marks the stream first, and then looks for heads: one of the two sees the other.
        """
        history = await self._history()
        if history.moving:
            await self._stream.purge(head, before=sequence + 1)
        history.check_in_use()

    async def claim(self, claim: Claim) -> None:
        """Make every earlier claim of this owner void."""
        await self._stream.write(Write(subject=self._stream.subjects.claim(claim.owner), data=claim.token.encode()))

    async def forget(self, gateway_id: str, *, transaction: object | None = None, log_id: int | None = None) -> bool:
        """Delete a gateway's log and disconnect it; False if it is unknown. `trim` removes its events later."""
        refuse(transaction)
        return await repeated(partial(self._forget, gateway_id, log_id))

    async def _forget(self, gateway_id: str, log_id: int | None) -> bool:
        subjects = self._stream.subjects
        subject, state = subjects.head(gateway_id), subjects.state(gateway_id)
        found = await self._stream.snapshot([subject, state, subjects.low_water_mark(gateway_id)])
        log = self._log(gateway_id, found)
        if log is None or log_id not in (None, log.head.log):
            return False
        forgotten = ForgottenLog(gateway_id=gateway_id, log=log.head.log, head=log.head.head, low=log.low_water_mark)
        gateway = self._gateways.read(gateway_id, found)
        before = deepcopy(gateway.state)
        gateway.state.dismiss_all()
        tombstone = Write(subject=subject, data=b"", expect=found.sequence(subject), lasts=_TOMBSTONE_LASTS)
        leftover = Write(subject=subjects.forgotten(gateway_id, log.head.log), data=forgotten.encode())
        await self._gateways.store(gateway, before, [leftover, tombstone])
        return True

    async def trim(self, policy: TrimPolicy, trim_pass: TrimPass | None = None) -> int:
        """How many old events were removed, at most one chunk."""
        return await self._retention.trim(policy, trim_pass or TrimPass())

    # --- histories ----------------------------------------------------------------------------------------------

    async def contradicts(self, remembered: Sequence[Remembered]) -> bool:
        """Whether one of these events is no longer where it was read."""
        logs = await self._logs([each.gateway_id for each in remembered])
        wanted: dict[str, set[UUID]] = {}
        for each in remembered:
            log = logs.get(each.gateway_id)
            if log is None or (each.log_id is not None and each.log_id < log.head.log):
                continue
            if each.offset > log.head.head or (each.log_id or 0) > log.head.log:
                return True
            if each.event_id is None or not each.offset:
                continue
            if each.offset == log.head.head and str(each.event_id) != log.head.last:
                return True
            if each.offset > log.low_water_mark:
                subject = self._stream.subjects.event(each.gateway_id, log.head.log, each.offset)
                wanted.setdefault(subject, set()).add(each.event_id)
        found = await self._stream.newest(list(wanted))
        return any(ids != {decode_event("", 0, found[each]).event_id} for each, ids in wanted.items() if each in found)

    async def renew_epoch(self, expected: UUID) -> UUID:
        """The present epoch, after a new history has begun: by this call only if the epoch was still `expected`."""
        return await repeated(partial(self._decide, expected, begin=True))

    async def record_history(self, expected: UUID, verdict: Verdict = Verdict.RECORD) -> UUID:
        """The present epoch, after recording which stream holds the history.

        In another stream than the recorded one (restored, or copied) events may be missing: a new history begins,
        unless the operator says that none are.
        """
        return await repeated(partial(self._decide, expected, begin=verdict is not Verdict.KEEP, elsewhere=True))

    async def _decide(self, expected: UUID, *, begin: bool, elsewhere: bool = False) -> UUID:
        subject = self._stream.subjects.history
        found = (await self._stream.snapshot([])).messages[subject]
        history, created = History.decode(found.data), (await self._stream.info()).created
        if history.epoch != str(expected) or (elsewhere and history.created == created):
            return UUID(history.epoch)
        history.check_in_use()
        decision = str(uuid4())
        history = replace(
            history,
            epoch=decision if begin else history.epoch,
            created=created,
            lineage=[*history.lineage, decision][-_LINEAGE:],
            first=history.log,
        )
        await self._stream.write(Write(subject=subject, data=history.encode(), expect=found.sequence))
        return UUID(history.epoch)


#: About how many bytes an event takes besides its data.
_ROOM_FOR_HEADERS = 4_096


def _first(request: ReadRequest, log: _Log) -> int:
    return max(request.after, log.low_water_mark) + 1


def _event_or_stand_in(gateway_id: str, offset: int, message: Message | None) -> RecordedEvent:
    if message is None:
        return RecordedEvent.standing_in(gateway_id, offset, "it is missing in the stream")
    return decode_event(gateway_id, offset, message)


def _is_newest(claim: Claim, message: Message | None) -> bool:
    return message is not None and message.data == claim.token.encode()
