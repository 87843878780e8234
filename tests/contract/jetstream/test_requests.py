"""A publish is one request to the servers, however many gateways it is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import uuid4

import pytest

from gatecast.events import Event
from gatecast.storage.contract import PublishResult
from gatecast.storage.jetstream import JetStreamEngine
from gatecast.storage.jetstream.connection import Connection, Outgoing
from gatecast.testing.contracts.backend import make_events
from gatecast.testing.nats_server import NatsServer

pytestmark = pytest.mark.slow

_GATEWAYS = [f"gateway-{number}" for number in range(32)]

_ONE_BATCH = Counter(send_batch=1)


class _Requests:
    """Counts what is asked of the servers, by method of the connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._counted = Counter[str]()
        for name in ("ask", "send", "send_batch", "collect"):
            self._count(monkeypatch, name)

    def _count(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        method = getattr(Connection, name)

        async def counted(connection: Connection, *arguments: Any) -> Any:  # noqa: ANN401 - as it is
            self._counted[name] += 1
            return await method(connection, *arguments)

        monkeypatch.setattr(Connection, name, counted)

    def so_far(self) -> Counter[str]:
        """How many there were since the last call; a request that `ask` sends counts twice."""
        counted = self._counted.copy()
        self._counted.clear()
        return counted


async def _publish(engine: JetStreamEngine, events: Iterable[Event]) -> list[int]:
    """The offsets of these events, each published by a caller of its own."""
    return list(map(_offset, await engine.log.publish([[event] for event in events])))


def _offset(result: PublishResult) -> int:
    assert isinstance(result, tuple)
    return result[0].position.offset


def _one_for_each() -> list[Event]:
    return [event for name in _GATEWAYS for event in make_events(1, name)]


async def test_a_publish_is_one_batch(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads are read when they were not published to lately, or when somebody else was faster; ids after a conflict."""
    # They stay fresh, however slow this machine is.
    monkeypatch.setattr("gatecast.storage.jetstream.publishing._LASTS", 3_600.0)
    servers, name = [f"nats://{server.address}"], f"R{uuid4().hex}"
    async with (
        JetStreamEngine.open(servers, name, replicas=1) as engine,
        JetStreamEngine.open(servers, name, replicas=1) as other,
    ):
        for gateway_id in _GATEWAYS:
            await engine.log.register(gateway_id)
        requests = _Requests(monkeypatch)
        one = _GATEWAYS[:1]
        assert await _publish(engine, make_events(1, *one)) == [1]
        assert requests.so_far() == Counter(collect=1, send_batch=1)
        assert await _publish(engine, make_events(1, *one)) == [2]
        assert requests.so_far() == _ONE_BATCH
        assert await _publish(engine, _one_for_each()) == [3] + [1] * 31
        assert requests.so_far() == Counter(collect=1, send_batch=1)
        assert await _publish(engine, _one_for_each()) == [4] + [2] * 31
        assert requests.so_far() == _ONE_BATCH
        # Another pod is faster.
        assert await _publish(other, make_events(1, *one)) == [5]
        requests.so_far()
        [event] = make_events(1, *one)
        assert await _publish(engine, [event]) == [6]
        assert requests.so_far() == Counter(send_batch=2, collect=2)
        # The same once more: its id is found after the conflict, and nothing is stored.
        assert await _publish(engine, [event]) == [6]
        assert requests.so_far() == Counter(send_batch=1, collect=2)


async def test_what_another_write_keeps_busy_is_tried_again_without_reading(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every batch expects the history, and the servers check it for one batch at a time: pods meet there."""
    busy = {"error": {"code": 400, "err_code": 10164, "description": "wrong last sequence"}}
    async with JetStreamEngine.open([f"nats://{server.address}"], f"R{uuid4().hex}", replicas=1) as engine:
        await engine.log.register(_GATEWAYS[0])
        monkeypatch.setattr("gatecast.storage.jetstream.publishing._LASTS", 3_600.0)
        await _publish(engine, make_events(1, _GATEWAYS[0]))
        send_batch, answers = Connection.send_batch, [busy]

        async def at_first_busy(connection: Connection, messages: Sequence[Outgoing]) -> dict[str, Any]:
            return answers.pop() if answers else await send_batch(connection, messages)

        monkeypatch.setattr(Connection, "send_batch", at_first_busy)
        requests = _Requests(monkeypatch)
        assert await _publish(engine, make_events(1, _GATEWAYS[0])) == [2]
        assert requests.so_far() == Counter(send_batch=2)


async def test_an_event_that_is_known_is_not_stored_again_with_new_ones(server: NatsServer) -> None:
    """The batch is stale as a whole, and then only what is new is stored."""
    async with JetStreamEngine.open([f"nats://{server.address}"], f"R{uuid4().hex}", replicas=1) as engine:
        await engine.log.register(_GATEWAYS[0])
        known, new = make_events(2, _GATEWAYS[0])
        await _publish(engine, [known])
        assert await _publish(engine, [known, new, known]) == [1, 2, 1]
