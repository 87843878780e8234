"""A gateway that is busy for a minute, with the default limits, on a clock that jumps (scenario S23)."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

from aiohttp import WSMsgType

from gatecast.delivery.delivery import Delivery, DeliveryOptions
from gatecast.events import Action, Event, Position
from gatecast.protocol.session import SessionLimits, Version
from gatecast.server.gateway_api.gateway_socket import GatewaySocket, open_session
from gatecast.storage.contract import Connection, TrimPolicy
from gatecast.testing.virtual_time import run_in_virtual_time
from simulation.database import SimulatedDatabase, SimulatedStorage
from simulation.gateways import LIVENESS
from simulation.history import History
from simulation.network import Frame, Wire
from simulation.wakeup import SimulatedWakeup

_GATEWAY = "gateway-1"
_POLICY = TrimPolicy(keep_confirmed=timedelta(hours=1), keep_at_most=timedelta(days=1), max_events=10**6)


class _Wire(Wire):
    """Remembers what the pod closed it with."""

    code: int | None = None

    def close(self, code: int, reason: str) -> None:
        self.code = code
        super().close(code, reason)


class _Busy:
    """A client: a monitor beside it drops the connection when it has heard no Ping for 35 s."""

    def __init__(self, wire: _Wire, history: History) -> None:
        self.wire = wire
        self._history = history
        self.gave_up = False
        self._heard_at = asyncio.get_running_loop().time()

    async def next(self) -> Frame:
        frame = await self.wire.to_gateway.read()
        if frame.type is WSMsgType.PING:
            self._heard_at = asyncio.get_running_loop().time()
        return frame

    async def next_event(self) -> None:
        """Read up to the next event, and answer Pings before it."""
        while (frame := await self.next()).type is WSMsgType.PING:
            await self.answer(frame)
        assert frame.type is WSMsgType.TEXT, f"closed with {self.wire.code}"
        event = json.loads(frame.data)
        position = Position.parse(event["position"])
        self._history.delivered(_GATEWAY, position.epoch, position.offset, UUID(event["eventId"]))

    async def answer(self, ping: Frame) -> None:
        await self.wire.to_pod.write(Frame(WSMsgType.PONG, ping.data))

    async def monitor(self) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() - self._heard_at <= LIVENESS:
            await asyncio.sleep(1)
        self.gave_up = True
        self.wire.cut()


def _publish(delivery: Delivery, count: int) -> Awaitable[object]:
    return delivery.publish(
        [
            Event(gateway_id=_GATEWAY, type="api.deployed", action=Action.UPDATE, entity_type="Api", entity_id=f"{n}")
            for n in range(count)
        ]
    )


@asynccontextmanager
async def _connected() -> AsyncIterator[tuple[Delivery, SimulatedDatabase, _Busy, asyncio.Task[None]]]:
    source = random.Random(1)  # noqa: S311 - repeats, guards nothing
    wakeup = SimulatedWakeup(source)
    history = History()
    database = SimulatedDatabase(source, history, wakeup.hear)
    storage = SimulatedStorage(database)
    options = DeliveryOptions(pod_id="pod-1", poll_interval=0.5, trim_policy=_POLICY)
    await storage.log.register(_GATEWAY)
    async with Delivery(cast("Any", storage), wakeup, options) as delivery:
        connection = Connection(
            connection_id="connection-1",
            gateway_id=_GATEWAY,
            replica="",
            pod_id="pod-1",
            protocol=Version.GATEWAY_V1,
            remote="test",
            token_id=None,
        )
        subscription = await delivery.subscribe(connection)
        session = open_session(subscription, Version.GATEWAY_V1, SessionLimits())
        wire = _Wire(source, on_end=lambda _: None)
        socket = GatewaySocket(wire, session, subscription, delivery=delivery)
        speaking = asyncio.create_task(socket.run(session.start(datetime.now(UTC))))
        busy = _Busy(wire, history)
        monitor = asyncio.create_task(busy.monitor())
        try:
            yield delivery, database, busy, speaking
        finally:
            monitor.cancel()
            wire.cut()
            await asyncio.wait({speaking, monitor})
            subscription.close()


async def _in_one_download() -> None:
    """The client hears Pings meanwhile, and answers all of them when it is done."""
    async with _connected() as (delivery, database, busy, speaking):
        await _publish(delivery, 1)
        assert (await busy.next()).type is WSMsgType.TEXT, "connection.ack"
        await busy.next_event()
        loop = asyncio.get_running_loop()
        done_at, pings = loop.time() + 60, list[Frame]()
        while True:
            try:
                async with asyncio.timeout_at(done_at):
                    pings.append(await busy.next())
            except TimeoutError:
                break
        assert {ping.type for ping in pings} == {WSMsgType.PING}
        assert len(pings) >= 60 // LIVENESS
        assert database.rows.cursors[_GATEWAY, ""].confirmed == 0
        for ping in pings:
            await busy.answer(ping)
        await asyncio.sleep(5)
        assert (busy.gave_up, speaking.done()) == (False, False)
        assert database.rows.cursors[_GATEWAY, ""].confirmed == 1


async def _in_downloads_in_a_row() -> None:
    """One reader for everything, which hears no Ping while it downloads: as the unmodified gateway is built."""
    async with _connected() as (delivery, database, busy, speaking):
        # Idle at first, so that the last Ping is old when the first download begins.
        assert (await busy.next()).type is WSMsgType.TEXT, "connection.ack"
        await asyncio.sleep(14)
        await _publish(delivery, 6)
        for _ in range(6):
            await busy.next_event()
            await asyncio.sleep(30)
        while database.rows.cursors[_GATEWAY, ""].confirmed < 6:
            await busy.answer(await busy.next())
            await asyncio.sleep(1)
        assert (busy.gave_up, speaking.done()) == (False, False)


async def _for_ever() -> None:
    """A client that hears everything and answers nothing is closed, with a reason, and not before 90 s."""
    async with _connected() as (_delivery, _database, busy, _speaking):
        loop = asyncio.get_running_loop()
        while (await busy.next()).type in (WSMsgType.TEXT, WSMsgType.PING):
            pass
        assert (busy.wire.code, busy.gave_up) == (4008, False)
        assert loop.time() >= 90


def test_s23_a_minute_in_one_download_is_not_taken_for_death() -> None:
    """Neither by the pod, which waits for a Pong, nor by the client, which waits for Pings."""
    run_in_virtual_time(_within_limit(_in_one_download))


def test_s23_three_minutes_of_downloads_in_a_row_are_not_taken_for_death() -> None:
    run_in_virtual_time(_within_limit(_in_downloads_in_a_row))


def test_s23_silence_is_taken_for_death_in_the_end() -> None:
    run_in_virtual_time(_within_limit(_for_ever))


async def _within_limit(work: Callable[[], Awaitable[None]]) -> None:
    """Nothing here takes longer on its own clock."""
    async with asyncio.timeout(600):
        await work()
