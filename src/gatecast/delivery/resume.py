"""Where a connection starts: decided from values alone."""

from __future__ import annotations

from dataclasses import dataclass

from gatecast.events import Position
from gatecast.storage.contract import Standing


@dataclass(frozen=True, slots=True)
class Start:
    """Where delivery begins."""

    #: The first event delivered is the one behind this position.
    position: Position
    #: Why what the consumer has cannot be continued (`retention`, `epoch`, `ahead`); None: it can.
    lost: str | None = None


def decide_start(standing: Standing, after: Position | None) -> Start:
    """Continue from what the consumer says it has (`after`), else from what it has confirmed before.

    When that cannot be continued, delivery begins with everything that is retained, and the reason is told: a
    consumer is never silently taken for current (promise P6).
    """
    known = after or standing.confirmed
    everything_retained = Position(standing.epoch, standing.trimmed_through)
    if known is None:
        return Start(everything_retained, "retention" if standing.trimmed_through else None)
    if known.epoch != standing.epoch:
        return Start(everything_retained, "epoch")
    if known.offset > standing.head:
        return Start(everything_retained, "ahead")
    if known.offset < standing.trimmed_through:
        return Start(everything_retained, "retention")
    return Start(known)
