"""Positions that several pods move at the same time, in every order that matters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from gatecast.events import Position
from gatecast.storage.contract import Storage
from gatecast.storage.hops import Passage
from gatecast.storage.postgres import PostgresStorage
from gatecast.testing.contracts.backend import (
    ALIVE,
    EXPIRED,
    GATEWAY,
    POD,
    confirm,
    connect,
    epoch_of,
    make_connection,
    make_events,
    progress_of,
    publish,
    stored_offset,
)
from gatecast.testing.eventually import PATIENCE, eventually

_OTHER_POD = "pod-2"


@asynccontextmanager
async def _two_connections(url: str) -> AsyncIterator[Storage]:
    """`mine` of this pod and `theirs` of the other pod share a position at 0."""
    async with PostgresStorage.open(url) as storage:
        await storage.log.register(GATEWAY)
        await storage.presence.renew_lease(POD, ALIVE)
        await storage.presence.renew_lease(_OTHER_POD, ALIVE)
        await connect(storage, make_connection("mine"))
        await connect(storage, make_connection("theirs", pod_id=_OTHER_POD))
        yield storage


class _OpenReport:
    """A report of one pod that has done its work and has not committed yet."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str, epoch: UUID, connection_id: str, offset: int) -> AsyncIterator[_OpenReport]:
        """Report that this connection has confirmed up to `offset`; commit when the block ends."""
        statement = "SELECT gatecast.record_progress_v1($1, $2, $3, $4, $5, $5, false)"
        async with _caller(url) as connection, connection.transaction():
            await connection.execute(statement, [connection_id], [GATEWAY], [""], [epoch], [offset])
            yield cls(connection)

    async def waited_for(self) -> None:
        """Return when another statement waits for this one's locks."""
        await _waited_for(self._connection)


@asynccontextmanager
async def _caller(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def _waited_for(holder: asyncpg.Connection[Any]) -> None:
    """Return when another statement waits for locks of this connection."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    await eventually(lambda: holder.fetchval(waiting))


async def test_two_pods_that_report_at_once_end_at_the_right_minimum(postgres_url: str) -> None:
    """The second report waits for the first to commit, and then sees it."""
    async with _two_connections(postgres_url) as storage:
        async with _OpenReport.of(postgres_url, await epoch_of(storage), "theirs", 7) as report:
            mine = asyncio.create_task(confirm(storage, make_connection("mine"), 9))
            await report.waited_for()
            assert await stored_offset(storage) == 0
        await mine
        assert await stored_offset(storage) == 7


async def test_s13_two_that_connect_at_once_end_at_the_slower(postgres_url: str) -> None:
    """The second one waits for the first to commit, and then sees it, also where nobody was connected before."""
    slow = [GATEWAY, "a", "slow", _OTHER_POD, "", "", None]
    async with _two_connections(postgres_url) as storage, _caller(postgres_url) as caller:
        await publish(storage, *make_events(8))
        async with caller.transaction():
            statement = "SELECT gatecast.connect_v1($1, $2, $3, $4, $5, $6, $7, $8, 2, false, NULL)"
            assert await caller.fetchval(statement, *slow, await epoch_of(storage))
            fast = asyncio.create_task(connect(storage, make_connection("fast", replica="a"), start=8))
            await _waited_for(caller)
        await fast
        assert await stored_offset(storage, replica="a") == 2


_LOCKS = {
    "its log": "SELECT FROM gatecast.gateway_streams WHERE gateway_id = 'locked' FOR UPDATE",
    "its position": "UPDATE gatecast.cursors SET updated_at = now() WHERE gateway_id = 'locked' AND replica = ''",
    "its new position": "INSERT INTO gatecast.cursors (gateway_id, replica, epoch) "
    "SELECT 'locked', 'new', current FROM gatecast.epoch",
    "its connections": "UPDATE gatecast.connections SET sent = sent WHERE gateway_id = 'locked'",
    "its passages": "UPDATE gatecast.passages SET pod_id = pod_id",
}

#: These are met only where a new connection supersedes older ones.
_LOCKS_OF_SOME = ("its connections", "its passages")

#: More than a gateway leaves that comes again and again without getting on: some are removed when it connects.
_PASSAGES = """
INSERT INTO gatecast.passages (log_id, through, replica, connection_id, pod_id,
                               picked_up_after, picked_up_through, picked_up_first, picked_up_last,
                               sent_after, sent_through, sent_first, sent_last,
                               confirmed_after, confirmed_through, confirmed_first, confirmed_last)
SELECT log_id, n, '', 'before', 'pod', 0, n, 0, 0, 0, n, 0, 0, 0, 0, 0, 0
FROM gatecast.gateway_streams, generate_series(1, 120) n WHERE gateway_id = 'locked'
"""


@pytest.mark.parametrize("lock", _LOCKS)
async def test_s30_of_many_that_connect_at_once_one_that_is_locked_keeps_nobody_waiting(
    postgres_url: str, lock: str
) -> None:
    """It waits alone, and is recorded once the lock has gone."""
    async with _two_connections(postgres_url) as storage, _caller(postgres_url) as caller:
        for gateway_id in ("locked", *(f"free-{number}" for number in range(8))):
            await storage.log.register(gateway_id)
        await connect(storage, make_connection("before", "locked"))
        await caller.execute(_PASSAGES)
        start = Position(await epoch_of(storage), 0)
        async with caller.transaction():
            await caller.execute(_LOCKS[lock])
            late = make_connection("late", "locked", replica="new" if lock == "its new position" else "")
            wanted = [make_connection(f"{number}", f"free-{number}") for number in range(8)]
            wanted.insert(4, late)
            connects = [
                asyncio.create_task(storage.presence.connect(each, start=start, newest_only=lock in _LOCKS_OF_SOME))
                for each in wanted
            ]
            locked = connects.pop(4)
            await asyncio.gather(*connects)
            await _waited_for(caller)
            assert not locked.done()
        await locked
        live = (await storage.presence.status(["locked"]))["locked"].connections
        assert "late" in {each.connection_id for each in live}


async def test_s30_old_passages_that_somebody_else_removes_keep_nobody_waiting_who_comes_back(
    postgres_url: str,
) -> None:
    async with _two_connections(postgres_url) as storage, _caller(postgres_url) as caller:
        for gateway_id in ("locked", "free"):
            await storage.log.register(gateway_id)
            await connect(storage, make_connection(f"before-{gateway_id}", gateway_id))
        await caller.execute(_PASSAGES)
        start = Position(await epoch_of(storage), 0)
        async with caller.transaction():
            await caller.execute(_LOCKS["its passages"])
            wanted = [make_connection(f"late-{gateway_id}", gateway_id) for gateway_id in ("locked", "free")]
            await asyncio.gather(*(storage.presence.connect(each, start=start) for each in wanted))


_TABLES = {
    "positions": "SELECT gateway_id, replica, epoch, sent, confirmed, resync_reason FROM gatecast.cursors "
    "ORDER BY 1, 2",
    "connections": "SELECT connection_id, gateway_id, replica, sent, confirmed, dismissal FROM gatecast.connections "
    "ORDER BY 1",
    "passages": "SELECT log_id, through, replica, number FROM gatecast.passages ORDER BY 4",
}


@pytest.mark.parametrize("seed", range(8))
async def test_s30_recording_many_together_is_as_recording_one_after_the_other(postgres_url: str, seed: int) -> None:
    """For any positions, histories and other connections: the same rows, and the same ids."""
    random = Random(seed)  # noqa: S311 - repeats
    async with _two_connections(postgres_url) as storage, _caller(postgres_url) as caller:
        epoch = await epoch_of(storage)
        await caller.execute(_SOME_POSITIONS.replace("SEED", str(random.random())))
        arguments = _some_requests(random, epoch)
        found = []
        for function in ("connect_many_v1", "connect_many_v2"):
            attempt = caller.transaction()
            await attempt.start()
            rows = await caller.fetch(f"SELECT * FROM gatecast.{function}({_ARGUMENTS})", *arguments)
            found.append([sorted(rows), *[await caller.fetch(query) for query in _TABLES.values()]])
            await attempt.rollback()
        assert found[0] == found[1]
        assert 0 < len(found[0][0]) < _REQUESTS, "some are refused"


_ARGUMENTS = ", ".join(f"${number}" for number in range(1, 13))

#: Gateways with logs of ten events, most of them with a position, some of which others are connected at.
_SOME_POSITIONS = """
DO $$ BEGIN PERFORM setseed(SEED); END $$;
INSERT INTO gatecast.gateway_streams (gateway_id, head, registered_in)
    SELECT 'edge-' || n, 10, current FROM generate_series(1, 30) n, gatecast.epoch;
INSERT INTO gatecast.cursors (gateway_id, replica, epoch, sent, confirmed, resync_reason)
    SELECT 'edge-' || n, r, CASE WHEN random() < 0.8 THEN current ELSE gen_random_uuid() END,
           (random() * 9)::integer, (random() * 5)::integer,
           CASE WHEN random() < 0.1 THEN 'parked' WHEN random() < 0.1 THEN 'epoch' END
    FROM generate_series(1, 30) n, unnest(ARRAY['', 'a']) r, gatecast.epoch WHERE random() < 0.8;
INSERT INTO gatecast.connections (connection_id, gateway_id, replica, pod_id, protocol, remote, sent, confirmed,
                                  dismissal, released)
    SELECT gateway_id || replica || n, gateway_id, replica, 'pod', 'gateway.v1', '', 9, (random() * 9)::integer,
           CASE WHEN random() < 0.2 THEN 'restarting' END, random() < 0.2
    FROM gatecast.cursors, generate_series(1, 2) n WHERE random() < 0.5;
INSERT INTO gatecast.passages (log_id, through, replica, connection_id, pod_id,
                               picked_up_after, picked_up_through, picked_up_first, picked_up_last,
                               sent_after, sent_through, sent_first, sent_last,
                               confirmed_after, confirmed_through, confirmed_first, confirmed_last)
    SELECT log_id, 1 + n % 10, '', '', '', 0, n, 0, 0, 0, n, 0, 0, 0, 0, 0, 0
    FROM gatecast.gateway_streams, generate_series(1, 150) n;
"""


_REQUESTS = 40


def _some_requests(random: Random, epoch: UUID) -> list[object]:
    """The arguments of a call for so many connections, of which some are refused and some come twice."""
    rows = [
        (
            f"edge-{random.randint(1, 33)}",
            random.choice(["", "", "a", "new"]),
            f"connection-{number}",
            "pod",
            "gateway.v1",
            "",
            None,
            epoch if random.random() < 0.9 else UUID(int=7),
            random.randint(0, 11),
            random.random() < 0.1,
            random.choice([None] * 9 + ["retention"]),
        )
        for number in range(_REQUESTS)
    ]
    return [*map(list, zip(*rows, strict=True)), False]


async def test_a_connection_that_leaves_while_another_pod_reports_holds_nothing_back(postgres_url: str) -> None:
    async with _two_connections(postgres_url) as storage:
        last = await progress_of(storage, make_connection("mine"), sent=3, confirmed=3)
        async with _OpenReport.of(postgres_url, last.epoch, "theirs", 9) as report:
            leaving = asyncio.create_task(storage.presence.disconnect([last]))
            await report.waited_for()
        await leaving
        assert await stored_offset(storage) == 9


async def test_a_pod_that_ends_while_another_one_reports_holds_nothing_back(postgres_url: str) -> None:
    """Nobody reports again, and still the position ends at what the connection that stays has confirmed."""
    async with _two_connections(postgres_url) as storage:
        async with _OpenReport.of(postgres_url, await epoch_of(storage), "theirs", 9) as report:
            ending = asyncio.create_task(storage.presence.end_lease(POD))
            await report.waited_for()
        await ending
        assert await stored_offset(storage) == 9


async def test_a_dead_pod_noticed_while_another_one_reports_holds_nothing_back(postgres_url: str) -> None:
    async with _two_connections(postgres_url) as storage:
        await storage.presence.renew_lease(POD, EXPIRED)
        async with _OpenReport.of(postgres_url, await epoch_of(storage), "theirs", 9) as report:
            renewing = asyncio.create_task(storage.presence.renew_lease(_OTHER_POD, ALIVE))
            await report.waited_for()
        await renewing
        assert await stored_offset(storage) == 9


async def test_reports_endings_and_revocations_of_many_gateways_do_not_deadlock(postgres_url: str) -> None:
    """Whatever moves positions or connections takes its locks in one order."""
    gateways = [f"gateway-{number}" for number in range(30)]
    async with PostgresStorage.open(postgres_url) as storage:
        for gateway_id in gateways:
            await storage.log.register(gateway_id)
        for round_number in range(5):
            await _connect_everywhere(storage, gateways)
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(
                    _report_all(storage, gateways, POD, round_number + 1),
                    _report_all(storage, gateways[::-1], _OTHER_POD, round_number + 1),
                    storage.presence.disconnect_token("token-1"),
                    storage.presence.end_lease("pod-3"),
                    storage.presence.renew_lease(POD, ALIVE),
                )
            for pod_id in (POD, _OTHER_POD):
                await storage.presence.end_lease(pod_id)


async def _connect_everywhere(storage: Storage, gateways: Sequence[str]) -> None:
    for pod_id in (POD, _OTHER_POD, "pod-3"):
        await storage.presence.renew_lease(pod_id, ALIVE)
        # One pod's rows lie in the opposite order, so that a scan of the table meets them in another one.
        for gateway_id in gateways if pod_id == POD else gateways[::-1]:
            await connect(storage, make_connection(f"{pod_id}-{gateway_id}", gateway_id, pod_id=pod_id))


async def _report_all(storage: Storage, gateways: Sequence[str], pod_id: str, offset: int) -> None:
    await storage.presence.record_progress(
        [
            await progress_of(
                storage,
                make_connection(f"{pod_id}-{gateway_id}", gateway_id, pod_id=pod_id),
                sent=offset,
                confirmed=offset,
            )
            for gateway_id in gateways
        ]
    )


async def test_the_times_of_hops_take_no_statement_of_their_own(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions and passages of many connections are one round trip, and one row for each connection."""
    sent: list[str] = []
    fetch = asyncpg.Connection.fetch

    def counted(connection: Any, query: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        sent.append(query)
        return fetch(connection, query, *arguments, **options)

    async with _two_connections(postgres_url) as storage:
        await publish(storage, *make_events(2))
        connections = [make_connection("mine"), make_connection("theirs", pod_id=_OTHER_POD)]
        passages = (Passage(0, 2, 1.0, 2.0), Passage(0, 2, 2.0, 3.0), Passage(0, 1, 4.0, 4.0))
        told = [
            replace(await progress_of(storage, each, sent=2, confirmed=1), passages=passages) for each in connections
        ]
        monkeypatch.setattr(asyncpg.Connection, "fetch", counted)
        await storage.presence.record_progress(told)
        assert len(sent) == 1
        [row] = await storage.database.fetch("SELECT count(*) AS number FROM gatecast.passages")
        assert row["number"] == 2
