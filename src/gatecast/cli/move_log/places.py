"""Opens what a log is moved from and to, and refuses what does not suit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from gatecast.cli.move_log.moving import Target
from gatecast.cli.move_log.source import QUERIES, Source, opened_source
from gatecast.cli.move_log.to_database import DatabaseTarget
from gatecast.controlplane.migrations import MIGRATIONS
from gatecast.errors import DatabaseUnsuitable
from gatecast.storage.connect import OpenStorage, open_storage, place_of
from gatecast.storage.contract import Changes
from gatecast.storage.database_url import Backend
from gatecast.storage.migrations import SchemaNeed
from gatecast.storage.postgres.database import PostgresDatabase
from gatecast.storage.stream_url import StreamUrl, parse_stream


@asynccontextmanager
async def opened_places(
    database: str, to: str, *, pooler: str = "auto", undo: bool = False
) -> AsyncIterator[tuple[Source, Target]]:
    """What the log is moved from and to, until the block ends; to undo a move, no schema is needed or changed.

    Raises:
        DatabaseUnsuitable: a log does not move between these two.
    """
    stream = parse_stream(to)
    async with open_storage(database, extra_migrations=MIGRATIONS, pooler=pooler, create=False) as old:
        if stream is None:
            async with open_storage(to, extra_migrations=MIGRATIONS, pooler=pooler) as new:
                target = await _database_target(old, new)
                async with opened_source(old, to_stream=False) as source:
                    if not undo:
                        await _check_schema(old, source)
                        await _settled(old, source)
                        await target.migrate()
                    yield source, DatabaseTarget(target)
        else:
            async with opened_source(old, to_stream=True) as source:
                if undo:
                    await _check_stream(source, stream)
                else:
                    await _check_schema(old, source)
                async with _stream_target(old, source, stream, place_of(to)) as into:
                    yield source, into


@asynccontextmanager
async def opened_alone(database: str, *, pooler: str = "auto") -> AsyncIterator[tuple[OpenStorage, Source]]:
    """What the log is moved from, until the block ends; what it was moved to is gone."""
    opening = open_storage(database, extra_migrations=MIGRATIONS, pooler=pooler, create=False)
    async with opening as old, opened_source(old, to_stream=True) as source:
        yield old, source


async def _database_target(old: OpenStorage, new: OpenStorage) -> PostgresDatabase:
    database = new.storage.database
    if not isinstance(database, PostgresDatabase):
        raise DatabaseUnsuitable(
            "the new database is not PostgreSQL", "name one with --to postgresql://…, or a stream with --to nats://…"
        )
    if old.backend is not Backend.SQLITE:
        raise DatabaseUnsuitable(
            "the log is not in an SQLite file", "move one on PostgreSQL with pg_dump or a standby (docs/how-to)"
        )
    return database


async def _check_schema(old: OpenStorage, source: Source) -> None:
    if await old.storage.database.schema_need() is not SchemaNeed.NOTHING:
        remedy = "run `gatecast migrate` first"
        if await source.blocking() is not None:
            remedy = "finish the move with that release, or give it up with --undo and run `gatecast migrate` first"
        raise DatabaseUnsuitable("another release made the database", remedy)


@asynccontextmanager
async def _stream_target(old: OpenStorage, source: Source, stream: StreamUrl, place: str) -> AsyncIterator[Target]:
    # They need an extra.
    from gatecast.cli.move_log.to_stream import StreamTarget  # noqa: PLC0415
    from gatecast.storage.jetstream.arrival import Arrival  # noqa: PLC0415

    opening = Arrival.open(
        stream.servers, stream.stream, replicas=stream.replicas, user=stream.user, password=stream.password
    )
    async with opening as arrival:
        if await old.storage.database.is_outbox():
            [row] = await source.fetch(QUERIES["bound"])
            bound = row["log"]
        else:
            bound = ""
            await _settled(old, source)
        yield StreamTarget(arrival, place=place, settled=partial(_settled, old, source), bound=bound)


async def _check_stream(source: Source, stream: StreamUrl) -> None:
    """Return if the stream exists, or no log is being moved to one: it would be made.

    Raises:
        DatabaseUnsuitable: there is none.
    """
    # It needs an extra.
    from gatecast.storage.jetstream.engine import look  # noqa: PLC0415

    if await source.blocking() is None:
        return
    servers, name = stream.servers, stream.stream
    if await look(servers, name, replicas=stream.replicas, user=stream.user, password=stream.password) is None:
        raise DatabaseUnsuitable(
            f"there is no stream {name}",
            "name the one that the log is moved to with --to; if that is gone for good, add --target-lost",
        )


async def _settled(old: OpenStorage, source: Source) -> Changes:
    """What the log says of itself, once it is decided whether its history goes on where it is now.

    As the first pod after a restore decides it: what was lost is noticed before the log goes on elsewhere.
    """
    found = await old.storage.log.changed_since(0)
    if not found.settled and await source.blocking() is None:
        await old.storage.log.record_history(found.epoch)
        found = await old.storage.log.changed_since(0)
    return found
