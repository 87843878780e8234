"""What is removed leaves nothing in the stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from gatecast.storage.contract import Outcome, OutcomeKind, TrimPass, TrimPolicy
from gatecast.storage.jetstream import JetStreamEngine
from gatecast.storage.jetstream.stream import Message, Stream
from gatecast.testing.contracts.backend import (
    ALIVE,
    GATEWAY,
    POD,
    confirm,
    connect,
    make_connection,
    make_events,
    progress_of,
    publish,
)
from gatecast.testing.nats_server import NatsServer

pytestmark = pytest.mark.slow

_NOTHING_STAYS = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(0), max_events=1)

_KEEP_ALL_IN_NUMBER = replace(_NOTHING_STAYS, max_events=10**6)


async def _kinds(engine: JetStreamEngine) -> set[str]:
    """The kinds of documents that are stored."""
    stream = engine.log._stream
    return {
        message.subject.split(".")[1] for message in await stream.all_of(f"{stream.subjects.name}.>") if message.data
    }


@pytest.fixture
def name() -> str:
    """The name of a stream."""
    return f"L{uuid4().hex}"


async def _fill(engine: JetStreamEngine) -> None:
    """Two events that were confirmed, of which one was applied and one rejected."""
    await engine.presence.renew_lease(POD, ALIVE)
    await engine.log.register(GATEWAY)
    await publish(engine, *make_events(2))
    await connect(engine, make_connection())
    for offset, kind in ((1, OutcomeKind.APPLIED), (2, OutcomeKind.REJECTED)):
        await engine.outcomes.record([Outcome(gateway_id=GATEWAY, replica="", offset=offset, kind=kind, reason="")])
    await confirm(engine, make_connection(), 2)


async def test_a_deleted_gateway_leaves_nothing(server: NatsServer, name: str) -> None:
    """Once its connections have ended and its events are removed."""
    async with JetStreamEngine.open([f"nats://{server.address}"], name, replicas=1) as engine:
        await _fill(engine)
        assert await _kinds(engine) >= {"event", "id", "applied", "special", "state", "seat", "head"}
        await engine.log.forget(GATEWAY)
        await engine.presence.disconnect([await progress_of(engine, make_connection(), sent=2, confirmed=2)])
        assert await engine.log.trim(_NOTHING_STAYS) == 2
        assert await _kinds(engine) == {"history", "pod"}


async def test_retention_removes_all_of_an_event(server: NatsServer, name: str) -> None:
    """Its id and its outcomes as well; the head stays."""
    async with JetStreamEngine.open([f"nats://{server.address}"], name, replicas=1) as engine:
        await _fill(engine)
        assert await engine.log.trim(_NOTHING_STAYS) == 2
        assert await _kinds(engine) == {"history", "pod", "head", "low", "state", "seat"}


async def test_a_chunk_of_retention_continues_where_the_last_one_ended(
    server: NatsServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No chunk asks again about the gateways before: the cost of all chunks does not grow with their number."""
    asked = Counter[str]()
    scan = Stream.scan

    def counted(stream: Stream, filtered: str, **how: Any) -> AsyncIterator[Message]:  # noqa: ANN401 - as it is
        asked["heads" if filtered == stream.subjects.heads else filtered.split(".")[1]] += 1
        return scan(stream, filtered, **how)

    gateways = [f"gateway-{number}" for number in range(40)]
    async with JetStreamEngine.open([f"nats://{server.address}"], name, replicas=1) as engine:
        for gateway_id in gateways:
            await engine.log.register(gateway_id)
        await engine.log.publish([[event] for gateway_id in gateways for event in make_events(3, gateway_id)])
        monkeypatch.setattr(Stream, "scan", counted)
        removed, trim_pass = [], TrimPass()
        while not trim_pass.is_done:
            removed.append(await engine.log.trim(replace(_KEEP_ALL_IN_NUMBER, chunk=4), trim_pass))
        assert removed == [4] * 30 + [0]
        # Each chunk takes up a few again, however many there are.
        assert asked["heads"] == 1
        assert asked["id"] <= 40 + 30 * 10


async def test_retention_goes_by_the_clock_of_the_server_as_it_is_now(server: NatsServer, name: str) -> None:
    """What a pod knows of it lags by as long as the answer took that told."""
    async with JetStreamEngine.open([f"nats://{server.address}"], name, replicas=1) as engine:
        await _fill(engine)
        await engine.log._stream.info()
        engine.log._stream._clock.shown -= 60
        assert await engine.log.trim(_KEEP_ALL_IN_NUMBER) == 2


async def test_a_pod_that_ends_leaves_no_note_of_itself(server: NatsServer, name: str) -> None:
    """Neither of where its connections were, nor of those that it should have ended."""
    async with JetStreamEngine.open([f"nats://{server.address}"], name, replicas=1) as engine:
        await _fill(engine)
        await engine.presence.disconnect_token("token-1")
        assert "call" in await _kinds(engine)
        await engine.presence.end_lease(POD)
        assert not await _kinds(engine) & {"pod", "seat", "call"}


async def test_a_pod_that_dies_before_it_purges_leaves_that_to_the_next_one(server: NatsServer, name: str) -> None:
    """The low-water mark has moved: what it covers is read by nobody, and counted by nobody again."""
    async with JetStreamEngine.open([f"nats://{server.address}"], name, replicas=1) as engine:
        await _fill(engine)
        retention = engine.log._retention
        purge = retention._purge

        async def die(*_: object) -> None:
            raise ConnectionAbortedError

        retention._purge = die  # type: ignore[method-assign, assignment] # dies there
        with pytest.raises(ConnectionAbortedError):
            await engine.log.trim(_NOTHING_STAYS)
        retention._purge = purge  # type: ignore[method-assign]
        assert "event" in await _kinds(engine)
        await publish(engine, *make_events(1))
        assert await engine.log.trim(_NOTHING_STAYS) == 1
        assert await _kinds(engine) == {"history", "pod", "head", "low", "state", "seat"}
