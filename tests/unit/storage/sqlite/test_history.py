"""A file that was put back to an older state is told from one that only moved, or lags behind what is remembered."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from gatecast.errors import StorageUnavailable
from gatecast.storage.contract import Changes, Verdict
from gatecast.storage.sqlite import SqliteStorage
from gatecast.testing.contracts.backend import GATEWAY, ids_of, make_event, make_events, offsets_of, publish, read


async def _make(file: Path, *, events: int = 3) -> Changes:
    """A file with a gateway that has so many events; what a pod knows of it at the end."""
    async with SqliteStorage.open(file) as storage:
        await storage.database.migrate()
        await storage.log.register(GATEWAY)
        await publish(storage, *make_events(events))
        return await storage.log.changed_since(0)


async def _go_on(file: Path, *, events: int = 5) -> Changes:
    async with SqliteStorage.open(file) as storage:
        await publish(storage, *make_events(events))
        return await storage.log.changed_since(0)


def _remembered(file: Path) -> Path:
    return file.with_name(f"{file.name}-history")


def _empty_the_log(file: Path) -> None:
    """So that everything is in the file itself."""
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


async def test_s20_an_older_file_is_noticed_by_whoever_looks_first(file: Path, tmp_path: Path) -> None:
    """And until a pod decides, nothing is read from it as if it were the same."""
    await _make(file)
    shutil.copy(file, tmp_path / "backup")
    before = await _go_on(file)
    shutil.copy(tmp_path / "backup", file)
    async with SqliteStorage.open(file) as storage:
        found = await storage.log.changed_since(before.marker)
        assert (found.settled, found.heads, found.epoch) == (False, {GATEWAY: 3}, before.epoch)
        assert not found.continues(before)
        assert (await read(storage)).server == found.server != before.server
        epoch = await storage.log.record_history(before.epoch)
        assert epoch != before.epoch
        after = await storage.log.changed_since(0)
        assert (after.settled, after.epoch, after.server) == (True, epoch, before.server)
        assert after.marker > before.marker
        assert await storage.log.record_history(epoch) == epoch


@pytest.mark.parametrize("events", [1, 5, 30])
async def test_s20_events_that_take_the_place_of_lost_ones_belong_to_a_new_history(
    file: Path, tmp_path: Path, events: int
) -> None:
    """Fewer than were lost, as many, or more: what is published first begins it."""
    await _make(file)
    shutil.copy(file, tmp_path / "backup")
    before = await _go_on(file)
    shutil.copy(tmp_path / "backup", file)
    async with SqliteStorage.open(file) as storage:
        receipts = await publish(storage, *make_events(events))
        assert offsets_of(receipts) == list(range(4, 4 + events))
        [epoch] = {receipt.position.epoch for receipt in receipts}
        assert epoch != before.epoch
        assert (await storage.log.changed_since(0)).epoch == epoch
    async with SqliteStorage.open(file) as storage:
        assert (await storage.log.changed_since(0)).epoch == epoch


async def test_s20_a_copy_over_the_open_file_is_noticed_although_nothing_was_written_since(
    file: Path, tmp_path: Path
) -> None:
    """It is the same file by every name; an idle pod must not go on with the pages that it remembers."""
    await _make(file)
    shutil.copy(file, tmp_path / "backup")
    async with SqliteStorage.open(file) as storage:
        await publish(storage, *make_events(5))
        _empty_the_log(file)
        before = await storage.log.changed_since(0)
        assert (await storage.log.changed_since(before.marker)).continues(before)
        shutil.copyfile(tmp_path / "backup", file)
        assert not (await storage.log.changed_since(before.marker)).settled
        epoch = await storage.log.record_history(before.epoch)
        assert epoch != before.epoch
        [receipt] = await publish(storage, make_event())
        assert (receipt.position.epoch, receipt.position.offset) == (epoch, 4)
        assert len(await ids_of(storage)) == 4


async def test_s20_a_backup_loaded_into_the_open_file_is_noticed(file: Path, tmp_path: Path) -> None:
    """As the shell's `.restore` does it."""
    await _make(file)
    shutil.copy(file, tmp_path / "backup")
    async with SqliteStorage.open(file) as storage, SqliteStorage.open(file) as other:
        await publish(storage, *make_events(5))
        before = await storage.log.changed_since(0)
        with closing(sqlite3.connect(tmp_path / "backup")) as backup, closing(sqlite3.connect(file)) as present:
            backup.backup(present)
        [receipt] = await publish(other, make_event())
        assert receipt.position.epoch != before.epoch
        assert (await storage.log.changed_since(before.marker)).epoch == receipt.position.epoch


async def test_s20_another_change_of_the_same_number_is_another_history(file: Path, tmp_path: Path) -> None:
    """Two copies went on apart for as many changes; one took the place of the other."""
    before = await _make(file)
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / file.name
    shutil.copy(file, copy)
    for each in (file, copy):
        await _go_on(each)
    shutil.copy(copy, file)
    async with SqliteStorage.open(file) as storage:
        assert not (await storage.log.changed_since(0)).settled
        assert await storage.log.record_history(before.epoch) != before.epoch


async def test_s20_a_copy_that_went_on_elsewhere_is_another_history(file: Path, tmp_path: Path) -> None:
    """It is even younger than what it replaces, which was not its past."""
    before = await _make(file)
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / file.name
    shutil.copy(file, copy)
    await _go_on(file)
    for _ in range(3):
        await _go_on(copy)
    copy.replace(file)
    async with SqliteStorage.open(file) as storage:
        assert not (await storage.log.changed_since(0)).settled
        assert await storage.log.record_history(before.epoch) != before.epoch


async def test_s20_publishing_in_a_callers_transaction_begins_the_new_history(file: Path, tmp_path: Path) -> None:
    """It commits with the caller's change, or is rolled back with it and begun by the next one."""
    await _make(file)
    shutil.copy(file, tmp_path / "backup")
    before = await _go_on(file)
    shutil.copy(tmp_path / "backup", file)
    async with SqliteStorage.open(file) as storage:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            for ending in ("ROLLBACK", "COMMIT"):
                connection.execute("BEGIN IMMEDIATE")
                [receipt] = await storage.log.publish_in(connection, [make_event()])
                assert receipt.position.epoch != before.epoch
                connection.execute(ending)
        after = await storage.log.changed_since(0)
        assert (after.settled, after.epoch) == (True, receipt.position.epoch)


async def test_a_file_that_moved_with_what_is_remembered_of_it_goes_on(file: Path, tmp_path: Path) -> None:
    """It has another inode there; and so has a compacted copy that takes its place."""
    before = await _make(file)
    moved = tmp_path / "moved"
    moved.mkdir()
    for each in (file, _remembered(file)):
        shutil.copy(each, moved / each.name)
    compact = tmp_path / "compact"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"VACUUM INTO '{compact}'")
    compact.replace(file)
    for each in (moved / file.name, file):
        async with SqliteStorage.open(each) as storage:
            [receipt] = await publish(storage, make_event())
            assert receipt.position.epoch == before.epoch
        assert (await _go_on(each)).epoch == before.epoch


@pytest.mark.parametrize("content", [None, "", '{"number": 1', "[]", '{"number": "x", "token": "", "file": 1}'])
async def test_where_nothing_is_remembered_the_file_is_believed_and_remembered(file: Path, content: str | None) -> None:
    """It came without the small file, or a crash of the machine cut that short."""
    before = await _make(file)
    _remembered(file).unlink() if content is None else _remembered(file).write_text(content)
    async with SqliteStorage.open(file) as storage:
        found = await storage.log.changed_since(0)
        assert (found.settled, found.epoch) == (True, before.epoch)
    assert json.loads(_remembered(file).read_text())["number"] == before.marker


async def test_what_is_remembered_may_lag(file: Path) -> None:
    """The process was killed between its commit and what it writes behind it; the next look makes that good."""
    await _make(file)
    old = _remembered(file).read_bytes()
    before = await _go_on(file)
    _remembered(file).write_bytes(old)
    async with SqliteStorage.open(file) as storage:
        found = await storage.log.changed_since(before.marker)
        assert (found.settled, found.epoch) == (True, before.epoch)
    assert json.loads(_remembered(file).read_text())["number"] == before.marker


async def test_what_cannot_be_read_is_not_taken_for_nothing(file: Path) -> None:
    await _make(file)
    _remembered(file).unlink()
    _remembered(file).mkdir()
    async with SqliteStorage.open(file) as storage:
        with pytest.raises(StorageUnavailable, match="-history cannot be read"):
            await storage.log.changed_since(0)
        with pytest.raises(StorageUnavailable, match="-history cannot be read"):
            await storage.log.publish([[make_event()]])


async def test_the_operator_can_say_that_nothing_is_missing(file: Path, tmp_path: Path) -> None:
    await _make(file)
    shutil.copy(file, tmp_path / "backup")
    before = await _go_on(file)
    shutil.copy(tmp_path / "backup", file)
    async with SqliteStorage.open(file) as storage:
        assert await storage.log.record_history(before.epoch, Verdict.KEEP) == before.epoch
        assert (await storage.log.changed_since(0)).settled
        [receipt] = await publish(storage, make_event())
        assert receipt.position.epoch == before.epoch


async def test_the_operator_says_so_of_the_history_that_was_looked_at_and_of_no_other(
    file: Path, tmp_path: Path
) -> None:
    """A pod may have begun another one meanwhile, or another backup been put in its place."""
    await _make(file)
    shutil.copy(file, tmp_path / "backup")
    before = await _go_on(file)
    shutil.copy(tmp_path / "backup", file)
    async with SqliteStorage.open(file) as storage:
        assert not (await storage.log.changed_since(0)).settled
        renewed = await storage.log.record_history(uuid4(), Verdict.KEEP)
        assert renewed != before.epoch
        assert await storage.log.record_history(before.epoch, Verdict.KEEP) == renewed


async def test_only_the_owner_may_read_what_is_remembered(file: Path) -> None:
    await _make(file)
    assert _remembered(file).stat().st_mode & 0o777 == 0o600
    assert not list(file.parent.glob(f"{file.name}-history.*"))


async def test_pods_that_write_and_look_at_once_raise_no_alarm(file: Path) -> None:
    """Whichever writes what is remembered last, and however old the snapshot is in which another one looks."""
    before = await _make(file)

    async def work(storage: SqliteStorage) -> set[tuple[bool, UUID]]:
        found = set()
        for _ in range(25):
            await publish(storage, make_event())
            changes = await storage.log.changed_since(0)
            found.add((changes.settled, changes.epoch))
        return found

    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(SqliteStorage.open(file)) for _ in range(4)]
        for found in await asyncio.gather(*map(work, storages)):
            assert found == {(True, before.epoch)}
        assert (await read(storages[0], limit=1)).head == 103
