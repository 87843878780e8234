"""The history file: a small file beside the database with its last change, which a restored older database lacks.

It is written after each commit, so it is ahead of the database only if that was put back to an older state. If a
process ends between commit and write, the file lags, until the next `changed_since` writes it.

A commit overwrites it in place: to replace it by a new file would keep the disk as busy as the commit itself. So
another process may read half of one record and half of the next, which the record's checksum tells.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass

from gatecast.errors import StorageUnavailable
from gatecast.storage.sqlite.opened_file import OpenedFile


@dataclass(frozen=True, slots=True)
class UnitOfWork:
    """The identity of one change to the logs of a database."""

    #: Rises with every transaction that changes a log.
    number: int
    #: Random, so that changes with the same number in two copies of the database differ.
    token: str


#: The size of each record, in bytes, which leaves room for the largest one: so the next one covers it.
_SIZE = 192

#: How often a record is read that is being overwritten, before it counts as damaged.
_ATTEMPTS = 10


class HistoryFile:
    """The history file of one database."""

    def __init__(self, database: OpenedFile) -> None:
        self._database = database
        self._path = database.path.with_name(f"{database.path.name}-history")

    def read(self) -> tuple[UnitOfWork, int] | None:
        """The last known change, and the inode of the file that it was made in; None if nothing is known.

        Read it before the database: then the database can only be newer, not older, unless it was put back.

        Raises:
            StorageUnavailable: the file exists but cannot be read.
        """
        try:
            for _ in range(_ATTEMPTS):
                if (known := _parsed(self._path.read_bytes())) is not None:
                    return known
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageUnavailable(f"{self._path} cannot be read: {error}") from error
        # The machine crashed while the file was written.
        return None

    def lags(self, known: tuple[UnitOfWork, int] | None, change: UnitOfWork) -> bool:
        """Whether the history file must be written to name this change; False if it names a later one."""
        if known is None or known[0].number != change.number:
            return known is None or known[0].number < change.number
        return known != (change, self.identity())

    def denies(self, known: tuple[UnitOfWork, int] | None, change: UnitOfWork) -> bool:
        """Whether the database, whose last change is this one, is not the one that the history file was written for.

        Then it is older, or has another change of the same number, or has newer changes but is in another file, as a
        copy that was used elsewhere and brought back.
        """
        if known is None:
            return False
        last, file = known
        if change.number == last.number:
            return change.token != last.token
        return change.number < last.number or file != self.identity()

    def identity(self) -> int:
        """The inode of the open database file; the path may name another file by now."""
        return self._database.inode

    def write(self, change: UnitOfWork) -> None:
        """Replace the file's content by this change; if that fails, the older one stays, which only detects less."""
        record = _record(change, self.identity())
        with suppress(OSError):
            if not self._is_overwritten(record):
                self._replace(record)

    def _is_overwritten(self, record: bytes) -> bool:
        """Whether the file was there, with a record of the same size, and has this one now."""
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return os.fstat(file).st_size == len(record) and os.pwrite(file, record, 0) == len(record)
        finally:
            os.close(file)

    def _replace(self, record: bytes) -> None:
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}-{threading.get_ident()}")
        with open(new, "wb", opener=_private) as file:
            file.write(record)
        new.replace(self._path)

    def remove(self) -> None:
        """Delete the file: whatever the database holds is then accepted as its history."""
        self._path.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _record(change: UnitOfWork, file: int) -> bytes:
    fields = asdict(change) | {"file": file}
    return json.dumps(fields | {"check": _checksum(fields)}).encode().ljust(_SIZE)


def _parsed(record: bytes) -> tuple[UnitOfWork, int] | None:
    """The last known change and its file; None if the record is damaged. Earlier releases wrote no checksum."""
    try:
        known = json.loads(record)
        check = known.pop("check", None)
        if check is not None and check != _checksum(known):
            return None
        return UnitOfWork(int(known["number"]), str(known["token"])), int(known["file"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _checksum(fields: Mapping[str, object]) -> int:
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())
