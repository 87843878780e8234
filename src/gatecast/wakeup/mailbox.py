"""A unix datagram socket in a directory that all pods of one machine share."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from gatecast.wakeup.contract import EVERYTHING, Hint, Listener

#: Largest datagram, in bytes; a hint that does not fit is sent as EVERYTHING.
LARGEST_DATAGRAM = 8_000

#: A unix socket's path has room for about 104 bytes (macOS) or 108 (Linux).
LONGEST_PATH = 100

#: Datagrams taken in one turn of the event loop; the others wait for the next turn.
_TAKEN_AT_ONCE = 64

_SUFFIX = ".sock"
_NAME_LENGTH = 16 + len(_SUFFIX)


def directory_of(database: Path) -> Path:
    """Where the sockets of the pods on this database lie: beside it, or where its path leaves no room in /tmp."""
    file = database.resolve()
    beside = file.with_name(f"{file.name}-wakeup")
    if len(os.fsencode(beside)) + 1 + _NAME_LENGTH <= LONGEST_PATH:
        return beside
    return Path(tempfile.gettempdir()) / f"gatecast-{hashlib.sha256(os.fsencode(beside)).hexdigest()[:16]}"


class Mailbox:
    """This pod's socket, and the way to everybody's."""

    def __init__(self, directory: Path, receive: Listener) -> None:
        self._directory = directory
        self._receive = receive
        self._path = directory / f"{uuid4().hex[:16]}{_SUFFIX}"
        self._socket: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        """Whether hints can arrive here."""
        return self._socket is not None

    def open(self) -> None:
        """Begin to receive.

        Raises:
            OSError: the directory cannot be used, or is not this user's alone.
        """
        _make_private(self._directory)
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            receiver.setblocking(False)  # noqa: FBT003 - the standard library's own signature
            receiver.bind(str(self._path))
            asyncio.get_running_loop().add_reader(receiver, self._take)
        except BaseException:
            receiver.close()
            raise
        self._socket = receiver

    def close(self) -> None:
        """Stop receiving, and remove the socket's file."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        self._path.unlink(missing_ok=True)

    def send(self, hint: Hint) -> None:
        """Put the hint into every mailbox of the directory, this one included; never waits."""
        if self._socket is None:
            return
        datagram = encode(hint)
        # A directory that was removed by hand takes the sockets with it: no pod can be reached.
        with suppress(OSError):
            for path in self._directory.glob(f"*{_SUFFIX}"):
                _drop_into(self._socket, datagram, path)

    def _take(self) -> None:
        if self._socket is None:
            return
        for _ in range(_TAKEN_AT_ONCE):
            try:
                datagram = self._socket.recv(LARGEST_DATAGRAM + 1)
            except OSError:
                return
            hint = decode(datagram)
            if hint is not None:
                self._receive(hint)


def encode(hint: Hint) -> bytes:
    """The hint as JSON: a list of gateways, or null for everything and for more than fits."""
    if hint.gateways is None:
        return b"null"
    datagram = json.dumps(sorted(hint.gateways), ensure_ascii=False).encode()
    return datagram if len(datagram) <= LARGEST_DATAGRAM else b"null"


def decode(datagram: bytes) -> Hint | None:
    """The hint in a datagram; None when it is anything else."""
    try:
        names = json.loads(datagram)
    except (ValueError, RecursionError):
        return None
    if names is None:
        return EVERYTHING
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return Hint.at(names)
    return None


def _drop_into(sender: socket.socket, datagram: bytes, path: Path) -> None:
    try:
        sender.sendto(datagram, str(path))
    except ConnectionRefusedError:
        # The file is that of a killed pod: no pod will ever listen there again.
        with suppress(OSError):
            path.unlink()
    except OSError:
        # Full: then that pod has hints enough to wake up. Gone: then it needs none.
        return


def _make_private(directory: Path) -> None:
    """Make the directory, for this user alone; hints tell the names of gateways."""
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.stat(follow_symlinks=False)
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{directory} is not private to this user")
