"""The contracts of storage in memory, with PostgreSQL's rules of visibility, and faults on the way to them.

What is simulated is what delivery can observe: transactions that overlap, logs that are held, commits whose answer is
lost, a lease that runs out, retention, and a restore. The rules themselves are proved on the real databases by the
contract suite.
"""

from simulation.database.database import START, SimulatedDatabase, log_what_is_there
from simulation.database.event_log import SimulatedEventLog
from simulation.database.link import Link
from simulation.database.outcomes import SimulatedOutcomes
from simulation.database.parking import SimulatedParking, copy_of
from simulation.database.presence import LOOKED_UP, SimulatedPresence
from simulation.database.rows import WAITS_FOR_A_DECISION, ConnectionRow, Cursor, Rows, Stream, entity_of
from simulation.database.storage import SimulatedStorage

__all__ = [
    "LOOKED_UP",
    "START",
    "WAITS_FOR_A_DECISION",
    "ConnectionRow",
    "Cursor",
    "Link",
    "Rows",
    "SimulatedDatabase",
    "SimulatedEventLog",
    "SimulatedOutcomes",
    "SimulatedParking",
    "SimulatedPresence",
    "SimulatedStorage",
    "Stream",
    "copy_of",
    "entity_of",
    "log_what_is_there",
]
