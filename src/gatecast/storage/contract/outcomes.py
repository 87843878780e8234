"""The contract of outcomes: what gateways reported about single events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from gatecast.storage.hops import Delivery


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

        At most 100 of each event: those of its first replicas, by name.
        """

    async def deliveries(self, gateway_id: str, offset: int) -> Sequence[Delivery]:
        """The hops of this event over each connection that picked it up; of many connections, only the newest.

        Empty on an engine that does not record hops.

        A hop has no instant if it was stored together with an event 5,000 or more offsets later, as when a consumer
        confirms very many events at once.
        """
