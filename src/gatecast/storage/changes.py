"""Asks which logs grew, without ever missing one."""

from __future__ import annotations

from gatecast.storage.contract import Changes, EventLog


async def changes_since(log: EventLog, earlier: Changes | None) -> Changes:
    """What changed since an earlier answer, and everything when there is none or when this does not continue it.

    A connection of the pool that has died is replaced in silence, and the new one may lead to another server: one that
    lacks what was read before, and whose transaction ids may have overtaken the marker nevertheless.
    """
    if earlier is not None:
        changes = await log.changed_since(earlier.marker)
        if changes.continues(earlier):
            return changes
    return await log.changed_since(0)
