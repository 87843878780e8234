"""The contract of the event log: one log per gateway, numbered in commit order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Protocol, TypeAlias
from uuid import UUID

from gatecast.errors import StorageUnavailable, UnknownGateway
from gatecast.events import Event, PendingPosition, Position, RecordedEvent


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

    @property
    def pending(self) -> bool:
        """Whether the event is durable in the outbox, and not in the log yet: then `position` has no offset."""
        return self.position.pending

    def in_outbox(self) -> Receipt:
        """The receipt of an outbox as its caller gets it: offsets in the outbox mean nothing to readers of the log."""
        return replace(self, position=PendingPosition(self.gateway_id, self.event_id))


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


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to register gateways for an owner, until the owner makes another claim."""

    #: The owner that claims it, such as an outbox by its identity.
    owner: str
    #: Differs from that of every other claim.
    token: str

    def checked(self, created: bool | None) -> bool:  # noqa: FBT001 - what the log said
        """Whether a log was created under this claim.

        Raises:
            StorageUnavailable: neither that nor the opposite is known (None), because the claim is void.
        """
        if created is None:
            raise StorageUnavailable("a newer claim has been made: another process registers gateways now")
        return created


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
    #: Most events removed in one transaction: few, because publishers come first.
    chunk: int = 500


@dataclass(slots=True, kw_only=True)
class TrimPass:
    """One pass of retention over every log, chunk by chunk: `EventLog.trim` moves it on.

    Each log comes once, with the events that it has when the pass comes to it. So a pass ends although logs grow
    meanwhile, and takes little from a log that is published to once, not with every chunk.
    """

    #: The gateway whose log is next; the gateways before it, in the database's order, are done.
    gateway_id: str = ""
    #: The head of this log when the pass came to it: what was published since waits for the next pass.
    head: int = 0
    #: The gateways that come next, if the database lists them all at once.
    listed: Sequence[str] = ()
    #: Whether every log has come.
    is_done: bool = False

    def move_to(self, gateway_id: str, head: int, listed: Sequence[str] = ()) -> None:
        """Continue with this log, up to this head; 0 if nothing of it is left to this pass."""
        self.gateway_id, self.head, self.listed = gateway_id, head, listed


class EventLog(Protocol):
    """One log per gateway: durable, ordered, gapless."""

    async def publish(
        self, groups: Sequence[Sequence[Event]], *, wait: bool = True, logs: Mapping[str, int] | None = None
    ) -> list[PublishResult]:
        """The result of each group of events, in order, once the commit is on disk.

        With `wait`, the call waits for a log that another transaction holds. Without it, the groups of that log are
        returned as `Busy`, so that one held log delays no other (scenario S12). A backend with a single writer always
        waits.

        With `logs`, which names the log of every gateway (`ReadResult.log_id`), events are stored in these logs and in
        no later log of the same gateway: a gateway that has another one now is an `UnknownGateway`. This is decided
        when the request arrives, however late. Such a call waits for no log; each group has events of one gateway.

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

    async def identity(self) -> UUID:
        """Which log this is: the same after a restart, a failover, a restore and a move; a copy has that of its origin.

        It is the epoch of the first history that is known.
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

    async def find(self, gateway_id: str, event_ids: Sequence[UUID]) -> Mapping[UUID, Position]:
        """Where these events are in the gateway's log, by id; those that are not there now are left out."""

    async def is_held(self, gateway_id: str) -> bool:
        """Whether an open transaction holds this log now; answered without waiting.

        The events of that transaction are not in the log yet, and no other transaction can publish to it. False if the
        gateway is unknown, except on a backend with a single writer, where one answer applies to every log and id.
        """

    async def register(self, gateway_id: str, *, transaction: object | None = None, claim: Claim | None = None) -> bool:
        """Create an empty log for the gateway; False if it has one, which then stays as it is.

        With `claim`, only while that is the newest claim of its owner. This is decided when the request arrives,
        however late. Such a call waits only briefly for what another transaction holds.

        Raises:
            StorageUnavailable: also if the claim is void; nothing was created.
            LogHeld: another transaction is registering or deleting the gateway, or has changed the claim.
        """

    async def claim(self, claim: Claim) -> None:
        """Make every earlier claim of this owner void: what was registered under one is there by now, or never will be.

        Make each claim once: after an answer that was lost, make another one. Waits only briefly for what another
        transaction holds.

        Raises:
            LogHeld: another transaction holds the claim of this owner, or is registering under it.
        """

    async def forget(self, gateway_id: str, *, transaction: object | None = None, log_id: int | None = None) -> bool:
        """Delete a gateway's log, positions and outcomes, and disconnect it; False if the gateway is unknown.

        From the commit on, the gateway is unknown. If it is registered again, it gets a new, empty log. `trim` removes
        the old events later, so this call is fast however many there are. With `log_id`, a gateway that has another log
        when the request arrives is left as it is, and counts as unknown; such a call waits only briefly for what
        another transaction holds.

        Raises:
            LogHeld: another transaction holds the log; nothing was deleted.
        """

    async def trim(self, policy: TrimPolicy, trim_pass: TrimPass | None = None) -> int:
        """How many old events were removed: at most one chunk, and 0 if this call found nothing that it could remove.

        The call continues the pass, and notes in it where the next call does; without one it begins with the first
        log, and waits for none. Unless the pass is done, a call has removed a whole chunk, has looked at as many logs
        as that, or ends before a log that is busy.

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
