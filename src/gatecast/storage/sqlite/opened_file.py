"""Checks that the path still leads to the file that is open."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gatecast.errors import StorageUnavailable

#: The files of a database: the file itself, its write-ahead log, and the index of that log. A committed event is in one
#: of the first two; a process that opens another index sees another log.
_PARTS = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """The identity of a file, whatever its name: no two files that exist at the same time share it."""

    device: int
    inode: int

    @classmethod
    def of(cls, path: str) -> Self | None:
        """The identity of the file that the path leads to now; None if there is none."""
        try:
            # Not the method of `Path`: every commit asks six times, and that takes five times as long.
            found = os.stat(path)  # noqa: PTH116 - see above
        except OSError:
            return None
        return cls(found.st_dev, found.st_ino)


class OpenedFile:
    """The files of an open database, as they were when it was opened.

    Once one of them is removed or replaced, no other process sees what is written to it, so nothing may be reported as
    stored.
    """

    def __init__(self, path: Path) -> None:
        #: The database's path.
        self.path = path
        self._parts = tuple(f"{path}{part}" for part in _PARTS)
        self._identities: tuple[FileIdentity | None, ...] = (FileIdentity.of(str(path)),)

    @property
    def inode(self) -> int:
        """The inode of the file that is open, whatever the path leads to by now; 0 if there was no file."""
        identity = self._identities[0]
        return identity.inode if identity is not None else 0

    @property
    def write_ahead_log(self) -> Path:
        """The path of the write-ahead log, which holds commits until they are moved into the file."""
        return self.path.with_name(f"{self.path.name}-wal")

    def note_parts(self) -> None:
        """Record the log and its index as well, once connections hold them open: from then on SQLite keeps them.

        Raises:
            StorageUnavailable: the file was replaced in the meantime.
        """
        found = self._present()
        if found[0] != self._identities[0]:
            raise _Moved(self.path)
        self._identities = found

    def check(self) -> None:
        """Return if every path still leads to the file that is open.

        Raises:
            StorageUnavailable: one of the files was removed or replaced.
        """
        if self._present() != self._identities:
            raise _Moved(self.path)

    def _present(self) -> tuple[FileIdentity | None, ...]:
        return tuple(map(FileIdentity.of, self._parts))


class _Moved(StorageUnavailable):
    def __init__(self, path: Path) -> None:
        super().__init__(
            f"the file {path}, or the -wal or -shm file beside it, was removed or replaced while it was open; put it "
            "back, or restart this process to work on the file that is there now"
        )
