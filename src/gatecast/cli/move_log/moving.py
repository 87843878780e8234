"""Moves everything in an SQLite file to PostgreSQL, in one transaction there.

First the file is closed to writers; then everything is copied and committed at once. The new database has the file's
epoch exactly if that commit happened, which is how an interrupted move is recognized: it is repeated, or undone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID

from gatecast.cli.move_log.source import Source
from gatecast.cli.move_log.tables import EPOCH, STAY, Table, moved, name_in_file, table
from gatecast.cli.move_log.target import Target
from gatecast.cli.output import progress
from gatecast.errors import DatabaseUnsuitable, StorageError
from gatecast.server.pod import MIGRATIONS
from gatecast.storage.connect import OpenStorage
from gatecast.storage.database_url import Backend
from gatecast.storage.migrations import SchemaNeed, available, tables
from gatecast.storage.postgres.database import PostgresDatabase
from gatecast.storage.postgres.storage import MIGRATIONS as POSTGRES_MIGRATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The result of a move."""

    #: The history, which continues.
    epoch: UUID
    #: How many rows each table got; empty: an earlier run had moved them already.
    rows: dict[str, int] = field(default_factory=dict)


class MoveUncertain(StorageError):
    """It is unknown whether the move was committed; until it is known, the file is closed to writers."""

    def __str__(self) -> str:
        return (
            "the new database does not say whether the log has arrived there, so the file stays closed for now; "
            "repeat the command to finish, or add --undo to give up"
        )


async def move(old: OpenStorage, new: OpenStorage) -> Moved:
    """Move the log, and the control plane's tables, to another database; repeat it if it was interrupted.

    Raises:
        DatabaseUnsuitable: one of the databases is not of the right kind, or is not empty, or is in use.
        MoveUncertain: the connection to the new database was lost during the commit.
        StorageError: something failed; the file is as before.
    """
    database = _postgres(new)
    await _check_source(old)
    await database.migrate()
    with Source.open(Path(old.location)) as source:
        epoch = UUID(source.epoch()[0])
        there, its_epoch = await _look_at(database, source)
        if its_epoch == epoch:
            if source.target is not None:
                return Moved(epoch=epoch)
            raise DatabaseUnsuitable("it has a copy of this log, which was changed since", "name an empty database")
        if source.target is None:
            # Refused before any writer has to wait.
            async with Target.open(database) as target:
                await target.check_unused()
            source.block(there)
        _check_target(source, there)
        try:
            return Moved(epoch=epoch, rows=await _copy(source, database, there))
        except BaseException:
            await _open_again(source, database, there)
            raise


async def undo(old: OpenStorage, new: OpenStorage) -> bool:
    """Open the file to writers again; False: it was open.

    Raises:
        DatabaseUnsuitable: the log has arrived in the new database.
        StorageError: that is unknown now.
    """
    database = _postgres(new)
    with Source.open(Path(old.location)) as source:
        if source.target is None:
            return False
        async with Target.open(database) as target:
            if await target.epoch() == UUID(source.epoch()[0]):
                raise DatabaseUnsuitable("the log has arrived in the new database", "use it there")
            _check_target(source, await target.name(source.target))
            # Under the lock: no other run copies meanwhile.
            source.unblock()
        return True


def _postgres(new: OpenStorage) -> PostgresDatabase:
    database = new.storage.database
    if not isinstance(database, PostgresDatabase):
        raise DatabaseUnsuitable("the new database is not PostgreSQL", "name one with --to postgresql://…")
    return database


async def _check_source(old: OpenStorage) -> None:
    if old.backend is not Backend.SQLITE:
        raise DatabaseUnsuitable(
            "the log is not in an SQLite file", "move one on PostgreSQL with pg_dump or a standby (docs/how-to)"
        )
    if await old.storage.database.schema_need() is not SchemaNeed.NOTHING:
        with Source.open(Path(old.location)) as source:
            remedy = "run `gatecast migrate` first"
            if source.target is not None:
                remedy = "finish the move with that release, or give it up with --undo and run `gatecast migrate` first"
        raise DatabaseUnsuitable("another release made the file", remedy)


async def _look_at(database: PostgresDatabase, source: Source) -> tuple[UUID, UUID]:
    """The name of the new database, and its history; waits until a running copy to it has ended."""
    async with Target.open(database) as target:
        return await target.name(source.target), await target.epoch()


def _check_target(source: Source, there: UUID) -> None:
    """Return if the file is being moved to this database: the same history must not continue in two.

    Raises:
        DatabaseUnsuitable: it is being moved to another one, or no longer.
    """
    if source.target != there:
        raise DatabaseUnsuitable("the file is being moved to another database", "name that one with --to")


async def _open_again(source: Source, database: PostgresDatabase, there: UUID) -> None:
    """After a failure: open the file to writers again, unless the log has arrived nevertheless.

    Raises:
        MoveUncertain: it is unknown whether it has arrived.
    """
    try:
        async with Target.open(database) as target:
            # Under the lock: no other run copies meanwhile. A file blocked by another move is left to that move. Once
            # the log has arrived, the database has another name.
            if await target.name(source.target) == there == source.target:
                source.unblock()
    except StorageError as error:
        raise MoveUncertain from error


async def _copy(source: Source, database: PostgresDatabase, there: UUID) -> dict[str, int]:
    async with Target.open(database) as target:
        epoch, begun_at, last_log = source.epoch()
        _check_target(source, there)
        if await target.epoch() == UUID(epoch):
            # Another run of the command was faster, and this one has waited for it.
            return {}
        await target.check_unused()
        found = await _tables(source, target)
        await target.clear(found)
        rows = {each.name: await _copy_table(each, source, target) for each in found}
        await target.go_on_counting("gatecast.gateway_streams", "log_id", last_log)
        await target.go_on_counting("gatecast.passages", "number", 0)
        await target.adopt(UUID(epoch), datetime.fromisoformat(begun_at))
        return rows


async def _tables(source: Source, target: Target) -> list[Table]:
    """The tables to move; every other table of the file is skipped for a reason, or refused."""
    names = moved(tables(available(POSTGRES_MIGRATIONS, *MIGRATIONS)))
    if unknown := set(source.tables()) - {name_in_file(each) for each in (*names, *STAY, EPOCH)}:
        problem = f"the file has tables that are unknown here: {', '.join(sorted(unknown))}"
        raise DatabaseUnsuitable(problem, "move it with the release that made them")
    return [
        table(name, types, source.columns(name_in_file(name))) for name in names if (types := await target.types(name))
    ]


async def _copy_table(found: Table, source: Source, target: Target) -> int:
    count = 0
    with progress(f"copying {found.name_in_file}"):
        for chunk in source.rows(found.name_in_file, list(found.types)):
            await target.add(found, [found.read(row) for row in chunk])
            count += len(chunk)
    return count
