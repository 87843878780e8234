"""Finds the logs that have grown, without missing one after a failover or restart."""

from __future__ import annotations

from gatecast.storage.contract import Changes, EventLog


async def changes_since(log: EventLog, earlier: Changes | None) -> Changes:
    """The changes since an earlier answer; every log if there is none, or if the new answer does not continue it.

    The pool replaces a dead connection silently, and the new one may lead to another server. That server may lack
    events that were read before, although its transaction ids are already past the marker.
    """
    if earlier is not None:
        changes = await log.changed_since(earlier.marker)
        if changes.continues(earlier):
            return changes
    return await log.changed_since(0)
