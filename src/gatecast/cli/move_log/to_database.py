"""Moves everything in an SQLite file to PostgreSQL, in one transaction there."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from gatecast.cli.move_log.moving import check_blocking
from gatecast.cli.move_log.source import FileSource, Source
from gatecast.cli.move_log.tables import EPOCH, STAY, Table, moved, name_in_file, table
from gatecast.cli.move_log.target import Target
from gatecast.cli.output import progress
from gatecast.controlplane.migrations import MIGRATIONS
from gatecast.errors import DatabaseUnsuitable
from gatecast.storage.migrations import available, tables
from gatecast.storage.moved import Blocking
from gatecast.storage.postgres.database import PostgresDatabase
from gatecast.storage.postgres.storage import MIGRATIONS as POSTGRES_MIGRATIONS


class DatabaseTarget:
    """`gatecast.cli.move_log.moving.Target` on PostgreSQL; whatever copies there holds a lock, which all wait for."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def moved_before(self) -> UUID | None:
        """None: the file still tells."""
        return None

    async def epoch(self) -> UUID:
        """The identity of its history; what copies to it has ended by then."""
        async with Target.open(self._database) as target:
            return await target.epoch()

    async def name(self, known: UUID | None) -> UUID:
        """What it is called by a file that is moved to it."""
        async with Target.open(self._database) as target:
            return await target.name(known)

    async def prepare(self, source: Source) -> None:  # noqa: ARG002 - everything is copied at once
        """Check that nobody uses it."""
        async with Target.open(self._database) as target:
            await target.check_unused()

    async def take(self, source: Source, blocking: Blocking) -> dict[str, int]:
        """Copy everything, and adopt the history."""
        assert isinstance(source, FileSource)  # noqa: S101 - `checked` has seen to that
        async with Target.open(self._database) as target:
            epoch, begun_at, last_log = source.history()
            check_blocking(await source.blocking(), blocking.target)
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

    async def call_off(self, epoch: UUID) -> bool:
        """Whether the log has not arrived: the transaction of this run has ended."""
        return await self.epoch() != epoch

    async def finish(self, source: Source, blocking: Blocking) -> bool:  # noqa: ARG002 - nobody writes to the file any more
        """Do nothing: the file stays as it was."""
        return False

    async def give_up(self, source: Source) -> bool:  # noqa: ARG002 - as above
        """False: nothing is left of a transaction that did not commit."""
        return False


async def _tables(source: FileSource, target: Target) -> list[Table]:
    """The tables to move; every other table of the file is skipped for a reason, or refused."""
    names = moved(tables(available(POSTGRES_MIGRATIONS, *MIGRATIONS)))
    if unknown := set(source.tables()) - {name_in_file(each) for each in (*names, *STAY, EPOCH)}:
        problem = f"the file has tables that are unknown here: {', '.join(sorted(unknown))}"
        raise DatabaseUnsuitable(problem, "move it with the release that made them")
    return [
        table(name, types, source.columns(name_in_file(name))) for name in names if (types := await target.types(name))
    ]


async def _copy_table(found: Table, source: FileSource, target: Target) -> int:
    count = 0
    with progress(f"copying {found.name_in_file}"):
        for chunk in source.rows(found.name_in_file, list(found.types)):
            await target.add(found, [found.read(row) for row in chunk])
            count += len(chunk)
    return count
