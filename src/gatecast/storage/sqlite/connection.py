"""Opens connections to the file, all with the same settings."""

from __future__ import annotations

import hashlib
import json
import os
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

#: Returns the present instant, with a time zone.
Clock: TypeAlias = Callable[[], datetime]

#: Longest wait for another writer, in seconds.
BUSY_TIME_LIMIT = 10.0

_SWITCH_PAUSE = 0.02


def system_clock() -> datetime:
    """The present instant, in UTC."""
    return datetime.now(UTC)


def make_file(path: Path) -> None:
    """Create an empty file that only its owner can read, unless the file exists.

    SQLite gives the files that it puts beside it the same rights.

    Raises:
        StorageUnavailable: the file cannot be created.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StorageUnavailable(f"unable to open database file {path} ({error.strerror})") from error


def open_writer(path: Path, clock: Clock = system_clock) -> sqlite3.Connection:
    """A connection that reads and writes, for use in the present thread only.

    Raises:
        StorageUnavailable: the file cannot have a write-ahead log.
        sqlite3.Error: the file cannot be opened, or is no database.
    """
    connection = _connect(path, BUSY_TIME_LIMIT)
    try:
        _use_wal(connection)
        for setting in ("sync_fully", "checkpoint_seldom", "limit_log", "enforce_references"):
            connection.execute(CONTROL[setting])
        # The first read opens the log.
        connection.execute(CONTROL["ping"]).fetchall()
        _define_functions(connection, clock)
    except BaseException:
        connection.close()
        raise
    return connection


def _define_functions(connection: sqlite3.Connection, clock: Clock) -> None:
    """Define functions that PostgreSQL has built in, so that portable statements work here too."""
    connection.create_function("now", 0, lambda: to_text(clock()))
    connection.create_function("gen_random_uuid", 0, lambda: str(uuid4()))
    for name, arguments, function in (
        ("json_extract_path_text", 2, _json_text),
        ("convert_to", 2, lambda text, encoding: None if text is None else text.encode(encoding)),
        # SQLite's own function changes only ASCII letters.
        ("lower", 1, lambda text: text.lower() if isinstance(text, str) else text),
        ("sha256", 1, lambda data: None if data is None else hashlib.sha256(data).digest()),
    ):
        connection.create_function(name, arguments, function, deterministic=True)


def _json_text(text: str, name: str) -> str | None:
    value = json.loads(text).get(name)
    return value if value is None or isinstance(value, str) else json.dumps(value)


def open_reader(path: Path, clock: Clock = system_clock) -> sqlite3.Connection:
    """A connection that only reads, for use in the present thread only; raises what `open_writer` does."""
    connection = open_writer(path, clock)
    connection.execute(CONTROL["only_read"])
    return connection


def is_locked(path: Path) -> bool:
    """Whether another connection, in any process, holds the write lock now; answered without waiting."""
    with closing(_connect(path, 0)) as connection:
        try:
            connection.execute(CONTROL["begin_writing"])
        except sqlite3.OperationalError as error:
            if is_busy(error):
                return True
            raise
        connection.execute(CONTROL["roll_back"])
        return False


def _connect(path: Path, wait_policy: float) -> sqlite3.Connection:
    """A connection to an existing file; by default the driver would create a missing one."""
    # Without an isolation level the driver begins no transaction by itself.
    return sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=wait_policy, isolation_level=None)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to a write-ahead log.

    If several processes open a new file at once, SQLite answers "locked" here without waiting, so the wait is ours.

    Raises:
        StorageUnavailable: the file cannot have a write-ahead log.
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
