"""What happened in a simulated world, and the promises checked against it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from uuid import UUID


class PromiseBroken(AssertionError):
    """A promise did not hold; the text names it."""


@dataclass(slots=True)
class Handled:
    """What one gateway has handled."""

    #: The history that the offsets belong to.
    epoch: UUID | None = None
    #: Everything up to here was handled, or covered by a resynchronization.
    through: int = 0


@dataclass(slots=True)
class History:
    """Everything that the checks need to know."""

    #: The committed log of each gateway: event ids by offset, for each epoch.
    logs: defaultdict[tuple[UUID, str], dict[int, UUID]] = field(default_factory=lambda: defaultdict(dict))
    #: Event ids whose publishers were told that they are durable, with the position that they were told.
    accepted: dict[tuple[str, UUID], tuple[UUID, int]] = field(default_factory=dict)
    handled: defaultdict[str, Handled] = field(default_factory=lambda: defaultdict(Handled))
    deliveries: int = 0

    def committed(self, epoch: UUID, gateway_id: str, offset: int, event_id: UUID) -> None:
        """An event became visible. P2: offsets count 1, 2, 3 … in commit order."""
        log = self.logs[epoch, gateway_id]
        if offset != len(log) + 1:
            raise PromiseBroken(f"P2: {gateway_id} got offset {offset} behind {len(log)}")
        log[offset] = event_id

    def acknowledged(self, gateway_id: str, event_id: UUID, epoch: UUID, offset: int) -> None:
        """A publisher was told that its event is durable. P1: then it is in the log, where it was said to be."""
        if self.logs[epoch, gateway_id].get(offset) != event_id:
            raise PromiseBroken(f"P1: {gateway_id} offset {offset} was acknowledged but is not in the log")
        self.accepted[gateway_id, event_id] = (epoch, offset)

    def resynchronized(self, gateway_id: str, epoch: UUID, through: int) -> None:
        """A gateway was told that it missed something, and took over the desired state (P6)."""
        handled = self.handled[gateway_id]
        if handled.epoch != epoch:
            handled.epoch, handled.through = epoch, through
        handled.through = max(handled.through, through)

    def delivered(self, gateway_id: str, epoch: UUID, offset: int, event_id: UUID) -> None:
        """A gateway handled an event. P2, P3, P5, P6: it is the log's event, and nothing before it was left out."""
        self.deliveries += 1
        handled = self.handled[gateway_id]
        if handled.epoch is None:
            handled.epoch = epoch
        if handled.epoch != epoch:
            raise PromiseBroken(f"P6: {gateway_id} was continued in another epoch without being told")
        if self.logs[epoch, gateway_id].get(offset) != event_id:
            raise PromiseBroken(f"P2: {gateway_id} got another event at offset {offset} than was committed")
        if offset > handled.through + 1:
            raise PromiseBroken(f"P3: {gateway_id} got offset {offset} but had handled only up to {handled.through}")
        handled.through = max(handled.through, offset)

    def stored_position(self, gateway_id: str, epoch: UUID, offset: int) -> None:
        """A position was stored. P4: everything up to it was handled."""
        handled = self.handled[gateway_id]
        through = handled.through if handled.epoch in (None, epoch) else 0
        if offset > through:
            raise PromiseBroken(f"P4: {gateway_id} counts as confirmed up to {offset}, but handled up to {through}")

    def check_complete(self, gateway_id: str, epoch: UUID) -> None:
        """P3, once everything has come to rest: the gateway has handled its whole log."""
        head = len(self.logs[epoch, gateway_id])
        handled = self.handled[gateway_id]
        if handled.through != head or (head and handled.epoch != epoch):
            raise PromiseBroken(f"P3: {gateway_id} has handled up to {handled.through} of {head}")
