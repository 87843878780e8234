"""The doctor's checks of the database."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from gatecast.cli.databases import open_tables
from gatecast.cli.doctor.findings import Finding, ok, problem, warning
from gatecast.errors import DatabaseUnsuitable, GatecastError, SettingInvalid
from gatecast.hub import refuse_outbox
from gatecast.settings import Settings, variable
from gatecast.storage.connect import OpenStorage
from gatecast.storage.database_url import Backend, parse
from gatecast.storage.migrations import SchemaNeed
from gatecast.storage.postgres.driver_errors import translated
from gatecast.storage.postgres.storage import POOL_SIZE
from gatecast.storage.queries import Queries
from gatecast.storage.replication import Replication

_QUERIES = Queries("gatecast.cli.doctor", "postgres.sql")

#: Connections of one pod to the database: its pool, and one that listens for wake-ups.
_OF_A_POD = POOL_SIZE + 1

#: This machine's clock and the database's may differ by this much, in seconds.
_CLOCK_TOLERANCE = 5.0

#: Less free space than this is a problem, in bytes.
_LEAST_FREE = 256 * 1024**2


async def look_at_database(settings: Settings) -> list[Finding]:
    """Whether pods can work with the database, and what they can rely on."""
    name = variable("outbox" if settings.outbox else "database")
    try:
        settings.check_for_pod()
        # If the embedded server does not run on this machine, this starts it for the duration of the check.
        async with open_tables(settings, send_hints=False) as opened:
            if not settings.outbox:
                await refuse_outbox(opened.storage)
            return [*await _look_at_schema(opened), *await _look_at_backend(opened)]
    except SettingInvalid as error:
        return [problem("database", str(error), f"correct {name}")]
    except DatabaseUnsuitable as error:
        return [problem("database", error.problem, error.remedy)]
    except GatecastError as error:
        return [problem("database", str(error), _advice_when_away(settings.tables, name))]


def _advice_when_away(database: str, name: str) -> str:
    if parse(database).backend is Backend.SQLITE:
        return "check that the file is a database of Gatecast, and that this user may read and write it and its folder"
    return f"check host, port, user and password of {name}, pg_hba.conf, and that PostgreSQL runs"


async def _look_at_schema(opened: OpenStorage) -> list[Finding]:
    database = opened.storage.database
    need = await database.schema_need()
    match need:
        case SchemaNeed.NOTHING:
            return [
                ok("schema", f"up to date (migration {await database.schema_version()}), and the role has its rights")
            ]
        case SchemaNeed.FRESH:
            return [warning("schema", "there is none yet", "`gatecast migrate` makes it, or the first pod that starts")]
        case SchemaNeed.BEHIND:
            return [
                problem("schema", "it is from an older release", "run `gatecast migrate` before pods of this one start")
            ]


async def _look_at_backend(opened: OpenStorage) -> list[Finding]:
    if opened.backend is Backend.SQLITE:
        return list(_look_at_file(Path(opened.location)))
    database: Any = opened.storage.database
    (server,) = await database.fetch(_QUERIES["server"])
    return [
        ok(
            "database", f"PostgreSQL {server['version']}, {server['encoding']}, {server['size']}, role {server['role']}"
        ),
        _pooler(pooled=database.pooled),
        _isolation(await _isolation_of_applications(opened.location)),
        *_durability(server),
        _replication(await database.replication()),
        _connections(server),
        _clock(server["now"]),
    ]


def _pooler(*, pooled: bool) -> Finding:
    if pooled:
        return ok("pooler", "one stands in front of PostgreSQL; every transaction brings its own settings")
    return ok("pooler", "none; connections lead to PostgreSQL itself")


async def _isolation_of_applications(url: str) -> str:
    """The default isolation level of this role; our own sessions set theirs."""
    with translated():
        connection: asyncpg.Connection[Any] = await asyncpg.connect(url, statement_cache_size=0)
        try:
            return str(await connection.fetchval("SHOW default_transaction_isolation"))
        finally:
            await connection.close()


def _isolation(level: str) -> Finding:
    if level == "read committed":
        return ok("isolation", "read committed")
    return warning(
        "isolation",
        f"transactions of this role are {level} unless they say otherwise; pods do, applications may not",
        "begin transactions that call gatecast.publish as READ COMMITTED",
    )


def _durability(server: Any) -> Iterator[Finding]:  # noqa: ANN401 - a row
    lacking = [name for name in ("fsync", "full_page_writes") if not server[name]]
    if lacking:
        yield problem(
            "durability",
            f"{' and '.join(lacking)} is off: a crash of the server may lose or corrupt what was committed",
            f"set {' and '.join(f'{name} = on' for name in lacking)} in postgresql.conf",
        )
    if server["in_recovery"]:
        yield problem("primary", "this server is a standby, and only reads", "name the primary in GATECAST_DATABASE")


def _replication(found: Replication | None) -> Finding:
    if found is None:
        return ok("replication", "a standby serves no pods")
    names = f" (synchronous_standby_names is '{found.names}')" if found.needed else ""
    said = f"{found}{names}"
    if found.problem:
        return problem("replication", said, "start the standby, or take it out of synchronous_standby_names")
    if found.in_sync is None:
        return warning("replication", said, "GRANT pg_read_all_stats TO the role of GATECAST_DATABASE")
    if found.connected and not found.needed:
        return warning(
            "replication", said, "set synchronous_standby_names; without it each failover begins a new epoch"
        )
    return ok("replication", said if found.needed else "no standby is connected")


def _connections(server: Any) -> Finding:  # noqa: ANN401 - a row
    limit, used = server["connections"], server["connected"]
    said = f"{used} of {limit} are used; a pod takes up to {_OF_A_POD}"
    if limit - used < _OF_A_POD:
        return warning("connections", said, "raise max_connections, or put a pooler in front of PostgreSQL")
    return ok("connections", said)


def _clock(now: datetime) -> Finding:
    apart = (datetime.now(UTC) - now).total_seconds()
    if abs(apart) > _CLOCK_TOLERANCE:
        return warning(
            "clock",
            f"this machine's clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'slower than'} the database's",
            "run a time service on both; order does not depend on it, but certificates, tokens and shown times do",
        )
    return ok("clock", "agrees with the database's")


def _look_at_file(path: Path) -> Iterator[Finding]:
    yield ok("database", f"SQLite, {path}, {path.stat().st_size / 1024**2:.1f} MiB")
    if os.name == "posix" and (mode := path.stat().st_mode & 0o077):
        yield warning("file rights", f"others may access the file (mode {mode:03o})", f"chmod 600 {path}")
    free = shutil.disk_usage(path.parent).free
    said = f"{free / 1024**3:.1f} GiB are free beside the file"
    if free < _LEAST_FREE:
        yield problem("disk", said, "free some: without it no event can be stored")
    else:
        yield ok("disk", said)
