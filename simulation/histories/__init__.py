"""Random histories of a whole installation in virtual time: real pods, simulated gateways, operators, and faults.

Everything runs in one event loop whose clock jumps (`gatecast.testing.virtual_time`), over wires in memory and SQLite
without threads, so an hour takes a second and a seed repeats exactly. `python -m simulation.histories` lives
through many seeds, or replays one.
"""

from simulation.histories.history import Broken, Outcome, live_through

__all__ = ["Broken", "Outcome", "live_through"]
