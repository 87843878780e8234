"""The library on NATS JetStream: what it does, and what it refuses."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import nats
import pytest

from gatecast import Event, EventHub, Position, Settings
from gatecast.errors import (
    DatabaseUnsuitable,
    SettingInvalid,
    StorageUnavailable,
    SubscriptionClosed,
    TransactionUnusable,
    ValueRefused,
)
from gatecast.hub import HubSubscription
from gatecast.storage.connect import open_storage, stream_facts
from gatecast.storage.jetstream import JetStreamEngine, stream_config
from gatecast.storage.jetstream.stream_config import wanted
from gatecast.storage.jetstream.subjects import hints_of_logs, token
from gatecast.testing.contracts.backend import GATEWAY, make_event, make_events
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.nats_server import NatsServer, nats_server
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.testing.wakeup_suite import WakeupContract
from gatecast.wakeup.contract import Hint, Wakeup
from gatecast.wakeup.jetstream import JetStreamWakeup

pytestmark = pytest.mark.slow

#: Nothing arrives by polling within a test.
_NEVER = timedelta(hours=1)


@asynccontextmanager
async def _hubs(url: str, *pods: str) -> AsyncIterator[list[EventHub]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                EventHub.open(settings=Settings(database=url, pod_id=pod, poll_interval=_NEVER))
            )
            for pod in pods
        ]


async def _next_numbers(subscription: HubSubscription, count: int) -> list[object]:
    async with asyncio.timeout(PATIENCE):
        return [(await anext(subscription)).data["number"] for _ in range(count)]


def _url(server: NatsServer) -> str:
    return server.url(f"H{uuid4().hex}")


async def test_what_one_pod_publishes_wakes_the_pod_that_holds_the_subscription(server: NatsServer) -> None:
    """Without any polling; and acknowledged events do not come again through another pod."""
    async with _hubs(_url(server), "pod-1", "pod-2") as (one, two):
        await one.register_gateway(GATEWAY)
        async with two.subscribe(GATEWAY) as subscription:
            await one.publish(make_events(3))
            assert await _next_numbers(subscription, 3) == [1, 2, 3]
            await one.publish(make_event(number=4))
            assert await _next_numbers(subscription, 1) == [4]
            subscription.acknowledge(Position(subscription.position.epoch, 3))
        async with one.subscribe(GATEWAY) as subscription:
            assert await _next_numbers(subscription, 1) == [4]


async def test_a_deleted_gateway_is_disconnected_on_every_pod(server: NatsServer) -> None:
    """Its pod is told by the head of its log."""
    async with _hubs(_url(server), "pod-1", "pod-2") as (one, two):
        await one.register_gateway(GATEWAY)
        async with two.subscribe(GATEWAY) as subscription:
            await one.delete_gateway(GATEWAY)
            with pytest.raises(SubscriptionClosed, match="gateway-deleted"):
                await _next_numbers(subscription, 1)


async def test_a_callers_transaction_is_refused_with_what_to_do_instead(server: NatsServer) -> None:
    """Nothing is published beside it."""
    async with _hubs(_url(server), "pod-1") as (hub,):
        await hub.register_gateway(GATEWAY)
        with pytest.raises(TransactionUnusable, match=r"outbox=.*publish after the commit"):
            await hub.publish(make_event(), transaction=object())
        with pytest.raises(TransactionUnusable):
            await hub.register_gateway("other", transaction=object())
        with pytest.raises(DatabaseUnsuitable, match="holds no tables"):
            _ = hub.storage
        assert (await hub.engine.log.changed_since(0)).heads == {GATEWAY: 0}


async def test_an_installation_that_needs_tables_is_refused(server: NatsServer) -> None:
    """A pod, its commands, and your own migrations."""
    with pytest.raises(SettingInvalid, match="pods and migrations keep tables"):
        async with EventHub.open(_url(server), migrations=["gatecast.controlplane.migrations"]):
            pass
    with pytest.raises(SettingInvalid, match="name an SQL database here"):
        async with open_storage(_url(server)):
            pass


async def test_p1_a_single_copy_is_refused_unless_the_url_accepts_it(server: NatsServer) -> None:
    """Also where the stream exists already."""
    url = _url(server)
    for _ in range(2):
        with pytest.raises(DatabaseUnsuitable, match="3 copies that promise P1 needs"):
            async with EventHub.open(url.partition("?")[0]):
                pass
        async with EventHub.open(url):
            pass


@pytest.mark.parametrize(("setting", "value"), [("max_age", 60_000_000_000), ("max_msgs", 10), ("storage", "memory")])
async def test_p1_a_stream_that_loses_events_by_itself_is_refused(
    server: NatsServer, setting: str, value: object
) -> None:
    """The stream was made by hand, or edited."""
    url = _url(server)
    name = url.rpartition("/")[2].partition("?")[0]
    client = await nats.connect(f"nats://{server.address}")
    async with JetStreamEngine.open([f"nats://{server.address}"], f"{name}x", replicas=1) as engine:
        made = await engine.log._stream.connection.ask(
            f"$JS.API.STREAM.CREATE.{name}", wanted(name, 1) | {setting: value}
        )
        assert "error" not in made
    await client.close()
    with pytest.raises(DatabaseUnsuitable, match=f"{setting} is"):
        async with EventHub.open(url):
            pass


async def test_a_server_that_cannot_be_reached_is_unavailable() -> None:
    """And not waited for."""
    with pytest.raises(StorageUnavailable):
        async with EventHub.open("nats://127.0.0.1:1/NOWHERE"):
            pass


async def test_a_server_that_knows_its_users_is_told_who_asks(tmp_path: Path) -> None:
    """By the user and password of the URL, percent-encoded; a wrong one is named as the reason, and not shown.

    The server may hang up before it is heard: then the reason is a guess.
    """
    rule = 'authorization { user: me, password: "p@:/ss" }'
    with nats_server(tmp_path / "guarded", more=rule) as server:
        url = _url(server)
        async with _hubs(url.replace("nats://", "nats://me:p%40%3A%2Fss@"), "pod-1") as (hub,):
            assert await hub.register_gateway(GATEWAY)
        for who in ("", "me:wrong-secret@"):
            with pytest.raises(StorageUnavailable) as refused:
                async with EventHub.open(url.replace("nats://", f"nats://{who}")):
                    pass
            said = str(refused.value)
            assert "Authorization Violation" in said or "check the user and password" in said
            assert "secret" not in said


async def test_an_event_that_the_server_cannot_take_is_refused_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is the server when a hub is opened; after that, where its limit was lowered, it stays for others."""
    with nats_server(tmp_path / "small", more="max_payload: 64KB") as server:
        with pytest.raises(DatabaseUnsuitable, match="max_payload is 65,536 bytes") as refused:
            async with EventHub.open(_url(server)):
                pass
        assert "max_payload: 2MB" in refused.value.remedy
        with pytest.raises(DatabaseUnsuitable, match="max_payload"):
            await stream_facts(_url(server))
        monkeypatch.setattr(stream_config, "LARGEST_MESSAGE", 0)
        async with _hubs(_url(server), "pod-1") as (hub,):
            await hub.register_gateway(GATEWAY)
            with pytest.raises(ValueRefused, match="max_payload"):
                await hub.publish(make_event(text="x" * 70_000))
            position = await hub.publish(make_event())
            assert position.offset == 1


async def test_a_group_that_is_larger_than_a_batch_is_refused_as_a_whole_and_says_why(server: NatsServer) -> None:
    """The server's limit is told; what fits is published as before."""
    async with _hubs(_url(server), "pod-1") as (hub,):
        await hub.register_gateway(GATEWAY)
        with pytest.raises(ValueRefused, match=r"5201 messages are more .* \(5000\)"):
            await hub.publish(make_events(2_600))
        assert (await hub.publish(make_events(2)))[-1].offset == 2


async def test_s16_an_answer_that_is_lost_after_the_commit_does_not_double_the_event(server: NatsServer) -> None:
    """The wire is cut when the server has the whole batch: the publisher cannot tell, and repeats it by its ids."""
    url = _url(server)
    async with TcpProxy(server.socket) as proxy, _hubs(url, "pod-1") as (direct,):
        await direct.register_gateway(GATEWAY)
        async with _hubs(url.replace(server.address, proxy.address), "pod-2") as (hub,):
            events = make_events(3)
            await hub.publish(events[0])
            connection = hub.engine.log._stream.connection  # type: ignore[attr-defined] # looks inside
            send = connection.send_batch

            async def lose_the_answer(messages: object) -> object:
                proxy.lose_answers()
                return await send(messages)

            connection.send_batch = lose_the_answer
            publishing = asyncio.create_task(hub.engine.log.publish([events[1:]]))
            await eventually(partial(_has_head, direct, 3))
            proxy.cut()
            with pytest.raises(StorageUnavailable, match="before the answer came"):
                await publishing
            connection.send_batch = send
            proxy.heal()
            positions = [await _until_published(hub, event) for event in events]
            assert [position.offset for position in positions] == [1, 2, 3]
            assert await _has_head(direct, 3)


async def _has_head(hub: EventHub, head: int) -> bool:
    return (await hub.engine.log.changed_since(0)).heads == {GATEWAY: head}


async def _until_published(hub: EventHub, event: Event) -> Position:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await hub.publish(event)
            except StorageUnavailable:
                await asyncio.sleep(0.05)


async def test_p10_subscriptions_survive_an_outage_and_go_on_by_themselves(server: NatsServer) -> None:
    """Nothing can be published meanwhile, which is said at once."""
    url = _url(server)
    async with TcpProxy(server.socket) as proxy, _hubs(url, "pod-1") as (direct,):
        await direct.register_gateway(GATEWAY)
        far = url.replace(server.address, proxy.address)
        async with _hubs(far, "pod-2") as (hub,), hub.subscribe(GATEWAY) as subscription:
            proxy.cut()
            with pytest.raises(StorageUnavailable):
                await hub.publish(make_event())
            await direct.publish(make_events(2))
            proxy.heal()
            assert await _next_numbers(subscription, 2) == [1, 2]


async def test_s20_a_server_that_was_put_back_begins_a_new_history(tmp_path: Path) -> None:
    """Its files are restored from a copy that lacks the last events; the pod that has read them tells everybody."""
    files, copy = tmp_path / "server" / "store", tmp_path / "copy"
    with nats_server(tmp_path / "server") as server:
        url = _url(server)
        async with _hubs(url, "pod-1") as (hub,):
            await hub.register_gateway(GATEWAY)
            await hub.publish(make_events(3))
        server.stop()
        shutil.copytree(files, copy)
        server.start()
        settings = Settings(database=url, pod_id="pod-2", poll_interval=timedelta(milliseconds=50))
        async with EventHub.open(settings=settings) as hub:
            await hub.publish(make_events(2))
            async with hub.subscribe(GATEWAY) as subscription:
                assert await _next_numbers(subscription, 5) == [1, 2, 3, 1, 2]
                epoch = subscription.position.epoch
                server.kill()
                shutil.rmtree(files)
                shutil.copytree(copy, files)
                server.start()
                with pytest.raises(SubscriptionClosed):
                    await _next_numbers(subscription, 1)
            await eventually(partial(_has_another_epoch, hub, epoch))
            async with hub.subscribe(GATEWAY, after=Position(epoch, 5)) as subscription:
                assert subscription.resync_reason == "epoch"


async def _has_another_epoch(hub: EventHub, epoch: UUID) -> bool:
    try:
        return (await hub.engine.log.changed_since(0)).epoch != epoch
    except StorageUnavailable:
        return False


class TestJetStreamWakeup(WakeupContract):
    """Two pods on one stream, whose server says which heads it has stored."""

    @pytest.fixture(autouse=True)
    def _on(self, server: NatsServer) -> None:
        self.address = server.address
        self.name = f"W{uuid4().hex}"

    @asynccontextmanager
    async def open_two(self, tmp_path: Path) -> AsyncIterator[tuple[Wakeup, Wakeup]]:  # noqa: ARG002 - others need it
        """Each on a connection of its own."""
        servers = [f"nats://{self.address}"]
        self.client = await nats.connect(servers)
        try:
            async with (
                JetStreamEngine.open(servers, self.name, replicas=1) as first,
                JetStreamEngine.open(servers, self.name, replicas=1) as second,
                JetStreamWakeup(first.hints) as one,
                JetStreamWakeup(second.hints) as two,
            ):
                yield one, two
        finally:
            await self.client.close()

    async def hint(self, sender: Wakeup, hint: Hint) -> None:
        """What concerns logs comes from the server when it has stored a head."""
        if hint.gateways is None:
            sender.send(hint)
        for gateway_id in hint.gateways or ():
            await self.client.publish(f"{hints_of_logs(self.name)}.{token(gateway_id)}")

    async def send_garbage(self, tmp_path: Path) -> None:  # noqa: ARG002 - others need it
        """Tokens that no text becomes."""
        for garbage in ("=!", "=A", "=_w"):
            await self.client.publish(f"{hints_of_logs(self.name)}.{garbage}")
