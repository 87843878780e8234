"""`gatecast move-log` to NATS JetStream: the log goes on in a stream, and its database becomes the outbox of that."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import signal
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import typer

from gatecast.cli.main import app
from gatecast.cli.move_log import to_stream
from gatecast.cli.move_log.moving import Moved, MoveUncertain, move, undo
from gatecast.cli.move_log.places import opened_places
from gatecast.cli.move_log.source import FileSource, ServerSource
from gatecast.cli.move_log.to_stream import StreamTarget
from gatecast.controlplane.migrations import MIGRATIONS
from gatecast.errors import DatabaseUnsuitable, StorageUnavailable, SubscriptionClosed
from gatecast.events import Action, Position, RecordedEvent
from gatecast.hub import EventHub
from gatecast.server.pod import Pod
from gatecast.storage.connect import open_engine, open_storage
from gatecast.storage.contract import (
    Connection,
    Engine,
    Outcome,
    OutcomeKind,
    ParkedEntity,
    PositionState,
    Progress,
    TrimPolicy,
)
from gatecast.storage.jetstream.arrival import Arrival
from gatecast.storage.migrations import available, tables
from gatecast.storage.moved import Blocking
from gatecast.storage.postgres.moved import TABLES
from gatecast.storage.postgres.storage import MIGRATIONS as OF_LOG
from gatecast.testing.contracts.backend import make_event, make_events, publish, read
from gatecast.testing.doubles.recording_gateway import RecordingGateway
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.nats_server import NatsServer, nats_cluster, nats_server
from gatecast.testing.operator import Operator
from gatecast.testing.processes.deployment import address_of
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.wakeup.contract import EVERYTHING
from tests.contract.outbox.killed_move import move_until_killed
from tests.contract.test_move_log import _EVENT, _PROVIDER, _TOKEN, _publish_until_refused, _settings
from tests.contract.test_undeliverable import _POSTGRES_DAMAGES, _SQLITE_DAMAGES

pytestmark = pytest.mark.slow

_EDGES = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

_CONFIRMED = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(days=1), max_events=1 << 40)
_EVERYTHING = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(days=-1), max_events=0)


async def _trim(engine: Engine, policy: TrimPolicy) -> int:
    """How many events were removed, until none can be."""
    count = 0
    while removed := await engine.log.trim(policy):
        count += removed
    return count


async def _move(old: str, new: str) -> Moved:
    async with opened_places(old, new) as places:
        return await move(*places)


async def _undo(old: str, new: str) -> bool:
    async with opened_places(old, new, undo=True) as places:
        return await undo(*places)


@asynccontextmanager
async def _log(url: str) -> AsyncIterator[Engine]:
    if url.startswith("nats:"):
        async with open_engine(url) as opened:
            yield opened.engine
    else:
        async with open_storage(url, extra_migrations=MIGRATIONS) as storage:
            yield storage.engine


# --- everything arrives -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What a log tells of a gateway."""

    events: Sequence[RecordedEvent]
    head: int
    low_water_mark: int
    last_event_id: UUID | None
    standing: Mapping[str, PositionState]
    outcomes: Sequence[Outcome]
    parked: Sequence[ParkedEntity]
    found: Mapping[UUID, Position]


async def _seen(engine: Engine, gateway_id: str, *, replicas: Sequence[str] = ("", "second")) -> _Seen:
    found = await read(engine, gateway_id, limit=5_000)
    while found.events and found.events[-1].offset < found.head:
        more = await read(engine, gateway_id, after=found.events[-1].offset, limit=5_000)
        found = replace(found, events=[*found.events, *more.events])
    ids = [event.event_id for event in found.events]
    return _Seen(
        events=[event.checked() for event in found.events],
        head=found.head,
        low_water_mark=found.low_water_mark,
        last_event_id=found.last_event_id,
        standing={each: await engine.presence.standing(gateway_id, each) for each in replicas},
        outcomes=await engine.outcomes.of_events(gateway_id, [event.offset for event in found.events]),
        parked=await engine.parking.parked(gateway_id, after=0, limit=100),
        found=await engine.log.find(gateway_id, ids),
    )


async def _connect(engine: Engine, gateway_id: str, replica: str, confirmed: int) -> None:
    epoch = (await engine.log.changed_since(0)).epoch
    await engine.presence.renew_lease("pod-1", timedelta(minutes=1))
    connection = Connection(
        connection_id=f"{gateway_id}-{replica}",
        gateway_id=gateway_id,
        replica=replica,
        pod_id="pod-1",
        protocol="v2",
        remote="",
        token_id="token-1",
    )
    await engine.presence.connect(connection, start=Position(epoch, 0))
    progress = Progress(
        connection_id=connection.connection_id,
        gateway_id=gateway_id,
        replica=replica,
        epoch=epoch,
        sent=confirmed,
        confirmed=confirmed,
    )
    await engine.presence.record_progress([progress])


async def _use(engine: Engine) -> list[str]:
    """Something of every kind, with values at the edges of their types; the gateways."""
    for name in ("used", "empty", "trimmed", "é \U0001f600", "long", "gone", "again"):
        await engine.log.register(name)
    await publish(engine, *(replace(make_event("used", text="é\U0001f600\u2028\n"), originated_at=at) for at in _EDGES))
    traced = replace(make_event("used"), action=Action.DELETE, entity_id="é", trace_parent=_TRACE)
    await publish(engine, traced, make_event("used"), make_event("é \U0001f600"), make_event("again"))
    await publish(engine, make_event("used", large="x" * 1_000_000))
    await publish(engine, *make_events(2_500, "long"))
    await engine.log.forget("gone")
    await engine.log.forget("again")
    await engine.log.register("again")
    await publish(engine, *make_events(3, "trimmed"))
    await _connect(engine, "trimmed", "", 2)
    await _trim(engine, _CONFIRMED)
    await _connect(engine, "used", "", 3)
    await _connect(engine, "used", "second", 1)
    kinds = {1: OutcomeKind.APPLIED, 2: OutcomeKind.PARKED, 3: OutcomeKind.REJECTED, 4: OutcomeKind.HELD}
    await engine.outcomes.record(
        [
            Outcome(gateway_id="used", replica=replica, offset=offset, kind=kind, reason=f"no \U0001f600 {offset}")
            for offset, kind in kinds.items()
            for replica in ("", "second")
            if (offset, replica) != (4, "")
        ]
    )
    return ["used", "empty", "trimmed", "é \U0001f600", "long", "again"]


async def test_every_event_position_and_outcome_arrives_as_it_was(database_url: str, stream_url: str) -> None:
    """Also the epoch, and which log it is; the database is the outbox of that, and nothing else."""
    async with _log(database_url) as engine:
        names = await _use(engine)
        before = {name: await _seen(engine, name) for name in names}
        epoch, identity = (await engine.log.changed_since(0)).epoch, await engine.log.identity()
    moved = await _move(database_url, stream_url)

    assert moved.epoch == epoch
    assert moved.rows["gatecast.events"] == sum(len(each.events) for each in before.values())
    async with _log(stream_url) as engine:
        changes = await engine.log.changed_since(0)
        assert (changes.epoch, changes.settled, await engine.log.identity()) == (epoch, True, identity)
        assert changes.heads == {name: each.head for name, each in before.items()}
        for name, seen in before.items():
            assert await _seen(engine, name) == seen, name
    assert {name: each.low_water_mark for name, each in before.items() if each.low_water_mark} == {"trimmed": 2}
    with pytest.raises(DatabaseUnsuitable, match=r"outbox of another log.*name this database as its outbox"):
        async with EventHub.open(database_url):
            pass
    assert (await _move(database_url, stream_url)).rows == {}
    for again in (_move, _undo):
        with pytest.raises(DatabaseUnsuitable, match=r"outbox of another log|has arrived"):
            await again(database_url, stream_url if again is _undo else f"{stream_url[:-11]}X?replicas=1")


async def test_p11_what_cannot_be_read_stays_so_and_hinders_nothing_else(database_url: str, stream_url: str) -> None:
    url, is_file = database_url, database_url.startswith("sqlite")
    damages = _SQLITE_DAMAGES if is_file else _POSTGRES_DAMAGES
    async with _log(url) as engine:
        for number, name in enumerate(damages):
            await engine.log.register(f"damaged-{number}")
            await publish(engine, *(make_event(f"damaged-{number}", damage=name) for _ in range(3)))
    if not is_file:
        # An earlier release had none.
        _execute(
            url,
            "ALTER TABLE gatecast.events DROP CONSTRAINT IF EXISTS events_action, "
            "DROP CONSTRAINT IF EXISTS events_originated_at, DROP CONSTRAINT IF EXISTS events_identifiers",
        )
    for number, (column, value) in enumerate(damages.values()):
        _execute(
            url,
            f'UPDATE gatecast.events SET {column} = {value} WHERE "offset" = 2 AND log_id = '
            f"(SELECT log_id FROM gatecast.gateway_streams WHERE gateway_id = 'damaged-{number}')",
        )
    await _move(url, stream_url)
    async with _log(stream_url) as engine:
        for number, (name, (column, _)) in enumerate(damages.items()):
            events = [event.checked() for event in (await read(engine, f"damaged-{number}")).events]
            assert [event.offset for event in events] == [1, 2, 3], name
            assert [event.undeliverable is None for event in events] == [True, column == "recorded_at", True], name
        assert await _trim(engine, _EVERYTHING)


def _execute(url: str, statement: str) -> None:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            file.execute(statement.replace("gatecast.", "gatecast_"))
    else:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(statement)


# --- the hub goes on --------------------------------------------------------------------------------------------------


async def test_the_hub_goes_on_with_the_next_offset_and_knows_what_was_published(
    database_url: str, stream_url: str
) -> None:
    """Subscribers go on where they were; an id of before is stored once; retention removes what is old."""
    async with EventHub.open(database_url) as hub:
        await hub.register_gateway("g")
        first = make_event("g")
        await hub.publish([first, *make_events(4, "g")])
        async with hub.subscribe("g") as subscription:
            subscription.acknowledge(await anext(subscription))
            subscription.acknowledge(await anext(subscription))
    await _move(database_url, stream_url)
    async with EventHub.open(stream_url, outbox=database_url, adopt=False) as hub:
        [again, new] = await hub.append([first, make_event("g")])
        assert (await hub.outbox.wait_until_forwarded(again)).offset == 1
        assert (await hub.outbox.wait_until_forwarded(new)).offset == 6
        async with hub.subscribe("g") as subscription:
            received = [await anext(subscription) for _ in range(4)]
            assert ([event.offset for event in received], subscription.resync_reason) == ([3, 4, 5, 6], None)
            subscription.acknowledge(received[-1])
        assert await hub.events_published("g") >= 6
        await hub.delete_gateway("g")
        await hub.register_gateway("g")
        assert (await hub.outbox.wait_until_forwarded((await hub.append([first]))[0])).offset == 1
        assert await _trim(hub.engine, _EVERYTHING) == 7


async def test_a_pod_of_before_delivers_nothing_more_and_what_it_takes_is_forwarded(
    database_url: str, stream_url: str
) -> None:
    """It may have been suspended, and wake up after the others have gone on: nobody is connected to it then."""
    async with EventHub.open(database_url) as old:
        await old.register_gateway("g")
        await old.publish(make_event("g"))
        subscription = await old.subscribe("g")
        await anext(subscription)
        before = (await old.engine.log.changed_since(0)).epoch
        await _move(database_url, stream_url)
        closed = (await old.engine.log.changed_since(0)).epoch
        async with EventHub.open(stream_url, outbox=database_url) as hub:
            await hub.publish(make_event("g"))
            old.delivery.reader.hint(EVERYTHING)
            with pytest.raises(SubscriptionClosed):
                await anext(subscription)
            presence = old.engine.presence
            for refused in (
                old.subscribe("g"),
                presence.disconnect_token("token-1"),
                presence.renew_lease("old", timedelta(minutes=1)),
            ):
                with pytest.raises(StorageUnavailable, match="GATECAST_OUTBOX"):
                    await refused
            here = await old.engine.log.changed_since(0)
            assert here.epoch == closed != before
            late = make_event("g")
            await old.publish(late)
            assert (await hub.outbox.wait_until_forwarded(late)).offset == 3


async def test_a_decision_about_what_was_parked_before_is_made_after(database_url: str, stream_url: str) -> None:
    """The rejected event and those that waited for it are published again, in order."""
    async with _log(database_url) as engine:
        await engine.log.register("g")
        events = make_events(3, "g")
        await publish(engine, *events)
        await _connect(engine, "g", "", 3)
        kinds = {1: OutcomeKind.PARKED, 2: OutcomeKind.HELD}
        outcomes = (Outcome(gateway_id="g", replica="", offset=at, kind=kind, reason="") for at, kind in kinds.items())
        await engine.outcomes.record(list(outcomes))
    await _move(database_url, stream_url)
    async with _log(stream_url) as engine:
        [parked] = await engine.parking.parked("g", after=0, limit=10)
        assert (parked.event_id, parked.held) == (events[0].event_id, 1)
        assert await engine.parking.resolve("g", "", (parked.entity_type, parked.entity_id), retry=True)
        await engine.parking.withheld("g", "", after=3)
        again = (await read(engine, "g", after=3)).events
        assert [event.data["number"] for event in again][:2] == [1, 2]


async def test_pods_and_gateways_go_on_with_everything_that_they_knew(database_url: str, stream_url: str) -> None:
    """Tokens, artifacts and repeated ids count as before, and `why` answers."""
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(Pod.open(_settings(database_url)))
        old.hurried.set()  # when it stops, which nobody watches
        operator = await stack.enter_async_context(Operator(old.api_url, _TOKEN))
        access = await operator.create_gateway("edge")
        provider = await operator.ask("POST", "/llm-providers", _PROVIDER)
        await operator.ask("POST", f"/llm-providers/{provider['id']}/deployments", {"gatewayId": access.id})
        way = await stack.enter_async_context(TcpProxy(address_of(old.gateway_url)))
        recorder = RecordingGateway(f"http://{way.address}", access.token)
        await stack.enter_async_context(recorder)
        publishing = asyncio.create_task(_publish_until_refused(operator, access.id))
        await recorder.until(5)

        # So that every publisher meets the time in which nobody may publish.
        async with opened_places(database_url, stream_url) as (source, target):
            await target.prepare(source)
            await source.block(Blocking(target=await target.name(None), run=uuid4()))
            accepted = await publishing
            moved = await move(source, target)
        assert max(accepted) == moved.rows["gatecast.events"]

        settings = replace(_settings(stream_url), outbox=database_url)
        new = await stack.enter_async_context(Pod.open(settings))
        new.hurried.set()  # as above
        operator = await stack.enter_async_context(Operator(new.api_url, _TOKEN))
        way.retarget(address_of(new.gateway_url))
        repeated = await operator.ask("POST", f"/gateways/{access.id}/events", {**_EVENT, "eventId": accepted[5]})
        assert (repeated["offset"], repeated["state"]) != (None, "pending")
        assert repeated["offset"] == 5
        published = await operator.ask("POST", f"/gateways/{access.id}/events?wait=confirmed&timeout=60", _EVENT)
        assert published["offset"] == max(accepted) + 1
        received = dict(recorder.received)
        assert sorted(received) == list(range(1, published["offset"] + 1))
        assert {offset: received[offset] for offset in accepted} == accepted
        assert recorder.resyncs == []
        shown = await operator.ask("GET", f"/llm-providers/{provider['id']}")
        assert (shown["name"], shown["context"]) == (provider["name"], provider["context"])
        assert (await operator.ask("GET", f"/gateways/{access.id}/why"))["code"] == "current"
        deployment = await operator.ask("POST", "/llm-providers", {**_PROVIDER, "name": "Another"})
        await operator.ask("POST", f"/llm-providers/{deployment['id']}/deployments", {"gatewayId": access.id})
        await recorder.until(published["offset"] + 1)


# --- while pods run ---------------------------------------------------------------------------------------------------


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Does something after the copying while pods run, and before anybody is blocked."""

    def do(work: Callable[[], Awaitable[None]]) -> None:
        prepare = StreamTarget.prepare

        async def and_then(target: StreamTarget, source: Any) -> None:  # noqa: ANN401 - of either kind
            await prepare(target, source)
            await work()

        monkeypatch.setattr(StreamTarget, "prepare", and_then)

    return do


async def test_what_changes_while_it_is_copied_arrives_as_it_is_at_last(
    database_url: str, stream_url: str, meanwhile: Callable[[Callable[[], Awaitable[None]]], None]
) -> None:
    """Events, outcomes, positions, retention; gateways that are deleted, registered, and registered again."""
    async with _log(database_url) as engine:
        await _use(engine)

        async def change() -> None:
            await publish(engine, *make_events(700, "long"), make_event("empty"), make_event("used"))
            for name in ("é \U0001f600", "again"):
                await engine.log.forget(name)
            for name in ("again", "new"):
                await engine.log.register(name)
                await publish(engine, *make_events(2, name))
            await engine.outcomes.record([_applied("used", 2), _applied("long", 3_100), _applied("used", 6)])
            await engine.parking.resolve("used", "second", ("LlmProvider", "provider-1"), retry=False)
            await _connect(engine, "long", "", 2_000)
            await _connect(engine, "used", "third", 2)
            await _trim(engine, _CONFIRMED)

        meanwhile(change)
        await _move(database_url, stream_url)
    async with _log(stream_url) as engine:
        long, again = await _seen(engine, "long"), await _seen(engine, "again")
        assert (long.low_water_mark, long.head, len(long.events)) == (2_000, 3_200, 1_200)
        assert [each.offset for each in long.outcomes] == [3_100]
        assert [event.data["number"] for event in again.events] == [1, 2]
        assert set((await engine.log.changed_since(0)).heads) == {"used", "empty", "trimmed", "long", "again", "new"}
        used = await _seen(engine, "used", replicas=["", "second", "third"])
        assert [each.confirmed and each.confirmed.offset for each in used.standing.values()] == [3, 1, 2]
        kinds = {(each.replica, each.offset): each.kind for each in used.outcomes}
        assert (kinds["", 2], kinds["second", 2]) == (OutcomeKind.APPLIED, OutcomeKind.SKIPPED)
        assert kinds["", 6] is OutcomeKind.APPLIED
        assert await _trim(engine, _EVERYTHING)


def _applied(gateway_id: str, offset: int) -> Outcome:
    return Outcome(gateway_id=gateway_id, replica="", offset=offset, kind=OutcomeKind.APPLIED, reason="")


# --- what is refused --------------------------------------------------------------------------------------------------


async def _takes_events(url: str) -> None:
    async with open_storage(url, extra_migrations=MIGRATIONS) as opened:
        await opened.storage.log.register("after")
        assert await publish(opened.storage, make_event("after"))


async def test_a_stream_that_is_used_is_refused_and_nobody_has_to_wait(sqlite_url: str, stream_url: str) -> None:
    async with _log(stream_url) as engine:
        await engine.presence.renew_lease("pod-x", timedelta(minutes=1))
        with pytest.raises(DatabaseUnsuitable, match="pods run on the stream already: pod-x"):
            await _move(sqlite_url, stream_url)
        await engine.presence.end_lease("pod-x")
        await engine.log.register("somebody")
        await engine.log.forget("somebody")
    with pytest.raises(DatabaseUnsuitable, match="name another stream"):
        await _move(sqlite_url, stream_url)
    await _takes_events(sqlite_url)


async def test_a_stream_with_too_few_copies_is_refused(sqlite_url: str, stream_url: str) -> None:
    with pytest.raises(DatabaseUnsuitable, match="copies that promise P1 needs"):
        await _move(sqlite_url, stream_url.replace("?replicas=1", ""))
    await _takes_events(sqlite_url)


async def test_a_role_that_does_not_own_the_tables_is_told_so_and_nobody_has_to_wait(
    postgres_url: str, stream_url: str
) -> None:
    role = f"app_{uuid4().hex}"
    for statement in (
        f"CREATE ROLE {role} LOGIN",
        f"GRANT ALL ON SCHEMA gatecast, public TO {role}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA gatecast, public TO {role}",
    ):
        _execute(postgres_url, statement)
    with pytest.raises(DatabaseUnsuitable, match="run the command as the owner of the tables"):
        await _move(postgres_url.replace("//postgres@", f"//{role}@"), stream_url)
    await _takes_events(postgres_url)
    for statement in (f"DROP OWNED BY {role}", f"DROP ROLE {role}"):
        _execute(postgres_url, statement)


async def test_a_backup_that_is_being_made_does_not_keep_the_log_from_being_closed(
    postgres_url: str, stream_url: str
) -> None:
    """It reads the tables all the time; they are emptied row by row then."""
    await _takes_events(postgres_url)
    async with await psycopg.AsyncConnection.connect(postgres_url) as backup:
        await backup.execute("SELECT FROM gatecast.events, gatecast.outcomes, gatecast.passages")
        await _move(postgres_url, stream_url)
    async with open_storage(postgres_url) as opened:
        [found] = await opened.storage.database.fetch("SELECT count(*) AS events FROM gatecast.events")
        assert found["events"] == 0


async def test_an_outbox_of_another_log_is_refused(sqlite_url: str, stream_url: str, server: NatsServer) -> None:
    other = server.url(f"O{uuid4().hex}")
    async with EventHub.open(other, outbox=sqlite_url):
        pass
    with pytest.raises(DatabaseUnsuitable, match="it is the outbox of another log"):
        await _move(sqlite_url, stream_url)


async def test_a_server_that_takes_small_batches_is_obeyed(tmp_path: Path, sqlite_url: str) -> None:
    async with _log(sqlite_url) as engine:
        await engine.log.register("g")
        await publish(engine, *make_events(700, "g"))
    with nats_server(tmp_path / "nats", batch=50) as small:
        await _move(sqlite_url, small.url("S"))
        async with _log(small.url("S")) as engine:
            assert len((await _seen(engine, "g")).events) == 700


# --- interruptions ----------------------------------------------------------------------------------------------------

#: Where the command is killed: before a step, or after it.
_STEPS = {
    "nothing is blocked, some is copied": (Arrival, "append", "after"),
    "all is copied that was there": (StreamTarget, "prepare", "after"),
    "it is blocked": (StreamTarget, "take", "before"),
    "heads are there": (Arrival, "finish", "after"),
    "it is about to arrive": (Arrival, "arrive", "before"),
    "it has arrived": (Arrival, "arrive", "after"),
    "the outbox is made": (StreamTarget, "finish", "before clean-up"),
}

#: Processes are copies of one that has imported what the command needs: to import it takes longer than to run it.
_PROCESSES = multiprocessing.get_context("forkserver")


async def _killed(step: str, old: str, new: str) -> None:
    holder, name, when = _STEPS[step]
    _PROCESSES.set_forkserver_preload(["tests.contract.outbox.killed_move", "asyncpg", "nats"])
    process = _PROCESSES.Process(target=move_until_killed, args=(holder, name, when, old, new), daemon=True)
    process.start()
    await asyncio.to_thread(process.join)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("step", _STEPS)
async def test_a_command_that_was_killed_is_repeated(step: str, database_url: str, stream_url: str) -> None:
    """Everything arrives once; until then nobody uses the half of it."""
    async with _log(database_url) as engine:
        names = await _use(engine)
        before = {name: await _seen(engine, name) for name in names}
    await _killed(step, database_url, stream_url)
    if "arrive" not in step.partition("has ")[2] and "outbox" not in step:
        with pytest.raises(DatabaseUnsuitable, match="being moved into the stream"):
            async with EventHub.open(stream_url):
                pass
    elif "outbox" not in step:
        with pytest.raises(Exception, match="move-log"):
            async with EventHub.open(stream_url, outbox=database_url):
                pass
    await _move(database_url, stream_url)
    async with _log(stream_url) as engine:
        for name, seen in before.items():
            assert await _seen(engine, name) == seen, name
    async with EventHub.open(stream_url, outbox=database_url, adopt=False) as hub:
        assert (await hub.outbox.wait_until_forwarded((await hub.append([make_event("used")]))[0])).offset == 6


@pytest.mark.parametrize("step", list(_STEPS)[:5])
async def test_a_command_that_was_killed_is_undone(step: str, database_url: str, stream_url: str) -> None:
    """The log is in use again, and the stream is as empty as it was."""
    await _takes_events(database_url)
    await _killed(step, database_url, stream_url)
    assert await _undo(database_url, stream_url) is True
    assert await _undo(database_url, stream_url) is False
    await _takes_events(database_url)
    async with _log(stream_url) as engine:
        assert (await engine.log.changed_since(0)).heads == {}
    assert (await _move(database_url, stream_url)).rows["gatecast.events"] == 2


@pytest.mark.parametrize("step", list(_STEPS)[5:])
async def test_a_log_that_has_arrived_is_not_undone(step: str, database_url: str, stream_url: str) -> None:
    await _takes_events(database_url)
    await _killed(step, database_url, stream_url)
    with pytest.raises(DatabaseUnsuitable, match="has arrived"):
        await _undo(database_url, stream_url)
    await _move(database_url, stream_url)


@pytest.mark.parametrize("step", [(StreamTarget, "prepare"), (Arrival, "finish"), (Arrival, "arrive")])
async def test_a_move_that_fails_leaves_the_log_in_use(
    step: tuple[type, str], database_url: str, stream_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failed(*_: object, **__: object) -> None:
        raise DatabaseUnsuitable("a test", "refuses")

    await _takes_events(database_url)
    with monkeypatch.context() as patched:
        patched.setattr(*step, failed)
        with pytest.raises(DatabaseUnsuitable, match="a test"):
            await _move(database_url, stream_url)
    await _takes_events(database_url)
    assert (await _move(database_url, stream_url)).rows["gatecast.events"] == 2


async def test_a_lost_answer_is_found_out(database_url: str, stream_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the stream can be asked, nobody changes the log: an event would be lost."""
    await _takes_events(database_url)
    arrive = Arrival.arrive

    async def lost(*_: object) -> UUID:
        raise StorageUnavailable("a test cuts the wire")

    async def arrives_unseen(arrival: Arrival, epoch: UUID, **named: Any) -> None:  # noqa: ANN401 - as the real one
        await arrive(arrival, epoch, **named)
        patched.setattr(Arrival, "epoch", lost)
        raise StorageUnavailable("a test loses the answer")

    with monkeypatch.context() as patched:
        patched.setattr(Arrival, "arrive", arrives_unseen)
        with pytest.raises(MoveUncertain, match="repeat the command"):
            await _move(database_url, stream_url)
    with pytest.raises(StorageUnavailable, match="moved to NATS JetStream"):
        await _takes_events(database_url)
    assert (await _move(database_url, stream_url)).rows == {}


async def test_a_batch_whose_answer_is_lost_is_not_stored_twice(
    database_url: str, stream_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _log(database_url) as engine:
        names = await _use(engine)
        before = {name: await _seen(engine, name) for name in names}
    append, lost = Arrival.append, iter(range(3))

    async def forgetful(arrival: Arrival, rows: Any) -> Any:  # noqa: ANN401 - as the real one
        result = await append(arrival, rows)
        if next(lost, None) is not None:
            raise StorageUnavailable("a test loses the answer")
        return result

    monkeypatch.setattr(Arrival, "append", forgetful)
    await _move(database_url, stream_url)
    async with _log(stream_url) as engine:
        for name, seen in before.items():
            assert await _seen(engine, name) == seen, name


async def test_of_two_runs_one_moves_everything(database_url: str, stream_url: str) -> None:
    """The other one ends with an error, or finds that everything was moved; nothing is lost or there twice."""
    async with _log(database_url) as engine:
        names = await _use(engine)
        before = {name: await _seen(engine, name) for name in names}
    runs = (asyncio.to_thread(asyncio.run, _move(database_url, stream_url)) for _ in range(2))
    results = await asyncio.gather(*runs, return_exceptions=True)
    assert all(isinstance(each, Moved | StorageUnavailable | DatabaseUnsuitable | MoveUncertain) for each in results)
    await _move(database_url, stream_url)
    async with _log(stream_url) as engine:
        for name, seen in before.items():
            assert await _seen(engine, name) == seen, name


async def test_another_log_is_not_moved_into_the_same_stream(
    sqlite_url: str, postgres_url: str, stream_url: str
) -> None:
    await _takes_events(sqlite_url)
    await _killed("it is blocked", sqlite_url, stream_url)
    for again in (_move, _undo):
        with pytest.raises(DatabaseUnsuitable, match="another log is being moved"):
            await again(postgres_url, stream_url)
    await _takes_events(postgres_url)


async def test_a_log_that_is_moved_to_one_stream_is_not_moved_to_another_one(
    database_url: str, stream_url: str, server: NatsServer
) -> None:
    await _takes_events(database_url)
    await _killed("it is blocked", database_url, stream_url)
    other = server.url(f"O{uuid4().hex}")
    for again in (_move, _undo):
        with pytest.raises(DatabaseUnsuitable, match="moved to another database or stream"):
            await again(database_url, other)
    assert await _undo(database_url, stream_url)


async def test_a_database_that_was_put_back_is_not_moved_again(
    sqlite_url: str, stream_url: str, tmp_path: Path
) -> None:
    """What has come to the stream since is not in the backup."""
    await _takes_events(sqlite_url)
    backup = f"sqlite:///{tmp_path}/backup.db"
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as file:
        file.execute("VACUUM INTO ?", [backup.removeprefix("sqlite:///")])
    await _move(sqlite_url, stream_url)
    with pytest.raises(DatabaseUnsuitable, match="a copy of this log"):
        await _move(backup, stream_url)


@pytest.mark.parametrize("target", ["stream_url", "empty_postgres_url"])
def test_p6_what_a_restore_has_lost_is_noticed_before_the_log_goes_on_elsewhere(
    target: str, sqlite_url: str, request: pytest.FixtureRequest
) -> None:
    """No pod has run since the backup was put back, so nobody has begun a new history yet."""
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    asyncio.run(_takes_events(sqlite_url))
    backup = file.with_name("backup.db")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("VACUUM INTO ?", [str(backup)])
        [(epoch,)] = connection.execute("SELECT current FROM gatecast_epoch")
    asyncio.run(_takes_events(sqlite_url))
    backup.rename(file)
    assert str(asyncio.run(_move(sqlite_url, request.getfixturevalue(target))).epoch) != epoch


async def test_nats_is_lost_while_nobody_may_publish(
    database_url: str, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not known whether the log has arrived, so nobody publishes until the command is repeated, or undone."""
    await _takes_events(database_url)
    async with TcpProxy(server.socket) as way:
        far = server.url(f"O{uuid4().hex}").replace(server.address, way.address)
        finish = Arrival.finish

        async def is_cut(arrival: Arrival, logs: Any) -> None:  # noqa: ANN401 - as the real one
            way.cut()
            await finish(arrival, logs)

        with monkeypatch.context() as patched:
            patched.setattr(Arrival, "finish", is_cut)
            patched.setattr(to_stream, "_ATTEMPTS", 1)
            with pytest.raises(MoveUncertain):
                await _move(database_url, far)
        with pytest.raises(StorageUnavailable, match="GATECAST_OUTBOX"):
            await _takes_events(database_url)
        way.heal()
        assert (await _move(database_url, far)).rows["gatecast.events"] == 1


async def test_a_server_of_three_dies_while_the_log_is_copied(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command goes on when the others have chosen a leader."""
    async with _log(sqlite_url) as engine:
        names = await _use(engine)
        before = {name: await _seen(engine, name) for name in names}
    with nats_cluster(tmp_path / "cluster") as servers:
        url = f"nats://{','.join(each.address for each in servers)}/MOVED"
        async with asyncio.timeout(PATIENCE):
            while True:
                # The servers have not found each other yet.
                with suppress(DatabaseUnsuitable, StorageUnavailable):
                    async with _log(url) as engine:
                        info = await engine.log._stream.connection.ask("$JS.API.STREAM.INFO.MOVED", {})  # type: ignore[attr-defined] # looks inside
                    break
        append, dies = Arrival.append, iter([servers[int(info["cluster"]["leader"].rpartition("-")[2])]])

        async def leader_dies(arrival: Arrival, rows: Any) -> Any:  # noqa: ANN401 - as the real one
            if (leader := next(dies, None)) is not None:
                leader.kill()
            return await append(arrival, rows)

        monkeypatch.setattr(Arrival, "append", leader_dies)
        monkeypatch.setattr(to_stream, "_ATTEMPTS", 60)
        await _move(sqlite_url, url)
        async with _log(url) as engine:
            for name, seen in before.items():
                assert await _seen(engine, name) == seen, name


async def test_the_database_is_lost_when_the_log_has_just_arrived(
    database_url: str, stream_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log goes on in the stream alone; the command makes the outbox when it is repeated."""

    async def lost(*_: object, **__: object) -> None:
        raise StorageUnavailable("a test stops the server")

    await _takes_events(database_url)
    with monkeypatch.context() as patched:
        for kind in (FileSource, ServerSource):
            patched.setattr(kind, "become_outbox", lost)
        with pytest.raises(StorageUnavailable, match="a test stops"):
            await _move(database_url, stream_url)
    with pytest.raises(StorageUnavailable, match="GATECAST_OUTBOX"):
        await _takes_events(database_url)
    assert (await _move(database_url, stream_url)).rows == {}
    async with EventHub.open(stream_url, outbox=database_url, adopt=False) as hub:
        assert await hub.events_published("after") == 1


async def test_a_transaction_that_publishes_is_waited_for(database_url: str, stream_url: str) -> None:
    """What it commits is moved as well."""
    async with open_storage(database_url, extra_migrations=MIGRATIONS) as opened:
        storage = opened.storage
        await storage.log.register("after")
        async with opened_places(database_url, stream_url) as (source, target):
            await target.prepare(source)
            async with storage.database.transaction() as transaction:
                await storage.log.publish_in(transaction, [make_event("after")])
                moving = asyncio.create_task(asyncio.to_thread(asyncio.run, _move(database_url, stream_url)))
                await eventually(lambda: _is_waited_for(database_url))
            assert (await moving).rows["gatecast.events"] == 1


async def test_a_pod_that_has_locked_a_position_is_waited_for_when_the_log_is_closed(
    postgres_url: str, stream_url: str
) -> None:
    """Otherwise it would wait for the table, and the command for its row, until the server gives one of them up."""
    await _takes_events(postgres_url)
    async with _log(postgres_url) as engine:
        await _connect(engine, "after", "", 1)
    await _killed("it has arrived", postgres_url, stream_url)
    async with await psycopg.AsyncConnection.connect(postgres_url) as pod:
        await pod.execute("SET deadlock_timeout = '1h'")
        await pod.execute("SELECT FROM gatecast.cursors FOR NO KEY UPDATE")
        moving = asyncio.create_task(asyncio.to_thread(asyncio.run, _move(postgres_url, stream_url)))
        await eventually(lambda: _is_waited_for(postgres_url))
        with pytest.raises(psycopg.OperationalError, match="GATECAST_OUTBOX"):
            await pod.execute("UPDATE gatecast.cursors SET confirmed = 1")
        await pod.rollback()
        assert (await moving).rows == {}


async def _is_waited_for(url: str) -> bool:
    """Whether a session waits to block the tables; a file does not tell."""
    if url.startswith("sqlite"):
        return True
    async with await psycopg.AsyncConnection.connect(url) as server:
        found = await server.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'ExclusiveLock'")
        return await found.fetchone() is not None


def test_the_command_says_what_it_did_and_what_to_do(
    sqlite_url: str, stream_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(_takes_events(sqlite_url))
    command = typer.main.get_command(app)
    arguments = ["move-log", f"--database={sqlite_url}", f"--to={stream_url}"]
    command.main([*arguments, "--undo"], standalone_mode=False)
    assert "nothing to undo" in capsys.readouterr().out
    command.main(arguments, standalone_mode=False)
    told = " ".join(capsys.readouterr().out.split())
    assert "moved 1 events of 1 logs" in told
    assert "the old database as GATECAST_OUTBOX" in told
    command.main([*arguments, "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["rows"] == {}


def test_both_databases_seal_the_same_tables() -> None:
    """A table that a later release adds to the log is blocked as well."""
    stay = {"gatecast.schema_migrations", "gatecast.schema_functions"}
    assert {f"gatecast.{each}" for each in TABLES} == set(tables(available(OF_LOG))) - stay
