"""The outcomes of single events, as documents.

An event that was only ever applied has one small document, which nobody searches. Any other outcome is special: its
document also says which entity the event is about, so that what is parked is found without reading events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self
from uuid import UUID

from gatecast.errors import StatementFailed
from gatecast.storage.contract import Entity, Outcome, OutcomeKind
from gatecast.storage.jetstream.documents import Document, moment
from gatecast.storage.jetstream.gateways import Gateway
from gatecast.storage.jetstream.stream import Message, Stream
from gatecast.storage.jetstream.subjects import last_token

#: Outcomes of events that were not handled.
WAITING = frozenset(
    {OutcomeKind.PARKED, OutcomeKind.HELD, OutcomeKind.RETRIED, OutcomeKind.SKIPPED, OutcomeKind.UNDELIVERABLE}
)

_REJECTED = frozenset({OutcomeKind.PARKED, OutcomeKind.REJECTED, OutcomeKind.UNDELIVERABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOutcomes(Document):
    """The outcomes of one event."""

    entity_type: str = ""
    entity_id: str = ""
    event_id: str = ""
    #: Kind, reason, and when it was recorded in seconds since 1970, by replica.
    replicas: Mapping[str, tuple[str, str, float]] = field(default_factory=dict)

    def kind(self, replica: str) -> OutcomeKind | None:
        """The outcome at a replica; None if there is none."""
        found = self.replicas.get(replica)
        return OutcomeKind.read(found[0]) if found is not None else None

    def with_kind(self, replica: str, kind: OutcomeKind, now: float, reason: str | None = None) -> Self:
        """The same with another outcome at this replica; with its present reason if none is given."""
        known = self.replicas.get(replica)
        said = reason if reason is not None else known[1] if known is not None else ""
        return replace(self, replicas={**self.replicas, replica: (kind.value, said, now)})

    def without(self, replica: str) -> Self:
        """The same without the outcome at this replica."""
        return replace(self, replicas={name: each for name, each in self.replicas.items() if name != replica})

    def outcomes(self, gateway_id: str, offset: int) -> list[Outcome]:
        """The outcomes of every replica, in the order of their names."""
        return [
            Outcome(
                gateway_id=gateway_id,
                replica=replica,
                offset=offset,
                kind=OutcomeKind.read(kind),
                reason=reason,
                recorded_at=moment(recorded_at),
            )
            for replica, (kind, reason, recorded_at) in sorted(self.replicas.items())
        ]


@dataclass(frozen=True, slots=True)
class Special:
    """The special outcomes of one event, as they are stored."""

    offset: int
    sequence: int
    outcomes: EventOutcomes

    @property
    def entity(self) -> Entity:
        """What the event is about."""
        return self.outcomes.entity_type, self.outcomes.entity_id

    @property
    def event_id(self) -> UUID:
        """The id of the event.

        Raises:
            StatementFailed: it cannot be read.
        """
        try:
            return UUID(self.outcomes.event_id)
        except ValueError as error:
            raise StatementFailed("an outcome in the stream cannot be read") from error

    @property
    def waiting(self) -> list[str]:
        """The replicas at which the event was not handled."""
        return [replica for replica in self.outcomes.replicas if self.outcomes.kind(replica) in WAITING]

    @classmethod
    def read(cls, message: Message) -> Special:
        """The outcomes in a message."""
        return cls(int(last_token(message.subject)), message.sequence, EventOutcomes.decode(message.data))


async def special_outcomes(stream: Stream, gateway: Gateway) -> list[Special]:
    """Every special outcome in a log, by offset; without those of events that retention has removed."""
    messages = await stream.matching(stream.subjects.special(gateway.gateway_id, gateway.log.log, "*"))
    found = sorted(map(Special.read, messages), key=lambda each: each.offset)
    return [each for each in found if each.offset > gateway.low_water_mark]


def replaces(new: OutcomeKind, old: OutcomeKind | None) -> bool:
    """Whether this outcome takes the place of that one: a decision stays, and what is parked stays parked."""
    if old is None or old is OutcomeKind.APPLIED:
        return True
    if old is OutcomeKind.HELD:
        return new in _REJECTED
    if old in _REJECTED and new in {OutcomeKind.APPLIED, OutcomeKind.REJECTED}:
        return True
    if old is OutcomeKind.REJECTED:
        return new is OutcomeKind.UNDELIVERABLE
    return old is OutcomeKind.UNDELIVERABLE and new is OutcomeKind.OMITTED
