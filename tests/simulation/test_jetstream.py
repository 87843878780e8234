"""The promises over random schedules on a stream, whose replicas lag and whose writes come late."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest

from gatecast.errors import StorageUnavailable
from gatecast.events import Action, Event, Position, RecordedEvent
from gatecast.storage.contract import Connection, Outcome, OutcomeKind, Progress, ReadRequest
from gatecast.storage.jetstream.documents import Head, LowWaterMark
from gatecast.storage.jetstream.engine import prepare
from gatecast.storage.jetstream.gateways import Gateway
from gatecast.storage.jetstream.stream import Stream, Write
from gatecast.testing.virtual_time import run_in_virtual_time
from simulation.database import entity_of
from simulation.happenings import EAGER_POLICY, HAPPENINGS
from simulation.history import History, PromiseBroken
from simulation.jetstream import JetStreamStorage, SimulatedStream
from simulation.run import simulate
from simulation.world import Engine

GATEWAY = "gateway-1"

#: Each of these has found a mistake once.
_SEEDS = (7, 42, 55, 206, 219, 483, 1052, 1398)

#: Each of these has found one when the stream was put back often.
_SEEDS_WITH_RESTORES = (17, 24, 42, 63, 73, 81)

#: A planted mistake must show within these.
_ENOUGH = range(6, 100)


@pytest.mark.parametrize("seed", _SEEDS)
def test_every_schedule_keeps_every_promise(seed: int) -> None:
    assert run_in_virtual_time(simulate(seed, engine=Engine.JETSTREAM)).deliveries > 0


@pytest.mark.parametrize("seed", _SEEDS_WITH_RESTORES)
def test_a_stream_that_is_put_back_keeps_every_promise(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HAPPENINGS, "restore", replace(HAPPENINGS["restore"], weight=12))
    assert run_in_virtual_time(simulate(seed, engine=Engine.JETSTREAM, with_restores=True)).deliveries > 0


def test_a_seed_repeats_exactly() -> None:
    first, second = (run_in_virtual_time(simulate(42, steps=20, engine=Engine.JETSTREAM)) for _ in range(2))
    assert first.digest == second.digest


# --- mistakes that are planted ------------------------------------------------------------------------------------


def _store_what_is_stale(patch: pytest.MonkeyPatch) -> None:
    """The server does not compare."""
    patch.setattr(SimulatedStream, "_is_stale", lambda *_: False)


def _believe_whoever_answers(patch: pytest.MonkeyPatch) -> None:
    """What a pod has seen already is forgotten: a replica that lags answers."""
    patch.setattr(Stream, "floor", property(lambda _: 0, lambda *_: None))


def _simulate_all() -> None:
    for seed in _ENOUGH:
        run_in_virtual_time(simulate(seed, engine=Engine.JETSTREAM))


@pytest.mark.parametrize("plant", [_store_what_is_stale, _believe_whoever_answers])
def test_a_planted_mistake_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises((PromiseBroken, StorageUnavailable)) as found:
        _simulate_all()
    assert "ENGINE=jetstream" in found.value.__notes__[0]


# --- what comes late ----------------------------------------------------------------------------------------------


def _on_a_stream(work: Callable[[SimulatedStream, JetStreamStorage], Awaitable[None]]) -> None:
    """With one gateway, and a pod that lives for a second."""

    async def run() -> None:
        servers = SimulatedStream(random.Random(1), History(), lambda _: None)  # noqa: S311 - repeats, guards nothing
        with servers.repeatable():
            storage = servers.storage()
            await storage.log.register(GATEWAY)
            await storage.presence.renew_lease("pod-1", timedelta(seconds=1))
            await work(servers, storage)

    run_in_virtual_time(run())


_CONNECTION = Connection(
    connection_id="one",
    gateway_id=GATEWAY,
    replica="",
    pod_id="pod-1",
    protocol="gatecast.v2",
    remote="",
    token_id=None,
)


def test_a_pod_that_was_released_after_it_had_renewed_its_lease_takes_its_connections_back() -> None:
    """Nobody else would: the position stood still until the gateway confirmed something more."""

    async def work(servers: SimulatedStream, living: JetStreamStorage) -> None:
        other = servers.storage()
        await living.presence.connect(_CONNECTION, start=Position(servers.rows.epoch, 0))
        await asyncio.sleep(2)
        release: Any = other.presence._change_at

        async def after_the_renewal(*arguments: object) -> None:
            await living.presence.renew_lease("pod-1", timedelta(seconds=9))
            await release(*arguments)

        other.presence._change_at = after_the_renewal  # type: ignore[assignment,method-assign]
        await other.presence.renew_lease("pod-2", timedelta(seconds=9))
        assert servers.rows.connections["one"].released
        assert await living.presence.pending_disconnects("pod-1") == {}
        assert not servers.rows.connections["one"].released

    _on_a_stream(work)


def test_a_connection_that_was_given_up_is_not_recorded_afterwards() -> None:
    """Nobody would remove it while its pod lives, and the position would wait for it."""

    async def work(servers: SimulatedStream, storage: JetStreamStorage) -> None:
        late: list[Callable[[], object]] = []
        seats: list[object] = []

        async def give_up(held: Callable[[], object]) -> object:
            if not seats:
                seats.append(held())
                return seats[0]
            late.append(held)
            raise StorageUnavailable("there is no answer")

        with patch.object(storage.link, "ask_leader", give_up), pytest.raises(StorageUnavailable):
            await storage.presence._gateways.change(GATEWAY, _connect(servers))
        given_up = Progress(
            connection_id="one", gateway_id=GATEWAY, replica="", epoch=servers.rows.epoch, sent=0, confirmed=0
        )
        await storage.presence.disconnect([given_up])
        for each in late:
            each()
        assert late
        assert "one" not in servers.rows.connections

    _on_a_stream(work)


def _connect(servers: SimulatedStream) -> Callable[[Gateway], None]:
    def change(gateway: Gateway) -> None:
        start = Position(servers.rows.epoch, 0)
        gateway.state.connect(_CONNECTION, start, resync_reason=None, newest_only=False, now=0.0)

    return change


# --- streams that are put back meanwhile --------------------------------------------------------------------------


def test_retention_of_what_a_stream_has_lost_removes_nothing_that_is_published_afterwards() -> None:
    async def work(servers: SimulatedStream, storage: JetStreamStorage) -> None:
        backup = servers.backup()
        await _publish(storage, 3)
        mark = LowWaterMark(
            log=Head.decode(_stored(servers, servers.subjects.head(GATEWAY))).log, offset=3, sequence=99
        )
        servers.restore(backup)
        storage = servers.storage()
        await storage.stream.write(
            Write(subject=servers.subjects.low_water_mark(GATEWAY), data=mark.encode(), expect=0)
        )
        (found,) = await storage.log.read([ReadRequest(gateway_id=GATEWAY, after=0, max_events=1, max_bytes=1)])
        assert found is not None
        assert (found.head, found.low_water_mark) == (0, 0)
        await _publish(storage, 1)
        await storage.log.trim(EAGER_POLICY)
        await _publish(storage, 3)
        # A replica that lags answers with the first of them.
        answers = [await _read(storage, 0) for _ in range(20)]
        assert [event.offset for event in max(answers, key=len)] == [1, 2, 3, 4]

    _on_a_stream(work)


def test_a_head_is_not_believed_for_long() -> None:
    """After a restore another one may have its sequence: what is appended to it would overwrite an event."""

    async def work(servers: SimulatedStream, storage: JetStreamStorage) -> None:
        backup = servers.backup()
        await _publish(storage, 3)
        servers.restore(backup)
        other = servers.storage()
        # As many messages as before, with one event more.
        await other.log.publish([[_event(number) for number in range(4)]])
        await asyncio.sleep(1)
        await _publish(storage, 1)
        assert servers.rows.streams[GATEWAY].head == 5

    _on_a_stream(work)


def test_an_event_that_a_stream_has_lost_is_not_parked() -> None:
    """It was there when its outcome began to be recorded."""

    async def work(servers: SimulatedStream, storage: JetStreamStorage) -> None:
        backup = servers.backup()
        await _publish(storage, 1)
        read: Any = storage.outcomes.read

        async def after_the_restore(*arguments: object) -> object:
            storage.outcomes.read = read  # type: ignore[method-assign]
            servers.restore(backup)
            return await read(*arguments)

        storage.outcomes.read = after_the_restore  # type: ignore[assignment,method-assign]
        parked = Outcome(gateway_id=GATEWAY, replica="", offset=1, kind=OutcomeKind.PARKED, reason="no")
        with suppress(StorageUnavailable):
            await storage.outcomes.record([parked])
        assert await servers.storage().parking.parked(GATEWAY, after=0, limit=10) == []

    _on_a_stream(work)


def _stored(servers: SimulatedStream, subject: str) -> bytes:
    return next(each.data for each in servers.backup() if each.subject == subject)


# --- replicas that lag --------------------------------------------------------------------------------------------


def _on_a_lagging_stream(work: Callable[[SimulatedStream, JetStreamStorage], Awaitable[None]]) -> None:
    """Two of three replicas take over nothing any more, after the gateway was registered."""

    async def run() -> None:
        servers = SimulatedStream(random.Random(1), History(), lambda _: None)  # noqa: S311 - repeats, guards nothing
        with servers.repeatable():
            storage = servers.storage()
            await storage.log.register(GATEWAY)
            await asyncio.sleep(1)
            for each in servers.replicas:
                each.stalled_until = math.inf
            await work(servers, storage)

    run_in_virtual_time(run())


async def _publish(storage: JetStreamStorage, count: int) -> None:
    for number in range(count):
        await storage.log.publish([[_event(number)]])


def _event(number: int) -> Event:
    return Event(gateway_id=GATEWAY, type="api.updated", action=Action.UPDATE, entity_type="Api", entity_id=str(number))


async def _read(storage: JetStreamStorage, after: int) -> list[RecordedEvent]:
    (found,) = await storage.log.read([ReadRequest(gateway_id=GATEWAY, after=after, max_events=10, max_bytes=10**6)])
    assert found is not None
    return list(found.events)


def test_what_was_rejected_is_parked_as_what_it_is_about() -> None:
    async def work(servers: SimulatedStream, storage: JetStreamStorage) -> None:
        await _publish(storage, 20)
        for offset in range(1, 21):
            parked = Outcome(gateway_id=GATEWAY, replica="", offset=offset, kind=OutcomeKind.PARKED, reason="no")
            await storage.outcomes.record([parked])
        listed = await storage.parking.parked(GATEWAY, after=0, limit=100)
        assert [(each.entity_type, each.entity_id) for each in listed] == [("Api", str(n)) for n in range(20)]
        assert [*servers.rows.entities(GATEWAY, "", OutcomeKind.PARKED)] == [("Api", str(n)) for n in range(20)]

    _on_a_lagging_stream(work)


def test_a_gateway_that_is_behind_is_so_for_some_time() -> None:
    async def work(_: SimulatedStream, storage: JetStreamStorage) -> None:
        await _publish(storage, 1)
        await asyncio.sleep(1)
        for _again in range(20):
            assert (await storage.presence.status([GATEWAY]))[GATEWAY].lag_seconds >= 1

    _on_a_lagging_stream(work)


def test_no_event_is_taken_for_missing() -> None:
    async def work(servers: SimulatedStream, storage: JetStreamStorage) -> None:
        await _publish(storage, 1)
        servers.random.choice = lambda replicas: replicas[-1]  # type: ignore[method-assign,assignment] # never the leader
        with pytest.raises(StorageUnavailable, match="lag"):
            await _read(storage, 0)
        servers.random = random.Random(2)  # noqa: S311 - as above
        for _ in range(20):
            (event,) = await _read(storage, 0)
            assert (event.offset, entity_of(event)) == (1, ("Api", "0"))

    _on_a_lagging_stream(work)


def test_after_asking_for_every_log_a_pod_believes_no_older_answer() -> None:
    """Although it was opened when less was there: so it does not take a deleted gateway for one that is new to it."""

    async def work(servers: SimulatedStream, storage: JetStreamStorage) -> None:
        for stalls_until in (0.0, math.inf):
            for each in servers.replicas:
                each.stalled_until = stalls_until
            for _ in range(20):
                await storage.log.changed_since(0)
        opened = [servers.storage() for _ in range(20)]
        await storage.log.register("later")
        for pod in opened:
            await pod.log.changed_since(0)
            request = ReadRequest(gateway_id="later", after=0, max_events=1, max_bytes=1)
            assert await pod.log.read([request]) != [None]

    _on_a_lagging_stream(work)


def test_what_a_pod_was_told_of_is_in_its_next_answer() -> None:
    """Otherwise it takes a log that has grown for one that it has read, until something else is published."""

    async def work(servers: SimulatedStream, publishing: JetStreamStorage) -> None:
        pods = [servers.storage() for _ in range(20)]
        markers = [(await pod.log.changed_since(0)).marker for pod in pods]
        await _publish(publishing, 1)
        for pod, marker in zip(pods, markers, strict=True):
            while (await pod.log.changed_since(marker)).heads != {GATEWAY: 1}:
                pass
            assert len(await _read(pod, 0)) == 1

    _on_a_lagging_stream(work)


def test_a_pod_opens_a_stream_that_has_just_been_made() -> None:
    """Its other replicas may not even have the history."""

    async def run() -> None:
        servers = SimulatedStream(random.Random(1), History(), lambda _: None)  # noqa: S311 - repeats, guards nothing
        for each in servers.replicas:
            each.stalled_until = math.inf
        with servers.repeatable():
            for _ in range(20):
                await prepare(servers.storage().stream, 3)

    run_in_virtual_time(run())
