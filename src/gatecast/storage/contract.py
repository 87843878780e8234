"""The storage contracts: what every database backend promises.

Five small contracts share one database, so that they share its transactions:

- `EventLog`: one log of events per gateway, numbered in commit order.
- `Presence`: which pods are alive, which connections they hold, and what each connection has confirmed.
- `Outcomes`: what gateways reported about single events.
- `Parking`: entities whose events wait for an operator's decision.
- `Survey`: questions about many gateways or much of a log.

Every method may raise `StorageUnavailable` if the database cannot be reached now, `SchemaMissing` if it is not
migrated, and `StatementFailed` if it refuses a statement; `Raises:` repeats these only where they mean something
particular. The suite in `gatecast.testing.storage_suite` holds every backend to these contracts.
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
    #: Where it is in the gateway's log.
    position: Position
    #: False if this event id was already in the log (scenario S15); `position` is then the first one.
    created: bool


@dataclass(frozen=True, slots=True)
class Busy:
    """The group was not stored, because another transaction holds the log of one of its gateways."""

    #: The gateway whose log is held.
    gateway_id: str


#: The result of one all-or-nothing group of events: a receipt for each event, in order, or why none was stored.
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
    #: Which server answered, as in `Changes.server`.
    server: str = ""
    #: Identity of the log: a gateway that is registered again gets another log, with a higher number.
    log_id: int = 0
    #: Id of the event at the head, even if retention has removed it; None if it is unknown or the log is empty.
    last_event_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """An event that was read earlier, as a pod remembers it."""

    gateway_id: str
    #: The log it was read from; None if that may have been an earlier log of the gateway.
    log_id: int | None
    offset: int
    #: None if only its offset is known.
    event_id: UUID | None


class Verdict(StrEnum):
    """What the caller knows about a history that is found where it was not recorded."""

    #: Nothing: decide by what the database itself has recorded.
    RECORD = "record"
    #: Events may be missing, whatever was recorded, unless the history is found where it was recorded.
    DOUBT = "doubt"
    #: No events are missing, as the operator says.
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The gateways whose logs have grown."""

    #: Identity of the database's history.
    epoch: UUID
    #: Head of each log that may have grown since the marker, by gateway; logs that were named before may repeat.
    heads: Mapping[str, int]
    #: The marker for the next call.
    marker: int
    #: Which server answered, since when it runs, and which copy of the tables it holds. It differs after a failover, a
    #: restart and a restore: earlier markers then mean nothing, however plausible they look, and events that were read
    #: before may be missing. Empty on SQLite, unless the file was put back to an older state.
    server: str = ""
    #: Whether commits on that server wait for a standby.
    synchronous: bool = False
    #: Whether this server and its replication are those recorded with the history. If not, call `record_history`: until
    #: then connections can be recorded only on the recorded server.
    settled: bool = True
    #: The ids of the decisions about this history and the histories before it, oldest first; an epoch is the id of the
    #: decision that began it. At most the newest 100; empty if decisions are not recorded (SQLite).
    lineage: tuple[UUID, ...] = ()
    #: The database's clock when it answered, in seconds since 1970; 0 if not known.
    answered_at: float = 0.0
    #: Which copy of the tables answered: the same after a restart or failover, another one after the tables were loaded
    #: elsewhere. Markers from another copy mean nothing.
    copy: str = ""
    #: A marker like `marker` that is valid on every server of this history: it counts commits, which neither a crash
    #: nor a failover that loses nothing takes back.
    lasting: int = 0

    def lacks_what_followed(self, earlier: Changes) -> bool:
        """Whether the database has gone back to a state before `earlier`: it lacks the last decision found then.

        That is proof, even if no event is remembered. False for a new history from another line of decisions: its epoch
        is new to every gateway, so every gateway resynchronizes anyway.
        """
        known = self.epoch == earlier.epoch or self.epoch in earlier.lineage
        return known and bool(earlier.lineage) and earlier.lineage[-1] not in self.lineage

    def continues(self, earlier: Changes) -> bool:
        """Whether these are all the changes since `earlier`, whose marker was passed to `changed_since`.

        After a crash, a server may reuse transaction ids that it had not yet written to disk; then markers go back.
        """
        return self.server == earlier.server and self.marker >= earlier.marker


@dataclass(frozen=True, slots=True)
class Place:
    """How far a log had grown when a marker was taken."""

    #: The identity of the log, as in `ReadResult.log_id`.
    log_id: int
    #: Every event up to and including this offset was committed before the marker; later ones may have been, too.
    offset: int
    #: Whether retention has removed events that may have been committed after the marker.
    is_gap: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimPolicy:
    """What retention may remove. Ages are measured by the database's clock (scenario S01)."""

    #: Confirmed events older than this may be removed.
    keep_confirmed: timedelta
    #: Any event older than this is removed; a gateway that has not confirmed it must resynchronize (promise P6).
    keep_at_most: timedelta
    #: Longest log of one gateway, in events; the oldest events are removed first.
    max_events: int
    #: Most events removed in one transaction.
    chunk: int = 2_000


class EventLog(Protocol):
    """One log per gateway: durable, ordered, gapless."""

    async def publish(self, groups: Sequence[Sequence[Event]], *, wait: bool = True) -> list[PublishResult]:
        """The result of each group of events, in order, once the commit is on disk.

        With `wait`, the call waits for a log that another transaction holds. Without it, the groups of that log are
        returned as `Busy`, so that one held log delays no other (scenario S12). A backend with a single writer always
        waits.

        Atomicity: each group is stored whole or not at all, and a refused group does not affect the others. The call
        is one transaction: if it raises, nothing is known to be stored.
        Order: within one gateway offsets follow commit order, then the order given here. Offsets have no gaps.
        Idempotency: an event id already in a gateway's log is not stored again; its first position is returned.

        Raises:
            StorageUnavailable: the database cannot be reached; whether it committed is unknown. Repeat the call with
                the same event ids (scenario S16).
            LogHeld: the wait for another transaction took too long.
            ValueRefused: the database cannot hold one of the values; nothing was stored.
        """

    async def publish_in(self, transaction: object, events: Sequence[Event]) -> tuple[Receipt, ...]:
        """A receipt for each event, appended in the caller's transaction: it commits all of them or none (promise P8).

        The gateways' logs stay locked until that transaction ends, so keep it short.

        Raises:
            TransactionUnusable: the object is not an open transaction of this database.
            UnknownGateway: a gateway is not registered; nothing was appended, and the transaction stays usable.
            LogHeld: the wait for another transaction took too long.
        """

    async def changed_since(self, marker: int) -> Changes:
        """The logs that have grown since an earlier call returned `marker`; 0 asks for every log.

        Never misses a commit, in whatever order concurrent transactions end (scenario S02), as long as the answer
        `continues` the earlier one; if it does not, ask for every log. The cost depends on how many logs have grown,
        not on how many exist (scenario S10).
        """

    async def places(self, gateway_ids: Sequence[str], marker: int) -> Mapping[str, Place]:
        """How far each of these logs had grown when `marker` was taken; unregistered gateways are left out.

        The marker is `lasting` of an earlier `Changes` of this history. The cost depends on what was published to these
        logs since.
        """

    async def read(self, requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
        """The result of each request, in order, in one round trip; None where the gateway is not registered."""

    async def is_held(self, gateway_id: str) -> bool:
        """Whether an open transaction holds this log now; answered without waiting.

        The events of that transaction are not in the log yet, and no other transaction can publish to it. False if the
        gateway is unknown, except on a backend with a single writer, where one answer applies to every log and id.
        """

    async def register(self, gateway_id: str, *, transaction: object | None = None) -> bool:
        """Create an empty log for the gateway; False if it has one, which then stays as it is."""

    async def forget(self, gateway_id: str, *, transaction: object | None = None) -> bool:
        """Delete a gateway's log, positions and outcomes, and disconnect it; False if the gateway is unknown.

        From the commit on, the gateway is unknown. If it is registered again, it gets a new, empty log. `trim` removes
        the old events later, so this call is fast however many there are.
        """

    async def trim(self, policy: TrimPolicy) -> int:
        """How many old events were removed: at most one chunk, and 0 if this call found nothing that it could remove.

        The events of deleted gateways are removed first, whatever the policy says. From each log only an unbroken run
        of its oldest events is removed, so that no hole appears (scenario S19).

        Safe while others read and publish, and from several pods at once: each event is removed and counted once. A
        call may leave to another one, or to later, what others are working on (a log that is being published to).
        """

    async def contradicts(self, remembered: Sequence[Remembered]) -> bool:
        """Whether this history lacks one of these events, or has another event at its offset.

        An event that retention has removed contradicts nothing, unless it was at the head. Neither does an event of a
        gateway that has been deleted or registered again since.
        """

    async def renew_epoch(self, expected: UUID) -> UUID:
        """The present epoch, after a new history has begun: by this call only if the epoch was still `expected`."""

    async def record_history(self, expected: UUID, verdict: Verdict = Verdict.RECORD) -> UUID:
        """The present epoch, after recording on which server the history is now.

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
        """The stored reason; `RESTARTING` for one that only a newer release knows, so that the gateway reconnects."""
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
    #: What the gateway (or the named replica) has confirmed, possibly in an older epoch; None if it never connected.
    confirmed: Position | None
    #: Why it must still resynchronize (`retention`, `epoch`, `ahead`, `parked`); None if it need not.
    resync_reason: str | None
    #: The epoch in which the log began. A log from an older epoch than the present one may have lost events that its
    #: gateway has seen, even if no position is known.
    registered_in: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One live connection of a gateway to a pod."""

    connection_id: str
    gateway_id: str
    #: Name that the client gave itself; empty for unnamed clients, which share one position.
    replica: str
    #: The pod that holds the connection.
    pod_id: str
    #: `gateway.v1` (unmodified), `gatecast.v2`, or `library`.
    protocol: str
    #: Address of the peer, to show to people.
    remote: str
    #: The token that the client used, by which `disconnect_token` finds the connection; None if it used none.
    token_id: str | None

    @property
    def rejects(self) -> bool:
        """Whether its client can reject single events, which parks their entities."""
        return self.protocol == "gatecast.v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What was sent to one connection, and what its peer has confirmed; written in batches."""

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
    """A connection as operators see it: its pod's lease has not expired, and it has not been asked to disconnect."""

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
    #: Seconds until its lease expires unless it is renewed, by the database's clock.
    lease_seconds: float
    #: The release that it runs; empty if it has not reported it.
    version: str
    #: When it started, by the database's clock; None if it has not reported it.
    started_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus:
    """Everything that storage knows about one gateway's delivery."""

    gateway_id: str
    epoch: UUID
    head: int
    low_water_mark: int
    #: Highest offset written to a socket in the present epoch.
    sent: int
    #: What the slowest of the replicas with a position in the present epoch has confirmed; 0 if there are none. A
    #: replica whose position belongs to an older epoch does not count: `resync_reason` says that it must resynchronize.
    confirmed: int
    #: Age in seconds of the oldest event after `confirmed`, by the database's clock; 0 if there is none.
    lag_seconds: float
    #: When a connection of this gateway was last opened or made progress.
    last_seen_at: datetime | None
    #: Why the gateway must resynchronize (`retention`, `epoch`, `ahead`, `parked`), or None.
    resync_reason: str | None
    connections: Sequence[LiveConnection]


class Presence(Protocol):
    """Pods, their leases, their connections, and the positions that connections confirm.

    A position belongs to a gateway and a replica. The connections of both share it.
    """

    async def renew_lease(self, pod_id: str, duration: timedelta) -> UUID:
        """The pod's incarnation, once its lease lasts for `duration` from now, by the database's clock.

        The incarnation stays the same until the pod's lease ends by `end_lease`, or has been expired for so long (10
        minutes) that the pod and its connections were forgotten. Connections of pods whose leases have expired no
        longer hold positions back (scenario S24).
        """

    async def end_lease(self, pod_id: str) -> None:
        """Remove a pod that shuts down in order, and its connections."""

    async def standing(self, gateway_id: str, replica: str) -> PositionState:
        """The state of the gateway's log and of the replica's stored position.

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
        """Record a connection that will read the events after `start`, and make `start` the stored position.

        A slower live connection that shares the position continues to hold it back (scenario S13).

        With `resync_reason`, the gateway must resynchronize until `resynchronized` is called, over any number of
        connections.

        With `newest_only`, every other connection of the same gateway and replica is disconnected as superseded, and
        does not hold the position back.

        Raises:
            UnknownGateway: the gateway was deleted in the meantime.
            StorageUnavailable: in the meantime `start` came to belong to another epoch or to be past the end of the
                log, or the gateway came to have to resynchronize; read `standing` again.
        """

    async def record_progress(self, progress: Sequence[Progress]) -> None:
        """Store the progress of connections, and move the positions that they share.

        A stored position is the minimum over the connections that share it. Progress never moves it back within one
        epoch (scenario S08). It also moves when a connection that held it back leaves, or that connection's pod dies
        (at the next `renew_lease` of any pod). Progress of another epoch, or of a connection that is not recorded,
        changes nothing; that of a connection that must disconnect moves no position.

        Passages are stored with the progress, as one row, until retention removes the last event that they describe.
        """

    async def disconnect(self, progress: Sequence[Progress]) -> None:
        """Store the last progress of connections, as `record_progress` does, and remove them.

        If a connection ends, here or with its pod, before it has confirmed its whole log, older connections of the
        position must disconnect: the new connection may have sent the same gateway confirmed events again, and then it
        also needs the events after them again.
        """

    async def describe_pod(self, pod_id: str, version: str) -> None:
        """Record that a pod starts now, and which release it runs; changes nothing for a pod without a lease."""

    async def pods(self) -> list[LivePod]:
        """The pods whose leases have not expired, by id."""

    async def disconnect_connection(self, gateway_id: str, connection_id: str) -> bool:
        """Ask the pod to close one connection, whose gateway may reconnect.

        False if the gateway has no such connection, or it must disconnect already.
        """

    async def pending_disconnects(self, pod_id: str) -> dict[str, DisconnectReason]:
        """The reasons why connections of this pod must be closed, by connection id."""

    async def disconnect_token(self, token_id: str, *, transaction: object | None = None) -> int:
        """How many recorded connections use this token; their pods are asked to close them (promise P9)."""

    async def resynchronized(self, gateway_id: str, replica: str) -> None:
        """Record that the replica has read the desired state again, so that it need not resynchronize."""

    async def hint(self, gateway_ids: Sequence[str]) -> None:
        """Send every pod a hint to look at these gateways, if the database itself sends hints; else do nothing."""

    async def status(
        self, gateway_ids: Sequence[str], *, transaction: object | None = None
    ) -> dict[str, GatewayStatus]:
        """The delivery status of each registered gateway among these, at one instant or as the transaction sees it."""


# --- outcomes ---------------------------------------------------------------------------------------------------


class OutcomeKind(StrEnum):
    """The outcome of one event at one replica of its gateway."""

    APPLIED = "applied"
    REJECTED = "rejected"
    #: Rejected; the later events of its entity wait for an operator's decision.
    PARKED = "parked"
    #: Waits: it was not sent, because its entity is parked.
    HELD = "held"
    #: An operator decided to try a parked event again; becomes released once it is republished.
    RETRIED = "retried"
    #: An operator decided to leave a parked event out; becomes omitted once the later events are republished.
    SKIPPED = "skipped"
    #: Republished as a later event, so this one is not sent again.
    RELEASED = "released"
    #: The event cannot be read or sent. If the client can park entities, its entity is parked, as if the event had been
    #: rejected; otherwise the log waits at it.
    UNDELIVERABLE = "undeliverable"
    #: An operator left out a rejected or undeliverable event.
    OMITTED = "omitted"
    #: A kind that only a newer release knows. Read, never recorded.
    UNKNOWN = "unknown"

    @classmethod
    def read(cls, text: str) -> OutcomeKind:
        """The recorded kind; `UNKNOWN` for one that only a newer release knows."""
        return cls(text) if text in list(cls) else cls.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one event at one replica of its gateway, and its reason."""

    gateway_id: str
    #: Empty for unnamed clients.
    replica: str
    offset: int
    kind: OutcomeKind
    #: Why it was rejected or cannot be delivered; empty if it was applied.
    reason: str
    #: When it was recorded, by the database's clock; None if it is not recorded yet.
    recorded_at: datetime | None = None


class Outcomes(Protocol):
    """The outcome of each event at each replica.

    The last outcome counts, with these exceptions: a decision stays; a waiting event can only become parked, rejected
    or undeliverable; a parked, rejected or undeliverable one can only become applied or rejected (a rejected one also
    undeliverable, and an undeliverable one also omitted).
    """

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Store outcomes; outcomes of events that are no longer in the log are ignored.

        If retention removed an event before it could be recorded as parked, waiting or undeliverable, its replica must
        resynchronize (promise P6).
        """

    async def of_events(self, gateway_id: str, offsets: Sequence[int]) -> list[Outcome]:
        """The outcomes of these events, of every replica, in offset order."""

    async def of_many(self, events: Sequence[tuple[str, int]]) -> list[Outcome]:
        """The outcomes of events of many gateways, each named by gateway and offset, in the order they were recorded.

        Of an event with outcomes of more than 100 replicas, some may be left out.
        """

    async def deliveries(self, gateway_id: str, offset: int) -> Sequence[Delivery]:
        """The hops of this event over each connection that picked it up; of many connections, only the newest.

        A hop has no instant if it was stored together with an event 5,000 or more offsets later, as when a consumer
        confirms very many events at once.
        """


# --- parking ----------------------------------------------------------------------------------------------------


#: Type and id.
Entity: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """The delivery filter of a connection: the events that it must not receive."""

    #: Events of these entities wait, and are recorded as waiting before the position passes them.
    parked: frozenset[Entity] = frozenset()
    #: Offsets of events that were republished or left out.
    settled: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedEntity:
    """An entity whose events wait at one replica, because that rejected one or cannot receive it."""

    replica: str
    entity_type: str
    entity_id: str
    #: Offset of the first rejected or undeliverable event, to which the next three fields belong, too.
    offset: int
    event_id: UUID
    reason: str
    rejected_at: datetime
    #: How many later events wait with it, including later rejected ones.
    held: int
    #: True if the first event was not rejected but cannot be delivered.
    undeliverable: bool = False


class Parking(Protocol):
    """Entities of which a client of `gatecast.v2` rejected an event: they wait for a decision; other entities flow.

    A decision changes only outcomes, and disconnects the replica. The events that it releases are republished when the
    replica connects: every event of the entity after the rejected one, up to the head, in order, as new events, under
    the lock of the log. So no older event overtakes a newer one of the same entity, whichever events waited or were on
    their way when the decision was taken, and whether or not it was stored that they wait.
    """

    async def withheld(self, gateway_id: str, replica: str, *, after: int, parks: bool = True) -> DeliveryFilter:
        """The delivery filter of a recorded connection that begins after `after`.

        First republishes, in one transaction, the waiting events of entities that are no longer parked. For a
        connection that cannot park (`parks=False`), the filter holds only the undeliverable events that are left out,
        and those to be tried again are forgotten: its log waits at them, so they are sent anyway.
        """

    async def parked(self, gateway_id: str, *, after: int, limit: int) -> list[ParkedEntity]:
        """At most `limit` entities whose rejected events come after `after`, by offset."""

    async def resolve(self, gateway_id: str, replica: str, entity: Entity, *, retry: bool) -> bool:
        """Decide to try the rejected event again (`retry`) or to leave it out; both release the waiting events.

        False if the entity is not parked: of two decisions at the same time, one counts.
        """


# --- many gateways, and long logs, at a glance -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeliverySummary:
    """The delivery status of one gateway, in the few fields that a list of ten thousand has room for."""

    gateway_id: str
    #: Offset of the last event in its log.
    head: int
    #: Number of events that it has not confirmed, by `GatewayStatus.confirmed`.
    lag: int
    #: Age of the oldest of those, in seconds; 0 if there is none.
    lag_seconds: float
    #: When a connection was last opened or made progress, in seconds since 1970; None if none ever did.
    last_seen: float | None
    #: Why it must resynchronize; empty if it need not.
    resync_reason: str
    #: The pod of each live connection; a pod with two connections is named twice.
    pods: Sequence[str]
    #: Whether a rejected or undeliverable event waits for a decision.
    parked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSearch:
    """Which events of a log are wanted; an empty field matches every event."""

    gateway_id: str
    type: str = ""
    entity_type: str = ""
    entity_id: str = ""
    #: `stored`, `confirmed`, `applied` or `rejected`.
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
    """Events that match, newest first."""

    events: Sequence[RecordedEvent]
    #: Continue before this offset, as `EventSearch.before`; None if every wanted event was looked at.
    before: int | None


class Survey(Protocol):
    """Questions about many gateways or much of a log, each answered by the database in bounded time."""

    async def summaries(self, gateway_ids: Sequence[str]) -> list[DeliverySummary]:
        """The delivery summary of each registered gateway among these, at one instant, by one statement."""

    async def latencies(self, gateway_ids: Sequence[str], *, since: float) -> list[float]:
        """How long a sample of events took from record to confirmation, in seconds, in no order.

        For each gateway the sample is the last event of each of its newest four stored passages, if it was confirmed at
        `since` (seconds since 1970 by the database's clock) or later.
        """

    async def search(self, wanted: EventSearch, *, confirmed: int) -> FoundEvents:
        """The newest events that match; `confirmed` is the offset up to which the gateway has confirmed its log.

        Looks at no more than 10,000 events; continue with `FoundEvents.before` to search the older ones.

        Raises:
            UnknownGateway: the gateway is not registered.
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
    """One database, for the modules that keep their own tables in it."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction that commits when the block ends, and rolls back when it raises or is cancelled."""

    async def fetch(self, query: LiteralString, *arguments: object) -> list[Row]:
        """Every row of a query that changes nothing, outside any transaction."""

    async def execute(self, query: LiteralString, *arguments: object) -> int:
        """How many rows a statement changed; it is a transaction of its own, repeated as by `repeated`."""

    async def repeated(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of work that is one transaction, repeated if the database rolled it back for another one.

        Raises:
            StorageUnavailable: the database still rolled it back after as long as one statement may take.
        """

    async def ping(self) -> None:
        """Return once the database has answered.

        Raises:
            StorageUnavailable: it cannot be reached.
        """

    async def replication(self) -> Replication | None:
        """The standbys, and whether commits wait for them; None on SQLite and on a server that is a standby itself."""

    async def schema_version(self) -> int:
        """Number of the newest applied migration of the event log; 0 for an empty database."""

    async def schema_need(self) -> SchemaNeed:
        """What the database lacks of the schema that this release needs.

        Raises:
            SchemaTooNew: a newer release migrated the database.
            DatabaseUnsuitable: the role that connects cannot find or use the tables.
        """

    async def migrate(self) -> Sequence[int]:
        """The numbers of the migrations that this call applied; of pods that start together, one applies them.

        Raises:
            SchemaTooNew: a newer release migrated the database.
            DatabaseUnsuitable: the role that connects cannot find or use the tables, or must not change the schema.
        """


class Storage(Protocol):
    """One open database, and every contract on it."""

    @property
    def database(self) -> Database:
        """The database itself."""

    @property
    def log(self) -> EventLog:
        """The event logs."""

    @property
    def presence(self) -> Presence:
        """The pods, connections and positions."""

    @property
    def outcomes(self) -> Outcomes:
        """The outcomes of single events."""

    @property
    def parking(self) -> Parking:
        """The parked entities."""

    @property
    def survey(self) -> Survey:
        """The questions about many gateways or much of a log."""
