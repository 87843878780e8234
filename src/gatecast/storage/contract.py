"""The storage contracts: what every database backend promises.

Three small contracts share one database, so that they share its transactions:

- `EventLog`: one log of events per gateway, numbered in commit order.
- `Presence`: which pods are alive, which connections they hold, and what each connection has confirmed.
- `Outcomes`: what gateways reported about single events.

The suite in `gatecast.testing.storage_suite` tests every sentence below on every backend.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, LiteralString, Protocol, TypeAlias, TypeVar
from uuid import UUID

from gatecast.errors import UnknownGateway
from gatecast.events import Event, Position, RecordedEvent
from gatecast.storage.hops import Delivery, Passages
from gatecast.storage.migrations import SchemaNeed
from gatecast.storage.replication import Replication

#: One row of a result, by column name.
Row: TypeAlias = Mapping[str, Any]


# --- the event log ----------------------------------------------------------------------------------------------


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Proof that one event is durable."""

    #: The gateway whose log holds it.
    gateway_id: str
    #: The event's id.
    event_id: UUID
    #: Its place in the gateway's log.
    position: Position
    #: False if this event id was already in the log; `position` is then the first one.
    created: bool


@dataclass(frozen=True, slots=True)
class Busy:
    """The group was not stored because another transaction holds a gateway's log now."""

    #: The gateway whose log is held.
    gateway_id: str


#: The result of one all-or-nothing group of events: a receipt for each, in order, or why none was stored.
PublishResult: TypeAlias = tuple[Receipt, ...] | UnknownGateway | Busy


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest:
    """A request for the next events of one gateway."""

    #: The gateway whose log to read.
    gateway_id: str
    #: Read the events after this offset.
    after: int
    #: At most this many events.
    max_events: int
    #: At most this many bytes of payload; the first event is always returned, whatever its size.
    max_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadResult:
    """The next events of one gateway, and the state of its log at the same instant."""

    #: Identity of the database's history.
    epoch: UUID
    #: In offset order, without gaps, starting at the first retained offset after `after`.
    events: Sequence[RecordedEvent]
    #: Offset of the last event in the log.
    head: int
    #: Retention has removed every event up to and including this offset (the low-water mark).
    low_water_mark: int
    #: Which server answered, as in `Changes`.
    server: str = ""
    #: Identity of the log: a gateway that is registered again gets another log, with a higher number.
    log_id: int = 0
    #: Id of the event at the head, even if retention has removed it; None: it is not known, or the log is empty.
    last_event_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """An event that was read from a log, and its offset."""

    gateway_id: str
    #: None: it may have been an earlier log of the gateway.
    log_id: int | None
    offset: int
    #: None: only its offset is known.
    event_id: UUID | None


class Verdict(StrEnum):
    """What is known about a history that is found in a place where it was not recorded."""

    #: Only what the database itself recorded.
    RECORD = "record"
    #: Events may be missing, whatever was recorded.
    DOUBT = "doubt"
    #: No events are missing: the operator says so.
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The gateways whose logs have grown."""

    #: Identity of the database's history.
    epoch: UUID
    #: Head of each log that may have grown since the marker; logs at the boundary may repeat.
    heads: Mapping[str, int]
    #: Pass it to the next call.
    marker: int
    #: Which server answered, since when it runs, and which copy of the tables it holds. It differs after a failover, a
    #: restart and a restore: earlier markers then mean nothing, however plausible they look, and events that were read
    #: before may be missing.
    server: str = ""
    #: Whether commits on that server wait for a standby.
    synchronous: bool = False
    #: Whether this place, and its replication, are recorded with the history. If not, call `record_history`: until
    #: then connections are recorded only in the place that is recorded.
    settled: bool = True
    #: The ids of the decisions about this history and those before it, oldest first; an epoch is the decision that
    #: began it. Empty if decisions are not recorded.
    lineage: tuple[UUID, ...] = ()
    #: The database's clock when it answered, in seconds since 1970; 0: not known.
    answered_at: float = 0.0
    #: Which copy of the tables answered: the same after a restart and a failover, and another one in tables that were
    #: loaded elsewhere. Markers of another one mean nothing.
    copy: str = ""
    #: As `marker`, and it holds on every server of this history: it counts what was committed, which no crash
    #: takes back, nor a failover that lost nothing.
    lasting: int = 0

    def lacks_what_followed(self, earlier: Changes) -> bool:
        """Whether the database went back to a state before `earlier`: it has lost a decision that was found then.

        This is proof, even if no event is remembered. A new history that began on another line is not such a case: its
        epoch is new to every gateway, and every gateway is told.
        """
        known = self.epoch == earlier.epoch or self.epoch in earlier.lineage
        return known and bool(earlier.lineage) and earlier.lineage[-1] not in self.lineage

    def continues(self, earlier: Changes) -> bool:
        """Whether these are all the changes since `earlier`, whose marker was asked for.

        A server that crashed may use transaction ids again that it had not written down; then markers go back.
        """
        return self.server == earlier.server and self.marker >= earlier.marker


@dataclass(frozen=True, slots=True)
class Place:
    """Where a log stood when a marker was taken."""

    #: The log.
    log_id: int
    #: Every event up to here was committed before the marker, and those after it perhaps.
    offset: int
    #: Whether retention has removed events that perhaps were not.
    is_gap: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimPolicy:
    """What retention may remove. Only the database's clock measures ages."""

    #: Confirmed events older than this may be removed.
    keep_confirmed: timedelta
    #: Any event older than this is removed; a gateway that has not confirmed it must resynchronize.
    keep_at_most: timedelta
    #: Longest log of one gateway, in events; the oldest events are removed first.
    max_events: int
    #: Most events removed in one transaction.
    chunk: int = 2_000


class EventLog(Protocol):
    """One log per gateway: durable, ordered, gapless."""

    async def publish(self, groups: Sequence[Sequence[Event]], *, wait: bool = True) -> list[PublishResult]:
        """Append groups of events; return the result of each group, in order, after the commit is on disk.

        With `wait`, the call waits for a log that another transaction holds. Without it, the groups of that log are
        returned as `Busy`, so that one held log delays no other (scenario S12). A backend with a single writer never
        returns `Busy`.

        Atomicity: each group is stored whole or not at all, and a refused group does not affect the others. The call
        is one transaction: if it raises, nothing is known to be stored.
        Order: within one gateway offsets follow commit order, then the order given here. Offsets have no gaps.
        Idempotency: an event id already in a gateway's log is not stored again; its first position is returned.

        Raises:
            StorageUnavailable: the database cannot be reached; whether it committed is unknown.
        """

    async def publish_in(self, transaction: object, events: Sequence[Event]) -> tuple[Receipt, ...]:
        """Append events inside the caller's own transaction: they commit with it or not at all (promise P8).

        The gateways' logs stay locked until that transaction ends, so keep it short.

        Raises:
            TransactionUnusable: the object is not an open transaction of this database.
            UnknownGateway: a gateway is not registered; nothing was appended, the transaction stays usable.
        """

    async def changed_since(self, marker: int) -> Changes:
        """The gateways whose logs have grown since an earlier call returned `marker`; 0 names every gateway.

        Never misses a commit, in whatever order concurrent transactions end, as long as the answer `continues` the
        earlier one; if it does not, ask for everything. The cost depends on what changed, not on what exists.
        """

    async def places(self, gateway_ids: Sequence[str], marker: int) -> Mapping[str, Place]:
        """Where each of these logs stood when `marker` was taken; those that are not registered are left out.

        Costs what was published to them since. The marker is `lasting`, of an earlier `Changes` of this history.
        """

    async def read(self, requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
        """The next events for each request, in order; None where the gateway is not registered. One round trip."""

    async def is_held(self, gateway_id: str) -> bool:
        """Whether an open transaction holds this log now; false if the gateway is unknown.

        The events of that transaction are not in the log yet, and no other transaction can publish to it. A backend
        with a single writer reports this for every log. The call does not wait.
        """

    async def register(self, gateway_id: str, *, transaction: object | None = None) -> bool:
        """Create an empty log; False if there is one already (then nothing changes)."""

    async def forget(self, gateway_id: str, *, transaction: object | None = None) -> bool:
        """Delete a gateway's log, positions and outcomes, and disconnect it; False if it is unknown.

        From the commit on, the gateway is unknown. If it is registered again, it gets a new, empty log. `trim` removes
        the old events later, so this call is fast however many there are.
        """

    async def trim(self, policy: TrimPolicy) -> int:
        """Remove at most one chunk of old events and return how many; 0 if there is nothing to remove now.

        The events of deleted gateways are removed first, whatever the policy says.

        Safe while others read and publish, and from several pods at once (one of them works, the others get 0).
        """

    async def contradicts(self, remembered: Sequence[Remembered]) -> bool:
        """Whether this history lacks one of these events, or has another event at its offset.

        An event that retention has removed contradicts nothing, unless it was at the head. Neither does an event of a
        gateway that has been deleted or registered again since.
        """

    async def renew_epoch(self, expected: UUID) -> UUID:
        """Begin a new history unless another pod did so first; return the present epoch."""

    async def record_history(self, expected: UUID, verdict: Verdict = Verdict.RECORD) -> UUID:
        """Record where the history lives now, and return the present epoch.

        A history that is found where it was recorded continues. A history that is found elsewhere (after a failover or
        a restore) continues if the verdict or the record proves that nothing was lost; otherwise a new one begins. Of
        several pods one decides, and the others get its decision. If the present epoch is not the expected one, nothing
        is decided.
        """


# --- presence and positions -------------------------------------------------------------------------------------


class DisconnectReason(StrEnum):
    """Why the pod must disconnect a gateway; the value is also the close reason."""

    TOKEN_REVOKED = "token-revoked"  # noqa: S105 - a reason, not a password
    GATEWAY_DELETED = "gateway-deleted"
    SUPERSEDED = "superseded"
    RESTARTING = "restarting"

    @classmethod
    def read(cls, text: str) -> DisconnectReason:
        """The stored reason; for one that only a newer release knows: the gateway comes back, and is told then."""
        return cls(text) if text in list(cls) else cls.RESTARTING


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionState:
    """The state of a gateway's log and of one stored position, read at one instant."""

    #: Identity of the database's history now.
    epoch: UUID
    #: Offset of the last event.
    head: int
    #: Retention has removed every event up to and including this offset (the low-water mark).
    low_water_mark: int
    #: What the gateway (or the named replica) has confirmed, possibly in an older epoch; None: never connected.
    confirmed: Position | None
    #: Why it must still resynchronize (`retention`, `epoch`, `ahead`, `parked`); None: it need not.
    resync_reason: str | None
    #: The epoch in which the log began. A log that is older than the present epoch may have lost events that its
    #: gateway has seen, even if no position is known.
    registered_in: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One live connection of a gateway to a pod."""

    connection_id: str
    gateway_id: str
    #: Name that the client gave itself; empty for unnamed clients, which share one position.
    replica: str
    pod_id: str
    #: `gateway.v1` (unmodified), `gatecast.v2`, or `library`.
    protocol: str
    #: Address of the peer, for people.
    remote: str
    #: The token that the client used; when a token is revoked, its connections are closed.
    token_id: str | None

    @property
    def rejects(self) -> bool:
        """Whether its client may reject single events, which parks their entities."""
        return self.protocol == "gatecast.v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What one connection has sent and confirmed; written in batches."""

    connection_id: str
    gateway_id: str
    replica: str
    #: The history that the offsets belong to; progress of another history is ignored.
    epoch: UUID
    #: Last offset written to the socket.
    sent: int
    #: Last offset that the peer has confirmed.
    confirmed: int
    #: Which events passed each hop since the previously stored progress, and when.
    passages: Passages = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveConnection:
    """A connection whose pod's lease has not expired, as operators see it."""

    connection_id: str
    pod_id: str
    replica: str
    protocol: str
    remote: str
    connected_at: datetime
    sent: int
    confirmed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePod:
    """A pod whose lease has not expired."""

    pod_id: str
    #: Seconds until its lease expires, unless it is renewed; by the database's clock.
    lease_seconds: float
    #: The release that it runs; empty if the release does not report it.
    version: str
    #: When it started; None if it did not report it.
    started_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus:
    """Everything that storage knows about one gateway's delivery."""

    gateway_id: str
    epoch: UUID
    head: int
    low_water_mark: int
    #: Highest offset written to a socket.
    sent: int
    #: What the slowest known replica has confirmed; 0 when the stored position belongs to an older epoch.
    confirmed: int
    #: Age in seconds of the oldest unconfirmed event, by the database's clock; 0 when everything is confirmed.
    lag_seconds: float
    #: When a connection of this gateway was last opened or made progress.
    last_seen_at: datetime | None
    #: Why the gateway must resynchronize (`retention`, `epoch`, `ahead`, `parked`), or None.
    resync_reason: str | None
    connections: Sequence[LiveConnection]


class Presence(Protocol):
    """Pods, their leases, their connections, and the positions that connections confirm."""

    async def renew_lease(self, pod_id: str, duration: timedelta) -> UUID:
        """Keep this pod alive for `duration` from now, by the database's clock; return its incarnation.

        The incarnation is the same at every renewal, until the pod ends or was away for so long that its connections
        were forgotten.
        """

    async def end_lease(self, pod_id: str) -> None:
        """Remove the pod and its connections, because it shuts down in order."""

    async def standing(self, gateway_id: str, replica: str) -> PositionState:
        """The state of the log and of the stored position.

        Raises:
            UnknownGateway: the gateway is not registered.
        """

    async def connect(
        self,
        connection: Connection,
        *,
        start: Position,
        resync_reason: str | None = None,
        newest_only: bool = False,
    ) -> None:
        """Record a connection that will read from `start`, and make `start` the stored position.

        A slower live connection that shares the position continues to hold it back (scenario S13).

        With `resync_reason`, the gateway must resynchronize until `resynchronized` is called, over any number of
        connections.

        With `newest_only`, every other connection of the same gateway and replica is disconnected as superseded, and
        does not hold the position back.

        Raises:
            UnknownGateway: the gateway was deleted in the meantime.
            StorageUnavailable: by now `start` belongs to another epoch, or is past the end of the log; read `standing`
                again.
        """

    async def record_progress(self, progress: Sequence[Progress]) -> None:
        """Store the progress of connections.

        A stored position is the minimum over the connections that share it, and never moves back within one epoch. It
        also moves when a connection that held it back leaves, or its pod dies (at the next `renew_lease`). Progress of
        another epoch, or of a connection that must disconnect or is not recorded, changes nothing.

        Passages are stored with the progress, as one row, until retention removes the last event that they describe.
        """

    async def disconnect(self, progress: Sequence[Progress]) -> None:
        """Record last progress, as above, and remove those connections.

        If a connection ends, here or with its pod, before it has confirmed its whole log, older connections of the
        position must disconnect: they may belong to the same gateway, which received confirmed events again and needs
        the events after them again, too.
        """

    async def describe_pod(self, pod_id: str, version: str) -> None:
        """Record which release a pod runs, and that it starts now. Nothing happens for a pod without a lease."""

    async def pods(self) -> list[LivePod]:
        """The pods whose leases have not expired, by id."""

    async def disconnect_connection(self, gateway_id: str, connection_id: str) -> bool:
        """Ask the pod to close one connection, which may come back; False if the gateway has no such connection."""

    async def pending_disconnects(self, pod_id: str) -> dict[str, DisconnectReason]:
        """This pod's connections that must be closed, by connection id, with the reason."""

    async def disconnect_token(self, token_id: str, *, transaction: object | None = None) -> int:
        """Ask every pod to close the connections that came with this token; return how many there are."""

    async def resynchronized(self, gateway_id: str, replica: str) -> None:
        """Record that the gateway has read the desired state again."""

    async def hint(self, gateway_ids: Sequence[str]) -> None:
        """Send every pod a hint to look at these gateways, if the database itself sends hints; else do nothing."""

    async def status(
        self, gateway_ids: Sequence[str], *, transaction: object | None = None
    ) -> dict[str, GatewayStatus]:
        """The delivery status of each registered gateway among these, at one instant, or as a transaction sees it."""


# --- outcomes ---------------------------------------------------------------------------------------------------


class OutcomeKind(StrEnum):
    """What a gateway reported about one event."""

    APPLIED = "applied"
    REJECTED = "rejected"
    #: Rejected; the later events of its entity wait for an operator's decision.
    PARKED = "parked"
    #: Not sent, because its entity is parked.
    HELD = "held"
    #: An operator decided to try a parked event again; becomes released.
    RETRIED = "retried"
    #: An operator decided to leave a parked event out; becomes omitted once the later events are published again.
    SKIPPED = "skipped"
    #: Published again as a later event, so this one is not sent again.
    RELEASED = "released"
    #: The event cannot be read or sent. If the client can park entities, its entity is parked, as if the event had been
    #: rejected; otherwise the log waits at it.
    UNDELIVERABLE = "undeliverable"
    #: An operator has left a rejected or undeliverable event out.
    OMITTED = "omitted"
    #: A newer release has recorded another kind. Only read, never recorded.
    UNKNOWN = "unknown"

    @classmethod
    def read(cls, text: str) -> OutcomeKind:
        """The recorded kind."""
        return cls(text) if text in list(cls) else cls.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A gateway's report about one event."""

    gateway_id: str
    #: Empty for unnamed clients.
    replica: str
    offset: int
    kind: OutcomeKind
    #: Why it was rejected; empty when applied.
    reason: str
    #: When it was recorded, by the database's clock; None before that.
    recorded_at: datetime | None = None


class Outcomes(Protocol):
    """What gateways reported about single events. The last report counts, except after a decision about its entity."""

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Store outcomes; outcomes of events that are no longer in the log are ignored.

        If an event was removed before it could be recorded as parked or waiting, its replica must resynchronize.
        """

    async def of_events(self, gateway_id: str, offsets: Sequence[int]) -> list[Outcome]:
        """The outcomes of these events, of every replica, in offset order."""

    async def of_many(self, events: Sequence[tuple[str, int]]) -> list[Outcome]:
        """The outcomes of events of many gateways, each named by its gateway and offset, as they were recorded."""

    async def deliveries(self, gateway_id: str, offset: int) -> Sequence[Delivery]:
        """The hops of this event over each connection that picked it up; of many connections, the newest ones.

        If a consumer confirms more than 5,000 events at once, their confirmation has no instant.
        """


# --- parking ----------------------------------------------------------------------------------------------------


#: Type and id.
Entity: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """The delivery filter of a connection: the events that it must not receive."""

    #: Events of these entities wait, and are recorded as waiting before the position passes them.
    parked: frozenset[Entity] = frozenset()
    #: Offsets of events that were published again or left out.
    settled: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedEntity:
    """An entity of which a replica rejected an event, and the events that wait because of that."""

    replica: str
    entity_type: str
    entity_id: str
    #: Of the first rejected or undeliverable event.
    offset: int
    event_id: UUID
    reason: str
    rejected_at: datetime
    #: How many later events wait with it, including later rejected ones.
    held: int
    #: True if that event was not rejected but cannot be delivered.
    undeliverable: bool = False


class Parking(Protocol):
    """Entities of which a client of `gatecast.v2` rejected an event: they wait for a decision; other entities flow.

    A decision changes only outcomes, and disconnects the replica. The events that it releases are published again when
    the replica connects: every event of the entity after the rejected one, up to the head, in order, as new events,
    under the lock of the log. No older event therefore overtakes a newer one of the same entity, whichever events
    waited or were on their way when the decision was taken, and whether or not their waiting had been stored.
    """

    async def withheld(self, gateway_id: str, replica: str, *, after: int, parks: bool = True) -> DeliveryFilter:
        """The delivery filter of a recorded connection that begins after `after`.

        First publishes, in one transaction, the waiting events of entities that are no longer parked. For a connection
        that cannot park, returns only the undeliverable events that are left out, and forgets those to be tried again:
        its log waits at them, so they come by themselves.
        """

    async def parked(self, gateway_id: str, *, after: int, limit: int) -> list[ParkedEntity]:
        """At most `limit` entities whose rejected events come after `after`, by offset."""

    async def resolve(self, gateway_id: str, replica: str, entity: Entity, *, retry: bool) -> bool:
        """Decide to try the rejected event again, or to leave it out; the waiting events are released either way.

        False if the entity is not parked: of two decisions at the same time, one counts.
        """


# --- many gateways, and long logs, at a glance -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeliverySummary:
    """How the delivery to one gateway stands, in the few words that a list of ten thousand has room for."""

    gateway_id: str
    #: The last offset of its log.
    head: int
    #: Events that it has not confirmed.
    lag: int
    #: Age of the oldest of those, in seconds.
    lag_seconds: float
    #: When it was last heard of, in seconds since 1970; None: never.
    last_seen: float | None
    #: Why it must resynchronize; empty: it need not.
    resync_reason: str
    #: The pod of each of its live connections.
    pods: Sequence[str]
    #: Whether something that it rejected waits for a decision.
    parked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSearch:
    """Which events of a log are wanted; what is empty does not matter."""

    gateway_id: str
    type: str = ""
    entity_type: str = ""
    entity_id: str = ""
    #: stored, confirmed, applied or rejected.
    state: str = ""
    #: Recorded at this instant or later, by the database's clock.
    since: datetime | None = None
    #: Recorded before this instant.
    until: datetime | None = None
    #: Only events before this offset; None: up to the head.
    before: int | None = None
    #: At most this many events.
    max_events: int
    #: At most this many bytes of payload; the first event is returned whatever its size.
    max_bytes: int


@dataclass(frozen=True, slots=True)
class FoundEvents:
    """Events that match, the newest first."""

    events: Sequence[RecordedEvent]
    #: Go on before this offset; None: everything was looked at.
    before: int | None


class Survey(Protocol):
    """Questions about many gateways or much of a log, each answered by the database in bounded time."""

    async def summaries(self, gateway_ids: Sequence[str]) -> list[DeliverySummary]:
        """How the delivery to each registered gateway among these stands, in one instant. One statement."""

    async def latencies(self, gateway_ids: Sequence[str], *, since: float) -> list[float]:
        """How long some of the events took from record to confirmation, in seconds, in no order.

        For each gateway these are the last events of its newest few notes of progress that were confirmed at `since`
        (seconds since 1970 by the database's clock) or later.
        """

    async def search(self, wanted: EventSearch, *, confirmed: int) -> FoundEvents:
        """The newest events that match; `confirmed` is the offset up to which the gateway has confirmed its log.

        Looks at no more than 10,000 events: what matches among the older ones is found by going on where it ended.

        Raises:
            UnknownGateway: it is not registered.
        """


# --- the database itself ----------------------------------------------------------------------------------------


class Transaction(Protocol):
    """An open transaction. Placeholders are `$1`, `$2` … in every database."""

    async def fetch(self, query: LiteralString, *arguments: object) -> list[Row]:
        """Every row of the result."""

    async def fetch_one(self, query: LiteralString, *arguments: object) -> Row | None:
        """The first row of the result, or None."""

    async def execute(self, query: LiteralString, *arguments: object) -> int:
        """How many rows the statement changed."""


class Database(Protocol):
    """The connection to one database, for the modules that keep their own tables in it."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction that commits when the block ends, and rolls back when it raises or is cancelled."""

    async def fetch(self, query: LiteralString, *arguments: object) -> list[Row]:
        """Every row of a query that changes nothing, outside any transaction."""

    async def execute(self, query: LiteralString, *arguments: object) -> int:
        """How many rows a statement changed; it is its own transaction, and repeated like `repeated` does."""

    async def repeated(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of work that is its own transaction, repeated if the database rolled it back for another one.

        Raises:
            StorageUnavailable: the database rolled it back repeatedly, for as long as one statement may take.
        """

    async def ping(self) -> None:
        """Return when the database answers.

        Raises:
            StorageUnavailable: it does not.
        """

    async def replication(self) -> Replication | None:
        """Which standbys commits wait for; None where there can be none: SQLite, and a server that is a standby."""

    async def schema_version(self) -> int:
        """Number of the newest applied migration of the event log; 0 for an empty database."""

    async def schema_need(self) -> SchemaNeed:
        """What the database lacks.

        Raises:
            SchemaTooNew: a newer release migrated the database.
        """

    async def migrate(self) -> Sequence[int]:
        """Apply the missing migrations and return their numbers; of pods that start together, one does it.

        Raises:
            SchemaTooNew: a newer release migrated the database.
        """


class Storage(Protocol):
    """One open database with the contracts on it."""

    @property
    def database(self) -> Database:
        """The database itself."""

    @property
    def log(self) -> EventLog:
        """The event log."""

    @property
    def presence(self) -> Presence:
        """Pods, connections and positions."""

    @property
    def outcomes(self) -> Outcomes:
        """What gateways reported."""

    @property
    def parking(self) -> Parking:
        """The parked entities."""

    @property
    def survey(self) -> Survey:
        """Questions about many gateways at once."""
