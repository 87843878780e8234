"""Removes old events: finds them without a lock, removes them under it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from gatecast.storage.contract import TrimPolicy
from gatecast.storage.queries import Queries
from gatecast.storage.sqlite.statements import change, select

QUERIES = Queries("gatecast.storage.sqlite", "retention.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimLimits:
    """A policy as of one moment."""

    #: What was recorded before goes, confirmed or not.
    too_old: datetime
    #: What was recorded before may go once it is confirmed.
    old: datetime
    #: Longest log of one gateway, in events.
    max_events: int
    #: Most events to remove.
    chunk: int

    @classmethod
    def of(cls, policy: TrimPolicy, now: datetime) -> Self:
        """The limits that the policy sets at this moment."""
        return cls(
            too_old=now - policy.keep_at_most,
            old=now - policy.keep_confirmed,
            max_events=policy.max_events,
            chunk=policy.chunk,
        )


def trimmable(connection: sqlite3.Connection, limits: TrimLimits) -> list[str]:
    """Gateways whose oldest event may go, at most as many as events may be removed."""
    rows = select(connection, QUERIES["trimmable"], limits.too_old, limits.old, limits.max_events, limits.chunk)
    return [gateway_id for (gateway_id,) in rows]


def trim(connection: sqlite3.Connection, limits: TrimLimits, gateways: Sequence[str]) -> int:
    """Remove at most one chunk from these logs; what was found before is judged anew, now under the write lock."""
    removed = 0
    for gateway_id in gateways:
        if removed == limits.chunk:
            break
        removed += _trim_log(connection, limits, gateway_id, limits.chunk - removed)
    return removed


def _trim_log(connection: sqlite3.Connection, limits: TrimLimits, gateway_id: str, at_most: int) -> int:
    arguments = (gateway_id, limits.too_old, limits.old, limits.max_events, at_most)
    for trimmed_through, cut in select(connection, QUERIES["cut"], *arguments):
        if cut > trimmed_through:
            change(connection, QUERIES["move_trimmed_through"], gateway_id, cut)
            change(connection, QUERIES["remove_outcomes"], gateway_id, cut)
            return change(connection, QUERIES["remove_events"], gateway_id, cut)
    return 0
