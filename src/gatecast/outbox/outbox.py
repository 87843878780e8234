"""An open outbox: what waits in it, what the log refused, and waiting until an event is forwarded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final, Self
from uuid import UUID

from gatecast.background import BackgroundTask, FailureListener
from gatecast.errors import (
    DatabaseUnsuitable,
    EventNotForwarded,
    SettingInvalid,
    StatementFailed,
    StorageError,
    StorageUnavailable,
    shorten,
)
from gatecast.events import Event, PendingPosition, Position
from gatecast.gathering import Gathered
from gatecast.hiding import HIDDEN
from gatecast.outbox.binding import bind
from gatecast.outbox.disconnects import Disconnects
from gatecast.outbox.entries import Entries, OutboxStatus, RefusedEntry
from gatecast.outbox.forwarder import Forwarder, OutboxOptions
from gatecast.outbox.gateways import OutboxGateways
from gatecast.outbox.log import OutboxEngine, OutboxLog
from gatecast.outbox.records import Records
from gatecast.storage.contract import Database, Engine, EventLog, ReadRequest, Receipt, Storage
from gatecast.storage.database_url import Backend
from gatecast.waiting import together
from gatecast.wakeup.contract import EVERYTHING, Hint, SupervisedWakeup

__all__ = ["Outbox", "OutboxOptions", "OutboxStatus", "RefusedEntry", "check"]

#: Most processes named in an error.
_NAMED: Final = 5

#: Longest wait for the events of a new gateway, in seconds.
_SOON: Final = 5.0

#: Seconds until the outbox is asked again, unless this process forwards something first.
_LOOK_AGAIN: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """Which pod forwards."""

    #: The process that forwards; empty if none does.
    pod_id: str
    #: Why this process cannot forward now; None if it can, or another one does.
    problem: str | None


class Outbox:
    """The outbox of a hub. Every process that opens it may forward; one at a time does."""

    def __init__(
        self, storage: Storage, log: EventLog, records: Records, forwarder: Forwarder, wakeup: SupervisedWakeup
    ) -> None:
        self._storage = storage
        self._log = log
        self._records = records
        self._entries = Entries(storage.log, records)
        #: Many ask for their events after each batch that is forwarded.
        self._places = Gathered("outbox-places", self._look_up)
        self._wakeup = wakeup
        self._task = BackgroundTask()
        #: The log's history when this process opened the outbox.
        self.epoch_at_open = UUID(int=0)
        #: The loop that forwards.
        self.forwarder = forwarder
        #: The waiting events and the status of single gateways.
        self.gateways = OutboxGateways(storage, log, records)
        #: Whom transactions of the outbox's database disconnect.
        self.disconnects = Disconnects(storage.database)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, storage: Storage, backend: Backend, log: EventLog, wakeup: SupervisedWakeup, options: OutboxOptions
    ) -> AsyncIterator[Self]:
        """The outbox in a database that `check` has found suitable and that is migrated; forwards until the block ends.

        `wakeup` carries hints about the outbox.

        Raises:
            DatabaseUnsuitable: it belongs to another log.
        """
        records = Records(storage.database, backend)
        options = replace(options, log=await bind(records, log, options.log_place))
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

        The outbox is read first: a gateway that is deleted meanwhile was registered in it then, and is not mistaken for
        an unknown one.
        """
        known = (await self._storage.log.changed_since(0)).heads.keys() | await self._records.marked_gateways()
        found = await self._log.changed_since(0)
        # Before anything is published through it: what the log has was then published without it.
        await self._records.begin_ids(ever=not known and not found.heads)
        self.epoch_at_open = found.epoch
        for gateway_id in found.heads.keys() - known:
            if await self._is_gone(gateway_id):
                continue
            async with self.database.transaction() as transaction:
                if await self._storage.log.register(gateway_id, transaction=transaction):
                    # If it is deleted before it is looked at, its log is deleted as well.
                    await self._records.adopt(transaction, gateway_id)

    async def _is_gone(self, gateway_id: str) -> bool:
        """Whether the log has none of this gateway, although a replica that lags has named it."""
        with suppress(StatementFailed):
            return await self._log.read([_first(gateway_id)]) == [None]
        return False

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
        position, is_waiting = await self._places.ask((event.gateway_id, event.event_id))
        if position is None and not is_waiting:
            raise EventNotForwarded(event.gateway_id, event.event_id)
        return position

    async def known(self, gateway_id: str, event_id: UUID, *, within: float) -> Position | None:
        """The position of the event with this id, pending if the outbox holds it; None if neither has it.

        The log is asked for ids that the outbox no longer keeps. If it does not answer `within` this many seconds, the
        outbox decides, unless it may lack a newer one. Only a publish in a transaction decides between several at once.

        Raises:
            StorageUnavailable: the position is unknown now.
        """
        # The outbox first: an event no longer there was forwarded before the log is asked.
        if await self._storage.log.find(gateway_id, [event_id]):
            return PendingPosition(gateway_id, event_id)
        try:
            async with asyncio.timeout(within):
                return (await self._log.find(gateway_id, [event_id])).get(event_id)
        except (StorageUnavailable, TimeoutError) as error:
            if await self._records.knows_ids(self.forwarder.keep_forwarded):
                return None
            raise StorageUnavailable("the log does not say whether it holds the event") from error

    async def may_be_lost(self, event: Receipt, epoch: UUID) -> bool:
        """Whether the event was forwarded in an earlier history than this one, so that the log may lack it now.

        Of an event in whose log something was forwarded since, that is no longer known, and the answer is False.
        """
        mark = await self._records.mark(event.gateway_id)
        if mark is None or mark.log_epoch in {"", str(epoch)}:
            return False
        found = await self._storage.log.find(event.gateway_id, [event.event_id])
        [read] = await self._storage.log.read([_first(event.gateway_id)])
        is_current = read is not None and read.log_id == mark.outbox_log
        return is_current and any(place.offset <= mark.forwarded for place in found.values())

    async def _look_up(self, asked: Sequence[tuple[str, UUID]]) -> list[tuple[Position | None, bool]]:
        """Where each of these events of gateways is in the log, and otherwise whether it waits here."""
        ids: dict[str, list[UUID]] = {}
        for gateway_id, event_id in asked:
            ids.setdefault(gateway_id, []).append(event_id)
        found = dict(zip(ids, await together(self._look_up_in(*each) for each in ids.items()), strict=True))
        return [found[gateway_id][event_id] for gateway_id, event_id in asked]

    async def _look_up_in(self, gateway_id: str, event_ids: Sequence[UUID]) -> dict[UUID, tuple[Position | None, bool]]:
        # The outbox first: an event no longer there was forwarded before the log is asked.
        # And the mark before that: what is forwarded between the two looks counts as waiting, and is found next time.
        mark = await self._records.mark(gateway_id)
        entries = await self._storage.log.find(gateway_id, event_ids)
        [read] = await self._storage.log.read([_first(gateway_id)])
        # A gateway that was deleted in the outbox, or registered again, still has the log that is about to be deleted.
        is_current = mark is None or (read is not None and read.log_id == mark.outbox_log)
        forwarded = mark.forwarded if mark is not None and is_current else 0
        waiting = {event_id for event_id, entry in entries.items() if entry.offset > forwarded}
        others = [event_id for event_id in event_ids if event_id not in waiting]
        found = await self._log.find(gateway_id, others) if others and is_current else {}
        return {event_id: (found.get(event_id), event_id in waiting) for event_id in event_ids}

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

    async def registered_soon(self, gateway_id: str) -> None:
        """Return when a gateway that was registered in a transaction has its log; after 5 seconds in any case."""
        self.forwarder.look()
        self._wakeup.send(Hint.at([gateway_id]))
        with suppress(TimeoutError, StorageError):
            async with asyncio.timeout(_SOON):
                while await self._log.read([_first(gateway_id)]) == [None]:
                    await self.forwarder.moved(_LOOK_AGAIN)

    async def wait_until_empty(self) -> None:
        """Return when nothing waits: everything committed before this call is in the log, or was left out."""
        while await self._records.waiting():
            self.forwarder.look()
            await self.forwarder.moved(_LOOK_AGAIN)

    # --- looking ----------------------------------------------------------------------------------------------------

    async def status(self) -> OutboxStatus:
        """What waits now. The cost grows with the number of gateways."""
        return replace(await self._entries.status(), problem=self.forwarder.loop.problem)

    async def forwarding(self) -> Forwarding:
        """Which pod forwards now; the cost does not depend on the number of gateways."""
        return Forwarding(pod_id=(await self._records.forwarder()).pod_id, problem=self.forwarder.loop.problem)

    async def refused(self) -> list[RefusedEntry]:
        """The events that the log refused, by gateway; at most one for each, its next one."""
        return await self._entries.refused()

    # --- deciding ---------------------------------------------------------------------------------------------------

    async def try_again(self, gateway_id: str, event_id: UUID | None = None) -> bool:
        """Forward the refused event of this gateway again; False if none is refused, or another one than `event_id`.

        Forwarding registers the gateway in the log if it is not there, because something else has deleted it.
        """
        return self._decided(await self._entries.try_again(gateway_id, event_id))

    async def leave_out(self, gateway_id: str, event_id: UUID | None = None) -> bool:
        """Never forward the refused event of this gateway, and continue with the next one.

        False if no event is refused, or another one than `event_id`.
        """
        return self._decided(await self._entries.leave_out(gateway_id, event_id))

    def _decided(self, changed: bool) -> bool:  # noqa: FBT001 - what the table said
        self.forwarder.look()
        self._wakeup.send(EVERYTHING)
        return changed


async def check(storage: Storage, log: EventLog) -> None:
    """Return if the database can be the outbox of this log.

    Raises:
        SettingInvalid: it is the log's own database.
        DatabaseUnsuitable: it holds a log.
    """
    if await storage.database.schema_version():
        epochs = [(await each.changed_since(0)).epoch for each in (storage.log, log)]
        if epochs[0] == epochs[1]:
            rule = (
                "name another database than the log; to publish in a transaction of the log's own, leave it out; if "
                "its log was moved to this stream, repeat `gatecast move-log`, which was interrupted"
            )
            raise SettingInvalid("GATECAST_OUTBOX", HIDDEN, rule)
    await refuse_log(storage)


async def refuse_log(storage: Storage) -> None:
    """Return if the database holds nothing of ours, or is an outbox already.

    Raises:
        DatabaseUnsuitable: it holds a log with gateways, or processes that run have it for their log.
    """
    if not await storage.database.schema_version() or await storage.database.is_outbox():
        return
    if (await storage.log.changed_since(0)).heads:
        raise DatabaseUnsuitable(
            "it holds a log with gateways of its own",
            "name another database as the outbox, or move that log to a new stream with `gatecast move-log`",
        )
    if pods := [pod.pod_id for pod in await storage.presence.pods()]:
        # They would number events by themselves, and deliver what is forwarded.
        raise DatabaseUnsuitable(
            f"it is the log of processes that run: {', '.join(map(shorten, pods[:_NAMED]))}",
            "stop them, or name another database as the outbox",
        )


async def refuse_new(storage: Storage, backend: Backend, log: EventLog, *, place: str, log_place: str) -> None:
    """Return if the outbox was used before, or the log has no gateways; `place` and `log_place` are where they are.

    Raises:
        DatabaseUnsuitable: the log has gateways, and none of their events came through this outbox.
    """
    # The log first: a pod that has registered a gateway there has bound the outbox before.
    gateways, records = (await log.changed_since(0)).heads, Records(storage.database, backend)
    known = (await storage.log.changed_since(0)).heads.keys() | await records.marked_gateways()
    if gateways and not known and not (await records.forwarder()).log:
        raise DatabaseUnsuitable(
            f"the database {place} is new, and the log {log_place} holds gateways that it does not know "
            f"({len(gateways):,})",
            "name in GATECAST_OUTBOX the database that belongs to this log; or, to begin anew, name another stream in "
            "GATECAST_DATABASE",
        )


def _first(gateway_id: str) -> ReadRequest:
    return ReadRequest(gateway_id=gateway_id, after=0, max_events=1, max_bytes=1)
