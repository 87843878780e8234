"""The contract of surveys: questions about many gateways, and about long logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gatecast.events import RecordedEvent


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

    @property
    def resynchronizing(self) -> bool:
        """Whether it must resynchronize."""
        return bool(self.resync_reason)

    @property
    def connected(self) -> bool:
        """Whether it has a live connection."""
        return bool(self.pods)

    @property
    def lagging(self) -> bool:
        """Whether it has events that it has not confirmed."""
        return bool(self.lag)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayCount:
    """How many gateways have a delivery status that is alike."""

    gateways: int
    #: Whether they must resynchronize.
    resynchronizing: bool
    #: Whether a rejected or undeliverable event of theirs waits for a decision.
    parked: bool
    #: Whether they have a live connection.
    connected: bool
    #: Whether they have events that they have not confirmed.
    lagging: bool
    #: Age of the oldest of these, of whichever gateway lags longest, in seconds.
    lag_seconds: float


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

    async def counts(self, *, slow_after: float, except_for: str) -> list[GatewayCount]:
        """All registered gateways, counted: a few values, however many gateways there are, by one statement.

        Those that lag by less than `slow_after` seconds are counted apart from the others, and those whose ids begin
        with `except_for` are not counted.
        """

    async def beginning_with(self, prefix: str) -> list[str]:
        """The registered gateways whose ids begin with this."""

    async def latencies(self, gateway_ids: Sequence[str], *, since: float) -> list[float]:
        """How long a sample of events took from record to confirmation, in seconds, in no order.

        Empty on an engine that does not record hops.

        For each gateway the sample is the last event of each of its newest four stored passages, if it was confirmed at
        `since` (seconds since 1970 by the database's clock) or later.
        """

    async def search(self, wanted: EventSearch, *, confirmed: int) -> FoundEvents:
        """The newest events that match; `confirmed` is the offset up to which the gateway has confirmed its log.

        Looks at no more than 10,000 events; continue with `FoundEvents.before` to search the older ones.

        Raises:
            UnknownGateway: the gateway is not registered.
        """
