"""The three storage contracts in memory, with PostgreSQL's rules of visibility, and faults on the way to them.

What is simulated is what delivery can observe: transactions that overlap, logs that are held, commits whose answer is
lost, a lease that runs out, retention, and a restore. The rules themselves are proved on the real databases by the
contract suite.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from gatecast.delivery.resume import PARKED
from gatecast.errors import StorageUnavailable, UnknownGateway
from gatecast.events import Event, Position, RecordedEvent
from gatecast.storage.contract import (
    Busy,
    Changes,
    Claim,
    Connection,
    DeliveryFilter,
    DisconnectReason,
    Entity,
    GatewayStatus,
    LivePod,
    Outcome,
    OutcomeKind,
    ParkedEntity,
    Place,
    PositionState,
    Progress,
    PublishResult,
    ReadRequest,
    ReadResult,
    Receipt,
    Remembered,
    TrimPolicy,
    Verdict,
)
from gatecast.storage.hops import Delivery
from simulation.history import History

T = TypeVar("T")

#: What the present task was told, at last, when it asked where a gateway stands; as it is stored.
LOOKED_UP: ContextVar[PositionState] = ContextVar("LOOKED_UP")

START = datetime(2026, 1, 1, tzinfo=UTC)

WAITS_FOR_A_DECISION = (OutcomeKind.PARKED, OutcomeKind.HELD, OutcomeKind.RETRIED, OutcomeKind.SKIPPED)

_REFUSED = (OutcomeKind.PARKED, OutcomeKind.REJECTED)

#: What a later word may make of an earlier one.
_FOLLOWS = {
    None: tuple(OutcomeKind),
    OutcomeKind.APPLIED: tuple(OutcomeKind),
    OutcomeKind.HELD: _REFUSED,
    OutcomeKind.PARKED: (OutcomeKind.APPLIED, OutcomeKind.REJECTED),
    OutcomeKind.REJECTED: (OutcomeKind.APPLIED, OutcomeKind.REJECTED),
}


@dataclass(slots=True)
class Stream:
    """One gateway's log."""

    registered_in: UUID
    head: int = 0
    low_water_mark: int = 0
    changed_xid: int = 0
    last_event_id: UUID | None = None
    events: dict[int, RecordedEvent] = field(default_factory=dict)
    #: Where each event is, by its id.
    offsets: dict[UUID, int] = field(default_factory=dict)


@dataclass(slots=True)
class Cursor:
    """A stored position."""

    epoch: UUID
    sent: int
    confirmed: int
    resync_reason: str | None = None


@dataclass(slots=True)
class ConnectionRow:
    """A recorded connection."""

    connection: Connection
    sent: int
    confirmed: int
    dismissal: DisconnectReason | None = None
    #: Its pod died, and it holds nothing back any more.
    released: bool = False

    @property
    def counts(self) -> bool:
        """Whether the position waits for it, and moves by what it confirms."""
        return not self.released and self.dismissal is None


@dataclass(slots=True)
class Rows:
    """What a backup would contain."""

    epoch: UUID
    #: Where the history was last known to live, and whether commits waited for a standby there.
    place: int = 0
    synchronous: bool = False
    #: What was decided about this history and those before it.
    lineage: tuple[UUID, ...] = ()
    streams: dict[str, Stream] = field(default_factory=dict)
    cursors: dict[tuple[str, str], Cursor] = field(default_factory=dict)
    connections: dict[str, ConnectionRow] = field(default_factory=dict)
    leases: dict[str, datetime] = field(default_factory=dict)
    lives: dict[str, UUID] = field(default_factory=dict)
    #: By gateway, replica and offset.
    outcomes: dict[tuple[str, str, int], OutcomeKind] = field(default_factory=dict)

    def heads(self) -> dict[str, int]:
        """How far each log goes."""
        return {name: stream.head for name, stream in self.streams.items()}

    def told(self, gateway_id: str) -> set[int]:
        """Of which events it is stored what a gateway made of them; what was known of removed ones went with them."""
        known = {offset for name, _, offset in self.outcomes if name == gateway_id}
        return known | set(range(1, self.streams[gateway_id].low_water_mark + 1))

    def lose(self, gateway_id: str, replica: str) -> None:
        """What waited for a decision is gone: who has to be told comes back."""
        if (cursor := self.cursors.get((gateway_id, replica))) is not None:
            cursor.resync_reason = PARKED
            for row in self.connections.values():
                if (row.connection.gateway_id, row.connection.replica) == (gateway_id, replica):
                    row.dismissal = row.dismissal or DisconnectReason.RESTARTING

    def waiting(self) -> list[tuple[str, str, int]]:
        """What waits for a decision, or for what a decision brings."""
        return [
            (name, replica, offset)
            for (name, replica, offset), kind in self.outcomes.items()
            if kind in WAITS_FOR_A_DECISION and offset in self.streams[name].events
        ]

    def entities(self, gateway_id: str, replica: str, *kinds: OutcomeKind) -> dict[Entity, None]:
        """The entities of events of which one of these is known, in the order of their offsets."""
        events = self.streams[gateway_id].events
        found = sorted(
            offset
            for (name, whose, offset), kind in self.outcomes.items()
            if (name, whose) == (gateway_id, replica) and kind in kinds and offset in events
        )
        return dict.fromkeys(entity_of(events[offset]) for offset in found)


def entity_of(event: RecordedEvent) -> Entity:
    """What an event is about."""
    return event.entity_type, event.entity_id


class SimulatedDatabase:
    """The rows that every pod shares, the locks on them, and the order in which transactions become visible."""

    #: What cannot happen to it.
    impossible = frozenset[str]()
    #: Who restores it begins a new history.
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
    """Let what the rows hold be what was committed in their epoch; an event that was removed gets some id."""
    for gateway_id, stream in rows.streams.items():
        log = history.logs[rows.epoch, gateway_id]
        log.clear()
        for offset in range(1, stream.head + 1):
            event = stream.events.get(offset)
            log[offset] = event.event_id if event else new_id()


class Shared(Protocol):
    """What every pod shares, as a link knows it."""

    random: random.Random


D = TypeVar("D", bound=Shared)


class Link(Generic[D]):
    """One pod's way to the database: slow at times, gone at times, and at times the answer is lost."""

    def __init__(self, database: D) -> None:
        self.database = database
        #: False: the database cannot be reached.
        self.up = True
        #: True: the pod is dead, and nothing of it reaches the database any more.
        self.dead = False
        #: How likely an answer is lost after the work was done.
        self.loss = 0.0

    async def call(self, work: Callable[[], T]) -> T:
        """Do the work in one instant, some time after the call and some time before the answer."""
        await self.travel()
        result = work()
        await self.travel()
        if self.database.random.random() < self.loss:
            raise StorageUnavailable("the answer was lost")
        return result

    async def travel(self) -> None:
        """The time that a message takes."""
        await asyncio.sleep(self.database.random.choice((0.0, 0.001, 0.003, 0.02)))
        if self.dead:
            await asyncio.Event().wait()
        if not self.up:
            raise StorageUnavailable("the link is down")


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

    async def trim(self, policy: TrimPolicy) -> int:
        """Remove what every position has passed, and what is too old."""
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
        """Who loses what waited for a decision comes back and is told."""
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


class SimulatedPresence:
    """Pods, connections and positions as one pod reaches them."""

    def __init__(self, link: Link[SimulatedDatabase]) -> None:
        self._link = link
        self._database = link.database

    @property
    def _rows(self) -> Rows:
        return self._database.rows

    async def renew_lease(self, pod_id: str, duration: timedelta) -> UUID:
        """Keep this pod alive."""

        def renew() -> UUID:
            now = self._database.now()
            life = self._rows.lives.setdefault(pod_id, self._database.uuid())
            leases = self._rows.leases
            leases[pod_id] = now + duration
            returned = self._of_pods({pod_id})
            for row in returned:
                row.released = False
            self._advance_all(returned)
            forgotten = {row.connection.pod_id for row in self._rows.connections.values()} - leases.keys()
            self._release(forgotten | {name for name, until in leases.items() if until <= now})
            return life

        return await self._link.call(renew)

    async def describe_pod(self, pod_id: str, version: str) -> None:
        """Nothing here depends on it."""

    async def pods(self) -> list[LivePod]:
        """The pods that live."""
        now = self._database.now()
        return [
            LivePod(pod_id=name, lease_seconds=(until - now).total_seconds(), version="", started_at=None)
            for name, until in sorted(self._rows.leases.items())
            if until > now
        ]

    async def disconnect_connection(self, gateway_id: str, connection_id: str) -> bool:
        """Nobody disconnects anybody here."""
        del gateway_id, connection_id
        return False

    async def end_lease(self, pod_id: str) -> None:
        """Remove the pod and its connections."""

        def end() -> None:
            self._rows.leases.pop(pod_id, None)
            self._rows.lives.pop(pod_id, None)
            self._release({pod_id})
            for row in self._of_pods({pod_id}):
                del self._rows.connections[row.connection.connection_id]

        await self._link.call(end)

    def _release(self, pod_ids: set[str]) -> None:
        ended = [row for row in self._of_pods(pod_ids) if not row.released]
        self._dismiss_older(ended)
        for row in ended:
            row.released = True
        self._advance_all(ended)

    def _of_pods(self, pod_ids: set[str]) -> list[ConnectionRow]:
        return [row for row in self._rows.connections.values() if row.connection.pod_id in pod_ids]

    def _dismiss_older(self, ended: Iterable[ConnectionRow]) -> None:
        """Who ended before it confirmed its whole log was perhaps sent again what older ones had confirmed."""
        for row in ended:
            stream = self._rows.streams[row.connection.gateway_id]
            for other in self._sharing(row.connection.gateway_id, row.connection.replica):
                if other is row:
                    break
                if row.confirmed < stream.head:
                    other.dismissal = other.dismissal or DisconnectReason.RESTARTING

    async def standing(self, gateway_id: str, replica: str) -> PositionState:
        """The state of the log and of the stored position."""

        def look() -> PositionState:
            LOOKED_UP.set(self._stored(gateway_id, replica))
            return self._standing(gateway_id, replica)

        return await self._link.call(look)

    def _standing(self, gateway_id: str, replica: str) -> PositionState:
        return self._stored(gateway_id, replica)

    def _stored(self, gateway_id: str, replica: str) -> PositionState:
        stream = self._rows.streams.get(gateway_id)
        if stream is None:
            raise UnknownGateway(gateway_id)
        cursor = self._rows.cursors.get((gateway_id, replica))
        return PositionState(
            epoch=self._rows.epoch,
            head=stream.head,
            low_water_mark=stream.low_water_mark,
            confirmed=Position(cursor.epoch, cursor.confirmed) if cursor else None,
            registered_in=stream.registered_in,
            resync_reason=cursor.resync_reason if cursor else None,
        )

    async def connect(
        self,
        connection: Connection,
        *,
        start: Position,
        resync_reason: str | None = None,
        newest_only: bool = False,
    ) -> None:
        """Record a connection."""
        await self._link.call(lambda: self._connect(connection, start, resync_reason, newest_only=newest_only))

    def _connect(
        self, connection: Connection, start: Position, resync_reason: str | None, *, newest_only: bool
    ) -> None:
        if self._rows.place != self._database.place:
            raise StorageUnavailable("another server has taken over just now")
        if start.epoch != self._rows.epoch:
            raise StorageUnavailable("its history was replaced just now")
        if start.offset > self._rows.streams[connection.gateway_id].head:
            raise StorageUnavailable("its log ends before that by now")
        key = (connection.gateway_id, connection.replica)
        before = self._rows.cursors.get(key)
        if before is not None and before.resync_reason == PARKED and resync_reason is None:
            raise StorageUnavailable("the parked events were removed in the meantime")
        confirmed = start.offset
        if newest_only:
            for row in self._sharing(*key):
                row.dismissal = DisconnectReason.SUPERSEDED
        else:
            confirmed = min([confirmed, *(row.confirmed for row in self._sharing(*key) if row.counts)])
        sent = max(before.sent, start.offset) if before and before.epoch == start.epoch else start.offset
        self._rows.cursors[key] = Cursor(start.epoch, sent, confirmed, resync_reason)
        self._rows.connections[connection.connection_id] = ConnectionRow(connection, start.offset, start.offset)

    def _sharing(self, gateway_id: str, replica: str) -> list[ConnectionRow]:
        return [
            row
            for row in self._rows.connections.values()
            if (row.connection.gateway_id, row.connection.replica) == (gateway_id, replica)
        ]

    async def record_progress(self, progress: Sequence[Progress]) -> None:
        """Store how far connections have come."""
        await self._link.call(lambda: self._record(progress))

    async def disconnect(self, progress: Sequence[Progress]) -> None:
        """Record last progress and remove those connections."""

        def leave() -> None:
            known = self._rows.connections
            self._note(progress)
            self._dismiss_older([known[one.connection_id] for one in progress if one.connection_id in known])
            self._move_cursors(progress)
            for one in progress:
                known.pop(one.connection_id, None)
            self._move_cursors(progress)

        await self._link.call(leave)

    def _record(self, progress: Sequence[Progress]) -> None:
        self._note(progress)
        self._move_cursors(progress)

    def _note(self, progress: Sequence[Progress]) -> None:
        for one in progress:
            row = self._rows.connections.get(one.connection_id)
            if row is not None and one.epoch == self._rows.epoch:
                row.sent, row.confirmed = max(row.sent, one.sent), max(row.confirmed, one.confirmed)
                row.released = False
                self._database.history.noted[one.connection_id] = row.confirmed

    def _move_cursors(self, progress: Sequence[Progress]) -> None:
        for key in dict.fromkeys((one.gateway_id, one.replica) for one in progress):
            self._move_cursor(key)

    def _advance_all(self, rows: Iterable[ConnectionRow]) -> None:
        for key in dict.fromkeys((row.connection.gateway_id, row.connection.replica) for row in rows):
            self._move_cursor(key)

    def _move_cursor(self, key: tuple[str, str]) -> None:
        cursor = self._rows.cursors.get(key)
        live = [row for row in self._sharing(*key) if row.counts]
        if cursor is None or cursor.epoch != self._rows.epoch or not live:
            return
        cursor.sent = max(cursor.sent, *(row.sent for row in live))
        cursor.confirmed = max(cursor.confirmed, min(row.confirmed for row in live))
        if cursor.resync_reason is None:
            self._database.history.stored_position(key[0], cursor.epoch, cursor.confirmed)

    async def pending_disconnects(self, pod_id: str) -> dict[str, DisconnectReason]:
        """This pod's connections that must be closed."""
        return await self._link.call(
            lambda: {
                key: row.dismissal
                for key, row in self._rows.connections.items()
                if row.connection.pod_id == pod_id and row.dismissal is not None
            }
        )

    async def disconnect_token(self, token_id: str, *, transaction: object | None = None) -> int:
        """Ask every pod to close what came with this token."""
        _ = transaction
        rows = [row for row in self._rows.connections.values() if row.connection.token_id == token_id]
        for row in rows:
            row.dismissal = row.dismissal or DisconnectReason.TOKEN_REVOKED
        return len(rows)

    async def hint(self, gateway_ids: Sequence[str]) -> None:
        """Nothing: hints go over the simulated network."""

    async def resynchronized(
        self, gateway_id: str, replica: str, reason: str, *, connection_id: str | None = None
    ) -> None:
        """Record that the gateway has read the desired state again, for this reason."""

        def mark() -> None:
            cursor = self._rows.cursors.get((gateway_id, replica))
            row = self._rows.connections.get(connection_id) if connection_id is not None else None
            stays = connection_id is None or (row is not None and row.dismissal is None)
            if cursor is not None and cursor.resync_reason == reason and stays:
                cursor.resync_reason = None

        await self._link.call(mark)

    async def status(
        self, gateway_ids: Sequence[str], *, transaction: object | None = None
    ) -> dict[str, GatewayStatus]:
        """Not simulated."""
        raise TypeError(gateway_ids, transaction)


class SimulatedOutcomes:
    """What gateways said, as one pod reaches it."""

    def __init__(self, link: Link[SimulatedDatabase]) -> None:
        self._link = link
        self._database = link.database
        #: What this pod has stored.
        self.recorded: list[Outcome] = []

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Store outcomes."""

        def store() -> None:
            self.recorded.extend(outcomes)
            for outcome in outcomes:
                self._store(outcome)

        await self._link.call(store)

    def _store(self, outcome: Outcome) -> None:
        rows = self._database.rows
        stream = rows.streams.get(outcome.gateway_id)
        key = (outcome.gateway_id, outcome.replica, outcome.offset)
        if stream is not None and outcome.offset <= stream.low_water_mark and outcome.kind in WAITS_FOR_A_DECISION:
            rows.lose(outcome.gateway_id, outcome.replica)
        possible = _FOLLOWS.get(rows.outcomes.get(key), ())
        if stream is not None and outcome.offset in stream.events and outcome.kind in possible:
            rows.outcomes[key] = outcome.kind

    async def of_events(self, gateway_id: str, offsets: Sequence[int]) -> list[Outcome]:
        """The outcomes of these events."""
        return [one for one in self.recorded if one.gateway_id == gateway_id and one.offset in offsets]

    async def of_many(self, events: Sequence[tuple[str, int]]) -> list[Outcome]:
        """Not simulated."""
        raise TypeError(events)

    async def deliveries(self, gateway_id: str, offset: int) -> Sequence[Delivery]:
        """Not simulated."""
        raise TypeError(gateway_id, offset)


class SimulatedParking:
    """Entities that wait for a decision, as one pod reaches them."""

    def __init__(self, link: Link[SimulatedDatabase]) -> None:
        self._link = link
        self._database = link.database

    async def withheld(self, gateway_id: str, replica: str, *, after: int, parks: bool = True) -> DeliveryFilter:
        """What a connection must not be sent; what was decided is published again first."""
        if not parks:
            return DeliveryFilter()
        if await self._link.call(lambda: self._decided(gateway_id, replica)):
            await self._release(gateway_id, replica)
        key = (gateway_id, replica)
        parked = await self._link.call(lambda: self._database.rows.entities(*key, OutcomeKind.PARKED))
        settled = await self._link.call(lambda: self._settled(*key, after))
        return DeliveryFilter(parked=frozenset(parked), settled=frozenset(settled))

    def _decided(self, gateway_id: str, replica: str) -> list[Entity]:
        rows = self._database.rows
        parked = rows.entities(gateway_id, replica, OutcomeKind.PARKED)
        decided = rows.entities(gateway_id, replica, OutcomeKind.HELD, OutcomeKind.RETRIED, OutcomeKind.SKIPPED)
        return sorted(decided.keys() - parked.keys())

    def _settled(self, gateway_id: str, replica: str, after: int) -> list[int]:
        return [
            offset
            for (name, whose, offset), kind in self._database.rows.outcomes.items()
            if (name, whose) == (gateway_id, replica)
            and kind in (OutcomeKind.RELEASED, OutcomeKind.REJECTED)
            and offset > after
        ]

    async def _release(self, gateway_id: str, replica: str) -> None:
        await self._link.travel()
        await self._database.lock([gateway_id])
        xid = self._database.begin()
        try:
            await self._link.travel()
            for entity in self._decided(gateway_id, replica):
                self._publish_again(xid, gateway_id, replica, entity)
        finally:
            self._database.end(xid)
            self._database.unlock([gateway_id])
        await self._link.travel()

    def _publish_again(self, xid: int, gateway_id: str, replica: str, entity: Entity) -> None:
        """In one instant: the world sees all of it, or nothing."""
        rows = self._database.rows
        events, outcomes = rows.streams[gateway_id].events, rows.outcomes
        kinds = {
            offset: outcomes.get((gateway_id, replica, offset))
            for offset, event in sorted(events.items())
            if entity_of(event) == entity
        }
        first = min(
            offset + 1 if kind is OutcomeKind.SKIPPED else offset
            for offset, kind in kinds.items()
            if kind in (OutcomeKind.HELD, OutcomeKind.RETRIED, OutcomeKind.SKIPPED)
        )
        left_out = (OutcomeKind.RELEASED, OutcomeKind.SKIPPED, OutcomeKind.REJECTED)
        again = [offset for offset, kind in kinds.items() if offset >= first and kind not in left_out]
        self._database.commit(xid, [copy_of(events[offset], self._database.uuid()) for offset in again])
        outcomes |= {(gateway_id, replica, offset): OutcomeKind.RELEASED for offset in again}
        skipped = [offset for offset, kind in kinds.items() if kind is OutcomeKind.SKIPPED]
        outcomes |= {(gateway_id, replica, offset): OutcomeKind.REJECTED for offset in skipped}

    async def parked(self, gateway_id: str, *, after: int, limit: int) -> list[ParkedEntity]:
        """Not simulated."""
        raise TypeError(gateway_id, after, limit)

    async def resolve(self, gateway_id: str, replica: str, entity: Entity, *, retry: bool) -> bool:
        """Decide about an entity."""

        def decide() -> bool:
            rows = self._database.rows
            events = rows.streams[gateway_id].events
            parked = [
                key
                for key, kind in rows.outcomes.items()
                if key[:2] == (gateway_id, replica)
                and kind is OutcomeKind.PARKED
                and entity_of(events[key[2]]) == entity
            ]
            for key in parked:
                rows.outcomes[key] = OutcomeKind.RETRIED if retry else OutcomeKind.SKIPPED
                if not retry:
                    self._database.history.skipped(gateway_id, events[key[2]])
            for row in rows.connections.values():
                if parked and (row.connection.gateway_id, row.connection.replica) == (gateway_id, replica):
                    row.dismissal = row.dismissal or DisconnectReason.RESTARTING
            return bool(parked)

        await self._link.travel()
        await self._database.lock([gateway_id])
        try:
            return await self._link.call(decide)
        finally:
            self._database.unlock([gateway_id])


def copy_of(event: RecordedEvent, event_id: UUID) -> Event:
    """What is published when an event is published again."""
    return Event(
        gateway_id=event.gateway_id,
        type=event.type,
        action=event.action,
        entity_type=event.entity_type,
        entity_id=event.entity_id,
        data=event.data,
        event_id=event_id,
        originated_at=event.originated_at,
    )


class SimulatedStorage:
    """The three contracts over one pod's link."""

    def __init__(self, database: SimulatedDatabase) -> None:
        self.link = Link(database)
        self.log = SimulatedEventLog(self.link)
        self.presence = SimulatedPresence(self.link)
        self.outcomes = SimulatedOutcomes(self.link)
        self.parking = SimulatedParking(self.link)

    @property
    def database(self) -> Any:  # noqa: ANN401 - delivery does not use it
        """Delivery needs no more than the contracts."""
        raise AttributeError
