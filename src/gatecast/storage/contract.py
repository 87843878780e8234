"""The contracts of the TRUTH: what every database backend promises.

Three small contracts share one database, so that they share its transactions:

- `EventLog`: one log of events per gateway, numbered in commit order.
- `Presence`: which pods live, which connections they hold, and what each connection has confirmed.
- `Outcomes`: what gateways said of single events.

The suite in `gatecast.testing.storage_suite` states every sentence below as a test and runs on every backend.
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
    #: False when this event id was already in the log: then `position` is where it was first recorded.
    created: bool


@dataclass(frozen=True, slots=True)
class Busy:
    """The group was not stored because another transaction holds a gateway's log right now."""

    #: The log that is held.
    gateway_id: str


#: What became of one all-or-nothing group of events: a receipt each, in order, or the reason why none was stored.
PublishResult: TypeAlias = tuple[Receipt, ...] | UnknownGateway | Busy


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest:
    """Wish for the next events of one gateway."""

    #: The gateway whose log to read.
    gateway_id: str
    #: Read what lies behind this offset.
    after: int
    #: At most this many events.
    max_events: int
    #: At most this many bytes of payload; the first event is returned whatever its size.
    max_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadResult:
    """The next events of one gateway, and what the log looked like in the same instant."""

    #: Identity of the database's history.
    epoch: UUID
    #: In offset order, without gaps, starting at the first retained offset behind `after`.
    events: Sequence[RecordedEvent]
    #: Offset of the last event in the log.
    head: int
    #: Every event up to this offset was removed by retention.
    trimmed_through: int
    #: Which server answered, as in `Changes`.
    server: str = ""
    #: The log itself: a gateway that is registered again has another one, with a higher number.
    log_id: int = 0
    #: Id of the event at the head, also when retention has removed it; None: nobody knows, or the log is empty.
    last_event_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """An event that was read from a log, and where it stood."""

    gateway_id: str
    #: None: it may have been a log that the gateway had before.
    log_id: int | None
    offset: int
    #: None: only its place is known.
    event_id: UUID | None


class Verdict(StrEnum):
    """What is known of a history that is found in a place where it was not recorded."""

    #: No more than the database recorded itself.
    RECORD = "record"
    #: Events may be missing, whatever was recorded.
    DOUBT = "doubt"
    #: None are missing: the operator says so.
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The gateways whose logs grew."""

    #: Identity of the database's history.
    epoch: UUID
    #: Head of each log that may have grown since the marker; border cases repeat.
    heads: Mapping[str, int]
    #: Pass it to the next call.
    marker: int
    #: Which server answered, since when it runs, and which copy of the tables it holds. It differs after a failover, a
    #: restart and a restore: then markers that were taken before mean nothing, however plausible they look, and events
    #: that were read before may be missing.
    server: str = ""
    #: Whether commits wait for a standby there.
    synchronous: bool = False
    #: Whether this place, and how it replicates, are recorded with the history. If not, call `settle_history`: until
    #: then no connection is recorded in another place than the one that is.
    settled: bool = True
    #: What was decided about this history and those before it, each decision by an id, oldest first; an epoch is the
    #: decision that began it. Empty where that is not recorded.
    lineage: tuple[UUID, ...] = ()
    #: What the database's clock showed when it answered, in seconds since 1970; 0: it does not say.
    answered_at: float = 0.0
    #: Which copy of the tables answered: the same after a restart and a failover, and another one in tables that were
    #: loaded elsewhere. Markers of another one mean nothing.
    copy: str = ""
    #: As `marker`, and it holds on every server of this history: it counts what was committed, which no crash
    #: takes back, nor a failover that lost nothing.
    lasting: int = 0

    def lacks_what_followed(self, earlier: Changes) -> bool:
        """Whether the database was taken back to before `earlier`: it has lost a decision that was found there.

        Proof, also where no event is remembered. A new history that began on another line is none: its epoch is new
        to everybody, and everybody is told.
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
    """What retention may remove. Ages are measured by the database's clock alone."""

    #: Confirmed events older than this may go.
    keep_confirmed: timedelta
    #: Any event older than this goes; whoever has not confirmed it must resynchronize.
    keep_at_most: timedelta
    #: Longest log of one gateway, in events; the oldest go first.
    max_events: int
    #: Most events removed in one transaction.
    chunk: int = 2_000


class EventLog(Protocol):
    """One log per gateway: durable, ordered, gapless."""

    async def publish(self, groups: Sequence[Sequence[Event]], *, wait: bool = True) -> list[PublishResult]:
        """Append groups of events; return, in order, what became of each group, after the commit is on disk.

        With `wait`, a log that another transaction holds is waited for; without, its groups come back as `Busy`, so
        that one held log delays nobody else (scenario S12). A backend with a single writer never answers `Busy`.

        Atomicity: each group is stored whole or not at all, and a refused group does not hinder the others. The
        call as a whole is one transaction: when it raises, nothing is known to be stored.
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
        """The gateways whose logs grew since an earlier call returned `marker`; 0 names every gateway.

        Never misses a commit, whatever the order in which concurrent transactions end, as long as the answer
        `continues` the earlier one; ask for everything when it does not. Costs what changed, not what exists.
        """

    async def places(self, gateway_ids: Sequence[str], marker: int) -> Mapping[str, Place]:
        """Where each of these logs stood when `marker` was taken; those that are not registered are left out.

        Costs what was published to them since. The marker is `lasting`, of an earlier `Changes` of this history.
        """

    async def read(self, requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
        """The next events for each request, in order; None where the gateway is not registered. One round trip."""

    async def is_held(self, gateway_id: str) -> bool:
        """Whether a transaction that has not ended holds this log now; false when the gateway is unknown.

        What that transaction publishes is not in the log yet, and nobody else can publish. A backend with a single
        writer says so of every log. Waits for nobody.
        """

    async def register(self, gateway_id: str, *, transaction: object | None = None) -> bool:
        """Begin an empty log; False when there is one already (then nothing changes)."""

    async def forget(self, gateway_id: str, *, transaction: object | None = None) -> bool:
        """Remove a gateway's log, positions and outcomes, and dismiss its connections; False when unknown.

        From the commit on the gateway is unknown, and when it is registered again its log is a new and empty one. The
        old events take up space until `trim` has removed them, so that this is quick however many they are.
        """

    async def trim(self, policy: TrimPolicy) -> int:
        """Remove at most one chunk of old events and return how many went; 0 when there is nothing to do now.

        The events of forgotten gateways go first, whatever the policy says.

        Safe beside readers and publishers, and from several pods at once (one of them works, the others get 0).
        """

    async def contradicts(self, remembered: Sequence[Remembered]) -> bool:
        """Whether this history lacks one of these events, or has another one in its place.

        An event that retention removed contradicts nothing, unless it stood at the head. Nor does one of a gateway that
        was deleted since, or registered again.
        """

    async def renew_epoch(self, expected: UUID) -> UUID:
        """Begin a new history unless another pod did so first; return the epoch that is now in force."""

    async def settle_history(self, expected: UUID, verdict: Verdict = Verdict.RECORD) -> UUID:
        """Record where the history lives now, and return the epoch that is in force.

        Found where it was recorded, it goes on. Found elsewhere (after a failover or a restore), it goes on if the
        verdict or the record proves that nothing was lost; otherwise this begins a new one. Of several pods one
        decides, and the others get its decision; with another epoch in force than expected nothing is decided.
        """


# --- presence and positions -------------------------------------------------------------------------------------


class Dismissal(StrEnum):
    """Why a connection is closed from the server side; the name is also the close reason."""

    TOKEN_REVOKED = "token-revoked"  # noqa: S105 - a reason, not a password
    GATEWAY_DELETED = "gateway-deleted"
    SUPERSEDED = "superseded"
    RESTARTING = "restarting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a gateway's log and one stored position stand, read in one instant."""

    #: Identity of the database's history now.
    epoch: UUID
    #: Offset of the last event.
    head: int
    #: Every event up to this offset was removed by retention.
    trimmed_through: int
    #: What the gateway (or the named replica) has confirmed, possibly in an older epoch; None: never connected.
    confirmed: Position | None
    #: Why it was told to resynchronize (`retention`, `epoch`, `ahead`, `parked`) and has not yet; None: nothing to do.
    resync_reason: str | None
    #: The epoch in which the log began. A log that is older than the present epoch may have lost events that its
    #: gateway has seen, also when nothing is known of any position.
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
    #: The token it came with; a revoked token dismisses its connections.
    token_id: str | None

    @property
    def rejects(self) -> bool:
        """Whether its client may reject single events, which parks their entities."""
        return self.protocol == "gatecast.v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one connection has come; written in batches."""

    connection_id: str
    gateway_id: str
    replica: str
    #: The history that the offsets belong to; progress of another history is ignored.
    epoch: UUID
    #: Last offset handed to the socket.
    sent: int
    #: Last offset that the peer has confirmed.
    confirmed: int
    #: Which events passed each hop since the progress that was stored before, and when.
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
    #: The release that it runs; empty: one that does not say so.
    version: str
    #: When it began; None: it did not say so.
    started_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus:
    """Everything that storage knows of one gateway's delivery."""

    gateway_id: str
    epoch: UUID
    head: int
    trimmed_through: int
    #: Furthest offset handed to a socket.
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
        """Keep this pod alive for `duration` from now, by the database's clock.

        Return its life, which is the same at every renewal until the pod ends, or was away so long that its connections
        were forgotten.
        """

    async def end_lease(self, pod_id: str) -> None:
        """Remove the pod and its connections: it has shut down in order."""

    async def standing(self, gateway_id: str, replica: str) -> Standing:
        """Where the log and the stored position stand.

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

        A slower live connection that shares the position goes on to hold it back (scenario S13).

        With `resync_reason`, the gateway counts as having to resynchronize until `resynchronized` is called, over
        any number of connections.

        With `newest_only`, every other connection of the same gateway and replica is dismissed as superseded, and holds
        nothing back here.

        Raises:
            UnknownGateway: the gateway was deleted meanwhile.
            StorageUnavailable: `start` belongs to another epoch, or lies behind the end of the log, by now; look at
                `standing` again.
        """

    async def record_progress(self, progress: Sequence[Progress]) -> None:
        """Store how far connections have come.

        A stored position is the minimum over the connections that share it, and never moves back within one epoch. It
        also moves when a connection that held it back leaves, or its pod dies (at the next `renew_lease`). Progress
        from another epoch, or of a connection that is dismissed or not recorded, changes nothing.

        Its passages are stored with it, as one row, until retention removes the last event that they tell of.
        """

    async def disconnect(self, progress: Sequence[Progress]) -> None:
        """Record last progress, as above, and remove those connections.

        When one ends, here or with its pod, before it has confirmed its whole log, older connections of the position
        are dismissed: perhaps they belong to the same gateway, which was sent again what they had confirmed, and needs
        what came behind it again, too.
        """

    async def describe_pod(self, pod_id: str, version: str) -> None:
        """Note which release a pod runs; it began now. A pod without a lease is not there to be described."""

    async def pods(self) -> list[LivePod]:
        """The pods whose leases have not expired, by id."""

    async def dismiss_connection(self, gateway_id: str, connection_id: str) -> bool:
        """Ask its pod to close one connection, which may come back; False when the gateway has none of this id."""

    async def dismissals(self, pod_id: str) -> dict[str, Dismissal]:
        """This pod's connections that must be closed, by connection id, with the reason."""

    async def dismiss_token(self, token_id: str, *, transaction: object | None = None) -> int:
        """Ask every pod to close the connections that came with this token; return how many there are."""

    async def resynchronized(self, gateway_id: str, replica: str) -> None:
        """Note that the gateway has read the desired state anew."""

    async def hint(self, gateway_ids: Sequence[str]) -> None:
        """Hint to every pod to look at these gateways, where the database itself sends hints; else do nothing."""

    async def status(
        self, gateway_ids: Sequence[str], *, transaction: object | None = None
    ) -> dict[str, GatewayStatus]:
        """The delivery status of each registered gateway among these, in one instant; or as a transaction sees it."""


# --- outcomes ---------------------------------------------------------------------------------------------------


class OutcomeKind(StrEnum):
    """What a gateway said of one event."""

    APPLIED = "applied"
    REJECTED = "rejected"
    #: Rejected, and the later events of its entity are held until somebody decides what becomes of it.
    PARKED = "parked"
    #: Not sent, because its entity is parked.
    HELD = "held"
    #: Parked until somebody decided to try it again; becomes released.
    RETRIED = "retried"
    #: Parked until somebody decided to leave it out; becomes rejected once what came behind it is published again.
    SKIPPED = "skipped"
    #: Published again as a later event, so not sent any more.
    RELEASED = "released"
    #: It cannot be read or sent. Where events can be parked, its entity is, as if it had been rejected; elsewhere the
    #: log waits at it.
    UNDELIVERABLE = "undeliverable"
    #: Undeliverable until somebody decided to leave it out.
    OMITTED = "omitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A gateway's word on one event."""

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
    """What gateways said of single events. The last word counts, but not against a decision about a parked entity."""

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Store outcomes; of an event that is not in the log (any more) nothing is stored.

        When it was removed before it was stored that it was parked or held, its replica has to resynchronize.
        """

    async def of_events(self, gateway_id: str, offsets: Sequence[int]) -> list[Outcome]:
        """The outcomes of these events, of every replica, in offset order."""

    async def of_many(self, events: Sequence[tuple[str, int]]) -> list[Outcome]:
        """The outcomes of events of many gateways, each named by its gateway and offset, as they were recorded."""

    async def deliveries(self, gateway_id: str, offset: int) -> Sequence[Delivery]:
        """The way of this event over each connection that has picked it up; of many, the newest.

        A consumer that confirms more than 5,000 events at once leaves no instant of their confirmation.
        """


# --- parking ----------------------------------------------------------------------------------------------------


#: Type and id.
Entity: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """What a connection must not be sent."""

    #: Their events are held, and recorded as such before the position passes them.
    parked: frozenset[Entity] = frozenset()
    #: Offsets of events that were published again, and of those that are left out.
    settled: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedEntity:
    """An entity of which a replica rejected an event, and what is held because of that."""

    replica: str
    entity_type: str
    entity_id: str
    #: Of the first rejected or undeliverable event.
    offset: int
    event_id: UUID
    reason: str
    rejected_at: datetime
    #: How many later events wait with it: held, or rejected as well.
    held: int
    #: True when that event was not rejected, but cannot be delivered.
    undeliverable: bool = False


class Parking(Protocol):
    """Entities of which a client of `gatecast.v2` rejected an event: they wait for a decision, the rest flows.

    A decision changes outcomes only, and sends the connections of the replica away. What it releases is published again
    when the replica connects: every event of the entity behind the rejected one up to the head, in order, as new
    events, under the lock of the log. So no older event ever overtakes a newer one of the same entity, whatever was
    held, waited or was on its way when the decision was taken, and whether or not it was stored that it was held.
    """

    async def withheld(self, gateway_id: str, replica: str, *, after: int, parks: bool = True) -> Withheld:
        """What a connection that begins behind `after`, and is recorded, must not be sent.

        Publishes first, in one transaction, what is held for entities that are not parked any more. For a connection
        that parks nothing it only tells which undeliverable events are left out, and forgets those to be tried again:
        its log waits at them, so they come by themselves.
        """

    async def parked(self, gateway_id: str, *, after: int, limit: int) -> list[ParkedEntity]:
        """At most `limit` entities whose rejected events lie behind `after`, by offset."""

    async def resolve(self, gateway_id: str, replica: str, entity: Entity, *, retry: bool) -> bool:
        """Decide: try what was rejected again, or leave it out; what is held comes either way.

        False when the entity is not parked: of two who decide at once, one does.
        """


# --- many gateways, and long logs, at a glance -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeliverySummary:
    """How the delivery to one gateway stands, in the few words that a list of ten thousand has room for."""

    gateway_id: str
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
    """The connection to one database, for the parts that keep their own tables in it."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin; commit when the block ends, roll back when it raises or is cancelled."""

    async def fetch(self, query: LiteralString, *arguments: object) -> list[Row]:
        """Every row of a query that changes nothing, outside of any transaction."""

    async def execute(self, query: LiteralString, *arguments: object) -> int:
        """How many rows a statement changed that is a transaction of its own, done again as by `repeated`."""

    async def repeated(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of work that is one transaction of its own, done again where the database gave it up for others.

        Raises:
            StorageUnavailable: it gave it up again and again, for as long as one statement may take.
        """

    async def ping(self) -> None:
        """Return when the database answers.

        Raises:
            StorageUnavailable: it does not.
        """

    async def schema_version(self) -> int:
        """Number of the newest migration of the event log that was applied; 0 for an empty database."""

    async def schema_need(self) -> SchemaNeed:
        """What the database lacks.

        Raises:
            SchemaTooNew: a newer release migrated the database.
        """

    async def migrate(self) -> Sequence[int]:
        """Apply the migrations that are missing and return their numbers; pods that start at once do it once.

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
        """What gateways said."""

    @property
    def parking(self) -> Parking:
        """What waits for a decision."""

    @property
    def survey(self) -> Survey:
        """What is asked of many gateways at once."""
