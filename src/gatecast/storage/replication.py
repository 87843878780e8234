"""Which standbys a commit waits for, and whether they are there."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HOW_MANY = re.compile(r"\s*(?:FIRST|ANY)?\s*(\d+)\s*\(", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replication:
    """What a primary says of its standbys."""

    #: `synchronous_standby_names`; blank: commits wait for none.
    names: str
    #: Standbys that are connected.
    connected: int
    #: Those of them that commits wait for and that are up to date; None: the role may not see it.
    in_sync: int | None

    @property
    def needed(self) -> int:
        """How many standbys must have a commit before it is answered."""
        if not self.names.strip():
            return 0
        counted = _HOW_MANY.match(self.names)
        return int(counted[1]) if counted else 1

    @property
    def problem(self) -> str | None:
        """Why no commit is answered now; None: nothing is known to be missing."""
        if self.in_sync is None or self.in_sync >= self.needed:
            return None
        return f"commits wait for {_standbys(self.needed)}, and {self.in_sync} are in sync: publishing stands still"

    def __str__(self) -> str:
        """What an operator should know, in one sentence; it names no server."""
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
