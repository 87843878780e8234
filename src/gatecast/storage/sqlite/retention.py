"""Removes old events: finds them without a lock, and removes them under the write lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

from gatecast.storage.contract import TrimPass, TrimPolicy
from gatecast.storage.queries import Queries
from gatecast.storage.sqlite.statements import CONTROL, change, select

QUERIES = Queries("gatecast.storage.sqlite", "retention.sql")

#: Nothing was recorded before, and no log is longer.
_NEVER, _NO_CAP = datetime(1, 1, 1, tzinfo=UTC), 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimLimits:
    """A retention policy, at one instant."""

    #: Events recorded before this instant are removed, confirmed or not.
    too_old: datetime
    #: Events recorded before this instant are removed once they are confirmed.
    old: datetime
    #: Longest log of one gateway, in events.
    max_events: int
    #: Most events removed in one transaction.
    chunk: int

    @classmethod
    def of(cls, policy: TrimPolicy, now: datetime) -> Self:
        """The limits that the policy sets at this instant."""
        return cls(
            too_old=now - policy.keep_at_most,
            old=now - policy.keep_confirmed,
            max_events=policy.max_events,
            chunk=policy.chunk,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Removable:
    """Logs with events to remove, as found without a lock."""

    #: Ids of the logs of deleted gateways.
    forgotten: Sequence[int]
    #: The gateways whose oldest event can be removed: their ids, and up to where their logs belong to this pass.
    gateways: Sequence[tuple[str, int]]

    def __bool__(self) -> bool:
        return bool(self.forgotten or self.gateways)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """What one chunk removed, and where it ended."""

    removed: int
    #: The gateway at which the chunk was full, and up to where its log belongs to the pass; None if it came to all.
    full_at: tuple[str, int] | None = None


def find(connection: sqlite3.Connection, limits: TrimLimits, trim_pass: TrimPass) -> Removable:
    """The next logs with events to remove, of each kind at most as many as events may be removed in one transaction."""
    limits = _limits_here(connection, limits)
    by_age = (limits.too_old, limits.old, limits.max_events, limits.chunk)
    trimmable = select(connection, QUERIES["trimmable"], *by_age, trim_pass.gateway_id, trim_pass.head)
    return Removable(
        forgotten=[log_id for (log_id,) in select(connection, QUERIES["forgotten_logs"], limits.chunk)],
        gateways=[(gateway_id, head) for gateway_id, head in trimmable],
    )


def trim(connection: sqlite3.Connection, limits: TrimLimits, removable: Removable) -> Trimmed:
    """What was removed from these logs, at most one chunk.

    Each log is checked again, because it may have changed before the write lock was taken.
    """
    limits = _limits_here(connection, limits)
    removed = 0
    for log_id in removable.forgotten:
        if removed < limits.chunk:
            removed += _remove_forgotten(connection, log_id, limits.chunk - removed)
    for gateway_id, head in removable.gateways:
        if removed < limits.chunk:
            removed += _trim_log(connection, limits, gateway_id, head, limits.chunk - removed)
        if removed >= limits.chunk:
            return Trimmed(removed=removed, full_at=(gateway_id, head))
    return Trimmed(removed=removed)


def move_on(trim_pass: TrimPass, limits: TrimLimits, removable: Removable, trimmed: Trimmed) -> None:
    """Note where the next chunk of the pass begins."""
    if trimmed.full_at:
        trim_pass.move_to(*trimmed.full_at)
    elif len(removable.gateways) >= limits.chunk:
        # There may be more of them.
        trim_pass.move_to(removable.gateways[-1][0], 0)
    elif trimmed.removed < limits.chunk:
        trim_pass.is_done = True


def _limits_here(connection: sqlite3.Connection, limits: TrimLimits) -> TrimLimits:
    """The limits without caps if the file is an outbox, of which only what was forwarded may go.

    A pod that had the file for its log before knows nothing of that.
    """
    if not select(connection, CONTROL["is_outbox"]):
        return limits
    return replace(limits, too_old=_NEVER, max_events=_NO_CAP)


def _remove_forgotten(connection: sqlite3.Connection, log_id: int, at_most: int) -> int:
    [(cut, events)] = select(connection, QUERIES["front"], log_id, at_most)
    _remove_front(connection, log_id, cut)
    if events < at_most:
        for removal in ("remove_all_outcomes", "remove_all_passages", "finish_forgotten_log"):
            change(connection, QUERIES[removal], log_id)
    return int(events)


def _trim_log(connection: sqlite3.Connection, limits: TrimLimits, gateway_id: str, head: int, at_most: int) -> int:
    arguments = (gateway_id, limits.too_old, limits.old, limits.max_events, at_most, head)
    for log_id, low_water_mark, cut in select(connection, QUERIES["cut"], *arguments):
        if cut > low_water_mark:
            for consequence in ("note_lost", "dismiss_losers"):
                change(connection, QUERIES[consequence], gateway_id, log_id, cut)
            change(connection, QUERIES["move_trimmed_through"], gateway_id, cut)
            return _remove_front(connection, log_id, cut)
    return 0


def _remove_front(connection: sqlite3.Connection, log_id: int, cut: int) -> int:
    for removal in ("remove_outcomes", "remove_passages"):
        change(connection, QUERIES[removal], log_id, cut)
    return change(connection, QUERIES["remove_events"], log_id, cut)
