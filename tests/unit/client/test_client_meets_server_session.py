"""The client and the server's own protocol session understand each other, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

from aiohttp import WSMsgType

from gatecast.client import ClientOptions, GatewayClient, GatewayEvent, Reject
from gatecast.events import Action, Position, RecordedEvent
from gatecast.protocol import session as protocol
from gatecast.protocol.session import Confirmed, Opening, Rejected, ResyncDone, ServerSession, SessionLimits, Version
from gatecast.testing.doubles.scripted_control_plane import ScriptedConnection, ScriptedControlPlane

EPOCH = UUID(int=1)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Conversation:
    """The server's end: its session, and what the session asked for beyond sending."""

    def __init__(self, connection: ScriptedConnection, session: ServerSession) -> None:
        self.connection = connection
        self.session = session
        self.noted: list[protocol.SessionAction] = []

    async def perform(self, actions: Iterable[protocol.SessionAction]) -> None:
        """Send what is to be sent, note the rest."""
        for action in actions:
            match action:
                case protocol.SendText(text):
                    await self.connection.send(text)
                case protocol.SendPing(payload):
                    await self.connection.socket.ping(payload)
                case _:
                    self.noted.append(action)

    async def deliver(self, *offsets: int) -> None:
        """Send these events."""
        await self.perform(self.session.deliver([_event(offset) for offset in offsets], 0.0))

    async def hear_until(self, last: protocol.SessionAction) -> list[protocol.SessionAction]:
        """Read the client's frames until this was noted; returns all that was noted."""
        while last not in self.noted:
            frame = await self.connection.receive()
            match frame.type:
                case WSMsgType.TEXT:
                    await self.perform(self.session.receive_text(frame.data, 0.0))
                case WSMsgType.PONG:
                    await self.perform(self.session.receive_pong(bytes(frame.data), 0.0))
                case WSMsgType.PING:
                    await self.connection.socket.pong(frame.data)
                case _:
                    raise AssertionError(frame)
        return self.noted


def _event(offset: int) -> RecordedEvent:
    return RecordedEvent(
        gateway_id="gw-1",
        offset=offset,
        event_id=UUID(int=offset),
        type="route.changed",
        action=Action.UPDATE,
        entity_type="route",
        entity_id="r-1",
        payload=f'{{"number":{offset}}}',
        originated_at=NOW,
        recorded_at=NOW,
    )


@asynccontextmanager
async def conversation(start: int, *, resync: str | None = None) -> AsyncIterator[tuple[GatewayClient, Conversation]]:
    """A client, and a server that begins behind `start`."""
    options = ClientOptions(goodbye_time_limit=0.01)
    async with (
        ScriptedControlPlane() as server,
        GatewayClient(f"http://{server.host}", "t", after=Position(EPOCH, 3), options=options) as gateway,
    ):
        opening = Opening(
            gateway_id="gw-1",
            connection_id="c-1",
            epoch=EPOCH,
            start=start,
            version=Version.GATECAST_V2,
            resync=(resync, Position(EPOCH, start)) if resync else None,
        )
        session = ServerSession(opening, SessionLimits(), now=0.0)
        talk = Conversation(await server.accept(), session)
        await talk.perform(session.start(NOW))
        yield gateway, talk


async def test_what_is_acknowledged_is_confirmed() -> None:
    async with conversation(3) as (gateway, talk):
        await talk.deliver(4, 5)
        events = gateway.events()
        for _ in range(2):
            await gateway.acknowledge(await anext(events))
        assert set(await talk.hear_until(Confirmed(5))) <= {Confirmed(4), Confirmed(5)}
        assert not talk.session.stats.ignored


async def test_what_is_rejected_is_reported_and_passed_over() -> None:
    async with conversation(3) as (gateway, talk):
        await talk.deliver(4, 5)
        events = gateway.events()
        first, second = await anext(events), await anext(events)
        await gateway.reject(first, "no such route")
        await gateway.acknowledge(second)
        assert await talk.hear_until(Confirmed(5)) == [Rejected(4, "no such route"), Confirmed(4), Confirmed(5)]
        assert not talk.session.stats.ignored


async def test_a_resynchronization_is_done_before_anything_is_delivered() -> None:
    async def read_anew(reason: str, position: Position) -> None:
        assert (reason, position) == ("retention", Position(EPOCH, 90))
        assert talk.session.room == 0

    async def handle(event: GatewayEvent) -> None:
        raise Reject(str(event.position.offset))

    async with conversation(90, resync="retention") as (gateway, talk):
        running = asyncio.create_task(gateway.run(handle, on_resync=read_anew))
        assert await talk.hear_until(ResyncDone(Position(EPOCH, 90))) == [ResyncDone(Position(EPOCH, 90))]
        await talk.deliver(91)
        assert (await talk.hear_until(Confirmed(91)))[1:] == [Rejected(91, "91"), Confirmed(91)]
        running.cancel()
        await asyncio.wait({running})
