"""The standbys that a commit waits for, and whether they are connected."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HOW_MANY = re.compile(r"\s*(?:FIRST|ANY)?\s*(\d+)\s*\(", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replication:
    """What a primary reports about its standbys."""

    #: `synchronous_standby_names`; blank if commits wait for none.
    names: str
    #: Number of connected standbys.
    connected: int
    #: How many of those commits wait for and are up to date; None if the role may not see it.
    in_sync: int | None

    @property
    def needed(self) -> int:
        """How many standbys must confirm a commit before it returns; 0 if it waits for none."""
        if not self.names.strip():
            return 0
        counted = _HOW_MANY.match(self.names)
        return int(counted[1]) if counted else 1

    @property
    def problem(self) -> str | None:
        """Why no commit returns now; None if no standby is known to be missing."""
        if self.in_sync is None or self.in_sync >= self.needed:
            return None
        return f"commits wait for {_standbys(self.needed)}, and {self.in_sync} are in sync: publishing stands still"

    def __str__(self) -> str:
        """The state of replication in one sentence for operators, without names of servers."""
        if self.problem:
            return self.problem
        if not self.needed:
            return f"commits wait for no standby, {self.connected} are connected: a failover may lose the newest events"
        if self.in_sync is None:
            return (
                f"commits wait for {_standbys(self.needed)}, {self.connected} are connected; whether they are in sync "
                "is hidden from this role, which needs pg_read_all_stats"
            )
        return f"commits wait for {_standbys(self.needed)}, {self.in_sync} are in sync"


def _standbys(number: int) -> str:
    return "1 standby" if number == 1 else f"{number} standbys"
