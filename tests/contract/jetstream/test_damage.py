"""Documents that cannot be read, and messages that are gone: they concern their own gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import pytest

from gatecast import EventHub, Settings
from gatecast.errors import EventUndeliverable, StatementFailed, StorageUnavailable
from gatecast.storage.contract import DisconnectReason
from gatecast.storage.jetstream.documents import Head
from gatecast.storage.jetstream.gateways import Gateway, Gateways
from gatecast.storage.jetstream.stream import Stream, Write
from gatecast.testing.contracts.backend import (
    ALIVE,
    GATEWAY,
    OTHER_GATEWAY,
    POD,
    connect,
    make_connection,
    make_event,
    make_events,
)
from gatecast.testing.eventually import PATIENCE
from gatecast.testing.nats_server import NatsServer

pytestmark = pytest.mark.slow


@asynccontextmanager
async def _hub(server: NatsServer) -> AsyncIterator[tuple[EventHub, Stream]]:
    settings = Settings(database=server.url(f"X{uuid4().hex}"), poll_interval=timedelta(milliseconds=50))
    async with EventHub.open(settings=settings) as hub:
        for gateway_id in (GATEWAY, OTHER_GATEWAY):
            await hub.register_gateway(gateway_id)
        yield hub, hub.engine.log._stream  # type: ignore[attr-defined] # looks inside


@pytest.mark.parametrize("kind", ["head", "state", "low_water_mark"])
async def test_p11_what_cannot_be_read_concerns_its_own_gateway(server: NatsServer, kind: str) -> None:
    """Publishing, receiving, leases and clean-up go on for the others."""
    async with _hub(server) as (hub, stream):
        await hub.publish(make_event())
        async with hub.subscribe(GATEWAY):
            await stream.write(Write(subject=getattr(stream.subjects, kind)(GATEWAY), data=b"{broken"))
            async with hub.subscribe(OTHER_GATEWAY) as subscription, asyncio.timeout(PATIENCE):
                await hub.publish(make_events(2, OTHER_GATEWAY))
                assert [(await anext(subscription)).offset for _ in range(2)] == [1, 2]
            with pytest.raises(StatementFailed, match="cannot be read"):
                await hub.engine.presence.status([GATEWAY])
            await hub.engine.presence.renew_lease("another-pod", timedelta(hours=1))
            await hub.engine.presence.pending_disconnects("another-pod")
            await hub.clean_up()
            assert OTHER_GATEWAY in await hub.engine.presence.status([OTHER_GATEWAY])


async def test_p9_a_revoked_token_ends_what_can_be_read_beside_a_damaged_state(server: NatsServer) -> None:
    """One gateway's state cannot be read; the other's connection with the same token must still end."""
    async with _hub(server) as (hub, stream):
        presence = hub.engine.presence
        await presence.renew_lease(POD, ALIVE)
        for gateway_id in (GATEWAY, OTHER_GATEWAY):
            await connect(hub.engine, make_connection(f"at-{gateway_id}", gateway_id))
        await stream.write(Write(subject=stream.subjects.state(GATEWAY), data=b"{broken"))
        assert await presence.disconnect_token("token-1") == 1
        ended = await presence.pending_disconnects(POD)
        assert ended == {f"at-{OTHER_GATEWAY}": DisconnectReason.TOKEN_REVOKED}


async def test_p9_a_revoked_token_ends_a_connection_that_cannot_be_taken_back(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another pod gave it up, and the write that takes it back fails."""

    def give_up(gateway: Gateway) -> None:
        for each in gateway.state.connections:
            each.released = True

    async def fail(*_: object) -> None:
        raise StorageUnavailable("the stream takes no writes")

    async with _hub(server) as (hub, stream):
        presence = hub.engine.presence
        await presence.renew_lease(POD, ALIVE)
        await connect(hub.engine, make_connection("one", GATEWAY))
        await presence.disconnect_token("token-1")
        await Gateways(stream).change(GATEWAY, give_up)
        with monkeypatch.context() as patch:
            patch.setattr(presence, "_change_of", fail)
            assert await presence.pending_disconnects(POD) == {"one": DisconnectReason.TOKEN_REVOKED}
        await presence.pending_disconnects(POD)
        [state] = (await Gateways(stream).find([GATEWAY])).values()
        assert [each.released for each in state.state.connections] == [False]


@pytest.mark.parametrize("damage", ["changed", "gone"])
async def test_p11_an_event_that_is_damaged_or_gone_waits_for_its_subscriber(server: NatsServer, damage: str) -> None:
    """It is told, and may do without the event."""
    async with _hub(server) as (hub, stream):
        await hub.publish([*make_events(3), *make_events(1, OTHER_GATEWAY)])
        [head] = Head.readable(await stream.all_of(stream.subjects.head(GATEWAY)))
        subject = stream.subjects.event(GATEWAY, head.log, 2)
        if damage == "gone":
            await stream.purge(subject)
        else:
            await stream.write(Write(subject=subject, data=b"\xff"))
        async with hub.subscribe(GATEWAY) as subscription, asyncio.timeout(PATIENCE):
            assert (await anext(subscription)).offset == 1
            with pytest.raises(EventUndeliverable) as told:
                await anext(subscription)
            subscription.acknowledge(told.value.position)
            assert (await anext(subscription)).offset == 3
        async with hub.subscribe(OTHER_GATEWAY) as subscription, asyncio.timeout(PATIENCE):
            assert (await anext(subscription)).offset == 1
