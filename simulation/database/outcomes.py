"""`gatecast.storage.contract.Outcomes` in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gatecast.storage.contract import (
    Outcome,
    OutcomeKind,
)
from gatecast.storage.hops import Delivery
from simulation.database.link import Link
from simulation.database.rows import WAITS_FOR_A_DECISION

if TYPE_CHECKING:
    from simulation.database.database import SimulatedDatabase

_REFUSED = (OutcomeKind.PARKED, OutcomeKind.REJECTED)

#: What a later word may make of an earlier one.
_FOLLOWS = {
    None: tuple(OutcomeKind),
    OutcomeKind.APPLIED: tuple(OutcomeKind),
    OutcomeKind.HELD: _REFUSED,
    OutcomeKind.PARKED: (OutcomeKind.APPLIED, OutcomeKind.REJECTED),
    OutcomeKind.REJECTED: (OutcomeKind.APPLIED, OutcomeKind.REJECTED),
}


class SimulatedOutcomes:
    """What gateways said, as one pod reaches it."""

    def __init__(self, link: Link[SimulatedDatabase]) -> None:
        self._link = link
        self._database = link.database
        #: What this pod has stored.
        self.recorded: list[Outcome] = []

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Store outcomes."""

        def store() -> None:
            self.recorded.extend(outcomes)
            for outcome in outcomes:
                self._store(outcome)

        await self._link.call(store)

    def _store(self, outcome: Outcome) -> None:
        rows = self._database.rows
        stream = rows.streams.get(outcome.gateway_id)
        key = (outcome.gateway_id, outcome.replica, outcome.offset)
        if stream is not None and outcome.offset <= stream.low_water_mark and outcome.kind in WAITS_FOR_A_DECISION:
            rows.lose(outcome.gateway_id, outcome.replica)
        possible = _FOLLOWS.get(rows.outcomes.get(key), ())
        if stream is not None and outcome.offset in stream.events and outcome.kind in possible:
            rows.outcomes[key] = outcome.kind

    async def of_events(self, gateway_id: str, offsets: Sequence[int]) -> list[Outcome]:
        """The outcomes of these events."""
        return [one for one in self.recorded if one.gateway_id == gateway_id and one.offset in offsets]

    async def of_many(self, events: Sequence[tuple[str, int]]) -> list[Outcome]:
        """Not simulated."""
        raise TypeError(events)

    async def deliveries(self, gateway_id: str, offset: int) -> Sequence[Delivery]:
        """Not simulated."""
        raise TypeError(gateway_id, offset)
