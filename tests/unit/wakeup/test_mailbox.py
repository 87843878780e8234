from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gatecast.wakeup.contract import EVERYTHING, Hint
from gatecast.wakeup.mailbox import LARGEST_DATAGRAM, LONGEST_PATH, Mailbox, decode, directory_of, encode


class _Heard:
    """What arrived, and a way to wait for it."""

    def __init__(self) -> None:
        self.hints: list[Hint] = []
        self._arrived = asyncio.Event()

    def __call__(self, hint: Hint) -> None:
        self.hints.append(hint)
        self._arrived.set()

    async def until(self, hint: Hint) -> None:
        """Return once this hint has arrived."""
        while hint not in self.hints:
            self._arrived.clear()
            await self._arrived.wait()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A place whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "wakeup"


@contextmanager
def _opened(directory: Path, heard: _Heard) -> Iterator[Mailbox]:
    mailbox = Mailbox(directory, heard)
    mailbox.open()
    try:
        yield mailbox
    finally:
        mailbox.close()


async def test_a_hint_reaches_every_mailbox(directory: Path) -> None:
    ears = [_Heard(), _Heard(), _Heard()]
    with _opened(directory, ears[0]) as first, _opened(directory, ears[1]), _opened(directory, ears[2]):
        first.send(Hint.at(["a", "ü"]))
        first.send(EVERYTHING)
        for heard in ears:
            await heard.until(EVERYTHING)
            assert heard.hints == [Hint.at(["a", "ü"]), EVERYTHING]


async def test_the_directory_is_private_and_left_empty(directory: Path) -> None:
    with _opened(directory, _Heard()) as mailbox:
        assert directory.stat().st_mode & 0o777 == 0o700
        assert len(list(directory.iterdir())) == 1
    assert not mailbox.is_open
    assert list(directory.iterdir()) == []


async def test_a_directory_that_others_can_enter_is_refused(directory: Path) -> None:
    directory.mkdir(mode=0o755)
    with pytest.raises(PermissionError, match="not private"), _opened(directory, _Heard()):
        pass
    assert list(directory.iterdir()) == []


async def test_the_socket_of_a_killed_pod_is_removed(directory: Path) -> None:
    heard = _Heard()
    with _opened(directory, heard) as mailbox:
        dead = directory / "0123456789abcdef.sock"
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as abandoned:
            abandoned.bind(str(dead))
        mailbox.send(EVERYTHING)
        await heard.until(EVERYTHING)
        assert not dead.exists()


async def test_a_pod_that_does_not_read_hinders_nobody(directory: Path) -> None:
    """Its queue fills up, and what does not fit is dropped."""
    heard = _Heard()
    with (
        _opened(directory, heard) as mailbox,
        closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as deaf,
    ):
        path = directory / "0123456789abcdef.sock"
        deaf.bind(str(path))
        for _ in range(2_000):
            mailbox.send(EVERYTHING)
        await heard.until(EVERYTHING)
        assert path.exists()
        path.unlink()


async def test_garbage_is_ignored(directory: Path) -> None:
    heard = _Heard()
    with _opened(directory, heard) as mailbox, closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as stranger:
        [path] = directory.iterdir()
        for garbage in (b"", b"\xff\xfe", b"[1]", b'{"a":1}', b"[" * 7_000, b'["' + b"x" * 20_000 + b'"]'):
            stranger.sendto(garbage, str(path))
        mailbox.send(Hint.at(["g"]))
        await heard.until(Hint.at(["g"]))
        assert heard.hints == [Hint.at(["g"])]


async def test_a_directory_that_vanished_breaks_nothing(directory: Path) -> None:
    heard = _Heard()
    with _opened(directory, heard) as mailbox:
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
        mailbox.send(EVERYTHING)
    mailbox.send(EVERYTHING)
    assert heard.hints == []


def test_what_does_not_fit_says_everything() -> None:
    fitting = Hint.at([f"gateway-{number:04}" for number in range(500)])
    assert decode(encode(fitting)) == fitting
    assert len(encode(fitting)) <= LARGEST_DATAGRAM
    too_many = Hint.at([f"gateway-{number:04}" for number in range(600)])
    assert decode(encode(too_many)) == EVERYTHING
    assert decode(encode(Hint.at([]))) == Hint.at([])


def test_the_sockets_lie_beside_the_database(directory: Path) -> None:
    assert directory_of(directory / "events.db") == directory.resolve() / "events.db-wakeup"


def test_a_long_path_has_its_sockets_in_the_temporary_directory(directory: Path) -> None:
    deep = directory / ("x" * 60) / ("y" * 60) / "events.db"
    found = directory_of(deep)
    assert found == directory_of(deep)
    assert found != directory_of(deep.with_name("other.db"))
    assert found.parent == Path(tempfile.gettempdir())
    assert len(os.fsencode(found / "0123456789abcdef.sock")) <= LONGEST_PATH


def test_every_name_of_a_database_leads_to_the_same_sockets(directory: Path) -> None:
    directory.mkdir()
    (directory / "events.db").touch()
    (directory / "link.db").symlink_to(directory / "events.db")
    assert directory_of(directory / "link.db") == directory_of(directory / "events.db")
