from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gatecast.wakeup.contract import EVERYTHING, Hint
from gatecast.wakeup.datagram import DatagramWakeup
from gatecast.wakeup.mailbox import directory_of

#: So seldom that a test never sees it.
_NEVER = 3_600.0


class _Heard:
    """What a listener heard, and a way to wait for it."""

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
def file() -> Iterator[Path]:
    """A database whose path leaves room for sockets."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE note (number integer)")
        yield path


async def test_pods_on_one_file_hear_each_other(file: Path) -> None:
    ears = _Heard(), _Heard()
    async with (
        DatagramWakeup(file, watch_interval=_NEVER) as one,
        DatagramWakeup(file, watch_interval=_NEVER) as two,
    ):
        one.listen(ears[0])
        two.listen(ears[1])
        assert two.connected
        one.send(Hint.at(["g"]))
        for heard in ears:
            await heard.until(Hint.at(["g"]))
    assert not one.connected
    one.send(EVERYTHING)


async def test_pods_on_different_files_do_not(file: Path) -> None:
    other = file.with_name("other.db")
    other.write_bytes(file.read_bytes())
    mine, foreign = _Heard(), _Heard()
    async with (
        DatagramWakeup(file, watch_interval=_NEVER) as one,
        DatagramWakeup(other, watch_interval=_NEVER) as two,
    ):
        one.listen(mine)
        two.listen(foreign)
        one.send(Hint.at(["g"]))
        await mine.until(Hint.at(["g"]))
        assert Hint.at(["g"]) not in foreign.hints


async def test_s18_a_commit_that_nobody_hinted_at_is_noticed(file: Path) -> None:
    """A caller's own transaction sends no hints; the file tells of it."""
    heard = _Heard()
    async with DatagramWakeup(file, watch_interval=0.001) as wakeup:
        wakeup.listen(heard)
        await heard.until(EVERYTHING)
        heard.hints.clear()
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("INSERT INTO note VALUES (1)")
        await heard.until(EVERYTHING)


async def test_s18_without_sockets_changes_are_still_noticed(file: Path) -> None:
    directory_of(file).mkdir(mode=0o777)
    directory_of(file).chmod(0o777)
    heard = _Heard()
    async with DatagramWakeup(file, watch_interval=0.001) as wakeup:
        wakeup.listen(heard)
        await heard.until(EVERYTHING)
        assert wakeup.connected
        wakeup.send(Hint.at(["g"]))
        assert Hint.at(["g"]) not in heard.hints
