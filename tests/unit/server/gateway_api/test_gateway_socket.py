"""One gateway's connection, over sockets that fail at a chosen moment, on a clock that jumps."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self, cast
from uuid import UUID

import pytest
from aiohttp import WSMsgType

from gatecast.delivery.delivery import Delivery, DeliveryOptions
from gatecast.delivery.subscription import Subscription
from gatecast.errors import StorageUnavailable
from gatecast.events import Action, Event, Position, RecordedEvent
from gatecast.protocol.codec import SEPARATOR
from gatecast.protocol.session import SessionLimits, Version
from gatecast.server.gateway_api.gateway_socket import WRITE_TIME_LIMIT, GatewaySocket, Observer, open_session
from gatecast.storage.contract import Connection, DisconnectReason, Outcome, ReadResult, TrimPolicy
from gatecast.telemetry import metrics
from gatecast.testing.eventually import PATIENCE
from gatecast.testing.virtual_time import run_in_virtual_time
from simulation.database import SimulatedDatabase, SimulatedStorage
from simulation.history import History
from simulation.network import Frame, Wire
from simulation.wakeup import SimulatedWakeup

GATEWAY = "gateway-1"
_POLICY = TrimPolicy(keep_confirmed=timedelta(hours=1), keep_at_most=timedelta(days=1), max_events=10**6)
_RUTHLESS = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(seconds=-1), max_events=10)


def _a_change() -> Event:
    return Event(gateway_id=GATEWAY, type="route.changed", action=Action.UPDATE, entity_type="route", entity_id="1")


class _Bench:
    """One pod on a simulated database, and as many connections as a test opens."""

    def __init__(self, version: Version = Version.GATECAST_V2) -> None:
        self.version = version
        self.random = random.Random(1)  # noqa: S311 - repeats, guards nothing
        self.wakeup = SimulatedWakeup(self.random)
        self.database = SimulatedDatabase(self.random, History(), self.wakeup.hear)
        self.storage = SimulatedStorage(self.database)
        options = DeliveryOptions(pod_id="pod-1", poll_interval=0.5, trim_policy=_POLICY)
        self.delivery = Delivery(cast("Any", self.storage), self.wakeup, options)
        self._connections = 0

    async def __aenter__(self) -> Self:
        await self.storage.log.register(GATEWAY)
        await self.delivery.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.delivery.__aexit__(*exception)

    async def publish(self, count: int) -> None:
        """Events 1, 2, 3 …, of which each is a change of its own."""
        await asyncio.gather(*(self.delivery.publish([_a_change()]) for _ in range(count)))

    async def subscribe(self, after: Position | None = None) -> Subscription:
        """A subscription, as the gateway listener opens one."""
        self._connections += 1
        connection = Connection(
            connection_id=f"connection-{self._connections}",
            gateway_id=GATEWAY,
            replica="",
            pod_id="pod-1",
            protocol=self.version,
            remote="test",
            token_id=None,
        )
        return await self.delivery.subscribe(connection, after=after)

    def speak(
        self, wire: Wire, subscription: Subscription, observer: Observer | None = None, *, batch_bytes: int = 0
    ) -> asyncio.Task[None]:
        """Run the connection as the gateway listener does."""
        return asyncio.create_task(self._speak(wire, subscription, observer, batch_bytes))

    async def _speak(self, wire: Wire, subscription: Subscription, observer: Observer | None, batch_bytes: int) -> None:
        session = open_session(subscription, self.version, SessionLimits(), batch_bytes=batch_bytes)
        socket = GatewaySocket(
            wire,
            session,
            subscription,
            delivery=self.delivery,
            observer=observer,
        )
        try:
            await socket.run(session.start(datetime.now(UTC)))
        finally:
            subscription.close()

    def wire(self) -> Wire:
        """A wire that works."""
        return Wire(self.random, on_end=lambda _: None)

    def resync_reason(self) -> str | None:
        """Why the gateway must resynchronize, as it is stored."""
        return self.database.rows.cursors[GATEWAY, ""].resync_reason

    @property
    def confirmed(self) -> int:
        """The stored position."""
        return self.database.rows.cursors[GATEWAY, ""].confirmed


async def _next_message(wire: Wire) -> dict[str, Any]:
    """The next text frame; Pings are passed over."""
    while (frame := await wire.to_gateway.read()).type is not WSMsgType.TEXT:
        assert frame.type is WSMsgType.PING, frame
    message: dict[str, Any] = json.loads(frame.data)
    return message


async def _pongs(wire: Wire) -> list[bytes]:
    """What the Pongs carry that are here; other frames are passed over."""
    found: list[bytes] = []
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(1):
                frame = await wire.to_gateway.read()
            if frame.type is WSMsgType.PONG:
                found.append(frame.data)
    return found


async def _say(wire: Wire, **message: str) -> None:
    await wire.to_pod.write(Frame(WSMsgType.TEXT, json.dumps(message)))


class _Synchronizing(Observer):
    """Holds events back until it is told otherwise."""

    holds = True


def test_while_events_wait_pings_go_on_and_a_revocation_ends_the_connection() -> None:
    async def run() -> None:
        async with _Bench(Version.GATEWAY_V1) as bench:
            for revoked in (False, True):
                wire, subscription, observer = bench.wire(), await bench.subscribe(), _Synchronizing()
                speaking = bench.speak(wire, subscription, observer)
                await bench.publish(1)
                assert (await _next_message(wire))["type"] == "connection.ack"
                assert (await wire.to_gateway.read()).type is WSMsgType.PING
                if revoked:
                    subscription.end_with(DisconnectReason.TOKEN_REVOKED)
                    assert (await wire.to_gateway.read()).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
                else:
                    observer.holds = False
                    subscription.changed.set()
                    assert (await _next_message(wire))["type"] == "route.changed"
                wire.cut()
                await speaking

    run_in_virtual_time(run())


class _FailingWire(Wire):
    """Fails once, at the third text frame."""

    texts = 0

    def send_text(self, text: str) -> None:
        self.texts += 1
        if self.texts == 3:
            raise ConnectionResetError
        super().send_text(text)


def test_s04_an_event_whose_write_failed_is_not_skipped() -> None:
    """The connection ends, and the next one begins with that event."""

    async def run() -> None:
        async with _Bench() as bench:
            await bench.publish(3)
            failing = _FailingWire(bench.random, on_end=lambda _: None)
            await bench.speak(failing, await bench.subscribe())
            await bench.delivery.recorder.flush()
            wire = bench.wire()
            conversation = bench.speak(wire, await bench.subscribe())
            messages = [await _next_message(wire) for _ in range(4)]
            assert messages[0]["type"] == "connection.ack"
            # Nothing was confirmed, so everything comes again, the one that failed among it.
            assert [Position.parse(message["position"]).offset for message in messages[1:]] == [1, 2, 3]
            wire.cut()
            await conversation

    run_in_virtual_time(run())


def test_s22_a_peer_that_never_reads_is_closed_and_holds_a_bounded_number_of_events() -> None:
    """Beyond the write limit nobody waits for it; what is held for it does not grow with its log."""

    async def run() -> None:
        async with _Bench() as bench:
            await bench.publish(2_000)
            wire, subscription = bench.wire(), await bench.subscribe()
            began = asyncio.get_running_loop().time()
            await bench.speak(wire, subscription)
            # Rounded: virtual time adds up many small floats.
            assert round(asyncio.get_running_loop().time() - began, 6) >= WRITE_TIME_LIMIT
            assert subscription.sent < 300
            assert bench.delivery.reader.feeds == 0

    run_in_virtual_time(run())


@pytest.mark.parametrize(
    "reason", [DisconnectReason.TOKEN_REVOKED, DisconnectReason.GATEWAY_DELETED, DisconnectReason.SUPERSEDED]
)
def test_s26_whoever_must_go_is_gone_within_a_second_although_it_does_not_read(reason: DisconnectReason) -> None:
    """The writer waits for it, for much longer."""

    async def run() -> None:
        async with _Bench() as bench:
            await bench.publish(2_000)
            wire, subscription = bench.wire(), await bench.subscribe()
            conversation = bench.speak(wire, subscription)
            await asyncio.sleep(5)
            assert not wire.to_pod.is_cut
            subscription.end_with(reason)
            await asyncio.wait_for(conversation, 0.5)
            assert wire.to_pod.is_cut

    run_in_virtual_time(run())


def test_s05_a_client_that_was_away_for_longer_than_retention_is_told() -> None:
    """It gets nothing but `resync.required` until it says that it has the desired state; then the rest follows."""

    async def run() -> None:
        async with _Bench() as bench:
            await bench.publish(4)
            await bench.storage.log.trim(_RUTHLESS)
            await bench.publish(1)
            wire = bench.wire()
            conversation = bench.speak(wire, await bench.subscribe())
            demand = [await _next_message(wire) for _ in range(2)][1]
            assert (demand["type"], demand["reason"]) == ("resync.required", "retention")
            assert Position.parse(demand["position"]).offset == 4
            await _say(wire, type="position.ack", position=demand["position"])
            assert Position.parse((await _next_message(wire))["position"]).offset == 5
            wire.cut()
            await conversation

    run_in_virtual_time(run())


@pytest.mark.parametrize(("failures", "left"), [(3, None), (sys.maxsize, "retention")])
def test_that_a_client_has_resynchronized_is_noted_once_the_database_takes_it(failures: int, left: str | None) -> None:
    """Otherwise it would count as lost for as long as it stays connected; the attempts end with the connection."""

    async def run() -> None:
        async with _Bench() as bench:
            await bench.publish(4)
            await bench.storage.log.trim(_RUTHLESS)
            note, attempts = bench.storage.presence.resynchronized, 0

            async def note_later(
                gateway_id: str, replica: str, reason: str, *, connection_id: str | None = None
            ) -> None:
                nonlocal attempts
                attempts += 1
                if attempts <= failures:
                    raise StorageUnavailable("away")
                await note(gateway_id, replica, reason, connection_id=connection_id)

            bench.storage.presence.resynchronized = note_later  # type: ignore[method-assign]
            wire = bench.wire()
            conversation = bench.speak(wire, await bench.subscribe())
            demand = [await _next_message(wire) for _ in range(2)][1]
            assert bench.resync_reason() == "retention"
            await _say(wire, type="position.ack", position=demand["position"])
            while attempts < 4:
                await asyncio.sleep(1)
            wire.cut()
            await conversation
            assert bench.resync_reason() == left
            made = attempts
            await asyncio.sleep(60)
            assert attempts == made

    run_in_virtual_time(run())


def test_frames_that_lead_to_nothing_are_counted_by_reason() -> None:
    """While the connection lasts, so that an operator sees them."""

    def counted() -> float:
        return metrics.registry.get_sample_value("gatecast_frames_ignored_total", {"reason": "unknown-type"}) or 0.0

    async def run() -> None:
        async with _Bench() as bench:
            wire = bench.wire()
            conversation = bench.speak(wire, await bench.subscribe())
            before = counted()
            for _ in range(3):
                await _say(wire, type="brand.new")
            await asyncio.sleep(1)
            assert counted() == before + 3
            wire.cut()
            await conversation

    run_in_virtual_time(run())


def test_a_rejection_is_stored_before_any_position_passes_it() -> None:
    """A pod that dies in between must not leave an event that counts as handled and was not applied."""

    async def run() -> None:
        async with _Bench() as bench:
            await bench.publish(2)
            stored = asyncio.Event()
            record = bench.storage.outcomes.record

            async def hold(outcomes: list[Outcome]) -> None:
                await stored.wait()
                await record(outcomes)

            bench.storage.outcomes.record = hold  # type: ignore[assignment,method-assign]
            wire = bench.wire()
            conversation = bench.speak(wire, await bench.subscribe())
            events = [await _next_message(wire) for _ in range(3)][1:]
            for event in events:
                position = Position.parse(event["position"])
                bench.database.history.delivered(GATEWAY, position.epoch, position.offset, UUID(event["eventId"]))
            await _say(wire, type="event.reject", position=events[0]["position"], reason="no such route")
            await _say(wire, type="position.ack", position=events[1]["position"])
            await wire.to_pod.write(Frame(WSMsgType.PING, b"stored?"))
            await asyncio.sleep(10)
            assert bench.confirmed == 0
            assert await _pongs(wire) == []
            stored.set()
            await asyncio.sleep(10)
            assert bench.confirmed == 2
            assert await _pongs(wire) == [b"stored?"]
            [outcome] = bench.storage.outcomes.recorded
            assert (outcome.offset, outcome.reason) == (1, "no such route")
            wire.cut()
            await conversation

    run_in_virtual_time(run())


def test_a_ping_of_the_client_is_answered_by_the_writer() -> None:
    """The Pong carries what the Ping carried."""

    async def run() -> None:
        async with _Bench() as bench:
            wire = bench.wire()
            conversation = bench.speak(wire, await bench.subscribe())
            await _next_message(wire)
            await wire.to_pod.write(Frame(WSMsgType.PING, b"are you there"))
            assert await wire.to_gateway.read() == Frame(WSMsgType.PONG, b"are you there")
            wire.cut()
            await conversation

    run_in_virtual_time(run())


def test_a_session_that_fails_ends_the_connection() -> None:
    """A defect of ours must not leave a connection that nobody writes to."""

    async def run() -> None:
        async with _Bench() as bench:
            wire, subscription = bench.wire(), await bench.subscribe()
            subscription.take_now = _broken  # type: ignore[assignment,method-assign]
            await asyncio.wait_for(bench.speak(wire, subscription), PATIENCE)
            assert wire.to_pod.is_cut

    run_in_virtual_time(run())


def _broken(_max_events: int) -> list[Any]:
    raise ZeroDivisionError


class _CountingWire(Wire):
    """Counts writes."""

    writes = 0

    def flush(self) -> None:
        self.writes += bool(self._unsent)
        super().flush()


def test_events_that_wait_leave_in_one_write_with_their_ping_and_make_no_tasks() -> None:
    """What an event costs is counted, not timed: thirty of them are one write, and so is what they confirm."""

    async def run() -> None:
        async with _Bench(Version.GATEWAY_V1) as bench:
            await bench.publish(30)
            wire = _CountingWire(bench.random, on_end=lambda _: None)
            conversation = bench.speak(wire, await bench.subscribe())
            await asyncio.sleep(1)
            tasks = len(asyncio.all_tasks())
            assert (await _next_message(wire))["type"] == "connection.ack"
            for offset in range(1, 31):
                assert Position.parse((await _next_message(wire))["position"]).offset == offset
            # The acknowledgement, perhaps together with the events.
            assert wire.writes <= 2
            ping = await wire.to_gateway.read()
            await wire.to_pod.write(Frame(WSMsgType.PONG, ping.data))
            await bench.publish(30)
            await asyncio.sleep(5)
            assert wire.writes <= 2 + 30
            assert bench.confirmed == 30
            assert len(asyncio.all_tasks()) == tasks
            wire.cut()
            await conversation

    run_in_virtual_time(run())


def test_events_that_wait_leave_in_one_frame_for_a_client_that_asks_for_it() -> None:
    """Rejections and positions are of single events, as ever."""

    async def run() -> None:
        async with _Bench() as bench:
            await bench.publish(40)
            wire = _CountingWire(bench.random, on_end=lambda _: None)
            conversation = bench.speak(wire, await bench.subscribe(), batch_bytes=100_000)
            assert (await _next_message(wire))["type"] == "connection.ack"
            frame = await wire.to_gateway.read()
            positions = [Position.parse(json.loads(part)["position"]) for part in frame.data.split(SEPARATOR)]
            assert [position.offset for position in positions] == list(range(1, 41))
            for position in positions:
                event = bench.database.rows.streams[GATEWAY].events[position.offset]
                bench.database.history.delivered(GATEWAY, position.epoch, position.offset, event.event_id)
            await _say(wire, type="event.reject", position=str(positions[4]), reason="no such route")
            await _say(wire, type="position.ack", position=str(positions[-1]))
            await asyncio.sleep(5)
            assert bench.confirmed == 40
            assert [(outcome.offset, outcome.reason) for outcome in bench.storage.outcomes.recorded] == [
                (5, "no such route")
            ]
            # The acknowledgement, perhaps together with the events.
            assert wire.writes <= 2
            wire.cut()
            await conversation

    run_in_virtual_time(run())


@pytest.mark.parametrize(("at_once", "most"), [(16, 23.5), (1, 106)])
def test_the_work_for_an_event_is_counted_in_calls(at_once: int, most: float) -> None:
    """So that it does not grow unnoticed, neither where many wait nor where one comes alone."""

    async def run() -> float:
        async with _Bench(Version.GATEWAY_V1) as bench:
            wire, subscription = bench.wire(), await bench.subscribe()
            conversation = bench.speak(wire, subscription)
            await asyncio.sleep(1)
            calls = 0

            def count(_frame: object, event: str, _argument: object) -> None:
                nonlocal calls
                calls += event == "call"

            [*results] = await bench.storage.log.read([subscription.feed.request()])
            assert results[0] is not None
            epoch = results[0].epoch
            event = RecordedEvent.standing_in(GATEWAY, 1, "")
            events = [replace(event, offset=offset, type="api.updated", undeliverable=None) for offset in range(1, 17)]
            sys.setprofile(count)
            try:
                for begin in range(0, 16, at_once):
                    some = events[begin : begin + at_once]
                    subscription.feed.accept(ReadResult(epoch=epoch, events=some, head=16, low_water_mark=0))
                    await asyncio.sleep(0)
            finally:
                sys.setprofile(None)
            assert subscription.sent == 16
            wire.cut()
            await conversation
            return calls / len(events)

    assert run_in_virtual_time(run()) < most


def test_events_carry_what_gateways_need() -> None:
    """The envelope's id, correlation and position are those of the log."""

    async def run() -> None:
        async with _Bench() as bench:
            await bench.publish(1)
            wire = bench.wire()
            conversation = bench.speak(wire, await bench.subscribe())
            message = [await _next_message(wire) for _ in range(2)][1]
            recorded = bench.database.rows.streams[GATEWAY].events[1]
            assert UUID(message["eventId"]) == UUID(message["correlationId"]) == recorded.event_id
            assert Position.parse(message["position"]) == Position(bench.database.rows.epoch, 1)
            wire.cut()
            await conversation

    run_in_virtual_time(run())
