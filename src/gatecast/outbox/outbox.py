"""An open outbox: what waits in it, what the log refused, and waiting until an event is forwarded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Self
from uuid import UUID

from gatecast.background import BackgroundTask, FailureListener
from gatecast.errors import DatabaseUnsuitable, EventNotForwarded, SettingInvalid, StorageUnavailable, UnknownGateway
from gatecast.events import Event, PendingPosition, Position, RecordedEvent
from gatecast.hiding import HIDDEN
from gatecast.outbox.disconnects import Disconnects
from gatecast.outbox.forwarder import Forwarder, OutboxOptions
from gatecast.outbox.log import OutboxEngine, OutboxLog
from gatecast.outbox.records import Records, Waiting
from gatecast.storage.contract import (
    Database,
    Engine,
    EventLog,
    GatewayStatus,
    Presence,
    ReadRequest,
    Receipt,
    Storage,
    Transaction,
)
from gatecast.storage.database_url import Backend
from gatecast.wakeup.contract import EVERYTHING, Hint, SupervisedWakeup

__all__ = ["Outbox", "OutboxOptions", "OutboxStatus", "RefusedEntry", "check"]

#: The outbox is asked again after so many seconds, unless this process has forwarded something before.
_LOOK_AGAIN: Final = 0.1

#: Most gateways that one request reads.
_AT_ONCE: Final = 500

#: Most bytes of data that a look at the entries of one gateway reads.
_BYTES: Final = 1024 * 1024


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
    """What waits in the outbox."""

    #: Number of events that are not in the log yet, by gateway; without gateways of which none waits.
    waiting: Mapping[str, int]
    #: When the oldest of them was stored, by the clock of the outbox's database; None if none waits.
    oldest: datetime | None
    #: The events that the log refused.
    refused: Sequence[RefusedEntry]
    #: The process that forwards; empty if none does.
    forwarder: str
    #: Why this process cannot forward now; None if it can, or another one does.
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """Who forwards."""

    #: The process that forwards; empty if none does.
    pod_id: str
    #: Why this process cannot forward now; None if it can, or another one does.
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayQueue:
    """What of one gateway waits in the outbox."""

    #: How many events.
    events: int = 0
    #: The ids of the first of them.
    event_ids: Sequence[UUID] = ()
    #: When the first was stored, by the clock of the outbox's database; None if none waits, or it cannot be read.
    since: datetime | None = None
    #: Why the log refused the first; None if it has not.
    refusal: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the ids are those of all that wait."""
        return self.events == len(self.event_ids)


class Outbox:
    """The outbox of a hub. Every process that opens it may forward; one at a time does."""

    def __init__(
        self, storage: Storage, log: EventLog, records: Records, forwarder: Forwarder, wakeup: SupervisedWakeup
    ) -> None:
        self._storage = storage
        self._log = log
        self._records = records
        self._wakeup = wakeup
        self._task = BackgroundTask()
        #: The loop that forwards.
        self.forwarder = forwarder
        #: Whom transactions of the outbox's database disconnect.
        self.disconnects = Disconnects(storage.database)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, storage: Storage, backend: Backend, log: EventLog, wakeup: SupervisedWakeup, options: OutboxOptions
    ) -> AsyncIterator[Self]:
        """The outbox in a database that `check` has found suitable and that is migrated; forwards until the block ends.

        `wakeup` carries hints about the outbox.
        """
        records = Records(storage.database, backend)
        forwarder = Forwarder(storage.log, log, records, options)
        outbox = cls(storage, log, records, forwarder, wakeup)
        await outbox.adopt()
        wakeup.listen(outbox._on_hint)
        outbox._task.start(forwarder.run(), name="outbox-forwarder")
        try:
            yield outbox
        finally:
            await outbox._task.stop()

    def on_failure(self, told: FailureListener) -> None:
        """Tell it when forwarding has died for good, also when it has by now. No outage does that: it is a mistake."""
        self._task.on_failure(told)
        self._wakeup.on_failure(told)

    def engine(self, engine: Engine) -> OutboxEngine:
        """The engine of the log, whose changes go through this outbox."""
        return OutboxEngine.over(engine, OutboxLog(self._storage.log, engine.log, self.forwarder))

    def _on_hint(self, _: Hint) -> None:
        self.forwarder.look()

    async def adopt(self) -> None:
        """Register the gateways that the log had before there was an outbox.

        The outbox is read first: a gateway that is deleted meanwhile was registered in it then, and is not taken for
        one that it never knew.
        """
        known = (await self._storage.log.changed_since(0)).heads.keys() | await self._records.marked_gateways()
        for gateway_id in (await self._log.changed_since(0)).heads.keys() - known:
            async with self.database.transaction() as transaction:
                if await self._storage.log.register(gateway_id, transaction=transaction):
                    # Should it be deleted before it is looked at, its log is deleted as well.
                    await self._records.adopt(transaction, gateway_id)

    @property
    def database(self) -> Database:
        """The database of the outbox, whose transactions a publish can join."""
        return self._storage.database

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def position_of(self, event: Position | Receipt | Event) -> Position | None:
        """Where the event is in its gateway's log; None while it waits in the outbox.

        Raises:
            EventNotForwarded: it is in neither.
        """
        if isinstance(event, Position) and not isinstance(event, PendingPosition):
            return event
        # The outbox first: what is not there any more was forwarded before the log is asked.
        gateway_id, event_id = event.gateway_id, event.event_id
        # And the mark before that: what is forwarded between the two looks counts as waiting, and is found next time.
        mark = await self._records.mark(gateway_id)
        entry = await self._storage.log.find(gateway_id, [event_id])
        [read] = await self._storage.log.read([_first_after(gateway_id, 0)])
        # A gateway that was deleted in the outbox, or registered again, still has the log that is about to be deleted.
        is_current = mark is None or (read is not None and read.log_id == mark.outbox_log)
        if entry and entry[event_id].offset > (mark.forwarded if mark is not None and is_current else 0):
            return None
        if is_current and (found := await self._log.find(gateway_id, [event_id])):
            return found[event_id]
        raise EventNotForwarded(gateway_id, event_id)

    async def entry(self, gateway_id: str, event_id: UUID) -> RecordedEvent | None:
        """The event as it is in the outbox; None: it is not there, or not any more."""
        found = await self._storage.log.find(gateway_id, [event_id])
        if event_id not in found:
            return None
        [read] = await self._storage.log.read([_first_after(gateway_id, found[event_id].offset - 1)])
        entry = next(iter(read.events), None) if read is not None else None
        return entry if entry is not None and UUID(int=entry.event_id.int) == event_id else None

    async def wait_until_forwarded(self, event: Position | Receipt | Event) -> Position:
        """Where the event is in its gateway's log, as soon as it is there. Call it after the commit.

        Waits as long as the log or the outbox cannot be reached, or an earlier event is refused; limit it with
        `asyncio.timeout`. It goes by the event's id, so it can be asked in any process that has opened the outbox.

        Raises:
            EventNotForwarded: the event is in neither the outbox nor the log.
        """
        while True:
            with suppress(StorageUnavailable):
                if (position := await self.position_of(event)) is not None:
                    return position
            await self.forwarder.moved(_LOOK_AGAIN)

    async def wait_until_empty(self) -> None:
        """Return when nothing waits: everything committed before this call is in the log, or was left out."""
        while await self._records.waiting():
            self.forwarder.look()
            await self.forwarder.moved(_LOOK_AGAIN)

    # --- looking ----------------------------------------------------------------------------------------------------

    async def status(self) -> OutboxStatus:
        """What waits now. The cost grows with the number of gateways."""
        waiting = [each for each in await self._records.waiting() if each.entries > 0]
        entries = await self._entries_after({each.gateway_id: each.forwarded for each in waiting})
        return OutboxStatus(
            waiting={each.gateway_id: each.entries for each in waiting},
            oldest=min((entry.recorded_at for entry in entries.values()), default=None),
            refused=_refused(waiting, entries),
            forwarder=(await self._records.forwarder()).pod_id,
            problem=self.forwarder.loop.problem,
        )

    async def _entries_after(self, offsets: Mapping[str, int]) -> dict[str, RecordedEvent]:
        """The first entry of each gateway after its offset."""
        names = list(offsets)
        found: dict[str, RecordedEvent] = {}
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            results = await self._storage.log.read([_first_after(name, offsets[name]) for name in some])
            found |= {
                name: result.events[0] for name, result in zip(some, results, strict=True) if result and result.events
            }
        return found

    async def refused(self) -> list[RefusedEntry]:
        """The events that the log refused, by gateway; at most one for each, its next one."""
        waiting = [each for each in await self._records.waiting() if each.is_refused]
        return _refused(waiting, await self._entries_after({each.gateway_id: each.forwarded for each in waiting}))

    async def forwarding(self) -> Forwarding:
        """Who forwards now."""
        return Forwarding(pod_id=(await self._records.forwarder()).pod_id, problem=self.forwarder.loop.problem)

    async def waiting_for(self, gateway_id: str) -> GatewayQueue:
        """What of one gateway waits now; the cost does not depend on the other gateways."""
        mark = await self._records.mark(gateway_id)
        after = ReadRequest(
            gateway_id=gateway_id, after=0 if mark is None else mark.forwarded, max_events=_AT_ONCE, max_bytes=_BYTES
        )
        [read] = await self._storage.log.read([after])
        if read is None:
            return GatewayQueue()
        if mark is None or mark.outbox_log != read.log_id:
            # Registered, or registered again, and not looked at since: nothing of this log was forwarded.
            [read] = await self._storage.log.read([replace(after, after=0)])
            mark = None
        entries = read.events if read is not None else ()
        refused = mark is not None and bool(entries) and mark.refused == entries[0].offset
        return GatewayQueue(
            events=0 if read is None else read.head - max(read.low_water_mark, 0 if mark is None else mark.forwarded),
            event_ids=[UUID(int=entry.event_id.int) for entry in entries],
            since=entries[0].recorded_at if entries else None,
            refusal=mark.reason if mark is not None and refused else None,
        )

    async def end_of(self, gateway_id: str) -> int:
        """How many events were ever published to the gateway: through the outbox, or, if those are more, to its log.

        Raises:
            UnknownGateway: the gateway is not registered in the outbox.
        """
        here, there = await end_of(self._storage.log, gateway_id), 0
        with suppress(UnknownGateway):
            there = await end_of(self._log, gateway_id)
        return max(here, there)

    async def gateway_status(
        self,
        presence: Presence,
        gateway_ids: Sequence[str],
        *,
        epoch: Callable[[], Awaitable[UUID]],
        transaction: Transaction | None = None,
    ) -> dict[str, GatewayStatus]:
        """The status of each of these gateways that is registered in the outbox or has a log.

        One without a log yet has an empty one. In a transaction, the log is asked only if the gateway has one by now.
        """
        registered = (await self._storage.presence.status(gateway_ids, transaction=transaction)).keys()
        wanted = gateway_ids
        if transaction is not None:
            wanted = [each for each in registered if await self._records.has_log(transaction, each)]
        found = await presence.status(wanted) if wanted else {}
        found = {name: status for name, status in found.items() if name in registered}
        if missing := [name for name in registered if name not in found]:
            empty = _empty_status(await epoch())
            found |= {name: replace(empty, gateway_id=name) for name in missing}
        return found

    # --- deciding ---------------------------------------------------------------------------------------------------

    async def try_again(self, gateway_id: str) -> bool:
        """Forward the refused event of this gateway again; False if none is refused.

        Forwarding registers the gateway in the log if it is not there, because something else has deleted it.
        """
        mark = await self._records.mark(gateway_id)
        if mark is None or not mark.refused:
            return False
        return self._decided(await self._records.try_again(mark))

    async def leave_out(self, gateway_id: str) -> bool:
        """Never forward the refused event of this gateway, and go on with the next one; False if none is refused."""
        mark = await self._records.mark(gateway_id)
        if mark is None or not mark.refused:
            return False
        return self._decided(await self._records.leave_out(mark))

    def _decided(self, changed: bool) -> bool:  # noqa: FBT001 - what the table said
        self.forwarder.look()
        self._wakeup.send(EVERYTHING)
        return changed


async def end_of(log: EventLog, gateway_id: str) -> int:
    """The offset of the last event in the gateway's log.

    Raises:
        UnknownGateway: it has none.
    """
    [read] = await log.read([_first_after(gateway_id, 0)])
    if read is None:
        raise UnknownGateway(gateway_id)
    return read.head


async def check(storage: Storage, log: EventLog) -> None:
    """Return if the database can be the outbox of this log.

    Raises:
        SettingInvalid: it is the log's own database.
        DatabaseUnsuitable: it holds a log.
    """
    if await storage.database.schema_version():
        epochs = [(await each.changed_since(0)).epoch for each in (storage.log, log)]
        if epochs[0] == epochs[1]:
            rule = "name another database than the log; to publish in a transaction of the log's own, leave it out"
            raise SettingInvalid("GATECAST_OUTBOX", HIDDEN, rule)
    await refuse_log(storage)


async def refuse_log(storage: Storage) -> None:
    """Return if the database holds nothing of ours, or is an outbox already.

    Raises:
        DatabaseUnsuitable: it holds a log with gateways.
    """
    if not await storage.database.schema_version() or await storage.database.is_outbox():
        return
    if (await storage.log.changed_since(0)).heads:
        raise DatabaseUnsuitable(
            "it holds a log with gateways of its own", "name another database as the outbox, or delete those gateways"
        )


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


def _first_after(gateway_id: str, offset: int) -> ReadRequest:
    return ReadRequest(gateway_id=gateway_id, after=offset, max_events=1, max_bytes=1)
