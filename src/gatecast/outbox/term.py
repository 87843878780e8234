"""The state of the process that forwards: its term, and the batches of gateways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from gatecast.errors import GatecastError
from gatecast.events import Event, RecordedEvent, printable
from gatecast.outbox.records import Mark, Waiting
from gatecast.storage.contract import Changes, Claim, Receipt

#: Most gateways whose entries are forwarded at once.
GATEWAYS_AT_ONCE: Final = 100

#: Most characters of a reason that are kept.
_LONGEST_REASON: Final = 1_000


@dataclass(frozen=True, slots=True)
class Batch:
    """The next entries of one gateway."""

    mark: Mark
    entries: Sequence[RecordedEvent]
    events: Sequence[Event]
    #: Why no event could be made of the entry after these; empty if all could.
    problem: str = ""

    @classmethod
    def of(cls, mark: Mark, entries: Sequence[RecordedEvent]) -> Batch:
        """As many of the entries as can be read."""
        events: list[Event] = []
        for entry in map(RecordedEvent.checked, entries):
            if entry.undeliverable is not None:
                return cls(mark, entries, events, f"it cannot be read: {entry.undeliverable}")
            try:
                events.append(_event(entry))
            except GatecastError as error:
                return cls(mark, entries, events, f"it cannot be read: {error}")
        return cls(mark, entries, events)

    @property
    def gateway_id(self) -> str:
        """The gateway."""
        return self.mark.gateway_id

    def forwarded(self, receipts: Sequence[Receipt]) -> Mark:
        """The mark once the events were forwarded."""
        # New events are the end of the log. If all ids were known already, the end is unknown, but it did not go back.
        ends = [receipt.position.offset for receipt in receipts if receipt.created]
        head = max(ends or [self.mark.log_head, *(receipt.position.offset for receipt in receipts)])
        through = self.entries[len(receipts) - 1].offset
        # In another history it may have: its end is looked up.
        epoch = str(receipts[0].position.epoch)
        epoch = epoch if epoch == self.mark.log_epoch else ""
        return self.mark.forwarded_to(through, log_epoch=epoch, log_head=head)

    def refused(self, reason: str) -> Mark:
        """The mark once the first entry was refused."""
        return replace(self.mark, refused=self.entries[0].offset, reason=printable(reason, _LONGEST_REASON))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The work before the next look at the outbox."""

    #: The marks of the gateways whose entries can be forwarded.
    ready: Sequence[Mark]
    #: The gateways that are to be registered or deleted in the log.
    changed: Sequence[Waiting]

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.ready or self.changed)


@dataclass(slots=True)
class Term:
    """The state of one term. Work holds its term, so none of it continues in another one."""

    name: str
    #: Whether there was no look at the outbox yet.
    is_new: bool = True
    #: The offset up to which entries may be in the log without a record, by gateway. Entries stored in the outbox after
    #: the first look were never forwarded before.
    _in_doubt: dict[str, int] = field(default_factory=dict)
    #: The result of comparing the logs with the marks; None before.
    history: Changes | None = None
    #: When to check again that the history of the log continues.
    next_check: float = 0.0
    #: Under which gateways are registered; None until something is registered or deleted.
    claim: Claim | None = None
    #: The present log of each gateway: what is sent late must not get into a later one.
    logs: dict[str, int] = field(default_factory=dict)
    #: The last recorded mark of each gateway.
    _recorded: dict[str, Mark] = field(default_factory=dict)
    #: The gateways that wait for the next call of `forward`: they have a problem of their own.
    aside: set[str] = field(default_factory=set)

    def look(self, found: Sequence[Waiting]) -> None:
        """Note what may be in the log: at first whatever waits, and later where the outbox was restored."""
        for one in found:
            if one.entries > 0 and (self.is_new or self._contradicts(one.current)):
                self._in_doubt[one.gateway_id] = one.head
        self.is_new = False

    def _contradicts(self, mark: Mark | None) -> bool:
        recorded = self._recorded.get(mark.gateway_id) if mark is not None else None
        return recorded is not None and mark not in (recorded, recorded.left_out())

    def doubts(self, mark: Mark) -> bool:
        """Whether more may be in the log than this mark says."""
        return mark.forwarded < self._in_doubt.get(mark.gateway_id, 0)

    def doubt(self, batch: Batch) -> None:
        """Note that the batch may be in the log: its answer is missing."""
        through = batch.entries[-1].offset
        self._in_doubt[batch.gateway_id] = max(through, self._in_doubt.get(batch.gateway_id, 0))

    def is_sure(self, mark: Mark) -> None:
        """Remember what is recorded, and that it is all that is in the log."""
        self._in_doubt.pop(mark.gateway_id, None)
        self._recorded[mark.gateway_id] = mark

    def note(self, mark: Mark) -> None:
        """Remember what was recorded."""
        self._recorded[mark.gateway_id] = mark

    def turn(self, found: Sequence[Waiting]) -> Turn:
        """The next work: everything that can be forwarded, then some registrations and deletions."""
        able = [one for one in found if not one.is_refused and one.gateway_id not in self.aside]
        return Turn(
            ready=[one.present for one in able if one.present is not None],
            changed=[one for one in able if one.present is None][:GATEWAYS_AT_ONCE],
        )


def _event(entry: RecordedEvent) -> Event:
    return Event.again(
        payload=entry.payload,
        gateway_id=entry.gateway_id,
        # One driver has a class of its own for ids, which the others do not know.
        event_id=UUID(int=entry.event_id.int),
        type=entry.type,
        action=entry.action,
        entity_type=entry.entity_type,
        entity_id=entry.entity_id,
        originated_at=entry.originated_at,
        trace_parent=entry.trace_parent,
    )
