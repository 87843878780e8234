"""The database that every pod shares: transactions, locks, history, backups and standbys."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from uuid import UUID

from gatecast.events import Event, Position, RecordedEvent
from gatecast.storage.contract import (
    Receipt,
    Verdict,
)
from simulation.database.rows import Rows
from simulation.database.storage import SimulatedStorage
from simulation.history import History

START = datetime(2026, 1, 1, tzinfo=UTC)


class SimulatedDatabase:
    """The rows that every pod shares, the locks on them, and the order in which transactions become visible."""

    #: What cannot happen to it: one server has no majority, and deleting gateways is not simulated.
    impossible = frozenset({"lose_servers", "lose_majority", "delete_gateway"})
    #: It can be reached, and stores something, from then on.
    reachable_at = led_at = 0.0
    #: Who asks it knows within so many seconds that there will be no answer.
    answers_within = 0.0
    #: A restore begins a new history.
    settles_within = 0.0

    def __init__(
        self, random_source: random.Random, history: History, notify: Callable[[frozenset[str] | None], None]
    ) -> None:
        self.random = random_source
        self.history = history
        self.notify = notify
        self.rows = Rows(epoch=self.uuid())
        history.told = self._told
        #: Which server this is: a promoted standby is another one.
        self.place = 0
        #: Whether commits wait for a standby.
        self.synchronous = False
        #: The clock of the database's machine runs apart from the others by this much.
        self.clock_error = timedelta(0)
        self._next_xid = 1
        self._running: set[int] = set()
        self._held: dict[str, asyncio.Event] = {}

    def uuid(self) -> UUID:
        """A uuid that the seed determines."""
        return UUID(int=self.random.getrandbits(128), version=4)

    def storage(self) -> SimulatedStorage:
        """Every contract of the log, over a link of its own."""
        return SimulatedStorage(self)

    @contextmanager
    def repeatable(self) -> Iterator[None]:
        """Everything comes from the seed as it is."""
        yield

    def _told(self, gateway_id: str, epoch: UUID) -> set[int] | None:
        return self.rows.told(gateway_id) if epoch == self.rows.epoch else None

    def now(self) -> datetime:
        """The database's clock."""
        return START + timedelta(seconds=asyncio.get_running_loop().time()) + self.clock_error

    # --- appending ----------------------------------------------------------------------------------------------

    async def lock(self, gateway_ids: Sequence[str]) -> None:
        """Hold these logs, in one order for everybody."""
        taken: list[str] = []
        try:
            for gateway_id in sorted(set(gateway_ids)):
                while gateway_id in self._held:
                    await self._held[gateway_id].wait()
                self._held[gateway_id] = asyncio.Event()
                taken.append(gateway_id)
        except BaseException:
            self.unlock(taken)
            raise

    def unlock(self, gateway_ids: Sequence[str]) -> None:
        """Let others have these logs."""
        # In one order here as well: who waits is woken in it, and that may not depend on how names are hashed.
        for gateway_id in sorted(set(gateway_ids)):
            self._held.pop(gateway_id).set()

    def is_held(self, gateway_id: str) -> bool:
        """True while a transaction holds this log."""
        return gateway_id in self._held

    def begin(self) -> int:
        """A transaction id; until it ends, nobody's marker passes it."""
        xid, self._next_xid = self._next_xid, self._next_xid + 1
        self._running.add(xid)
        return xid

    def end(self, xid: int) -> None:
        """The transaction has committed or rolled back."""
        self._running.discard(xid)

    def marker(self) -> int:
        """The oldest transaction that still runs."""
        return min(self._running, default=self._next_xid)

    def commit(self, xid: int, events: Sequence[Event]) -> tuple[Receipt, ...]:
        """Make these events visible at once; their logs must be held."""
        receipts = tuple(self._append(xid, event) for event in events)
        for gateway_id in dict.fromkeys(event.gateway_id for event in events):
            self.history.grew(self.rows.epoch, gateway_id, self.rows.streams[gateway_id].head)
        self.notify(frozenset(event.gateway_id for event in events))
        return receipts

    def _append(self, xid: int, event: Event) -> Receipt:
        stream = self.rows.streams[event.gateway_id]
        offset = stream.offsets.get(event.event_id)
        created = offset is None
        if offset is None:
            offset = stream.head = stream.head + 1
            stream.changed_xid = xid
            stream.last_event_id = event.event_id
            stream.events[offset] = self._recorded(event, offset)
            stream.offsets[event.event_id] = offset
            self.history.committed(self.rows.epoch, event.gateway_id, offset, event)
        return Receipt(
            gateway_id=event.gateway_id,
            event_id=event.event_id,
            position=Position(self.rows.epoch, offset),
            created=created,
        )

    def _recorded(self, event: Event, offset: int) -> RecordedEvent:
        return RecordedEvent(
            gateway_id=event.gateway_id,
            offset=offset,
            event_id=event.event_id,
            type=event.type,
            action=event.action,
            entity_type=event.entity_type,
            entity_id=event.entity_id,
            payload=event.payload,
            originated_at=event.originated_at,
            recorded_at=self.now(),
        )

    # --- disasters ----------------------------------------------------------------------------------------------

    def backup(self) -> Rows:
        """A copy of everything that is stored."""
        return deepcopy(self.rows)

    def restore(self, backup: Rows) -> None:
        """Go back to an older state, as an operator does: then a new history begins (`renew_epoch`)."""
        self.rows = deepcopy(backup)
        self.begin_history()

    def fail_over(self, standby: Rows, *, certain: bool) -> None:
        """A standby takes over that received no more than this; nothing tells the pods.

        `certain`: everything that anybody knows says that it lacks nothing.
        """
        lost = (standby.epoch, standby.heads()) != (self.rows.epoch, self.rows.heads())
        self.rows = deepcopy(standby)
        self.place += 1
        self.history.moved(self.rows.epoch, lost=lost, certain=certain)
        log_what_is_there(self.rows, self.history, self.uuid)

    @property
    def settled(self) -> bool:
        """Whether the place, and how it replicates, are recorded."""
        return (self.rows.place, self.rows.synchronous) == (self.place, self.synchronous)

    @property
    def counts_as_synchronous(self) -> bool:
        """Whether commits wait for a standby, or ceased to so shortly before that no pod has seen it."""
        return self.synchronous or (self.rows.place == self.place and self.rows.synchronous)

    def settle(self, verdict: str) -> UUID:
        """Record this place; the history goes on there if that is where it was, or if nothing can be missing."""
        rows = self.rows
        proven = rows.synchronous and self.place == rows.place + 1 and verdict == Verdict.RECORD
        if rows.place == self.place or proven or verdict == Verdict.KEEP:
            if not self.settled:
                self._record(self.uuid())
            return rows.epoch
        return self.replace_history()

    def replace_history(self) -> UUID:
        """A pod has noticed that events are missing."""
        self.history.replaced(self.rows.epoch)
        return self.begin_history()

    def begin_history(self) -> UUID:
        """A new epoch; what the logs hold now is its beginning."""
        epoch = self.uuid()
        self._record(epoch)
        self.rows.epoch = epoch
        self.rows.connections.clear()
        log_what_is_there(self.rows, self.history, self.uuid)
        return epoch

    def _record(self, decision: UUID) -> None:
        """Note where the history lives, and that this was decided."""
        rows = self.rows
        rows.place, rows.synchronous = self.place, self.synchronous
        rows.lineage = (*(rows.lineage or (rows.epoch,)), decision)


def log_what_is_there(rows: Rows, history: History, new_id: Callable[[], UUID]) -> None:
    """Let what the rows hold be what was committed in their epoch.

    An event that retention removed keeps its id, since a pod may still send it; if its id is not known, it gets some.
    """
    for gateway_id, stream in rows.streams.items():
        log = history.logs[rows.epoch, gateway_id]
        known = dict(log)
        log.clear()
        for offset in range(1, stream.head + 1):
            event = stream.events.get(offset)
            log[offset] = event.event_id if event else known.get(offset) or new_id()
