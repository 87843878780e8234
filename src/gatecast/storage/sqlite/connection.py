"""Opens connections to the file, all alike."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

from gatecast.errors import StorageUnavailable
from gatecast.storage.sqlite.driver_errors import is_busy
from gatecast.storage.sqlite.statements import CONTROL
from gatecast.storage.sqlite.values import to_text

#: Tells the time, with a time zone.
Clock: TypeAlias = Callable[[], datetime]

#: How long to wait for another writer, in seconds.
BUSY_TIME_LIMIT = 10.0

_SWITCH_PAUSE = 0.02


def system_clock() -> datetime:
    """The time now."""
    return datetime.now(UTC)


def open_writer(path: Path, clock: Clock = system_clock) -> sqlite3.Connection:
    """A connection that reads and writes, usable in this thread only."""
    # Without an isolation level the driver begins no transactions behind our back.
    connection = sqlite3.connect(path, timeout=BUSY_TIME_LIMIT, isolation_level=None)
    try:
        _use_wal(connection)
        for setting in ("sync_fully", "checkpoint_seldom", "enforce_references"):
            connection.execute(CONTROL[setting])
        _define_functions(connection, clock)
    except BaseException:
        connection.close()
        raise
    return connection


def _define_functions(connection: sqlite3.Connection, clock: Clock) -> None:
    """What PostgreSQL has built in, so that portable statements work here too."""
    connection.create_function("now", 0, lambda: to_text(clock()))
    connection.create_function("gen_random_uuid", 0, lambda: str(uuid4()))
    for name, arguments, function in (
        ("json_extract_path_text", 2, _json_text),
        ("convert_to", 2, lambda text, encoding: None if text is None else text.encode(encoding)),
        ("sha256", 1, lambda data: None if data is None else hashlib.sha256(data).digest()),
    ):
        connection.create_function(name, arguments, function, deterministic=True)


def _json_text(text: str, name: str) -> str | None:
    value = json.loads(text).get(name)
    return value if value is None or isinstance(value, str) else json.dumps(value)


def open_reader(path: Path, clock: Clock = system_clock) -> sqlite3.Connection:
    """A connection that only reads, usable in this thread only."""
    connection = open_writer(path, clock)
    connection.execute(CONTROL["only_read"])
    return connection


def is_locked(path: Path) -> bool:
    """Whether another connection holds the write lock now; waits for nobody."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute(CONTROL["begin_writing"])
        except sqlite3.OperationalError as error:
            if is_busy(error):
                return True
            raise
        connection.execute(CONTROL["roll_back"])
        return False


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to a write-ahead log.

    When several processes open a new file at once, SQLite answers "locked" here without waiting.
    """
    give_up_at = time.monotonic() + BUSY_TIME_LIMIT
    while True:
        try:
            [mode] = connection.execute(CONTROL["use_wal"]).fetchone()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > give_up_at:
                raise
            time.sleep(_SWITCH_PAUSE)
            continue
        if mode != "wal":
            raise StorageUnavailable(f"this file cannot have a write-ahead log (journal mode: {mode})")
        return
