"""The contract of presence: pods live by leases, connections by their pods."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from gatecast.errors import StorageUnavailable, UnknownGateway
from gatecast.events import Position
from gatecast.storage.contract import DisconnectReason, Engine, GatewayStatus
from gatecast.testing.contracts.backend import (
    ALIVE,
    EXPIRED,
    GATEWAY,
    OTHER_GATEWAY,
    POD,
    EngineBackend,
    confirm,
    connect,
    epoch_of,
    make_connection,
    make_event,
    make_events,
    progress_of,
    publish,
    read,
    stored_offset,
)


async def _status(storage: Engine, gateway_id: str = GATEWAY) -> GatewayStatus:
    return (await storage.presence.status([gateway_id]))[gateway_id]


async def _live(storage: Engine, gateway_id: str = GATEWAY) -> list[str]:
    return sorted(connection.connection_id for connection in (await _status(storage, gateway_id)).connections)


class PresenceContract(EngineBackend):
    """Leases, connections, disconnects and status."""

    async def test_a_lease_tells_the_pods_life(self, tmp_path: Path) -> None:
        """Every renewal says the same, and after its end the pod has another one."""
        async with self.open_storage(tmp_path) as storage:
            first = await storage.presence.renew_lease("pod-9", ALIVE)
            assert await storage.presence.renew_lease("pod-9", ALIVE) == first
            assert await storage.presence.renew_lease("pod-8", ALIVE) != first
            await storage.presence.end_lease("pod-9")
            second = await storage.presence.renew_lease("pod-9", ALIVE)
            assert second != first
            assert await storage.presence.renew_lease("pod-9", ALIVE) == second

    async def test_a_connection_is_shown_as_it_was_opened(self, tmp_path: Path) -> None:
        """Operators see who is connected to which pod, since when, and how far."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(4))
            connection = make_connection(replica="a", remote="10.0.0.1:7")
            await connect(storage, connection, start=1)
            await storage.presence.record_progress([await progress_of(storage, connection, sent=3, confirmed=2)])
            (live,) = (await _status(storage)).connections
            assert (live.connection_id, live.pod_id, live.replica) == ("connection-1", POD, "a")
            assert (live.protocol, live.remote) == ("gatecast.v2", "10.0.0.1:7")
            assert (live.sent, live.confirmed) == (3, 2)
            assert live.connected_at.utcoffset() == timedelta(0)

    async def test_s24_a_connection_lives_as_long_as_its_pod(self, tmp_path: Path) -> None:
        """When the lease is over the connection counts no more, and again once the pod is back in time."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await connect(storage, make_connection())
            assert await _live(storage) == ["connection-1"]
            incarnation = await storage.presence.renew_lease(POD, EXPIRED)
            assert await _live(storage) == []
            assert await storage.presence.renew_lease(POD, ALIVE) == incarnation
            assert await _live(storage) == ["connection-1"]

    async def test_a_pod_that_ends_takes_its_connections_along(self, tmp_path: Path) -> None:
        """An orderly end removes the pod's connections and nobody else's."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await storage.presence.renew_lease("pod-2", ALIVE)
            await connect(storage, make_connection("one"))
            await connect(storage, make_connection("two", pod_id="pod-2"))
            await storage.presence.end_lease(POD)
            await storage.presence.renew_lease(POD, ALIVE)
            assert await _live(storage) == ["two"]

    async def test_a_pod_away_for_very_long_is_forgotten(self, tmp_path: Path) -> None:
        """Rows of dead pods do not pile up: another pod's renewal removes them in the end."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await connect(storage, make_connection())
            incarnation = await storage.presence.renew_lease(POD, timedelta(days=-2))
            await storage.presence.renew_lease("pod-2", ALIVE)
            assert await storage.presence.renew_lease(POD, ALIVE) != incarnation
            assert await _live(storage) == []

    async def test_connecting_behind_the_end_of_the_log_is_refused(self, tmp_path: Path) -> None:
        """The gateway was deleted and registered again since its position was looked up."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(3))
            await connect(storage, make_connection("one"), start=3)
            with pytest.raises(StorageUnavailable):
                await connect(storage, make_connection("two"), start=4)
            await storage.log.forget(GATEWAY)
            await storage.log.register(GATEWAY)
            with pytest.raises(StorageUnavailable):
                await connect(storage, make_connection("three"), start=3)
            assert await _live(storage) == []
            assert (await storage.presence.standing(GATEWAY, "")).confirmed is None

    async def test_connecting_to_a_deleted_gateway_is_refused(self, tmp_path: Path) -> None:
        """A gateway that vanished meanwhile is unknown, and no connection remains."""
        async with self.open_with(tmp_path) as storage:
            with pytest.raises(UnknownGateway):
                await connect(storage, make_connection())
            with pytest.raises(UnknownGateway):
                await storage.presence.standing(GATEWAY, "")
            await storage.log.register(GATEWAY)
            assert await _live(storage) == []
            assert (await storage.presence.standing(GATEWAY, "")).confirmed is None

    async def test_s30_of_many_that_connect_at_once_one_that_is_refused_is_refused_alone(self, tmp_path: Path) -> None:
        """However they are recorded together, each gets what it would get alone, also twice the same position."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await publish(storage, *make_events(4))
            wanted = {
                "slow": connect(storage, make_connection("slow"), start=1),
                "fast": connect(storage, make_connection("fast"), start=3),
                "other": connect(storage, make_connection("other", OTHER_GATEWAY)),
                "unknown": connect(storage, make_connection("unknown", "gateway-unknown")),
                "past-the-end": connect(storage, make_connection("past-the-end", OTHER_GATEWAY), start=4),
                "named": connect(storage, make_connection("named", replica="a"), start=2),
                "bad": connect(storage, make_connection("bad", replica="\ud800"), start=2),
            }
            answers = dict(zip(wanted, await asyncio.gather(*wanted.values(), return_exceptions=True), strict=True))
            kinds = {name: type(answer) for name, answer in answers.items()}
            assert issubclass(kinds.pop("bad"), Exception)
            assert kinds.pop("unknown") is UnknownGateway
            assert kinds.pop("past-the-end") is StorageUnavailable
            assert set(kinds.values()) == {type(None)}
            assert await _live(storage) == ["fast", "named", "slow"]
            assert await _live(storage, OTHER_GATEWAY) == ["other"]
            assert await stored_offset(storage) == 1
            assert await stored_offset(storage, replica="a") == 2

    async def test_s30_who_gives_up_while_it_connects_leaves_nothing_behind(self, tmp_path: Path) -> None:
        """Whenever it is cancelled: once it has gone, disconnecting it is enough. Those who came with it stay."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            start = Position(await epoch_of(storage), 0)
            for turns in range(12):
                staying, leaving = (make_connection(f"{name}-{turns}", replica=name) for name in ("staying", "leaving"))
                left = await progress_of(storage, leaving, sent=0, confirmed=0)
                connects = [
                    asyncio.create_task(storage.presence.connect(each, start=start)) for each in (staying, leaving)
                ]
                for _ in range(turns):
                    await asyncio.sleep(0)
                connects[1].cancel()
                await asyncio.wait(connects[1:])
                await storage.presence.disconnect([left])
                await connects[0]
            assert await _live(storage) == sorted(f"staying-{turns}" for turns in range(12))

    async def test_s14_newest_only_supersedes_the_others(self, tmp_path: Path) -> None:
        """The newest connection of a gateway and replica closes the older ones, on every pod, and no others."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await storage.presence.renew_lease("pod-2", ALIVE)
            await connect(storage, make_connection("old"))
            await connect(storage, make_connection("elsewhere", pod_id="pod-2"))
            await connect(storage, make_connection("named", replica="a"))
            await connect(storage, make_connection("foreign", OTHER_GATEWAY))
            await connect(storage, make_connection("new"), newest_only=True)
            assert await storage.presence.pending_disconnects(POD) == {"old": DisconnectReason.SUPERSEDED}
            assert await storage.presence.pending_disconnects("pod-2") == {"elsewhere": DisconnectReason.SUPERSEDED}
            assert await _live(storage) == ["named", "new"]

    async def test_several_connections_may_stand_side_by_side(self, tmp_path: Path) -> None:
        """Without `newest_only` no connection is closed."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await connect(storage, make_connection("one"))
            await connect(storage, make_connection("two"))
            assert await storage.presence.pending_disconnects(POD) == {}
            assert await _live(storage) == ["one", "two"]

    async def test_s26_a_revoked_token_dismisses_its_connections(self, tmp_path: Path) -> None:
        """Connections that came with the token are closed on every pod; the others stay."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await storage.presence.renew_lease("pod-2", ALIVE)
            await connect(storage, make_connection("one"))
            await connect(storage, make_connection("two", pod_id="pod-2"))
            await connect(storage, make_connection("other", token_id="token-2"))  # noqa: S106 - an id
            await connect(storage, replace(make_connection("none"), token_id=None))
            assert await storage.presence.disconnect_token("token-1") == 2
            assert await storage.presence.disconnect_token("token-unknown") == 0
            assert await storage.presence.pending_disconnects(POD) == {"one": DisconnectReason.TOKEN_REVOKED}
            assert await storage.presence.pending_disconnects("pod-2") == {"two": DisconnectReason.TOKEN_REVOKED}

    async def test_a_dismissed_connection_is_gone_once_it_is_closed(self, tmp_path: Path) -> None:
        """Closing it, also after its gateway was deleted, removes the disconnect."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            connection = make_connection()
            await connect(storage, connection)
            await storage.log.forget(GATEWAY)
            await storage.presence.disconnect([await progress_of(storage, connection, sent=0, confirmed=0)])
            assert await storage.presence.pending_disconnects(POD) == {}

    async def test_status_of_a_gateway_that_never_connected(self, tmp_path: Path) -> None:
        """Nothing was sent, nothing confirmed, and the lag is the age of the first event."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            assert (await _status(storage)).lag_seconds == 0
            await publish(storage, *make_events(2))
            status = await _status(storage)
            assert (status.gateway_id, status.epoch) == (GATEWAY, await epoch_of(storage))
            assert (status.head, status.low_water_mark, status.sent, status.confirmed) == (2, 0, 0, 0)
            assert (status.last_seen_at, status.resync_reason, list(status.connections)) == (None, None, [])
            assert 0 <= status.lag_seconds < 3600

    async def test_status_of_a_gateway_that_lags(self, tmp_path: Path) -> None:
        """Sent is the furthest and confirmed the slowest; the lag ends when all is confirmed."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(5))
            fast, slow = make_connection("fast", replica="a"), make_connection("slow", replica="b")
            await connect(storage, fast)
            await connect(storage, slow)
            await confirm(storage, fast, 4)
            await storage.presence.record_progress([await progress_of(storage, slow, sent=5, confirmed=1)])
            status = await _status(storage)
            assert (status.sent, status.confirmed) == (5, 1)
            assert status.last_seen_at is not None
            assert status.last_seen_at.utcoffset() == timedelta(0)
            await confirm(storage, fast, 5)
            await confirm(storage, slow, 5)
            assert (await _status(storage)).lag_seconds == 0

    async def test_status_of_many_gateways(self, tmp_path: Path) -> None:
        """Each registered gateway has its own status; unknown ones are left out."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await publish(storage, make_event(OTHER_GATEWAY))
            await connect(storage, make_connection("one", OTHER_GATEWAY))
            status = await storage.presence.status([GATEWAY, "gateway-unknown", OTHER_GATEWAY])
            assert {gateway_id: each.head for gateway_id, each in status.items()} == {GATEWAY: 0, OTHER_GATEWAY: 1}
            assert len(status[OTHER_GATEWAY].connections) == 1
            assert list(status[GATEWAY].connections) == []
            assert await storage.presence.status([]) == {}

    async def test_s05_the_need_to_resynchronize_is_shown_until_it_was_done(self, tmp_path: Path) -> None:
        """The reason outlives the connection that was told; another replica's reason is its own."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await connect(storage, make_connection("one", replica="a"), resync_reason="retention")
            await connect(storage, make_connection("two", replica="b"))
            await storage.presence.disconnect(
                [await progress_of(storage, make_connection("one", replica="a"), sent=0, confirmed=0)]
            )
            assert (await _status(storage)).resync_reason == "retention"
            assert (await storage.presence.standing(GATEWAY, "a")).resync_reason == "retention"
            assert (await storage.presence.standing(GATEWAY, "b")).resync_reason is None
            await storage.presence.resynchronized(GATEWAY, "a", "retention")
            assert (await _status(storage)).resync_reason is None
            assert (await storage.presence.standing(GATEWAY, "a")).resync_reason is None

    async def test_s05_a_reason_that_nobody_was_told_stays(self, tmp_path: Path) -> None:
        """It has come while the replica read the desired state for another one, or another connection was told."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            for name, reason in (("one", "retention"), ("two", "epoch")):
                await connect(storage, make_connection(name), resync_reason=reason)
            for connection_id in ("one", None):
                await storage.presence.resynchronized(GATEWAY, "", "retention", connection_id=connection_id)
            assert (await storage.presence.standing(GATEWAY, "")).resync_reason == "epoch"
            await storage.presence.resynchronized(GATEWAY, "", "epoch", connection_id="two")
            assert (await storage.presence.standing(GATEWAY, "")).resync_reason is None

    async def test_s05_connecting_with_a_position_that_can_be_continued_ends_the_need(self, tmp_path: Path) -> None:
        """A client that says where it stands, and can go on from there, misses nothing."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await connect(storage, make_connection("one"), resync_reason="retention")
            await connect(storage, make_connection("two"))
            assert (await storage.presence.standing(GATEWAY, "")).resync_reason is None

    async def test_s20_confirmations_of_an_older_epoch_do_not_count(self, tmp_path: Path) -> None:
        """After a renewal the status says that nothing is confirmed, and why."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(3))
            await connect(storage, make_connection(), start=3)
            await storage.log.renew_epoch(await epoch_of(storage))
            status = await _status(storage)
            assert (status.confirmed, status.resync_reason) == (0, "epoch")
            assert status.epoch == await epoch_of(storage)

    async def test_connections_survive_a_restart_of_the_storage(self, tmp_path: Path) -> None:
        """A pod that reopens the database finds its connections and positions as they were."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(3))
            await connect(storage, make_connection())
            await confirm(storage, make_connection(), 2)
        async with self.open_storage(tmp_path) as storage:
            assert await _live(storage) == ["connection-1"]
            assert (await _status(storage)).confirmed == 2
            assert (await read(storage)).head == 3

    async def test_s20_connecting_at_a_position_of_another_epoch_is_refused(self, tmp_path: Path) -> None:
        """A pod that read the position before a new history began must read it again; nothing is recorded."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            with pytest.raises(StorageUnavailable):
                await storage.presence.connect(make_connection(), start=Position(uuid4(), 7))
            assert (await storage.presence.standing(GATEWAY, "")).confirmed is None
            assert await _live(storage) == []

    async def test_pods_with_a_lease_are_listed_with_what_they_said_of_themselves(self, tmp_path: Path) -> None:
        """One that ended, or whose lease ran out, is not there."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await storage.presence.renew_lease("pod-b", timedelta(hours=1))
            await storage.presence.renew_lease("pod-a", timedelta(hours=2))
            await storage.presence.renew_lease("pod-dead", timedelta(0))
            await storage.presence.describe_pod("pod-a", "1.2.3")
            await storage.presence.describe_pod("pod-nobody", "1.2.3")
            found = await storage.presence.pods()
            assert [each.pod_id for each in found] == sorted(each.pod_id for each in found)
            assert "pod-dead" not in [each.pod_id for each in found]
            first, second = [each for each in found if each.pod_id in ("pod-a", "pod-b")]
            assert (first.pod_id, first.version, second.pod_id, second.version) == ("pod-a", "1.2.3", "pod-b", "")
            assert first.started_at is not None
            assert second.started_at is None
            assert 3_600 < first.lease_seconds <= 7_200
            await storage.presence.end_lease("pod-a")
            left = [each.pod_id for each in await storage.presence.pods()]
            assert "pod-b" in left
            assert "pod-a" not in left

    async def test_one_connection_is_dismissed_and_the_others_stay(self, tmp_path: Path) -> None:
        """It must be one of the gateway that is named: nobody reaches another tenant's."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            for name in ("one", "two"):
                await connect(storage, make_connection(name))
            assert not await storage.presence.disconnect_connection("another-gateway", "one")
            assert not await storage.presence.disconnect_connection(GATEWAY, "three")
            assert await storage.presence.disconnect_connection(GATEWAY, "one")
            assert not await storage.presence.disconnect_connection(GATEWAY, "one")
            pod_id = make_connection("one").pod_id
            assert await storage.presence.pending_disconnects(pod_id) == {"one": "restarting"}
