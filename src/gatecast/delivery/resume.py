"""Where a connection starts: decided from values alone."""

from __future__ import annotations

from dataclasses import dataclass

from gatecast.events import Position
from gatecast.storage.contract import PositionState

#: The consumer's position belongs to another history.
EPOCH = "epoch"

#: Events that a consumer rejected, or that waited because of that, were removed before a decision: whatever position it
#: names, it does not have them.
PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Start:
    """Where delivery begins."""

    #: Delivery begins with the first event after this position.
    position: Position
    #: Why what the consumer has cannot be continued (`retention`, `epoch`, `ahead`, `parked`); None: it can.
    lost: str | None = None


def decide_start(standing: PositionState, after: Position | None) -> Start:
    """Continue from what the consumer says it has (`after`), else from what it has confirmed before.

    If delivery cannot continue there, it begins with the first retained event, and the start carries the reason: a
    consumer is never silently taken for current (promise P6).
    """
    known = after or standing.confirmed
    lost = _why_lost(standing, known)
    if known is None or lost is not None:
        return begin_anew(standing, lost)
    if after is not None and standing.resync_reason != PARKED:
        # It learned of the loss before, and names its present position.
        return Start(known)
    # The stored position is where it has to continue, not where it is.
    return Start(known, standing.resync_reason)


def begin_anew(standing: PositionState, lost: str | None) -> Start:
    """Begin with everything that is retained, whatever the consumer has."""
    return Start(Position(standing.epoch, standing.low_water_mark), lost)


def _why_lost(standing: PositionState, known: Position | None) -> str | None:
    if (known.epoch if known else standing.registered_in) != standing.epoch:
        return EPOCH
    offset = known.offset if known else 0
    if offset > standing.head:
        return "ahead"
    return "retention" if offset < standing.low_water_mark else None
