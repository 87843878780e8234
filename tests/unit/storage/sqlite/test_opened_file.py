"""A file that is removed or replaced while it is open: nothing is answered as stored that a restart would not find."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from gatecast.errors import DatabaseUnsuitable, StorageUnavailable
from gatecast.storage.connect import open_storage
from gatecast.storage.sqlite import SqliteStorage, database
from gatecast.storage.sqlite import statements as sqlite_statements
from gatecast.storage.sqlite.opened_file import FileIdentity
from gatecast.testing.contracts.backend import GATEWAY, ids_of, make_event, publish

_PARTS = ["", "-wal", "-shm"]


def _remove(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    """By a copy with the same content, as an editor or a restore does."""
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.replace(path)


def _move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


@pytest.mark.parametrize("part", _PARTS)
@pytest.mark.parametrize("take_away", [_remove, _replace, _move_folder])
async def test_nothing_is_stored_into_a_file_that_has_gone(tmp_path: Path, part: str, take_away: object) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "gatecast.db"
    async with SqliteStorage.open(file) as storage:
        await storage.database.migrate()
        await storage.log.register(GATEWAY)
        await publish(storage, make_event())
        await storage.database.ping()
        assert callable(take_away)
        take_away(Path(f"{file}{part}"))
        with pytest.raises(StorageUnavailable, match="removed or replaced"):
            await publish(storage, make_event())
        with pytest.raises(StorageUnavailable, match="removed or replaced"):
            await storage.database.ping()
        with pytest.raises(StorageUnavailable, match="removed or replaced"):
            async with storage.database.transaction():
                pass


async def test_a_file_that_goes_while_an_event_is_stored_is_no_success(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit succeeds, in a file that nobody will open again."""
    async with SqliteStorage.open(file) as storage:
        await storage.database.migrate()
        await storage.log.register(GATEWAY)

        def commit_late(connection: object) -> None:
            file.unlink(missing_ok=True)
            sqlite_statements.commit(connection)  # type: ignore[arg-type]

        monkeypatch.setattr(database, "commit", commit_late)
        with pytest.raises(StorageUnavailable, match="removed or replaced"):
            await publish(storage, make_event())
        with pytest.raises(StorageUnavailable, match="removed or replaced"):
            async with storage.database.transaction() as transaction:
                await storage.log.publish_in(transaction, [make_event()])


async def test_what_is_put_back_is_used_again(file: Path, tmp_path: Path) -> None:
    async with SqliteStorage.open(file) as storage:
        await storage.database.migrate()
        await storage.log.register(GATEWAY)
        file.rename(tmp_path / "aside")
        with pytest.raises(StorageUnavailable):
            await publish(storage, make_event())
        (tmp_path / "aside").rename(file)
        await publish(storage, make_event())
        await storage.database.ping()
    async with SqliteStorage.open(file) as storage:
        assert len(await ids_of(storage)) == 1


async def test_files_are_for_their_owner_alone(file: Path) -> None:
    before = os.umask(0o000)
    try:
        async with SqliteStorage.open(file) as storage:
            await storage.database.migrate()
            for part in _PARTS:
                assert stat.S_IMODE(Path(f"{file}{part}").stat().st_mode) == 0o600
    finally:
        os.umask(before)


async def test_a_file_that_exists_keeps_its_rights(file: Path) -> None:
    file.touch()
    file.chmod(0o640)
    async with SqliteStorage.open(file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o640


async def test_a_path_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="No such file or directory"):
        async with SqliteStorage.open(tmp_path / "no-folder" / "gatecast.db"):
            pass


@pytest.mark.parametrize("scheme", ["sqlite", "postgresql+embedded"])
async def test_what_is_not_there_is_not_made_for_those_who_only_look(tmp_path: Path, scheme: str) -> None:
    with pytest.raises(DatabaseUnsuitable, match="there is no"):
        async with open_storage(f"{scheme}:///{tmp_path}/mistyped", create=False):
            pass
    assert list(tmp_path.iterdir()) == []


def test_two_files_are_never_taken_for_one(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.touch()
    other.touch()
    (tmp_path / "link").symlink_to(one)
    assert FileIdentity.of(str(one)) == FileIdentity.of(str(tmp_path / "link")) != FileIdentity.of(str(other))
    with suppress(FileNotFoundError):
        (tmp_path / "missing").unlink()
    assert FileIdentity.of(str(tmp_path / "missing")) is None
