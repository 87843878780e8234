"""The history file keeps its last record, whatever release wrote it, and under concurrent readers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gatecast.storage.sqlite.history_file import HistoryFile, UnitOfWork
from gatecast.storage.sqlite.opened_file import OpenedFile


@pytest.fixture
def history(file: Path) -> HistoryFile:
    """The history file of a database whose last change it does not know."""
    file.touch()
    return HistoryFile(OpenedFile(file))


def _path(file: Path) -> Path:
    return file.with_name(f"{file.name}-history")


def test_each_record_is_read_back_from_the_same_file(file: Path, history: HistoryFile) -> None:
    """A new file for each commit would cost more than the commit."""
    inodes = set()
    for number in (1, 99, 100, 2**63 - 1):
        change = UnitOfWork(number, f"token-{number}")
        history.write(change)
        assert history.read() == (change, file.stat().st_ino)
        inodes.add(_path(file).stat().st_ino)
    assert len(inodes) == 1


def test_a_shorter_record_covers_a_longer_one(history: HistoryFile) -> None:
    for change in (UnitOfWork(2**63 - 1, "f" * 36), UnitOfWork(1, "")):
        history.write(change)
        known = history.read()
        assert known is not None
        assert known[0] == change


def test_the_record_of_an_earlier_release_is_read_and_replaced(file: Path, history: HistoryFile) -> None:
    """It has another size, and no checksum."""
    old = {"number": 7, "token": "a", "file": 3}
    _path(file).write_text(json.dumps(old))
    assert history.read() == (UnitOfWork(7, "a"), 3)
    history.write(UnitOfWork(8, "b"))
    assert history.read() == (UnitOfWork(8, "b"), file.stat().st_ino)
    # What an earlier release reads of it.
    assert {name: json.loads(_path(file).read_bytes())[name] for name in old} == {
        "number": 8,
        "token": "b",
        "file": file.stat().st_ino,
    }


def test_half_of_one_record_and_half_of_the_next_is_no_change(file: Path, history: HistoryFile) -> None:
    """It could be a number that no change ever had: the database would be taken for an older state."""
    records = []
    for number in (199, 200):
        history.write(UnitOfWork(number, "token"))
        records.append(_path(file).read_bytes())
    first, second = records
    where = first.index(b"199")
    for cut in range(where + 1, where + 3):
        _path(file).write_bytes(second[:cut] + first[cut:])
        assert history.read() is None


def test_a_record_that_is_being_overwritten_is_read_again(
    file: Path, history: HistoryFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.write(UnitOfWork(1, "token"))
    whole = _path(file).read_bytes()
    reads = iter([whole.replace(b"1", b"2", 1), b"", whole])
    monkeypatch.setattr(Path, "read_bytes", lambda _: next(reads))
    assert history.read() == (UnitOfWork(1, "token"), file.stat().st_ino)


def test_what_cannot_be_overwritten_is_replaced(file: Path, history: HistoryFile) -> None:
    """A file of another owner, say: a process that may write to the directory may replace it."""
    target = file.with_name("elsewhere")
    _path(file).symlink_to(target)
    history.write(UnitOfWork(1, "token"))
    assert history.read() == (UnitOfWork(1, "token"), file.stat().st_ino)
    assert not _path(file).is_symlink()
