"""`gatecast move-log` to NATS JetStream beside late runs of it, other histories, and others who use the stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gatecast.cli.move_log import to_stream
from gatecast.cli.move_log.moving import MoveUncertain, abandon, move
from gatecast.cli.move_log.places import opened_alone, opened_places
from gatecast.cli.move_log.to_stream import StreamTarget
from gatecast.errors import DatabaseUnsuitable, StorageUnavailable
from gatecast.hub import EventHub
from gatecast.storage.connect import open_engine
from gatecast.storage.contract import Engine, Outcome, OutcomeKind, TrimPolicy
from gatecast.storage.jetstream.arrival import Arrival
from gatecast.storage.jetstream.documents import History
from gatecast.storage.jetstream.stream import Snapshot, Stream
from gatecast.storage.moved import Blocking
from gatecast.testing.contracts.backend import make_event, make_events, publish, read
from gatecast.testing.nats_server import nats_server
from tests.contract.outbox.test_move_log_to_stream import (
    _CONFIRMED,
    _EVERYTHING,
    _connect,
    _execute,
    _log,
    _move,
    _takes_events,
    _trim,
    _undo,
)

pytestmark = pytest.mark.slow

#: Does something after the copying while pods run, and before anybody is blocked.
Meanwhile = Callable[[Callable[[], Awaitable[None]]], None]


class _Killed(BaseException):
    pass


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    def do(work: Callable[[], Awaitable[None]]) -> None:
        prepare = StreamTarget.prepare

        async def and_then(target: StreamTarget, source: Any) -> None:  # noqa: ANN401 - of either kind
            await prepare(target, source)
            await work()

        monkeypatch.setattr(StreamTarget, "prepare", and_then)

    return do


async def _fill(url: str, count: int = 5) -> None:
    async with _log(url) as engine:
        await engine.log.register("g")
        await publish(engine, *make_events(count, "g"))


async def _ends_before_anybody_is_blocked(old: str, new: str) -> None:
    async with opened_places(old, new) as (source, target):
        await target.prepare(source)


async def _ends_while_everybody_is_blocked(old: str, new: str) -> None:
    async with opened_places(old, new) as (source, target):
        await target.prepare(source)
        await source.block(Blocking(target=await target.name(None), run=uuid4()))


async def _offsets(url: str) -> list[int]:
    async with _log(url) as engine:
        events = (await read(engine, "g")).events
        assert all(event.checked().undeliverable is None for event in events)
        return [event.offset for event in events]


async def _subjects(url: str, kind: str) -> list[str]:
    async with open_engine(url) as opened:
        stream: Stream = opened.engine.log._stream  # type: ignore[attr-defined] # looks inside
        return [message.subject for message in await stream.all_of(f"{stream.subjects.name}.{kind}.>")]


# --- late runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purges", range(9))
async def test_what_an_interrupted_undo_has_left_is_not_trusted(
    purges: int, sqlite_url: str, stream_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _fill(sqlite_url)
    await _ends_before_anybody_is_blocked(sqlite_url, stream_url)
    purge, left = Stream.purge, iter(range(purges))

    async def dies(stream: Stream, filtered: str, **named: Any) -> None:  # noqa: ANN401 - as the real one
        if next(left, None) is None:
            raise _Killed
        await purge(stream, filtered, **named)

    with monkeypatch.context() as patched:
        patched.setattr(Stream, "purge", dies)
        with suppress(_Killed):
            await _undo(sqlite_url, stream_url)
    await _move(sqlite_url, stream_url)
    assert await _offsets(stream_url) == [1, 2, 3, 4, 5]


async def test_a_copy_that_is_not_complete_does_not_become_the_log(
    sqlite_url: str, stream_url: str, meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator has removed some of it; the next run copies everything anew."""
    await _fill(sqlite_url)

    async def lose() -> None:
        async with Arrival.open([stream_url.rpartition("/")[0]], _name(stream_url), replicas=1) as arrival:
            await arrival._stream.purge(f"{_name(stream_url)}.event.>")

    with monkeypatch.context() as patched:
        meanwhile(lose)
        with pytest.raises(DatabaseUnsuitable, match="is not what the log holds"):
            await _move(sqlite_url, stream_url)
        patched.undo()
    monkeypatch.undo()
    await _takes_events(sqlite_url)
    await _move(sqlite_url, stream_url)
    assert await _offsets(stream_url) == [1, 2, 3, 4, 5]


def _name(stream_url: str) -> str:
    return stream_url.partition("?")[0].rpartition("/")[2]


async def test_a_run_that_was_suspended_removes_nothing_that_another_one_has_brought(
    sqlite_url: str, stream_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _fill(sqlite_url)
    async with _log(sqlite_url) as engine:
        await _connect(engine, "g", "", 5)
        parked = Outcome(gateway_id="g", replica="", offset=2, kind=OutcomeKind.PARKED, reason="no")
        await engine.outcomes.record([parked])
    forget, first = Arrival.forget_outcomes, iter(range(1))

    async def suspended(arrival: Arrival) -> None:
        if next(first, None) is not None:
            await _move(sqlite_url, stream_url)
        await forget(arrival)

    monkeypatch.setattr(Arrival, "forget_outcomes", suspended)
    with pytest.raises((StorageUnavailable, DatabaseUnsuitable)):
        await _move(sqlite_url, stream_url)
    async with _log(stream_url) as engine:
        assert [each.offset for each in await engine.parking.parked("g", after=0, limit=9)] == [2]


async def test_an_undo_that_was_suspended_removes_nothing_of_a_log_that_has_arrived(
    sqlite_url: str, stream_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _fill(sqlite_url)
    await _ends_before_anybody_is_blocked(sqlite_url, stream_url)
    purge, first = Stream.purge, iter(range(1))

    async def suspended(stream: Stream, filtered: str, **named: Any) -> None:  # noqa: ANN401 - as the real one
        if next(first, None) is not None:
            await _move(sqlite_url, stream_url)
        await purge(stream, filtered, **named)

    monkeypatch.setattr(Stream, "purge", suspended)
    with pytest.raises((StorageUnavailable, DatabaseUnsuitable)):
        await _undo(sqlite_url, stream_url)
    assert await _offsets(stream_url) == [1, 2, 3, 4, 5]


async def test_an_undo_unblocks_only_what_it_has_given_up(sqlite_url: str, stream_url: str) -> None:
    """Another run may have blocked the log since."""
    await _fill(sqlite_url)
    await _ends_while_everybody_is_blocked(sqlite_url, stream_url)
    with pytest.raises(DatabaseUnsuitable, match="there is no stream"):
        await _undo(sqlite_url, stream_url.replace("?", "-mistyped?"))
    async with opened_places(sqlite_url, stream_url, undo=True) as (source, target):
        earlier = await source.blocking()
        assert earlier is not None
        await source.block(replace(earlier, run=uuid4()))
        await source.unblock(earlier.run)
        assert await source.blocking() is not None
        assert await target.give_up(source)


@pytest.mark.parametrize("gateways", [0, 1])
async def test_the_outbox_is_made_once(gateways: int, database_url: str, stream_url: str) -> None:
    """Two commands repeat a move that has arrived; what is published before the slower one ends stays in the outbox."""
    if gateways:
        await _fill(database_url)
    async with _log(database_url) as engine:
        identity = str(await engine.log.identity())
    async with opened_places(database_url, stream_url) as (source, target):
        blocking = Blocking(target=await target.name(None), run=uuid4())
        await move(source, target)
        async with _log(database_url) as engine:
            await engine.log.register("new")
            await publish(engine, make_event("new"))
        assert await target.finish(source, blocking) is False
        [row] = await source.fetch("SELECT log FROM gatecast_outbox_forwarder")
        [found] = await source.fetch("SELECT count(*) AS events FROM gatecast.events")
        assert (row["log"], found["events"]) == (identity, 1)


@pytest.mark.parametrize("step", ["arrive", "clean_up"])
async def test_what_is_published_although_the_log_is_blocked_is_not_removed(
    step: str, database_url: str, stream_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a server that takes over and lacks the block: the command fails, and the log is as it was."""
    await _fill(database_url)
    real = StreamTarget._arrive
    async with opened_places(database_url, stream_url) as (source, target), _log(database_url) as engine:

        async def and_then(to: StreamTarget, source: Any, blocking: Blocking) -> None:  # noqa: ANN401 - of either kind
            if step == "clean_up":
                await real(to, source, blocking)
            await source.unblock(blocking.run)
            await publish(engine, make_event("g"))
            if step == "arrive":
                await real(to, source, blocking)

        monkeypatch.setattr(StreamTarget, "_arrive", and_then)
        with pytest.raises(DatabaseUnsuitable, match="changed"):
            await move(source, target)
    assert await _offsets(database_url) == [1, 2, 3, 4, 5, 6]


# --- other histories --------------------------------------------------------------------------------------------------


async def test_a_history_that_begins_while_it_is_copied_arrives_instead(
    database_url: str, stream_url: str, meanwhile: Meanwhile
) -> None:
    """As on PostgreSQL when an asynchronous standby takes over, which lacks the last events."""
    await _fill(database_url)
    new = [make_event("g", new=number) for number in range(2)]
    async with _log(database_url) as engine:
        epoch = (await engine.log.changed_since(0)).epoch

        async def take_over() -> None:
            _execute(database_url, 'DELETE FROM gatecast.events WHERE "offset" > 3')
            _execute(database_url, "UPDATE gatecast.gateway_streams SET head = 3")
            await engine.log.renew_epoch(epoch)
            await publish(engine, *new)

        meanwhile(take_over)
        moved = await _move(database_url, stream_url)
    async with _log(stream_url) as engine:
        changes = await engine.log.changed_since(0)
        assert changes.epoch == moved.epoch != epoch
        assert changes.epoch in changes.lineage
        events = (await read(engine, "g")).events
        assert [event.event_id for event in events[3:]] == [event.event_id for event in new]


async def test_nothing_arrives_that_the_log_has_lost_since_it_was_copied(
    sqlite_url: str, stream_url: str, meanwhile: Meanwhile
) -> None:
    """No pod has noticed yet. A publisher who repeats the lost event gets a position that subscribers reach."""
    await _fill(sqlite_url)
    async with _log(sqlite_url) as engine:
        lost = (await read(engine, "g")).events[4]

    async def lose() -> None:
        _execute(sqlite_url, 'DELETE FROM gatecast.events WHERE "offset" > 3')
        _execute(sqlite_url, "UPDATE gatecast.gateway_streams SET head = 3")

    meanwhile(lose)
    await _move(sqlite_url, stream_url)
    async with _log(stream_url) as engine:
        [receipt] = await publish(engine, replace(make_event("g"), event_id=lost.event_id))
        assert (receipt.position.offset, (await read(engine, "g")).head) == (4, 4)
    assert len(await _subjects(stream_url, "event")) == 4


@pytest.mark.parametrize("again", [_undo, _move])
async def test_a_move_is_undone_or_repeated_although_a_new_history_has_begun(
    again: Callable[[str, str], Awaitable[object]], sqlite_url: str, stream_url: str
) -> None:
    await _fill(sqlite_url)
    await _ends_before_anybody_is_blocked(sqlite_url, stream_url)
    async with _log(sqlite_url) as engine:
        await engine.log.renew_epoch((await engine.log.changed_since(0)).epoch)
    assert await again(sqlite_url, stream_url)
    await _move(sqlite_url, stream_url)
    assert await _offsets(stream_url) == [1, 2, 3, 4, 5]


# --- gateways that change ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("events", [0, 2])
async def test_a_gateway_that_was_deleted_after_a_run_that_failed_does_not_come_back(
    events: int, sqlite_url: str, stream_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _fill(sqlite_url)
    async with _log(sqlite_url) as engine:
        await engine.log.register("deleted")
        await publish(engine, *make_events(events, "deleted"))
        await _connect(engine, "deleted", "", events)

    async def refused(*_: object, **__: object) -> None:
        raise DatabaseUnsuitable("pods run on the stream already", "stop them")

    with monkeypatch.context() as patched:
        patched.setattr(Arrival, "arrive", refused)
        with pytest.raises(DatabaseUnsuitable):
            await _move(sqlite_url, stream_url)
    async with _log(sqlite_url) as engine:
        await engine.log.forget("deleted")
    await _move(sqlite_url, stream_url)
    async with _log(stream_url) as engine:
        assert (await engine.log.changed_since(0)).heads == {"g": 5}
    assert not [
        each for kind in ("event", "state", "low") for each in await _subjects(stream_url, kind) if "del" in each
    ]


async def test_nothing_stays_of_the_earlier_log_of_a_gateway_that_was_registered_again(
    sqlite_url: str, stream_url: str, meanwhile: Meanwhile
) -> None:
    await _fill(sqlite_url)
    async with _log(sqlite_url) as engine:

        async def register_again() -> None:
            await engine.log.forget("g")
            await engine.log.register("g")
            await publish(engine, make_event("g"))

        meanwhile(register_again)
        await _move(sqlite_url, stream_url)
    assert len(await _subjects(stream_url, "event")) == 1


async def test_the_front_of_a_log_is_removed_twice_without_harm(
    sqlite_url: str, stream_url: str, meanwhile: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of the last write is lost, or NATS is away for a moment just before it."""
    await _fill(sqlite_url)
    store, lost = Arrival._store, iter(range(1))

    async def loses(arrival: Arrival, units: Any) -> None:  # noqa: ANN401 - as the real one
        units = [list(unit) for unit in units]
        if units and ".moving." in units[0][0].subject and next(lost, None) is not None:
            raise StorageUnavailable("a test cuts the wire")
        await store(arrival, units)

    async with _log(sqlite_url) as engine:

        async def trim() -> None:
            await _connect(engine, "g", "", 2)
            assert await _trim(engine, _CONFIRMED) == 2

        meanwhile(trim)
        monkeypatch.setattr(Arrival, "_store", loses)
        await _move(sqlite_url, stream_url)
    assert next(lost, None) is None
    assert await _offsets(stream_url) == [3, 4, 5]
    assert [len(await _subjects(stream_url, kind)) for kind in ("event", "id")] == [3, 3]


# --- others who use the stream ----------------------------------------------------------------------------------------


async def _registers(theirs: Engine) -> None:
    await theirs.log.register("theirs")
    await publish(theirs, make_event("theirs"))


async def test_a_stream_that_is_used_just_when_the_move_begins_is_left_as_it_is(
    sqlite_url: str, stream_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _fill(sqlite_url)
    write, first = Arrival._write, iter(range(1))
    async with _log(stream_url) as theirs:

        async def late(arrival: Arrival, history: History) -> None:
            if next(first, None) is not None:
                await _registers(theirs)
            await write(arrival, history)

        monkeypatch.setattr(Arrival, "_write", late)
        with pytest.raises(DatabaseUnsuitable, match="holds gateways"):
            await _move(sqlite_url, stream_url)
        assert await _undo(sqlite_url, stream_url) is False
        assert await publish(theirs, make_event("theirs"))
        assert len((await read(theirs, "theirs")).events) == 2


async def test_an_undo_removes_nothing_from_a_stream_of_which_it_is_not_known_whether_it_was_used(
    sqlite_url: str, stream_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command was killed before it looked a second time."""
    await _fill(sqlite_url)
    write = Arrival._write
    async with _log(stream_url) as theirs:

        async def killed(arrival: Arrival, history: History) -> None:
            await _registers(theirs)
            await write(arrival, history)
            raise _Killed

        with monkeypatch.context() as patched:
            patched.setattr(Arrival, "_write", killed)
            with pytest.raises(_Killed):
                await _move(sqlite_url, stream_url)
        assert await _undo(sqlite_url, stream_url) is True
        assert len((await read(theirs, "theirs")).events) == 1


async def test_a_hub_on_the_stream_is_refused_while_a_log_is_moved_into_it(
    sqlite_url: str, stream_url: str, meanwhile: Meanwhile
) -> None:
    await _fill(sqlite_url)
    async with _log(stream_url) as theirs:
        epoch = (await theirs.log.changed_since(0)).epoch

        async def use() -> None:
            for refused in (theirs.log.register("g"), theirs.log.renew_epoch(epoch)):
                with pytest.raises(StorageUnavailable, match="being moved into the stream"):
                    await refused

        meanwhile(use)
        await _move(sqlite_url, stream_url)
    assert await _offsets(stream_url) == [1, 2, 3, 4, 5]


async def test_a_registration_that_meets_the_beginning_of_a_move_leaves_nothing(
    sqlite_url: str, stream_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has looked at the stream before the move, and stores its gateway after that."""
    await _fill(sqlite_url)
    write_all, first = Stream.write_all, iter(range(1))

    async def late(stream: Stream, writes: Sequence[Any]) -> int:
        if ".head." in writes[-1].subject and next(first, None) is not None:
            await _ends_before_anybody_is_blocked(sqlite_url, stream_url)
        return await write_all(stream, writes)

    async with _log(stream_url) as theirs:
        monkeypatch.setattr(Stream, "write_all", late)
        with pytest.raises(StorageUnavailable, match="being moved into the stream"):
            await theirs.log.register("theirs")
    await _move(sqlite_url, stream_url)
    async with _log(stream_url) as engine:
        assert (await engine.log.changed_since(0)).heads == {"g": 5}


@pytest.mark.parametrize("policy", [{"max_events": 5}, {"keep_at_most": timedelta(days=-1)}])
async def test_a_pod_of_before_removes_nothing_that_was_not_forwarded(
    policy: Mapping[str, Any], database_url: str, stream_url: str
) -> None:
    """Its retention goes on, while NATS is away and what was published waits; forwarding removes what it has done."""
    await _fill(database_url, 2)
    await _move(database_url, stream_url)
    a_week = timedelta(days=7)
    capped = replace(TrimPolicy(keep_confirmed=a_week, keep_at_most=a_week, max_events=1 << 40), **policy)
    async with _log(database_url) as old:
        await publish(old, *make_events(20, "g"))
        assert await old.log.trim(capped) == 0
        async with EventHub.open(stream_url, outbox=database_url, adopt=False) as hub:
            assert (await hub.outbox.wait_until_forwarded((await hub.append([make_event("g")]))[0])).offset == 23


# --- faults -----------------------------------------------------------------------------------------------------------


async def test_a_replica_that_lags_does_not_decide_whether_the_log_has_arrived(
    sqlite_url: str, stream_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of the arrival is lost; nobody changes the log here."""
    await _fill(sqlite_url)
    arrive, snapshot = Arrival.arrive, Stream.snapshot
    behind: list[Snapshot] = []

    async def lagging(stream: Stream, subjects: Sequence[str]) -> Snapshot:
        if behind and stream.floor <= behind[0].through:
            return behind[0]
        return await snapshot(stream, subjects)

    async def arrives_unseen(arrival: Arrival, epoch: Any, **named: Any) -> None:  # noqa: ANN401 - as the real one
        stream = arrival._stream
        before, floor = await snapshot(stream, []), stream.floor
        await arrive(arrival, epoch, **named)
        stream.floor = floor
        behind.append(before)
        raise StorageUnavailable("a test loses the answer")

    with monkeypatch.context() as patched:
        patched.setattr(Stream, "snapshot", lagging)
        patched.setattr(Arrival, "arrive", arrives_unseen)
        with pytest.raises((MoveUncertain, StorageUnavailable)):
            await _move(sqlite_url, stream_url)
    with pytest.raises(StorageUnavailable, match="moved to NATS JetStream"):
        await _takes_events(sqlite_url)


async def test_a_replica_that_lags_shows_less_of_a_log_than_is_removed_from_it(
    sqlite_url: str, stream_url: str, meanwhile: Meanwhile
) -> None:
    """A purge that ends before the first message of the stream removes nothing."""
    await _fill(sqlite_url)
    async with Arrival.open([stream_url.rpartition("/")[0]], _name(stream_url), replicas=1) as arrival:
        stream = arrival._stream

        async def purge() -> None:
            for before in (0, 1):
                await stream.purge(f"{stream.subjects.name}.>", before=before)

        meanwhile(purge)
        await _move(sqlite_url, stream_url)
    assert await _offsets(stream_url) == [1, 2, 3, 4, 5]


async def test_an_account_without_room_ends_the_command(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error tells why, and the log is in use."""
    async with _log(sqlite_url) as engine:
        await engine.log.register("g")
        for _ in range(8):
            await publish(engine, make_event("g", large="x" * 900_000))
    monkeypatch.setattr(to_stream, "_ATTEMPTS", 3)
    more = "accounts { A { jetstream { max_file: 4MB }, users: [ { user: a, password: a } ] } }\nno_auth_user: a"
    with nats_server(tmp_path / "nats", more=more) as small, pytest.raises(StorageUnavailable, match="may be full"):
        await _move(sqlite_url, small.url("S"))
    await _takes_events(sqlite_url)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE gatecast.outcomes SET reason = CAST(X'ff' AS text)",
        "UPDATE gatecast.outcomes SET replica = CAST(X'ff' AS text)",
        "UPDATE gatecast.cursors SET replica = CAST(X'ff' AS text)",
        "UPDATE gatecast.cursors SET resync_reason = CAST(X'ff' AS text)",
        "UPDATE gatecast.cursors SET confirmed = 'no number'",
        "UPDATE gatecast.gateway_streams SET registered_in = CAST(X'ff' AS text) WHERE gateway_id = 'g'",
    ],
)
async def test_p11_what_cannot_be_read_beside_events_hinders_nothing_else(
    statement: str, sqlite_url: str, stream_url: str
) -> None:
    await _fill(sqlite_url)
    async with _log(sqlite_url) as engine:
        await engine.log.register("innocent")
        await publish(engine, make_event("innocent"))
        await _connect(engine, "g", "", 3)
        parked = Outcome(gateway_id="g", replica="", offset=2, kind=OutcomeKind.PARKED, reason="no")
        await engine.outcomes.record([parked])
    _execute(sqlite_url, statement)
    await _move(sqlite_url, stream_url)
    assert await _offsets(stream_url) == [1, 2, 3, 4, 5]
    async with _log(stream_url) as engine:
        await _trim(engine, _EVERYTHING)
        assert not (await read(engine, "innocent")).events


async def test_a_log_whose_stream_is_gone_is_in_use_again_when_the_operator_says_so(
    database_url: str, stream_url: str
) -> None:
    """What may have been published there is lost, so a new history begins."""
    await _fill(database_url)
    await _ends_while_everybody_is_blocked(database_url, stream_url)
    async with Arrival.open([stream_url.rpartition("/")[0]], _name(stream_url), replicas=1) as arrival:
        await arrival._stream.connection.ask(f"$JS.API.STREAM.DELETE.{_name(stream_url)}", {})
    for again in (_move, _undo):
        with pytest.raises(DatabaseUnsuitable, match="--target-lost"):
            await again(database_url, stream_url)
    async with opened_alone(database_url) as (old, source):
        before = await source.epoch()
        assert await abandon(source, old.storage.log) is True
        assert await abandon(source, old.storage.log) is False
        assert await source.epoch() != before
    await _takes_events(database_url)
    assert (await _move(database_url, stream_url)).rows["gatecast.events"] == 6
