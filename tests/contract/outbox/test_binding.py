"""An outbox belongs to one log: nothing gets into another one by mistake."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from gatecast import EventHub
from gatecast.cli.move_log.moving import move
from gatecast.cli.move_log.places import opened_places
from gatecast.controlplane.migrations import MIGRATIONS as CONTROL_PLANE_MIGRATIONS
from gatecast.errors import DatabaseUnsuitable
from gatecast.outbox.binding import rebind
from gatecast.outbox.records import MIGRATIONS, Records
from gatecast.storage.connect import open_engine, open_storage, place_of
from gatecast.testing.contracts.backend import GATEWAY, OTHER_GATEWAY, ids_of, make_event, publish
from gatecast.testing.eventually import PATIENCE
from tests.contract.outbox.site import Opening, holds, ids
from tests.database_copies import NewDatabase


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.slow),
        pytest.param("jetstream", marks=pytest.mark.slow),
    ]
)
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A log in a database of its own, or on JetStream."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/log.db"
    return str(request.getfixturevalue("postgres_url" if request.param == "postgres" else "stream_url"))


@asynccontextmanager
async def _opened(log: str, outbox: str) -> AsyncIterator[EventHub]:
    async with asyncio.timeout(PATIENCE), EventHub.open(log, outbox=outbox) as hub:
        yield hub


async def _use(log: str, outbox: str) -> None:
    async with _opened(log, outbox) as hub:
        await hub.register_gateway(GATEWAY)
        await hub.publish(make_event())
        await hub.outbox.wait_until_empty()


@asynccontextmanager
async def _records(outbox: str) -> AsyncIterator[Records]:
    async with open_storage(outbox, extra_migrations=(MIGRATIONS,)) as opened:
        yield Records(opened.storage.database, opened.backend)


async def test_an_outbox_is_refused_with_another_log(log_url: str, outbox_url: str, tmp_path: Path) -> None:
    """Also if that log is empty; the error names both. With its own log it goes on, also in a later history."""
    await _use(log_url, outbox_url)
    other = f"sqlite:///{tmp_path}/mistyped.db"
    with pytest.raises(DatabaseUnsuitable, match="gatecast outbox bind") as refused:
        async with _opened(other, outbox_url):
            pass
    async with open_engine(log_url) as opened, open_engine(other) as mistyped:
        for one, url in ((opened, log_url), (mistyped, other)):
            assert f"{await one.engine.log.identity()} ({place_of(url)})" in str(refused.value)
        assert not (await mistyped.engine.log.changed_since(0)).heads
        await opened.engine.log.renew_epoch((await opened.engine.log.changed_since(0)).epoch)
    await _use(log_url, outbox_url)


async def test_an_outbox_that_was_used_before_it_was_bound_is_bound_to_no_empty_log(
    log_url: str, outbox_url: str, tmp_path: Path
) -> None:
    """An earlier release has recorded in which history it forwarded."""
    await _use(log_url, outbox_url)
    await _unbind(outbox_url)
    with pytest.raises(DatabaseUnsuitable, match=r"has forwarded into a log of the epoch .*outbox bind"):
        async with _opened(f"sqlite:///{tmp_path}/mistyped.db", outbox_url):
            pass
    await _use(log_url, outbox_url)
    async with _records(outbox_url) as records:
        assert (await records.forwarder()).log_place == place_of(log_url)


async def test_an_outbox_that_was_used_before_it_was_bound_belongs_to_its_log_in_a_later_history(
    log_url: str, outbox_url: str
) -> None:
    """What it has recorded is the epoch of the first one."""
    await _use(log_url, outbox_url)
    await _unbind(outbox_url)
    async with open_engine(log_url) as opened:
        await opened.engine.log.renew_epoch((await opened.engine.log.changed_since(0)).epoch)
    await _use(log_url, outbox_url)


async def _unbind(outbox: str) -> None:
    async with open_storage(outbox, extra_migrations=(MIGRATIONS,)) as opened:
        await opened.storage.database.execute("UPDATE gatecast_outbox_forwarder SET log = '', log_place = ''")


async def test_of_two_processes_that_open_an_outbox_with_two_logs_one_is_refused(
    outbox_url: str, tmp_path: Path
) -> None:
    """At the same time, and nothing is bound yet."""
    async with open_storage(outbox_url, extra_migrations=(MIGRATIONS,)) as opened:
        await opened.storage.database.migrate()
    results = await asyncio.gather(
        *(_use(f"sqlite:///{tmp_path}/log-{number}.db", outbox_url) for number in range(2)), return_exceptions=True
    )
    assert [type(each) for each in results if each is not None] == [DatabaseUnsuitable]


async def test_an_outbox_that_is_bound_anew_forwards_into_the_other_log(
    log_url: str, outbox_url: str, tmp_path: Path
) -> None:
    """Its gateways are registered there; what was forwarded before stays where it is."""
    await _use(log_url, outbox_url)
    other = f"sqlite:///{tmp_path}/other.db"
    async with open_storage(other) as opened, _records(outbox_url) as records:
        await opened.storage.database.migrate()
        log = opened.storage.log
        assert await rebind(records, log, place_of(other)) == str(await log.identity())
        assert await rebind(records, log, place_of(other)) == str(await log.identity())
    with pytest.raises(DatabaseUnsuitable):
        await _use(log_url, outbox_url)
    async with _opened(other, outbox_url) as hub:
        event = make_event()
        await hub.publish(event)
        await hub.outbox.wait_until_empty()
        assert await ids_of(hub.engine) == [event.event_id]


async def test_what_was_forwarded_into_the_log_of_before_can_be_published_into_the_next(
    log_url: str, outbox_url: str, tmp_path: Path
) -> None:
    """Under its id, which is known again from then on; what waits is forwarded once."""
    before, waits, other = make_event(), make_event(), f"sqlite:///{tmp_path}/other.db"
    async with _opened(log_url, outbox_url) as hub:
        await hub.register_gateway(GATEWAY)
        await hub.publish(before)
        await hub.outbox.wait_until_empty()
    async with open_storage(outbox_url, extra_migrations=(MIGRATIONS,)) as opened:
        await publish(opened.storage, waits)
        async with open_storage(other) as next_log:
            await next_log.storage.database.migrate()
            await rebind(Records(opened.storage.database, opened.backend), next_log.storage.log, place_of(other))
    async with _opened(other, outbox_url) as hub:
        for _ in range(2):
            async with hub.database.transaction() as transaction:
                await hub.publish([waits, before], transaction=transaction)
        await hub.outbox.wait_until_empty()
        assert await ids_of(hub.engine) == [waits.event_id, before.event_id]


async def test_a_process_with_the_log_of_before_forwards_no_more(opening: Opening) -> None:
    """Neither in the term that it has, nor in another one; and it says why."""
    async with opening() as site:
        forwarder = site.forwarder()
        await forwarder.forward()
        assert await site.records.rebind("", "another-log", "nats://host/EVENTS")
        event = make_event()
        await site.store(event)
        await forwarder.forward()
        assert not holds(forwarder)
        with pytest.raises(DatabaseUnsuitable, match=r"another log now, another-log \(nats://host/EVENTS\)"):
            await forwarder.forward()
        assert ids([event]) != await site.ids()


async def test_a_log_that_was_made_anew_under_a_running_process_gets_nothing(opening: Opening) -> None:
    """As when its stream was deleted, and another pod has opened the URL since."""
    async with opening() as site:
        await site.records.bind("the-log-of-before", "")
        forwarder = site.forwarder(bound_to="the-log-of-before")
        with pytest.raises(DatabaseUnsuitable, match="the log the-log-of-before of the outbox is gone"):
            await forwarder.forward()
        assert not (await site.engine.log.changed_since(0)).heads


@pytest.fixture
def empty_log_url(new_postgres_database: NewDatabase) -> Iterator[str]:
    """A PostgreSQL database besides that of the outbox."""
    with new_postgres_database("template1") as url:
        yield url


@pytest.mark.slow
async def test_an_outbox_goes_on_with_a_log_that_was_moved(outbox_url: str, empty_log_url: str, tmp_path: Path) -> None:
    """Open it with the new URL: it is the same log."""
    old, new = f"sqlite:///{tmp_path}/log.db", empty_log_url
    async with open_storage(old, extra_migrations=CONTROL_PLANE_MIGRATIONS) as opened:
        await opened.storage.database.migrate()
    await _use(old, outbox_url)
    async with opened_places(old, new) as places:
        await move(*places)
    async with _opened(new, outbox_url) as hub:
        event = make_event()
        await hub.publish(event)
        await hub.register_gateway(OTHER_GATEWAY)
        await hub.outbox.wait_until_empty()
        assert (await ids_of(hub.engine))[1:] == [event.event_id]


def test_a_place_shows_no_secret(tmp_path: Path) -> None:
    """Nor a user or a parameter."""
    assert place_of("postgresql://u:a-secret@one:1,two:2/name?sslpassword=a-secret") == "postgresql://one:1,two:2/name"
    assert place_of("nats://u:a-secret@one:1,u:a-secret@two/S?replicas=1") == "nats://one:1,two/S"
    assert place_of("nats://one") == "nats://one/GATECAST"
    assert place_of(f"sqlite:///{tmp_path}/a.db") == f"sqlite:///{tmp_path}/a.db"
    assert place_of("postgresql+embedded:////folder") == "postgresql+embedded:////folder"


async def test_an_outbox_of_an_earlier_release_is_upgraded_in_place(tmp_path: Path) -> None:
    """What it has recorded stays."""
    outbox, log = f"sqlite:///{tmp_path}/application.db", f"sqlite:///{tmp_path}/log.db"
    await _use(log, outbox)
    with closing(sqlite3.connect(tmp_path / "application.db")) as connection, connection:
        for column in ("log", "log_place"):
            connection.execute(f"ALTER TABLE gatecast_outbox_forwarder DROP COLUMN {column}")
        connection.execute("DELETE FROM gatecast_schema_migrations WHERE number = 2002")
    async with open_storage(outbox, extra_migrations=(MIGRATIONS,)) as opened:
        assert list(await opened.storage.database.migrate()) == [2002]
    await _use(log, outbox)
    async with open_storage(log) as opened:
        assert len(await ids_of(opened.storage)) == 2
