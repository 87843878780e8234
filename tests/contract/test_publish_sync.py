"""`publish_sync`: what is published on a synchronous connection is part of its transaction, on both databases."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import django
import psycopg
import pytest
import sqlalchemy as sa
from django.conf import settings as django_settings
from django.db import connections as django_connections
from django.db import transaction as django_transaction
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker
from sqlmodel import Session as SqlModelSession

from gatecast import Action, Event, EventHub, RecordedEvent, publish_sync
from gatecast.errors import InvalidValue, SchemaMissing, StorageUnavailable, TransactionUnusable, UnknownGateway
from gatecast.storage.contract import ReadRequest
from gatecast.testing.contracts.backend import GATEWAY, make_event, make_events
from gatecast.testing.contracts.held_log import HeldLog

_numbers = itertools.count(1)

#: Opens a transaction that commits at the end of the block, unless it raises.
Opening = Callable[[str], Any]


class _Model(DeclarativeBase):
    pass


class _Route(_Model):
    __tablename__ = "routes"
    id: Mapped[str] = mapped_column(primary_key=True)


class _OwnSession(Session):
    """As applications derive theirs."""


# --- what a transaction can be opened with ----------------------------------------------------------------------------


@contextmanager
def _psycopg(url: str) -> Iterator[object]:
    with psycopg.connect(url) as connection:
        yield connection


@contextmanager
def _psycopg_autocommit(url: str) -> Iterator[object]:
    with psycopg.connect(url, autocommit=True) as connection, connection.transaction():
        yield connection


@contextmanager
def _sqlite3(url: str) -> Iterator[object]:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    try:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
    finally:
        connection.close()


@contextmanager
def _engine(url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    if url.startswith("sqlite"):
        # As SQLAlchemy's documentation says: the driver does not begin by itself.
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _sqlalchemy_connection(url: str) -> Iterator[object]:
    with _engine(url) as engine, engine.begin() as connection:
        yield connection


def _sqlalchemy_session(kind: type[Session]) -> Opening:
    @contextmanager
    def opening(url: str) -> Iterator[object]:
        with _engine(url) as engine, kind(engine) as session, session.begin():
            yield session

    return opening


@contextmanager
def _scoped_session(url: str) -> Iterator[object]:
    with _engine(url) as engine:
        scoped = scoped_session(sessionmaker(engine))
        with scoped.begin():
            yield scoped
        scoped.remove()


@contextmanager
def _django(url: str) -> Iterator[object]:
    alias = f"number-{next(_numbers)}"
    if not django_settings.configured:
        django_settings.configure(DATABASES={"default": {}}, USE_TZ=True)
        django.setup()
    if url.startswith("sqlite"):
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": url.removeprefix("sqlite:///")}
    else:
        parts = psycopg.conninfo.conninfo_to_dict(url)
        names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
        database = {"ENGINE": "django.db.backends.postgresql"} | {
            name: str(parts[part]) for name, part in names.items() if part in parts
        }
    django_connections.settings[alias] = django_connections.configure_settings({"default": {}, alias: database})[alias]
    try:
        with django_transaction.atomic(using=alias):
            yield django_connections[alias]
    finally:
        django_connections[alias].close()


_OPENINGS: dict[str, Opening] = {
    "psycopg": _psycopg,
    "psycopg, autocommit": _psycopg_autocommit,
    "sqlite3": _sqlite3,
    "connection of SQLAlchemy": _sqlalchemy_connection,
    "session of SQLAlchemy": _sqlalchemy_session(Session),
    "own session": _sqlalchemy_session(_OwnSession),
    "session of SQLModel": _sqlalchemy_session(SqlModelSession),
    "scoped session": _scoped_session,
    "Django": _django,
}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with one gateway."""
    found: str = (
        f"sqlite:///{tmp_path / 'gatecast.db'}"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    asyncio.run(_prepare(found))
    return found


async def _prepare(url: str) -> None:
    async with EventHub.open(url) as hub:
        await hub.register_gateway(GATEWAY)


def _openings(url: str) -> list[Opening]:
    left_out = "psycopg" if url.startswith("sqlite") else "sqlite3"
    return [opening for name, opening in _OPENINGS.items() if not name.startswith(left_out)]


def _log(url: str) -> list[RecordedEvent]:
    async def read() -> list[RecordedEvent]:
        async with EventHub.open(url) as hub:
            request = ReadRequest(gateway_id=GATEWAY, after=0, max_events=1_000, max_bytes=1_000_000)
            [result] = await hub.storage.log.read([request])
            assert result is not None
            return list(result.events)

    return asyncio.run(read())


class _CallerFailed(Exception):
    """The caller's own reason to give up."""


@contextmanager
def _rolled_back(opening: Opening, url: str) -> Iterator[object]:
    with suppress(_CallerFailed), opening(url) as connection:
        yield connection
        raise _CallerFailed


# --- what holds for all of them ---------------------------------------------------------------------------------------


def test_events_commit_with_the_transaction_or_not_at_all(url: str) -> None:
    """With their positions, several at once continuing each other, and known ids recognized."""
    published: list[Event] = []
    for opening in _openings(url):
        with _rolled_back(opening, url) as connection:
            publish_sync(make_events(2), connection)
        with opening(url) as connection:
            one, several = make_event(), make_events(2)
            first = publish_sync(one, connection)
            offsets = [position.offset for position in publish_sync([*several, one], connection)]
            assert first.offset == len(published) + 1
            assert offsets == [first.offset + 1, first.offset + 2, first.offset]
            assert publish_sync([], connection) == []
        published += [one, *several]
    log = _log(url)
    assert [(each.event_id, each.data) for each in log] == [(each.event_id, each.data) for each in published]
    assert [each.offset for each in log] == list(range(1, len(log) + 1))


def test_an_event_arrives_as_it_was_made(url: str) -> None:
    event = Event(
        gateway_id=GATEWAY,
        type="api.deployed",
        action=Action.REVOKE,
        entity_type="Ä 'quoted' %s $1",
        entity_id="{x}",
        data={"a": ["ü", 1.5, None, "%", "\\", "'"]},
        trace_parent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    for opening in _openings(url):
        for events in ([event], [event, make_event()]):
            with _rolled_back(opening, url) as connection:
                publish_sync(events, connection)
    with _openings(url)[-1](url) as connection:
        publish_sync([event, make_event()], connection)
    [arrived, _] = _log(url)
    for field in ("type", "action", "entity_type", "entity_id", "data", "originated_at", "trace_parent", "event_id"):
        assert getattr(arrived, field) == getattr(event, field)


def test_s17_an_unknown_gateway_leaves_the_transaction_usable(url: str) -> None:
    for opening in _openings(url):
        with opening(url) as connection:
            for events in ([make_event("nobody")], [make_event(), make_event("nobody")]):
                with pytest.raises(UnknownGateway, match="nobody"):
                    publish_sync(events, connection)
            publish_sync(make_event(), connection)
    assert len(_log(url)) == len(_openings(url))


def test_a_transaction_that_has_ended_carries_nothing(url: str) -> None:
    for opening in _openings(url):
        with opening(url) as connection:
            pass
        with pytest.raises(TransactionUnusable):
            publish_sync(make_event(), connection)
    assert _log(url) == []


def test_changes_of_a_session_are_written_before_the_log_is_held(url: str) -> None:
    """And a change that cannot be written keeps its event from being stored."""
    with _engine(url) as engine:
        _Model.metadata.create_all(engine)
        order: list[str] = []
        sa.event.listen(engine, "before_cursor_execute", lambda *args: order.append(args[2].split()[0]))
        with Session(engine) as session, session.begin():
            session.add(_Route(id="a"))
            order.clear()
            publish_sync(make_event(), session)
            assert "INSERT" in order
        with Session(engine) as session, session.begin():
            session.add(_Route(id="a"))
            with pytest.raises(sa.exc.IntegrityError):
                publish_sync(make_event(), session)
            session.rollback()
    assert len(_log(url)) == 1


def test_whatever_is_no_open_transaction_is_refused(url: str) -> None:
    with _engine(url) as engine, Session(engine) as session, engine.connect() as connection:
        for unusable in (session, connection, object(), "BEGIN", None, engine):
            with pytest.raises(TransactionUnusable):
                publish_sync(make_event(), unusable)
        assert not session.in_transaction()
    autocommit = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection, connection.begin(), pytest.raises(TransactionUnusable):
        publish_sync(make_event(), connection)
    autocommit.dispose()
    assert _log(url) == []


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def _registered(url: str) -> str:
    asyncio.run(_prepare(url))
    return url


@pytest.mark.parametrize("wrong", [None, 1, "x", [None], [make_event(), "x"]])
def test_what_is_no_event_is_refused_by_its_name(wrong: Any) -> None:  # noqa: ANN401 - anything
    with pytest.raises(InvalidValue, match="events must be an event"):
        publish_sync(wrong, object())


def test_what_is_published_wakes_the_pods(postgres_url: str) -> None:
    _registered(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as listener:
        listener.execute("LISTEN gatecast")
        with psycopg.connect(postgres_url) as connection:
            publish_sync(make_event(), connection)
        assert [each.payload for each in listener.notifies(timeout=10, stop_after=1)] == ['["gateway-1"]']


def test_rows_may_be_made_into_anything(postgres_url: str) -> None:
    """The factories and the pipeline of the caller's connection are its own business."""
    _registered(postgres_url)
    with psycopg.connect(postgres_url, row_factory=psycopg.rows.dict_row) as connection:
        assert publish_sync(make_event(), connection).offset == 1
        with connection.pipeline():
            assert [each.offset for each in publish_sync(make_events(2), connection)] == [2, 3]


def test_errors_of_the_driver_are_those_of_every_endpoint(postgres_url: str) -> None:
    _registered(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("DROP SCHEMA gatecast CASCADE")
        with pytest.raises(SchemaMissing):
            publish_sync(make_event(), connection)
        connection.rollback()
    with psycopg.connect(postgres_url) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        with pytest.raises(TransactionUnusable, match="roll it back"):
            publish_sync(make_event(), connection)
    with psycopg.connect(postgres_url) as connection:
        with psycopg.connect(postgres_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
        with pytest.raises(StorageUnavailable):
            publish_sync(make_event(), connection)


def test_s02_whoever_waits_for_a_log_in_vain_is_told(postgres_url: str) -> None:
    async def wait_in_vain() -> None:
        async with HeldLog.hold(postgres_url, GATEWAY):
            with psycopg.connect(postgres_url) as connection:
                connection.execute("SET lock_timeout = '50ms'")
                with pytest.raises(StorageUnavailable, match="LockNotAvailable"):
                    publish_sync(make_event(), connection)

    _registered(postgres_url)
    asyncio.run(wait_in_vain())


def test_each_kind_of_connection_is_told_its_method(postgres_url: str) -> None:
    _registered(postgres_url)

    async def try_both() -> None:
        async with EventHub.open(postgres_url) as hub:
            blocking = psycopg.connect(postgres_url)
            with pytest.raises(TransactionUnusable, match=r"gatecast\.publish_sync"):
                await hub.publish(make_event(), transaction=blocking)
            blocking.close()
            async with await psycopg.AsyncConnection.connect(postgres_url) as other:
                with pytest.raises(TransactionUnusable, match=r"await hub\.publish"):
                    publish_sync(make_event(), other)
                assert (await hub.publish(make_event(), transaction=other)).offset == 1
            third = await asyncpg.connect(postgres_url)
            with pytest.raises(TransactionUnusable, match=r"await hub\.publish"):
                publish_sync(make_event(), third)
            await third.close()

    asyncio.run(try_both())


def test_a_database_in_memory_is_refused() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("BEGIN")
    with pytest.raises(TransactionUnusable, match="in memory"):
        publish_sync(make_event(event_id=uuid4()), connection)
    connection.close()
