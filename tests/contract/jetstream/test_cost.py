"""What pods ask of a stream, counted: it does not grow with the gateways that they do not hold, nor with long logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from gatecast import EventHub, Settings
from gatecast.storage.contract import Engine, ReadRequest, TrimPolicy
from gatecast.storage.jetstream import JetStreamEngine
from gatecast.storage.jetstream.connection import Connection, Reply
from gatecast.testing.contracts.backend import ALIVE, GATEWAY, OTHER_GATEWAY, make_event, make_events
from gatecast.testing.eventually import eventually
from gatecast.testing.nats_server import NatsServer

pytestmark = pytest.mark.slow

_LONG = timedelta(days=3_650)


class _Reads:
    """Counts requests that read, and the messages that answer, by the kind of their subject."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._counted = Counter[str]()
        collect = Connection.collect

        async def counted(connection: Connection, subject: str, request: Mapping[str, Any]) -> tuple[list[Reply], int]:
            replies, through = await collect(connection, subject, request)
            self._counted["requests"] += 1
            self._counted.update(reply.headers["Nats-Subject"].split(".")[1] for reply in replies)
            return replies, through

        monkeypatch.setattr(Connection, "collect", counted)

    def so_far(self) -> Counter[str]:
        """How many there were since the last call."""
        counted, self._counted = self._counted, Counter()
        return counted


@asynccontextmanager
async def _engine(server: NatsServer, *gateway_ids: str) -> AsyncIterator[JetStreamEngine]:
    async with JetStreamEngine.open([f"nats://{server.address}"], f"C{uuid4().hex}", replicas=1) as engine:
        for gateway_id in gateway_ids:
            await engine.log.register(gateway_id)
        yield engine


async def _look(engine: Engine, marker: int) -> None:
    await engine.log.changed_since(marker)
    await engine.presence.pending_disconnects("pod-1")
    await engine.presence.renew_lease("pod-1", ALIVE)


@pytest.mark.parametrize("gateways", [1, 100])
async def test_s10_an_idle_pod_reads_as_much_whatever_the_number_of_gateways(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, gateways: int
) -> None:
    """The history, and its own lease; no head, no state and no event."""
    async with _engine(server, *(f"gateway-{number}" for number in range(gateways))) as engine:
        marker = (await engine.log.changed_since(0)).marker
        await _look(engine, marker)
        reads = _Reads(monkeypatch)
        await _look(engine, marker)
        counted = reads.so_far()
        assert counted["requests"] <= 5
        assert counted.keys() == {"requests", "history", "pod"}


async def test_s09_a_pod_reads_no_events_of_gateways_that_it_does_not_hold(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It learns of every change, by hint and by looking, and leaves the events alone."""
    async with _engine(server, GATEWAY) as engine:
        url = server.url(engine.log._stream.subjects.name)
        async with EventHub.open(settings=Settings(database=url, pod_id="bystander")) as bystander:
            reads = _Reads(monkeypatch)
            for _ in range(50):
                await engine.log.publish([[make_event()]])
            marker = (await engine.log.changed_since(0)).marker

            async def has_looked() -> bool:
                swept = bystander.delivery.reader.last_sweep
                return swept is not None and swept.marker >= marker

            await eventually(has_looked)
            assert reads.so_far()["event"] == 0


async def test_s11_s12_a_long_log_drains_in_few_requests_and_costs_another_gateway_nothing(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two thousand events come in reads of 256, as pods read; the other gateway's reads find what they return."""
    async with _engine(server, GATEWAY, OTHER_GATEWAY) as engine:
        for _ in range(4):
            await engine.log.publish([make_events(500)])
        [event] = make_events(1, OTHER_GATEWAY)
        await engine.log.publish([[event]])
        reads, received = _Reads(monkeypatch), 0
        while received < 2_000:
            [found] = await engine.log.read([_after(GATEWAY, received)])
            assert found is not None
            received += len(found.events)
        counted = reads.so_far()
        assert counted["event"] == 2_000
        assert counted["requests"] <= 16
        [small] = await engine.log.read([_after(OTHER_GATEWAY, 0)])
        assert small is not None
        assert reads.so_far()["event"] == len(small.events) == 1
        await engine.log.publish([[make_event(OTHER_GATEWAY)]])
        await engine.presence.status([OTHER_GATEWAY])
        assert await engine.log.trim(TrimPolicy(keep_confirmed=_LONG, keep_at_most=_LONG, max_events=10**6)) == 0
        # Retention looks at the oldest event of each log.
        assert reads.so_far()["event"] <= 2


def _after(gateway_id: str, offset: int) -> ReadRequest:
    return ReadRequest(gateway_id=gateway_id, after=offset, max_events=256, max_bytes=1_000_000)
