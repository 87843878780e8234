"""Which file is open, and whether it is still the one that the path leads to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gatecast.errors import StorageUnavailable

#: What belongs to a database: the file, its write-ahead log, and the index of that. An event that was committed is in
#: one of the first two; a process that opens another index sees another log.
_PARTS = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """A file, whatever its name: two files that exist at the same time never share it."""

    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """The file that the path leads to now; None when there is none."""
        try:
            found = path.stat()
        except OSError:
            return None
        return cls(found.st_dev, found.st_ino)


class OpenedFile:
    """The files of an open database, as they were found when it was opened.

    Removed or replaced, they take what is written to them along, and nobody else sees it: then nothing may be answered
    as stored.
    """

    def __init__(self, path: Path) -> None:
        #: The database's path.
        self.path = path
        self._identities: tuple[FileIdentity | None, ...] = (FileIdentity.of(path),)

    @property
    def inode(self) -> int:
        """The number of the file that is open, whatever the path leads to by now."""
        identity = self._identities[0]
        return identity.inode if identity is not None else 0

    @property
    def write_ahead_log(self) -> Path:
        """Where commits go before they get into the file."""
        return self.path.with_name(f"{self.path.name}-wal")

    def note_parts(self) -> None:
        """Note what belongs to it, once connections hold it open: from then on nobody else makes it anew.

        Raises:
            StorageUnavailable: the file was replaced in the meantime.
        """
        found = self._present()
        if found[0] != self._identities[0]:
            raise _Moved(self.path)
        self._identities = found

    def check(self) -> None:
        """Return when the path still leads to what is open.

        Raises:
            StorageUnavailable: something was removed or replaced.
        """
        if self._present() != self._identities:
            raise _Moved(self.path)

    def _present(self) -> tuple[FileIdentity | None, ...]:
        return tuple(FileIdentity.of(self.path.with_name(f"{self.path.name}{part}")) for part in _PARTS)


class _Moved(StorageUnavailable):
    def __init__(self, path: Path) -> None:
        super().__init__(
            f"the file {path}, or the -wal or -shm file beside it, was removed or replaced while it was open; put it "
            "back, or restart this process to work on the file that is there now"
        )
