"""The time as gateways compare it."""

from __future__ import annotations

import time
from datetime import datetime

from gatecast.controlplane.transactions.timestamps import instant
from gatecast.storage.contract import Database, Transaction
from gatecast.storage.queries import Queries

_QUERIES = Queries("gatecast.controlplane.transactions", "clock.sql")


def milliseconds() -> int:
    """Now, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


async def database_time(reader: Database | Transaction) -> datetime:
    """Now by the database's clock, which is the same for every pod; in UTC."""
    [row] = await reader.fetch(_QUERIES["time"])
    return instant(row["now"])


def later_than(last: int) -> int:
    """Now, or as little after `last` as two instants may differ, whatever this machine's clock says.

    Two milliseconds: the instant in between is what a gateway that has not acknowledged yet is shown at its start
    (`gatecast.controlplane.gateway_sync.downloads`).
    """
    return max(milliseconds(), last + 2)
