"""What happened in a simulated world, and the promises checked against it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NoReturn
from uuid import UUID

from gatecast.delivery.resume import PARKED, Start
from gatecast.events import Event, Position, RecordedEvent
from gatecast.storage.contract import PositionState, Progress


class PromiseBroken(AssertionError):
    """A promise did not hold; the text names it."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an event says; the same when it is published again."""

    entity: str
    number: int

    @classmethod
    def of(cls, event: Event | RecordedEvent) -> Change:
        """The change in an event."""
        return cls(event.entity_id, json.loads(event.payload).get("number", 0))


@dataclass(slots=True)
class Handled:
    """What one gateway has handled."""

    #: The history that the offsets belong to.
    epoch: UUID | None = None
    #: Everything up to here was handled, withheld, or covered by a resynchronization.
    through: int = 0
    #: How many events it got, repeated ones included.
    deliveries: int = 0
    #: Everything up to here was covered by a resynchronization.
    covered: int = 0
    #: Offsets of what it refused since then.
    refused: set[int] = field(default_factory=set)
    #: The changes that it applied, in order: what they are about, and their numbers.
    applied: list[Change] = field(default_factory=list)


@dataclass(slots=True)
class History:
    """Everything that the checks need to know."""

    #: The committed log of each gateway: event ids by offset, for each epoch.
    logs: defaultdict[tuple[UUID, str], dict[int, UUID]] = field(default_factory=lambda: defaultdict(dict))
    #: Event ids whose publishers were told that they are durable, with the position that they were told.
    accepted: dict[tuple[str, UUID], tuple[UUID, int]] = field(default_factory=dict)
    handled: defaultdict[str, Handled] = field(default_factory=lambda: defaultdict(Handled))
    deliveries: int = 0
    #: What each event says, by its id.
    changes: dict[UUID, Change] = field(default_factory=dict)
    #: Tells of which events of a gateway it is stored why they were not handled; None: of an epoch that is over.
    told: Callable[[str, UUID], AbstractSet[int] | None] = lambda *_: frozenset()
    #: In which order changes were committed first.
    order: dict[Change, int] = field(default_factory=dict)
    _commits: int = 0
    #: The changes that an operator decided to leave out.
    left_out: defaultdict[str, set[Change]] = field(default_factory=lambda: defaultdict(set))
    #: The last position of each connection that the database took note of.
    noted: dict[str, int] = field(default_factory=dict)
    #: Histories that lost events, and those of which nobody can know that they did not.
    shaken: set[UUID] = field(default_factory=set)
    doubtful: set[UUID] = field(default_factory=set)
    #: The first promise that was broken, wherever the error about it went.
    broken: PromiseBroken | None = None
    _trace: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    @property
    def digest(self) -> str:
        """Two runs of one seed have the same: everything that was noted, in its order, at its time."""
        return self._trace.hexdigest()

    def _note(self, *what: object) -> None:
        self._trace.update(f"{asyncio.get_running_loop().time():.6f} {' '.join(map(str, what))}\n".encode())

    def fail(self, what: str) -> NoReturn:
        """A promise is broken.

        Raises:
            PromiseBroken: always. Delivery may take it for a failure of its own, so it is kept here too.
        """
        error = PromiseBroken(what)
        self.broken = self.broken or error
        raise error

    def moved(self, epoch: UUID, *, lost: bool, certain: bool) -> None:
        """A standby took over; until a new history begins there, nothing that this one says can be relied on."""
        self._note("moved", epoch, lost, certain)
        if lost:
            self.shaken.add(epoch)
        elif not certain:
            self.doubtful.add(epoch)

    def replaced(self, epoch: UUID) -> None:
        """A pod begins a new history. P6: nobody has to resynchronize because of nothing."""
        self._note("replaced", epoch)
        if epoch not in self.shaken | self.doubtful:
            self.fail(f"P6: the history {epoch} is ended although nothing was lost")

    def committed(self, epoch: UUID, gateway_id: str, offset: int, event: Event | RecordedEvent) -> None:
        """An event became visible. P2: offsets count 1, 2, 3 … in commit order."""
        event_id = event.event_id
        self._note("committed", epoch, gateway_id, offset, event_id)
        again, change = event_id in self.changes, Change.of(event)
        self.changes[event_id] = change
        self._commits += 1
        # An id that retention has removed meanwhile is that of another event; a change under another id is repeated.
        self.order[change] = self._commits if again else self.order.get(change, self._commits)
        log = self.logs[epoch, gateway_id]
        if offset != len(log) + 1:
            self.fail(f"P2: {gateway_id} got offset {offset} behind {len(log)}")
        log[offset] = event_id

    def grew(self, epoch: UUID, gateway_id: str, head: int) -> None:
        """A transaction committed. P2: the counter of a log has counted its events, and nothing else."""
        if head != (known := len(self.logs[epoch, gateway_id])):
            self.fail(f"P2: {gateway_id} has {known} events, and the next would get offset {head + 1}")

    def acknowledged(self, gateway_id: str, event_id: UUID, epoch: UUID, offset: int) -> None:
        """A publisher was told that its event is durable. P1: then it is in the log, where it was said to be."""
        self._note("acknowledged", epoch, gateway_id, offset, event_id)
        if epoch in self.shaken:
            return
        if self.logs[epoch, gateway_id].get(offset) != event_id:
            self.fail(f"P1: {gateway_id} offset {offset} was acknowledged but is not in the log")
        self.accepted[gateway_id, event_id] = (epoch, offset)

    def resynchronized(self, gateway_id: str, epoch: UUID, through: int) -> None:
        """A gateway was told that it missed something, and took over the desired state (P6)."""
        self._note("resynchronized", epoch, gateway_id, through)
        handled = self.handled[gateway_id]
        handled.epoch, handled.through, handled.covered = epoch, through, through
        handled.refused.clear()

    def began(self, gateway_id: str, known: PositionState, after: Position | None, start: Start) -> None:
        """A connection begins, and this was known when that was decided.

        P5: it begins where the gateway says that it stands, else at the stored position. P6: or the gateway is told.
        """
        self._note("began", gateway_id, after, start)
        has = after or known.confirmed
        told = start.lost is not None
        if start.position.epoch != known.epoch:
            self.fail(f"P6: {gateway_id} is continued in an epoch that is over")
        if has is None:
            if not told and (known.registered_in != known.epoch or known.low_water_mark):
                self.fail(f"P6: {gateway_id} is not told that its log does not begin at its beginning")
            return
        if has.epoch != known.epoch or not known.low_water_mark <= has.offset <= known.head:
            if not told:
                self.fail(f"P6: {gateway_id} is not told that {has} cannot be continued")
            return
        if known.resync_reason and not told and (after is None or known.resync_reason == PARKED):
            self.fail(f"P6: {gateway_id} is not told again that it has to resynchronize")
        if start.position.offset < has.offset:
            self.fail(f"P5: {gateway_id} has {has.offset} and begins behind {start.position.offset} again")
        if start.position.offset > has.offset:
            self.fail(f"P3: {gateway_id} has {has.offset} and begins behind {start.position.offset}")

    def drained(self, pod_id: str, epoch: UUID, left: Iterable[Progress]) -> None:
        """A pod ended in an orderly way. P5: it has stored how far each of its connections came."""
        for one in left:
            noted = self.noted.get(one.connection_id, 0)
            if one.epoch == epoch and epoch not in self.shaken and noted < one.confirmed:
                self.fail(
                    f"P5: {pod_id} ended and stored {noted} for {one.gateway_id}, which confirmed {one.confirmed}"
                )

    def skipped(self, gateway_id: str, event: RecordedEvent) -> None:
        """An operator decided to leave this event out."""
        self._note("skipped", gateway_id, event.offset)
        self.left_out[gateway_id].add(Change.of(event))

    def applied(self, gateway_id: str, event_id: UUID) -> None:
        """A gateway applied an event that was delivered to it."""
        self.handled[gateway_id].applied.append(self.changes[event_id])

    def refused(self, gateway_id: str, offset: int) -> None:
        """A gateway rejected an event that was delivered to it."""
        self._note("refused", gateway_id, offset)
        self.handled[gateway_id].refused.add(offset)

    def continued(self, gateway_id: str, offset: int, *, behind: int, first: bool) -> None:
        """A connection brought an event. P5: its first lies behind where it began; P2: each other behind the last."""
        if offset != behind + 1:
            promise = "P5" if first else "P2"
            self.fail(f"{promise}: {gateway_id} got offset {offset} on a connection that stood at {behind}")

    def delivered(
        self, gateway_id: str, epoch: UUID, offset: int, event_id: UUID, *, withheld: int = 0, known: bool = False
    ) -> None:
        """A gateway got an event. P2, P3, P6: it is the log's event, and nothing before it was left out unsaid.

        A gateway that takes one again must get again what came behind it; to one that says it is `known`, nothing
        happens.
        """
        self._note("delivered", epoch, gateway_id, offset, event_id, withheld, known)
        self.deliveries += 1
        handled = self.handled[gateway_id]
        handled.deliveries += 1
        if handled.epoch is None:
            handled.epoch = epoch
        if handled.epoch != epoch:
            self.fail(f"P6: {gateway_id} was continued in another epoch without being told")
        if epoch in self.shaken:
            return
        if self.logs[epoch, gateway_id].get(offset) != event_id:
            self.fail(f"P2: {gateway_id} got another event at offset {offset} than was committed")
        told = self.told(gateway_id, epoch)
        # What was on its way when the database was restored cannot be judged any more.
        if told is not None and (missed := set(range(handled.through + 1, offset - withheld)) - told):
            self.fail(f"P3: {gateway_id} got offset {offset} and did not get {missed}")
        if not known:
            handled.through = offset

    def stored_position(self, gateway_id: str, epoch: UUID, offset: int) -> None:
        """A position was stored. P4: everything up to it was handled, or it is stored why it was not."""
        self._note("stored", epoch, gateway_id, offset)
        if epoch in self.shaken:
            return
        handled, told = self.handled[gateway_id], self.told(gateway_id, epoch) or set()
        ours = handled.epoch in (None, epoch)
        through = handled.through if ours else 0
        if unhandled := set(range(through + 1, offset + 1)) - told:
            self.fail(f"P4: {gateway_id} counts as confirmed up to {offset}, but did not handle {unhandled}")
        if ours and (untold := {each for each in handled.refused if each <= offset} - told):
            self.fail(f"P4: {gateway_id} counts as confirmed up to {offset}, but refused {untold}")

    def check_complete(self, gateway_id: str, epoch: UUID) -> None:
        """P3, once everything has come to rest: the gateway has handled its whole log."""
        if epoch in self.shaken:
            self.fail(f"P6: the history {epoch} goes on although it has lost events")
        head = len(self.logs[epoch, gateway_id])
        handled = self.handled[gateway_id]
        if not self.has_everything(gateway_id, epoch):
            self.fail(f"P3: {gateway_id} has handled up to {handled.through} of {head}")
        self._check_applied(gateway_id, epoch)

    def has_everything(self, gateway_id: str, epoch: UUID) -> bool:
        """Whether a gateway has handled its whole log, but for what it was not to be sent."""
        if epoch in self.shaken:
            return False
        head = len(self.logs[epoch, gateway_id])
        return not head or (self.handled[gateway_id].epoch == epoch and not self.lacks(gateway_id, epoch, head))

    def lacks(self, gateway_id: str, epoch: UUID, head: int) -> bool:
        """Whether a gateway that follows this epoch has yet to get something up to `head`."""
        handled = self.handled[gateway_id]
        if handled.epoch != epoch or handled.through >= head or epoch in self.shaken:
            return False
        return bool(set(range(handled.through + 1, head + 1)) - (self.told(gateway_id, epoch) or set()))

    def _check_applied(self, gateway_id: str, epoch: UUID) -> None:
        """Whatever was rejected, parked and decided: nothing is missing, and nothing older came last."""
        handled, left_out = self.handled[gateway_id], self.left_out[gateway_id]
        log = self.logs[epoch, gateway_id]
        committed = [self.changes.get(log[offset]) for offset in range(handled.covered + 1, len(log) + 1)]
        wanted = [change for change in committed if change is not None and change not in left_out]
        applied = [change for change in handled.applied if change not in left_out]
        if missing := [change for change in wanted if change not in set(applied)]:
            self.fail(f"P3: {gateway_id} has not applied {missing}")
        last = {change.entity: change for change in applied}
        newest = {change.entity: change for change in sorted(wanted, key=self.order.__getitem__)}
        for entity, change in newest.items():
            if last[entity] != change:
                self.fail(f"P2: {gateway_id} applied {last[entity]} behind {change}")
