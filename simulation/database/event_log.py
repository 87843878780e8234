"""`gatecast.storage.contract.EventLog` in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING
from uuid import UUID

from gatecast.errors import UnknownGateway
from gatecast.events import Event, Position
from gatecast.storage.contract import (
    Busy,
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
from simulation.database.link import Link
from simulation.database.rows import WAITS_FOR_A_DECISION, Stream

if TYPE_CHECKING:
    from simulation.database.database import SimulatedDatabase


class SimulatedEventLog:
    """The event log as one pod reaches it."""

    def __init__(self, link: Link[SimulatedDatabase]) -> None:
        self._link = link
        self._database = link.database

    async def publish(
        self, groups: Sequence[Sequence[Event]], *, wait: bool = True, logs: Mapping[str, int] | None = None
    ) -> list[PublishResult]:
        """Append groups of events; naming logs is not simulated."""
        _ = logs
        await self._link.travel()
        results: list[PublishResult] = [self._refusal(group, wait=wait) or () for group in groups]
        wanted = [group for group, result in zip(groups, results, strict=True) if result == ()]
        gateway_ids = [event.gateway_id for group in wanted for event in group]
        await self._database.lock(gateway_ids)
        xid = self._database.begin()
        try:
            await self._link.travel()
            stored = iter([self._database.commit(xid, group) for group in wanted])
        finally:
            self._database.end(xid)
            self._database.unlock(gateway_ids)
        answer = [next(stored) if result == () else result for result in results]
        return await self._link.call(lambda: answer)

    def _refusal(self, group: Sequence[Event], *, wait: bool) -> UnknownGateway | Busy | None:
        for event in group:
            if event.gateway_id not in self._database.rows.streams:
                return UnknownGateway(event.gateway_id)
            if not wait and self._database.is_held(event.gateway_id):
                return Busy(event.gateway_id)
        return None

    async def publish_in(self, transaction: object, events: Sequence[Event]) -> tuple[Receipt, ...]:
        """Not simulated: `SimulatedWorld` holds transactions open by itself."""
        raise TypeError(transaction, events)

    async def changed_since(self, marker: int) -> Changes:
        """The gateways whose logs have grown."""
        return await self._link.call(lambda: self._changed_since(marker))

    def _changed_since(self, marker: int) -> Changes:
        rows = self._database.rows
        heads = {name: stream.head for name, stream in rows.streams.items() if stream.changed_xid >= marker}
        return Changes(
            epoch=rows.epoch,
            heads=heads,
            marker=self._database.marker(),
            server=str(self._database.place),
            synchronous=self._database.synchronous,
            settled=self._database.settled,
            lineage=rows.lineage,
        )

    async def places(self, gateway_ids: Sequence[str], marker: int) -> Mapping[str, Place]:
        """Not simulated."""
        raise TypeError(gateway_ids, marker)

    async def identity(self) -> UUID:
        """Not simulated."""
        raise TypeError

    async def claim(self, claim: Claim) -> None:
        """Not simulated."""
        raise TypeError(claim)

    async def find(self, gateway_id: str, event_ids: Sequence[UUID]) -> Mapping[UUID, Position]:
        """Not simulated."""
        raise TypeError(gateway_id, event_ids)

    async def read(self, requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
        """The next events for each request."""
        return await self._link.call(lambda: [self._read(request) for request in requests])

    def _read(self, request: ReadRequest) -> ReadResult | None:
        stream = self._database.rows.streams.get(request.gateway_id)
        if stream is None:
            return None
        offsets = range(max(request.after, stream.low_water_mark) + 1, stream.head + 1)[: request.max_events]
        events = [stream.events[offset] for offset in offsets]
        sizes = accumulate(len(event.payload.encode()) for event in events)
        fitting = sum(size <= request.max_bytes for size in sizes)
        return ReadResult(
            events=events[: max(1, fitting)],
            epoch=self._database.rows.epoch,
            head=stream.head,
            low_water_mark=stream.low_water_mark,
            server=str(self._database.place),
            last_event_id=stream.last_event_id,
        )

    async def is_held(self, gateway_id: str) -> bool:
        """Whether a transaction holds the log."""
        return await self._link.call(lambda: self._database.is_held(gateway_id))

    async def register(self, gateway_id: str, *, transaction: object | None = None, claim: Claim | None = None) -> bool:
        """Begin an empty log."""
        _ = transaction, claim
        rows = self._database.rows
        return rows.streams.setdefault(gateway_id, Stream(rows.epoch)).head == 0

    async def forget(self, gateway_id: str, *, transaction: object | None = None, log_id: int | None = None) -> bool:
        """Remove a log."""
        _ = transaction, log_id
        return self._database.rows.streams.pop(gateway_id, None) is not None

    async def trim(self, policy: TrimPolicy, trim_pass: TrimPass | None = None) -> int:
        """Remove what every position has passed, and what is too old, from all logs at once."""
        if trim_pass is not None:
            trim_pass.is_done = True
        return await self._link.call(lambda: sum(self._trim(name, policy) for name in self._database.rows.streams))

    def _trim(self, gateway_id: str, policy: TrimPolicy) -> int:
        rows, now = self._database.rows, self._database.now()
        stream = rows.streams[gateway_id]
        confirmed = min(
            (
                cursor.confirmed
                for key, cursor in rows.cursors.items()
                if key[0] == gateway_id and cursor.epoch == rows.epoch
            ),
            default=0,
        )
        waiting = [
            offset
            for (name, _, offset), kind in rows.outcomes.items()
            if name == gateway_id and kind in WAITS_FOR_A_DECISION
        ]
        confirmed = min(confirmed, min(waiting, default=stream.head + 1) - 1)
        before = stream.low_water_mark
        while stream.low_water_mark < stream.head:
            offset = stream.low_water_mark + 1
            age = now - stream.events[offset].recorded_at
            if not (age > policy.keep_at_most or (offset <= confirmed and age >= policy.keep_confirmed)):
                break
            del stream.offsets[stream.events.pop(offset).event_id]
            stream.low_water_mark = offset
        self._forget_outcomes(gateway_id, stream.low_water_mark)
        return stream.low_water_mark - before

    def _forget_outcomes(self, gateway_id: str, through: int) -> None:
        """A replica that loses a parked event reconnects and gets the reason."""
        rows = self._database.rows
        gone = [key for key in rows.outcomes if key[0] == gateway_id and key[2] <= through]
        for key in gone:
            if rows.outcomes.pop(key) in WAITS_FOR_A_DECISION:
                rows.lose(*key[:2])

    async def renew_epoch(self, expected: UUID) -> UUID:
        """Begin a new history unless another pod did so first."""

        def renew() -> UUID:
            rows = self._database.rows
            return self._database.replace_history() if rows.epoch == expected else rows.epoch

        return await self._link.call(renew)

    async def record_history(self, expected: UUID, verdict: Verdict = Verdict.RECORD) -> UUID:
        """Decide whether the history goes on."""

        def settle() -> UUID:
            rows = self._database.rows
            return self._database.settle(verdict) if rows.epoch == expected else rows.epoch

        return await self._link.call(settle)

    async def contradicts(self, remembered: Sequence[Remembered]) -> bool:
        """Whether any of these events is not where it was read."""
        return await self._link.call(lambda: any(map(self._is_missing, remembered)))

    def _is_missing(self, one: Remembered) -> bool:
        stream = self._database.rows.streams[one.gateway_id]
        event = stream.events.get(one.offset)
        present = event.event_id if event else stream.last_event_id if one.offset == stream.head else one.event_id
        return stream.head < one.offset or one.event_id not in (None, present)
