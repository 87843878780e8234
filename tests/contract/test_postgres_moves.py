"""A database that is dumped and restored, recovered to a point in time, or upgraded: its history is recognised.

What may have lost something begins a new epoch. Where the operator says that nothing was lost, nobody resynchronizes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import pytest

from gatecast import EventHub, Settings
from gatecast.storage.contract import Verdict
from gatecast.storage.postgres import PostgresStorage
from gatecast.testing.contracts.backend import GATEWAY, make_events
from gatecast.testing.eventually import eventually
from gatecast.testing.postgres_server import PostgresServer

pytestmark = pytest.mark.slow

_KEPT = 3


@dataclass(frozen=True)
class _Found:
    """What a subscriber finds that had handled everything."""

    epoch: UUID
    #: Why it had to resynchronize; None: it had not.
    resync: str | None
    #: Offsets that came, up to one that was published now.
    offsets: list[int]


async def _write(url: str, count: int) -> UUID:
    """Publish events, of which a subscriber handles each; the epoch."""
    async with EventHub.open(settings=Settings(database=url, pod_id="before", migrate="always")) as hub:
        await hub.register_gateway(GATEWAY)
        last = (await hub.publish(make_events(count)))[-1]
        async with hub.subscribe(GATEWAY) as subscription:
            async for event in subscription:
                subscription.acknowledge(event)
                if event.offset == last.offset:
                    break
        await hub.unsubscribe_all()
        return last.epoch


async def _resume(url: str) -> _Found:
    """Publish one more, and receive everything up to it."""
    async with EventHub.open(settings=Settings(database=url, pod_id="after", migrate="always")) as hub:
        # By then it knows which history it has found.
        await eventually(lambda: _has_looked(hub))
        async with hub.subscribe(GATEWAY) as subscription:
            resync = subscription.resync_reason
            if resync is not None:
                await subscription.resynchronized()
            last = await hub.publish(make_events(1)[0])
            offsets = []
            async for event in subscription:
                offsets.append(event.offset)
                subscription.acknowledge(event)
                if event.offset == last.offset:
                    break
        return _Found(last.epoch, resync, offsets)


async def _has_looked(hub: EventHub) -> bool:
    return hub.delivery.reader.last_sweep is not None


async def _keep(url: str, epoch: UUID) -> None:
    """What `gatecast epoch keep` does."""
    async with PostgresStorage.open(url) as storage:
        assert not (await storage.log.changed_since(0)).settled
        assert await storage.log.record_history(epoch, Verdict.KEEP) == epoch


def _is_new(found: _Found, before: UUID, kept: int = _KEPT) -> bool:
    """Whether the subscriber was told, and got the whole log of a new history."""
    return (found.epoch != before, found.resync, found.offsets) == (True, "epoch", list(range(1, kept + 2)))


def _goes_on(found: _Found, before: UUID, kept: int = _KEPT) -> bool:
    """Whether nobody noticed anything."""
    return (found.epoch, found.resync, found.offsets) == (before, None, [kept + 1])


@pytest.fixture(scope="module")
def older() -> Iterator[PostgresServer]:
    """A server of the oldest version that the package carries, whose pages have checksums, as those of 18 do."""
    with PostgresServer(version=16, fsync="off") as server:
        server.stop()
        server.run("pg_checksums", "--enable", "--no-sync", "-D", str(server.folder))
        server.start()
        yield server


@pytest.fixture(scope="module")
def newer() -> Iterator[PostgresServer]:
    """A server of the newest version."""
    with PostgresServer(version=18, fsync="off") as server:
        yield server


# --- dump and restore -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "keep"), [(0, False), (2, False), (0, True)])
async def test_s20_a_dump_that_is_restored_in_a_newer_cluster(
    older: PostgresServer,
    newer: PostgresServer,
    lost: int,
    keep: bool,  # noqa: FBT001 - a case
) -> None:
    """Its transaction ids have nothing to do with those of the dump, and nobody knows what came after that."""
    name = f"dumped_{lost}_{keep}".lower()
    for server in (older, newer):
        await server.create_database(name)
    before = await _write(older.url(name), _KEPT)
    dump = await asyncio.to_thread(older.run, "pg_dump", "-Fc", "-d", older.url(name))
    if lost:
        await _write(older.url(name), lost)
    await asyncio.to_thread(newer.run, "pg_restore", "--exit-on-error", "-d", newer.url(name), text=dump)
    if keep:
        await _keep(newer.url(name), before)
    found = await _resume(newer.url(name))
    assert _goes_on(found, before) if keep else _is_new(found, before)
    await older.execute(f"DROP DATABASE {name}")


# --- point-in-time recovery -------------------------------------------------------------------------------------------


async def _archived(server: PostgresServer) -> None:
    """Return when everything that is committed by now is in the archive."""
    segment = await server.fetch_value("SELECT pg_walfile_name(pg_switch_wal())")
    newest = f"SELECT coalesce(last_archived_wal >= '{segment}', false) FROM pg_stat_archiver"
    await eventually(lambda: server.fetch_value(newest))


@asynccontextmanager
async def _recovered(server: PostgresServer, **target: str) -> AsyncIterator[str]:
    """The URL of a server that was recovered, and takes writes."""
    restore = f"cp {server.folder}/archive/%f %p"
    with server.recovered(fsync="off", restore_command=restore, recovery_target_action="promote", **target) as copy:
        await eventually(lambda: copy.fetch_value("SELECT NOT pg_is_in_recovery()"))
        yield copy.url()


#: As a pod records it that finds `synchronous_standby_names` set.
_COMMITS_WAIT = "UPDATE gatecast.epoch SET synchronous = true, written_by = pg_current_xact_id()"


async def test_s20_a_recovery_to_a_point_in_time_is_no_failover() -> None:
    """It begins the next timeline of the same cluster, as a promoted standby does, which commits had waited for.

    To a point, or to the end of the archive: what is missing cannot be known from what is there.
    """
    archive = "test ! -d archive || cp %p archive/%f"
    with PostgresServer(fsync="off", archive_mode="on", archive_command=archive) as server:
        server.make_folder(server.folder / "archive")
        before = await _write(server.url(), _KEPT)
        await server.execute(_COMMITS_WAIT)
        await asyncio.to_thread(server.back_up)
        await server.execute("SELECT pg_create_restore_point('here')")
        assert await _write(server.url(), 2) == before
        await server.execute(_COMMITS_WAIT)
        await _archived(server)
        async with _recovered(server, recovery_target_name="here") as url:
            assert _is_new(await _resume(url), before)
        async with _recovered(server) as url:
            assert _is_new(await _resume(url), before, _KEPT + 2)
        async with _recovered(server) as url:
            await _keep(url, before)
            assert _goes_on(await _resume(url), before, _KEPT + 2)


# --- pg_upgrade -------------------------------------------------------------------------------------------------------


def _upgrade(old: PostgresServer, new: PostgresServer) -> None:
    """Everything of the old server is on the new one, which had nothing."""
    for server in (old, new):
        server.stop()
    folders: Sequence[str] = [
        *("--old-bindir", str(old.programs), "--new-bindir", str(new.programs)),
        *("--old-datadir", str(old.folder), "--new-datadir", str(new.folder)),
    ]
    new.run("pg_upgrade", "--username=postgres", "--no-sync", *folders, folder=new.folder)
    new.start()


async def test_s20_pg_upgrade_is_another_cluster_until_the_operator_says_that_nothing_was_lost(
    older: PostgresServer,
) -> None:
    """Rows and transaction ids are those of the old one. Nobody knows whether that went on after the upgrade."""
    before = {}
    for name in ("untold", "kept"):
        await older.create_database(name)
        before[name] = await _write(older.url(name), _KEPT)
    with PostgresServer(version=18, fsync="off") as upgraded:
        await asyncio.to_thread(_upgrade, older, upgraded)
        assert _is_new(await _resume(upgraded.url("untold")), before["untold"])
        await _keep(upgraded.url("kept"), before["kept"])
        assert _goes_on(await _resume(upgraded.url("kept")), before["kept"])
    await asyncio.to_thread(older.start)
