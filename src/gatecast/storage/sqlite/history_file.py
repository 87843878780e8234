"""A small file beside the database that remembers its last change: what a restored, older database does not know.

It is written after each commit, so it is ahead of the database that it lies beside only when that was put back to an
older state. It may lag, when a process ends in between; the next look makes that good.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass

from gatecast.errors import StorageUnavailable
from gatecast.storage.sqlite.opened_file import OpenedFile


@dataclass(frozen=True, slots=True)
class UnitOfWork:
    """The last change of a database."""

    #: Rises with every transaction that changes a log.
    number: int
    #: Tells it from another change that has the same number, in another copy.
    token: str


class HistoryFile:
    """What is known of one database file apart from the file itself."""

    def __init__(self, database: OpenedFile) -> None:
        self._database = database
        self._path = database.path.with_name(f"{database.path.name}-history")

    def read(self) -> tuple[UnitOfWork, int] | None:
        """The last change that is known, and the file that it was made in; None: nothing is known.

        Read it before the database: a change that comes in between is then in the database at the latest.

        Raises:
            StorageUnavailable: it is there and cannot be read.
        """
        try:
            known = json.loads(self._path.read_bytes())
            return UnitOfWork(int(known["number"]), str(known["token"])), int(known["file"])
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            # Cut short by a crash of the machine.
            return None
        except OSError as error:
            raise StorageUnavailable(f"{self._path} cannot be read: {error}") from error

    def lags(self, known: tuple[UnitOfWork, int] | None, change: UnitOfWork) -> bool:
        """Whether the file has to be written so that it tells of this change; not when it tells of a later one."""
        if known is None or known[0].number != change.number:
            return known is None or known[0].number < change.number
        return known != (change, self.identity())

    def denies(self, known: tuple[UnitOfWork, int] | None, change: UnitOfWork) -> bool:
        """Whether the database, whose last change is this one, is not the one that the file was written for.

        It is older; or it has another change of the same number; or it went on in another file, as a copy does that was
        brought back.
        """
        if known is None:
            return False
        last, file = known
        if change.number == last.number:
            return change.token != last.token
        return change.number < last.number or file != self.identity()

    def identity(self) -> int:
        """Which file is open: its inode. The path may lead to another one by now."""
        return self._database.inode

    def write(self, change: UnitOfWork) -> None:
        """Remember a change; when that fails, an older one stays remembered, which only notices less."""
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}-{threading.get_ident()}")
        text = json.dumps(asdict(change) | {"file": self.identity()})
        with suppress(OSError):
            with open(new, "w", encoding="utf-8", opener=_private) as file:
                file.write(text)
            new.replace(self._path)

    def remove(self) -> None:
        """Forget what is known: whatever the database holds is believed."""
        self._path.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
