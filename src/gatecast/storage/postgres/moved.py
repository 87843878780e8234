"""A database whose log is moved to a stream: nobody writes to it any more, whatever program tries."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from gatecast.storage.moved import MOVED_TO_STREAM, Blocking
from gatecast.storage.postgres.database import PostgresTransaction
from gatecast.storage.postgres.driver_errors import translated
from gatecast.storage.queries import Queries

_QUERIES = Queries("gatecast.storage.postgres", "moved.sql")

#: The tables of the log, in the order in which they are locked.
TABLES = (
    "pods", "gateway_streams", "events", "forgotten_logs", "outcomes", "cursors", "connections", "passages", "claims",
    "identity", "epoch",
)  # fmt: skip

#: What only those write who read the log here, and when they do: an outbox keeps one position for itself.
_OF_READERS = (
    ("INSERT", "pods", ""),
    ("INSERT", "connections", ""),
    ("INSERT OR UPDATE", "cursors", "WHEN (NEW.replica <> 'outbox')"),
)

#: Seconds; nobody can use the log meanwhile in any case.
_LONG = 86_400.0

#: What a closed log has no use for; its events are in the stream.
EMPTIED = ("events", "forgotten_logs", "outcomes", "passages", "cursors", "connections", "pods")


async def block(transaction: PostgresTransaction, blocking: Blocking) -> bool:
    """Keep everybody from changing the log, once those that change it now have ended; False if it goes elsewhere.

    The target and the run are remembered.

    Raises:
        StorageUnavailable: one of them did not end within 10 seconds.
    """
    await lock(transaction)
    known = await blocking_of(transaction)
    if known is not None and known.target != blocking.target:
        return False
    for table in TABLES:
        await _run(
            transaction,
            f"CREATE OR REPLACE TRIGGER gatecast_moved BEFORE INSERT OR UPDATE OR DELETE ON gatecast.{table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION gatecast.refuse_moved_v1('{blocking.target}', '{blocking.run}', "
            f"'{MOVED_TO_STREAM}')",
        )
        await _run(transaction, f"ALTER TABLE gatecast.{table} ENABLE TRIGGER gatecast_moved")
    return True


async def unblock(transaction: PostgresTransaction, run: UUID | None = None) -> None:
    """Let everybody change it again, if this run has blocked it last; without a run, in any case.

    The triggers stay, disabled: to drop them would wait for those who read.
    """
    await lock(transaction)
    known = await blocking_of(transaction)
    if known is None or run not in (None, known.run):
        return
    for table in TABLES:
        await _run(transaction, f"ALTER TABLE gatecast.{table} DISABLE TRIGGER gatecast_moved")


async def blocking_of(transaction: PostgresTransaction) -> Blocking | None:
    """For whose sake nobody may change it; None: everybody may."""
    rows = await transaction.fetch(_QUERIES["blocking"])
    if not rows:
        return None
    target, run, *_ = bytes(rows[0]["tgargs"]).split(b"\0")
    return Blocking(target=UUID(target.decode()), run=UUID(run.decode()))


async def close(transaction: PostgresTransaction) -> None:
    """Remove the log, and let nobody read it here and deliver it, for good."""
    await unblock(transaction)
    await _truncate(transaction)
    await _run(transaction, _QUERIES["wait_long"])
    for table in EMPTIED:
        with translated():
            # As long as it takes, row by row, while a backup reads.
            await transaction.connection.execute(f"DELETE FROM gatecast.{table}", timeout=_LONG)
    for change, table, condition in _OF_READERS:
        await _run(
            transaction,
            f"CREATE OR REPLACE TRIGGER gatecast_closed BEFORE {change} ON gatecast.{table} FOR EACH ROW {condition} "
            f"EXECUTE FUNCTION gatecast.refuse_moved_v1('', '', '{MOVED_TO_STREAM}')",
        )


async def begin_history(transaction: PostgresTransaction) -> None:
    """Begin a history of its own: that of the log goes on elsewhere."""
    await _run(transaction, _QUERIES["begin_history"])


async def is_closed(transaction: PostgresTransaction) -> bool:
    """Whether the log is read elsewhere."""
    return bool(await transaction.fetch(_QUERIES["is_closed"]))


async def _truncate(transaction: PostgresTransaction) -> None:
    """Empty the large tables at once, unless they are being read for longer, as by a backup."""
    await _run(transaction, _QUERIES["begin_part"])
    try:
        await transaction.connection.execute(_QUERIES["truncate"])
    except asyncpg.LockNotAvailableError:
        await _run(transaction, _QUERIES["undo_part"])
    await _run(transaction, _QUERIES["end_part"])
    await _run(transaction, _QUERIES["wait_a_little"])


async def lock(transaction: PostgresTransaction) -> None:
    """Let those that change the log now end, and others wait, until the transaction ends."""
    for name in ("wait_a_little", "lock"):
        await _run(transaction, _QUERIES[name])


async def _run(transaction: PostgresTransaction, statement: str) -> None:
    with translated():
        await transaction.connection.execute(statement)
