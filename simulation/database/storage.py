"""Everything that one pod stores, over its link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulation.database.event_log import SimulatedEventLog
from simulation.database.link import Link
from simulation.database.outcomes import SimulatedOutcomes
from simulation.database.parking import SimulatedParking
from simulation.database.presence import SimulatedPresence

if TYPE_CHECKING:
    from simulation.database.database import SimulatedDatabase


class SimulatedStorage:
    """The three contracts over one pod's link."""

    def __init__(self, database: SimulatedDatabase) -> None:
        self.link = Link(database)
        self.log = SimulatedEventLog(self.link)
        self.presence = SimulatedPresence(self.link)
        self.outcomes = SimulatedOutcomes(self.link)
        self.parking = SimulatedParking(self.link)

    @property
    def database(self) -> Any:  # noqa: ANN401 - delivery does not use it
        """Delivery needs no more than the contracts."""
        raise AttributeError
