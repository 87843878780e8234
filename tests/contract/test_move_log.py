"""`gatecast move-log`: everything that a file of SQLite holds goes on in PostgreSQL, and nobody resynchronizes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
import typer

from gatecast.cli.main import app
from gatecast.cli.move_log.moving import Moved, MoveUncertain, move, undo
from gatecast.cli.move_log.places import opened_places
from gatecast.cli.move_log.source import FileSource, Source
from gatecast.cli.move_log.target import Target
from gatecast.cli.move_log.to_database import DatabaseTarget
from gatecast.controlplane.migrations import MIGRATIONS
from gatecast.errors import DatabaseUnsuitable, StorageUnavailable
from gatecast.events import Position
from gatecast.server.pod import Pod
from gatecast.settings import Settings
from gatecast.storage.connect import open_storage
from gatecast.storage.contract import Connection, Outcome, OutcomeKind, Progress, Storage
from gatecast.storage.moved import Blocking
from gatecast.storage.postgres.database import PostgresDatabase
from gatecast.testing.contracts.backend import make_event, publish
from gatecast.testing.doubles.recording_gateway import RecordingGateway
from gatecast.testing.eventually import eventually
from gatecast.testing.operator import Operator, Refused
from gatecast.testing.processes.deployment import address_of
from gatecast.testing.tcp_proxy import TcpProxy
from tests.database_copies import NewDatabase

_TOKEN = "an-admin-token-for-tests"
_EVENT = {"type": "route.changed", "action": "UPDATE", "entityType": "Route", "entityId": "1", "data": {}}
_PROVIDER = {
    "name": "Demo",
    "template": "openai",
    "upstream": {
        "url": "https://upstream.example.test/v1",
        "auth": {"type": "api-key", "header": "Authorization", "value": "Bearer a-credential"},
    },
}
_DUMP = Path(__file__).parent / "upgrades" / "sqlite.sql"

#: What is not moved: each database has its own.
_STAY = {"gatecast_schema_migrations", "gatecast_pods", "gatecast_connections", "gatecast_epoch"}


async def _move(old: str, new: str) -> Moved:
    async with opened_places(old, new) as places:
        return await move(*places)


async def _undo(old: str, new: str) -> bool:
    async with opened_places(old, new, undo=True) as places:
        return await undo(*places)


def _path(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


# --- everything arrives -----------------------------------------------------------------------------------------------


@pytest.fixture
def used(tmp_path: Path) -> str:
    """A file that an earlier release made and filled; this one has migrated and used it since."""
    file = tmp_path / "used.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(_DUMP.read_text())
    return f"sqlite:///{file}"


async def _use(storage: Storage) -> None:
    """Something in every table of the log, with values at the edges of their types."""
    await storage.log.register("used-1")
    await storage.log.register("gone")
    await storage.log.forget("gone")
    edge = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    for moment in edge:
        await publish(storage, replace(make_event("used-1", text="é\U0001f600\u2028\n"), originated_at=moment))
    await storage.presence.renew_lease("pod-1", timedelta(minutes=1))
    connection = Connection(
        connection_id="c-1", gateway_id="used-1", replica="", pod_id="pod-1", protocol="v2", remote="", token_id=None
    )
    epoch = (await storage.log.changed_since(0)).epoch
    await storage.presence.connect(connection, start=Position(epoch, 0))
    progress = Progress(connection_id="c-1", gateway_id="used-1", replica="", epoch=epoch, sent=2, confirmed=1)
    await storage.presence.record_progress([progress])
    rejected = Outcome(gateway_id="used-1", replica="", offset=1, kind=OutcomeKind.REJECTED, reason="no \U0001f600")
    await storage.outcomes.record([rejected])


def _rows_of_file(path: Path) -> dict[str, list[dict[str, Any]]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: [dict(row) for row in connection.execute(f'SELECT * FROM "{name}"')]
            for name in names
            if name not in _STAY and name.startswith("gatecast_")
        }


def _as_in_file(value: object) -> object:
    """A value of PostgreSQL as SQLite keeps it."""
    match value:
        case bool():
            return int(value)
        case UUID():
            return str(value)
        case datetime():
            return value.astimezone(UTC).isoformat(" ", "microseconds")
        case _:
            return value


async def _rows_of_server(connection: asyncpg.Connection[Any], name: str) -> list[dict[str, Any]]:
    for table in (name, name.replace("gatecast_", "gatecast.", 1)):
        if await connection.fetchval("SELECT to_regclass($1)", table):
            rows = await connection.fetch(f"SELECT * FROM {table}")
            return [{column: _as_in_file(value) for column, value in row.items()} for row in rows]
    raise AssertionError(f"there is no table {name}")


def _comparable(rows: list[dict[str, Any]], columns: set[str]) -> list[str]:
    return sorted(repr({column: row[column] for column in sorted(columns)}) for row in rows)


async def test_every_row_arrives_as_it_was(used: str, empty_postgres_url: str) -> None:
    async with open_storage(used, extra_migrations=MIGRATIONS) as opened:
        await opened.storage.database.migrate()
        await _use(opened.storage)
    moved = await _move(used, empty_postgres_url)

    before = _rows_of_file(_path(used))
    filled = {name for name, rows in before.items() if rows}
    assert {"gatecast_events", "gatecast_cursors", "gatecast_outcomes", "gatecast_forgotten_logs"} <= filled
    connection = await asyncpg.connect(empty_postgres_url)
    for name, rows in before.items():
        after = await _rows_of_server(connection, name)
        columns = set(rows[0]) & set(after[0]) if rows and after else set()
        assert set(rows[0] if rows else ()) - columns <= {"changed_seq", "trimmed_seq"}, name
        assert _comparable(after, columns) == _comparable(rows, columns), name
    await connection.close()
    assert sum(moved.rows.values()) == sum(map(len, before.values()))


# --- pods, publishers and gateways ------------------------------------------------------------------------------------


def _settings(url: str) -> Settings:
    return Settings(
        database=url,
        api_listen="127.0.0.1:0",
        gateway_listen="127.0.0.1:0",
        gateway_tls="off",
        admin_token=_TOKEN,
        secret_key=b64encode(bytes(32)).decode(),
        drain_time=timedelta(seconds=4),
        migrate="always",
    )


@asynccontextmanager
async def _pod(url: str) -> AsyncIterator[tuple[Pod, Operator]]:
    async with Pod.open(_settings(url)) as pod, Operator(pod.api_url, _TOKEN) as operator:
        pod.hurried.set()  # when it stops, which nobody watches
        yield pod, operator


async def _publish_until_refused(operator: Operator, gateway_id: str) -> Mapping[int, str]:
    """Event ids by offset, as accepted."""
    accepted: dict[int, str] = {}
    while True:
        try:
            published = await operator.ask("POST", f"/gateways/{gateway_id}/events", _EVENT)
        except Refused as refused:
            status = refused.status
            break
        accepted[published["offset"]] = published["eventId"]
    assert status == httpx.codes.SERVICE_UNAVAILABLE
    return accepted


async def test_gateways_go_on_where_they_were_while_pods_publish(sqlite_url: str, empty_postgres_url: str) -> None:
    """What was accepted is there, exactly; nobody resynchronizes; the control plane knows what it knew."""
    async with AsyncExitStack() as stack:
        old, operator = await stack.enter_async_context(_pod(sqlite_url))
        access = await operator.create_gateway("edge")
        provider = await operator.ask("POST", "/llm-providers", _PROVIDER)
        await operator.ask("POST", f"/llm-providers/{provider['id']}/deployments", {"gatewayId": access.id})
        way = await stack.enter_async_context(TcpProxy(address_of(old.gateway_url)))
        recorder = RecordingGateway(f"http://{way.address}", access.token)
        await stack.enter_async_context(recorder)
        publishing = asyncio.create_task(_publish_until_refused(operator, access.id))
        await recorder.until(5)

        moved = await _move(sqlite_url, empty_postgres_url)
        accepted = await publishing
        assert max(accepted) == moved.rows["gatecast.events"]
        async with httpx.AsyncClient() as http:
            await eventually(lambda: _is_unready(http, old.api_url))
        await recorder.until(max(accepted))

        new, operator = await stack.enter_async_context(_pod(empty_postgres_url))
        way.retarget(address_of(new.gateway_url))
        published = await operator.ask("POST", f"/gateways/{access.id}/events", {**_EVENT, "eventId": str(uuid4())})
        assert published["offset"] == max(accepted) + 1
        await recorder.until(published["offset"])
        received = dict(recorder.received)
        assert sorted(received) == list(range(1, published["offset"] + 1))
        assert {offset: received[offset] for offset in accepted} == accepted
        assert recorder.resyncs == []
        repeated = await operator.ask("POST", f"/gateways/{access.id}/events", {**_EVENT, "eventId": accepted[5]})
        assert repeated["offset"] == 5
        shown = await operator.ask("GET", f"/llm-providers/{provider['id']}")
        assert (shown["name"], shown["context"]) == (provider["name"], provider["context"])
        assert (await operator.create_gateway("another")).id


async def _is_unready(http: httpx.AsyncClient, api: str) -> bool:
    answer = await http.get(f"{api}/readyz")
    return answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "lease" in answer.text


def test_the_command_says_what_it_did(
    sqlite_url: str, empty_postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(_takes_events(sqlite_url))
    command = typer.main.get_command(app)
    arguments = ["move-log", f"--database={sqlite_url}", f"--to={empty_postgres_url}"]
    command.main([*arguments, "--undo"], standalone_mode=False)
    assert "nothing to undo" in capsys.readouterr().out
    command.main(arguments, standalone_mode=False)
    assert "moved 1 events of 1 logs" in capsys.readouterr().out
    command.main([*arguments, "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["rows"] == {}


# --- what is refused --------------------------------------------------------------------------------------------------


async def test_a_database_in_use_is_refused_and_nobody_has_to_wait(sqlite_url: str, postgres_url: str) -> None:
    async with open_storage(postgres_url, extra_migrations=MIGRATIONS) as target:
        await target.storage.presence.renew_lease("pod-x", timedelta(minutes=1))
        with pytest.raises(DatabaseUnsuitable, match="pods run on the new database: pod-x"):
            await _move(sqlite_url, postgres_url)
        await target.storage.presence.end_lease("pod-x")
        await target.storage.log.register("somebody")
    with pytest.raises(DatabaseUnsuitable, match="rows in gatecast"):
        await _move(sqlite_url, postgres_url)
    await _takes_events(sqlite_url)


async def test_the_wrong_way_round_is_refused(sqlite_url: str, postgres_url: str) -> None:
    with pytest.raises(DatabaseUnsuitable, match="the new database is not PostgreSQL"):
        await _move(sqlite_url, sqlite_url)
    with pytest.raises(DatabaseUnsuitable, match="not in an SQLite file"):
        await _move(postgres_url, postgres_url)


async def test_a_file_of_an_older_release_is_refused(used: str, empty_postgres_url: str) -> None:
    with pytest.raises(DatabaseUnsuitable, match="gatecast migrate"):
        await _move(used, empty_postgres_url)


async def test_what_has_no_place_in_the_new_database_is_refused(sqlite_url: str, empty_postgres_url: str) -> None:
    """A column of a newer release would be lost without a word."""
    with closing(sqlite3.connect(_path(sqlite_url))) as connection:
        connection.execute("ALTER TABLE gatecast_gateways ADD COLUMN colour TEXT")
    with pytest.raises(DatabaseUnsuitable, match="gatecast_gateways has columns that are unknown here: colour"):
        await _move(sqlite_url, empty_postgres_url)
    await _takes_events(sqlite_url)


async def _takes_events(url: str) -> None:
    async with open_storage(url, extra_migrations=MIGRATIONS) as opened:
        await opened.storage.log.register("after")
        assert await publish(opened.storage, make_event("after"))


# --- interruptions ----------------------------------------------------------------------------------------------------


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[type, str], None]:
    """Makes a step of the move fail."""

    def fail(holder: type, step: str) -> None:
        async def failed(*_: object) -> None:
            raise StorageUnavailable("a test cuts the wire")

        monkeypatch.setattr(holder, step, failed)

    return fail


async def test_a_move_that_fails_leaves_everything_as_it_was(
    sqlite_url: str, empty_postgres_url: str, failing: Callable[[type, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    await _takes_events(sqlite_url)
    failing(Target, "adopt")
    with pytest.raises(StorageUnavailable, match="a test cuts the wire"):
        await _move(sqlite_url, empty_postgres_url)
    await _takes_events(sqlite_url)
    monkeypatch.undo()
    assert (await _move(sqlite_url, empty_postgres_url)).rows["gatecast.events"] == 2


async def test_a_move_that_is_cancelled_leaves_everything_as_it_was(
    sqlite_url: str, empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying = asyncio.Event()

    async def wait(*_: object) -> None:
        copying.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Target, "adopt", wait)
    moving_now = asyncio.create_task(_move(sqlite_url, empty_postgres_url))
    await copying.wait()
    moving_now.cancel()
    with pytest.raises(asyncio.CancelledError):
        await moving_now
    await _takes_events(sqlite_url)


async def test_a_process_that_was_killed_is_repeated_or_undone(sqlite_url: str, empty_postgres_url: str) -> None:
    """The process that blocked the file is gone; nothing has arrived."""
    await _die_after_blocking(sqlite_url, empty_postgres_url)
    with pytest.raises(StorageUnavailable, match="moved to another database"):
        await _takes_events(sqlite_url)
    assert await _undo(sqlite_url, empty_postgres_url) is True
    assert await _undo(sqlite_url, empty_postgres_url) is False
    await _takes_events(sqlite_url)
    await _die_after_blocking(sqlite_url, empty_postgres_url)
    assert (await _move(sqlite_url, empty_postgres_url)).rows["gatecast.events"] == 1


async def _die_after_blocking(old: str, new: str) -> None:
    async with open_storage(new, extra_migrations=MIGRATIONS) as target:
        database = target.storage.database
        assert isinstance(database, PostgresDatabase)
        await database.migrate()
        async with Target.open(database) as opened:
            there = await opened.name(None)
    with FileSource.open(_path(old)) as source:
        await source.block(Blocking(target=there, run=uuid4()))


@pytest.mark.parametrize("end", [_move, _undo])
async def test_a_move_that_an_earlier_release_began_is_repeated_or_undone(
    sqlite_url: str, empty_postgres_url: str, end: Callable[[str, str], Any]
) -> None:
    """It has named the new database by its epoch."""
    await _takes_events(sqlite_url)
    await _begin_as_before(sqlite_url, empty_postgres_url)
    assert await end(sqlite_url, empty_postgres_url)
    await _takes_events(sqlite_url if end is _undo else empty_postgres_url)


async def test_a_move_that_an_earlier_release_began_on_a_file_of_its_own_is_undone(
    sqlite_url: str, empty_postgres_url: str
) -> None:
    """The file cannot be migrated before; the error says so."""
    with closing(sqlite3.connect(_path(sqlite_url))) as connection, connection:
        connection.execute("DELETE FROM gatecast_schema_migrations WHERE number = 29")
    await _begin_as_before(sqlite_url, empty_postgres_url)
    with pytest.raises(DatabaseUnsuitable, match="--undo and run `gatecast migrate`"):
        await _move(sqlite_url, empty_postgres_url)
    assert await _undo(sqlite_url, empty_postgres_url) is True


async def _begin_as_before(old: str, new: str) -> None:
    async with open_storage(new, extra_migrations=MIGRATIONS) as target:
        await target.storage.database.migrate()
        epoch = (await target.storage.log.changed_since(0)).epoch
    with FileSource.open(_path(old)) as source:
        await source.block(Blocking(target=epoch, run=uuid4()))


async def test_a_file_is_moved_to_one_database_only(
    sqlite_url: str, empty_postgres_url: str, postgres_url: str
) -> None:
    """In two, the same history would go on, and gateways could not tell them apart; nor does it go on in the file."""
    await _move(sqlite_url, empty_postgres_url)
    for again in (_move, _undo):
        with pytest.raises(DatabaseUnsuitable, match="moved to another database"):
            await again(sqlite_url, postgres_url)
    with pytest.raises(DatabaseUnsuitable, match="the log has arrived"):
        await _undo(sqlite_url, empty_postgres_url)


async def test_a_copy_of_the_new_database_is_another_one(
    sqlite_url: str, new_postgres_database: NewDatabase, postgres_template: str
) -> None:
    """Both were made from one template, and began with the same epoch."""
    with new_postgres_database(postgres_template) as one, new_postgres_database(postgres_template) as other:
        await _die_after_blocking(sqlite_url, one)
        for again in (_move, _undo):
            with pytest.raises(DatabaseUnsuitable, match="moved to another database"):
                await again(sqlite_url, other)
        await _move(sqlite_url, one)
        with pytest.raises(DatabaseUnsuitable, match="moved to another database"):
            await _move(sqlite_url, other)


async def test_a_commit_whose_answer_is_lost_is_found_out(
    sqlite_url: str, empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the new database can be asked, nobody writes to the file: an event would be lost."""
    await _takes_events(sqlite_url)
    take, epoch = DatabaseTarget.take, Target.epoch

    async def lost(target: DatabaseTarget, source: Source, blocking: Blocking) -> dict[str, int]:
        await take(target, source, blocking)
        monkeypatch.setattr(Target, "epoch", nobody_answers)
        raise StorageUnavailable("a test loses the answer")

    async def nobody_answers(*_: object) -> UUID:
        raise StorageUnavailable("a test cuts the wire")

    monkeypatch.setattr(DatabaseTarget, "take", lost)
    with pytest.raises(MoveUncertain, match="repeat the command"):
        await _move(sqlite_url, empty_postgres_url)
    with pytest.raises(StorageUnavailable, match="moved to another database"):
        await _takes_events(sqlite_url)
    monkeypatch.setattr(Target, "epoch", epoch)
    with pytest.raises(DatabaseUnsuitable, match="the log has arrived"):
        await _undo(sqlite_url, empty_postgres_url)
    assert (await _move(sqlite_url, empty_postgres_url)).rows == {}
    await _takes_events(empty_postgres_url)


async def test_a_copy_that_was_not_used_is_not_overwritten_by_a_later_one(
    sqlite_url: str, empty_postgres_url: str
) -> None:
    """The file was put into use again; its later events are not there."""
    await _move(sqlite_url, empty_postgres_url)
    with FileSource.open(_path(sqlite_url)) as source:
        blocking = await source.blocking()
        assert blocking is not None
        await source.unblock(blocking.run)
    with pytest.raises(DatabaseUnsuitable, match="it has a copy of this log"):
        await _move(sqlite_url, empty_postgres_url)


# --- two at once ------------------------------------------------------------------------------------------------------


async def _each(*moves: tuple[str, str]) -> list[Moved | BaseException]:
    """How these moves end, each in a thread of its own, as in a process of its own."""
    runs = (asyncio.to_thread(asyncio.run, _move(*move_)) for move_ in moves)
    return await asyncio.gather(*runs, return_exceptions=True)


async def test_of_two_moves_at_once_one_moves_everything(sqlite_url: str, empty_postgres_url: str) -> None:
    """The second is refused, or finds that everything was moved; the log is there once, and goes on there alone."""
    await _takes_events(sqlite_url)
    results = await _each(*[(sqlite_url, empty_postgres_url)] * 2)
    moved = [each for each in results if isinstance(each, Moved)]
    assert [each.rows["gatecast.events"] for each in moved if each.rows] == [1]
    assert {type(each) for each in results} <= {Moved, DatabaseUnsuitable}
    with pytest.raises(StorageUnavailable, match="moved to another database"):
        await _takes_events(sqlite_url)
    assert (await _move(sqlite_url, empty_postgres_url)).rows == {}
    await _takes_events(empty_postgres_url)


async def test_a_move_that_waits_for_another_one_finds_that_everything_was_moved(
    sqlite_url: str, empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked before that had committed; what it finds under the lock is no stranger's log."""
    await _takes_events(sqlite_url)
    take, ready = DatabaseTarget.take, [asyncio.Event(), asyncio.Event()]
    waiting = iter(ready)

    async def take_together(target: DatabaseTarget, source: Source, blocking: Blocking) -> dict[str, int]:
        next(waiting).set()
        await ready[1].wait()
        return await take(target, source, blocking)

    monkeypatch.setattr(DatabaseTarget, "take", take_together)
    first = asyncio.create_task(_move(sqlite_url, empty_postgres_url))
    await ready[0].wait()
    results = await asyncio.gather(first, _move(sqlite_url, empty_postgres_url))
    assert sorted(each.rows.get("gatecast.events", 0) for each in results) == [0, 1]
    assert results[0].epoch == results[1].epoch


async def test_of_two_moves_to_two_databases_at_once_one_is_refused(
    sqlite_url: str, empty_postgres_url: str, postgres_url: str
) -> None:
    """Its database is as it was, and nothing goes on in the file."""
    await _takes_events(sqlite_url)
    results = await _each((sqlite_url, empty_postgres_url), (sqlite_url, postgres_url))
    [moved] = [each for each in results if isinstance(each, Moved)]
    [refused] = [each for each in results if not isinstance(each, Moved)]
    assert isinstance(refused, DatabaseUnsuitable)
    here, there = (empty_postgres_url, postgres_url) if results[0] is moved else (postgres_url, empty_postgres_url)
    async with open_storage(there, extra_migrations=MIGRATIONS) as other:
        changes = await other.storage.log.changed_since(0)
        assert (changes.epoch != moved.epoch, changes.heads) == (True, {})
    await _takes_events(here)
    with pytest.raises(StorageUnavailable, match="moved to another database"):
        await _takes_events(sqlite_url)
