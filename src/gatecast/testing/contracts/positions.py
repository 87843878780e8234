"""The contract of stored positions: what is confirmed, by whom, and never silently further."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from gatecast.events import Position
from gatecast.storage.contract import DisconnectReason, Engine
from gatecast.testing.contracts.backend import (
    ALIVE,
    EXPIRED,
    GATEWAY,
    POD,
    EngineBackend,
    confirm,
    connect,
    epoch_of,
    make_connection,
    make_events,
    progress_of,
    publish,
    stored_offset,
)


async def _disconnect(storage: Engine, connection_id: str, offset: int, replica: str = "") -> None:
    connection = make_connection(connection_id, replica=replica)
    await storage.presence.disconnect([await progress_of(storage, connection, sent=offset, confirmed=offset)])


class PositionsContract(EngineBackend):
    """`connect`, `record_progress` and `disconnect`, as far as they move stored positions."""

    async def test_standing_shows_log_and_position(self, tmp_path: Path) -> None:
        """Head, what was trimmed, the epoch, and what this replica has confirmed; None before its first connection."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(4))
            standing = await storage.presence.standing(GATEWAY, "a")
            assert (standing.head, standing.low_water_mark, standing.confirmed) == (4, 0, None)
            await connect(storage, make_connection(replica="a"), start=3)
            assert (await storage.presence.standing(GATEWAY, "a")).confirmed == Position(standing.epoch, 3)
            assert (await storage.presence.standing(GATEWAY, "")).confirmed is None

    async def test_connecting_stores_the_start_also_backwards(self, tmp_path: Path) -> None:
        """A client knows best where it stands: it may go on from earlier than it had confirmed."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(9))
            await connect(storage, make_connection("one"), start=6)
            assert await stored_offset(storage) == 6
            await connect(storage, make_connection("two"), start=2)
            assert await stored_offset(storage) == 2

    async def test_s13_connecting_does_not_pass_a_slower_connection(self, tmp_path: Path) -> None:
        """What one of several unnamed clients says of itself says nothing about the others."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(8))
            await connect(storage, make_connection("slow"), start=2)
            await connect(storage, make_connection("fast"), start=8)
            assert await stored_offset(storage) == 2
            await confirm(storage, make_connection("slow"), 5)
            assert await stored_offset(storage) == 5
            await _disconnect(storage, "slow", 6)
            assert await stored_offset(storage) == 8

    async def test_connecting_passes_those_that_hold_nothing_back(self, tmp_path: Path) -> None:
        """Other replicas, dead pods, and those of whom only the newest is wanted do not count."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(8))
            await storage.presence.renew_lease("pod-dead", EXPIRED)
            await connect(storage, make_connection("replica", replica="a"))
            await connect(storage, make_connection("stale", pod_id="pod-dead"))
            await storage.presence.renew_lease(POD, ALIVE)
            await connect(storage, make_connection("one"), start=5)
            assert await stored_offset(storage) == 5
            await connect(storage, make_connection("two"), start=8, newest_only=True)
            assert await stored_offset(storage) == 8

    async def test_connecting_replaces_a_position_of_another_epoch(self, tmp_path: Path) -> None:
        """In a new history the position begins where the new connection begins."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(5))
            await connect(storage, make_connection("one"), start=5)
            await storage.log.renew_epoch(await epoch_of(storage))
            await connect(storage, make_connection("two"), start=1)
            assert await stored_offset(storage) == 1

    async def test_s07_a_confirmed_offset_is_found_by_every_pod(self, tmp_path: Path) -> None:
        """What was confirmed on one pod is where another pod continues."""
        async with self.open_with(tmp_path, GATEWAY) as storage, self.open_second(tmp_path) as second:
            await publish(storage, *make_events(5))
            await connect(storage, make_connection())
            await confirm(storage, make_connection(), 3)
            assert await stored_offset(second) == 3

    async def test_s08_progress_never_moves_back(self, tmp_path: Path) -> None:
        """A late report of earlier progress changes nothing."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await connect(storage, make_connection())
            for offset, expected in ((4, 4), (2, 4), (5, 5), (0, 5)):
                await confirm(storage, make_connection(), offset)
                assert await stored_offset(storage) == expected

    async def test_only_progress_makes_a_gateway_seen(self, tmp_path: Path) -> None:
        """A report that says nothing new moves nothing, not even when the gateway was last seen."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(2))
            await connect(storage, make_connection(), start=0)
            seen = []
            for offset in (1, 1, 2):
                await confirm(storage, make_connection(), offset)
                status = (await storage.presence.status([GATEWAY]))[GATEWAY]
                assert status.last_seen_at is not None
                seen.append(status.last_seen_at)
            assert seen[0] == seen[1] < seen[2]

    async def test_s13_the_slowest_connection_decides(self, tmp_path: Path) -> None:
        """Unnamed connections share a position, which is what all of them have confirmed."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await connect(storage, make_connection("fast"))
            await connect(storage, make_connection("slow"))
            await confirm(storage, make_connection("fast"), 9)
            assert await stored_offset(storage) == 0
            await confirm(storage, make_connection("slow"), 5)
            assert await stored_offset(storage) == 5

    async def test_named_replicas_have_positions_of_their_own(self, tmp_path: Path) -> None:
        """A slow replica holds only its own position back."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await connect(storage, make_connection("one", replica="a"))
            await connect(storage, make_connection("two", replica="b"))
            await confirm(storage, make_connection("one", replica="a"), 9)
            assert await stored_offset(storage, replica="a") == 9
            assert await stored_offset(storage, replica="b") == 0

    async def test_several_connections_in_one_report(self, tmp_path: Path) -> None:
        """A batch may hold several connections of one gateway, and the same connection twice."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            one, two = make_connection("one"), make_connection("two")
            await connect(storage, one)
            await connect(storage, two)
            early, late = [await progress_of(storage, one, sent=offset, confirmed=offset) for offset in (3, 7)]
            await storage.presence.record_progress([early, await progress_of(storage, two, sent=5, confirmed=5), late])
            assert await stored_offset(storage) == 5
            await storage.presence.record_progress([])

    async def test_concurrent_reports_end_at_the_slowest(self, tmp_path: Path) -> None:
        """Two pods that report at the same time do not overlook each other."""
        async with self.open_with(tmp_path, GATEWAY) as storage, self.open_second(tmp_path) as second:
            await storage.presence.renew_lease("pod-2", ALIVE)
            await connect(storage, make_connection("one"))
            await connect(second, make_connection("two", pod_id="pod-2"))
            for offset in range(1, 11):
                await asyncio.gather(
                    confirm(storage, make_connection("one"), offset), confirm(second, make_connection("two"), offset)
                )
                assert await stored_offset(storage) == offset

    async def test_a_dead_pods_connection_holds_back_until_somebody_noticed(self, tmp_path: Path) -> None:
        """A connection whose pod's lease is over is waited for until the next renewal by any pod, and no longer."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await storage.presence.renew_lease("pod-dead", EXPIRED)
            await connect(storage, make_connection("one"))
            await connect(storage, make_connection("stale", pod_id="pod-dead"))
            await confirm(storage, make_connection("one"), 6)
            assert await stored_offset(storage) == 0
            await storage.presence.renew_lease(POD, ALIVE)
            assert await stored_offset(storage) == 6

    async def test_s20_progress_of_another_epoch_changes_nothing(self, tmp_path: Path) -> None:
        """Offsets of another history say nothing about this one, whether reported late or made up."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await connect(storage, make_connection())
            late = await progress_of(storage, make_connection(), sent=9, confirmed=9)
            await storage.presence.record_progress([replace(late, epoch=uuid4())])
            assert await stored_offset(storage) == 0
            await storage.presence.record_progress([late])
            assert await stored_offset(storage) == 9

    async def test_s20_what_was_confirmed_in_an_older_epoch_does_not_return(self, tmp_path: Path) -> None:
        """A connection from before a new history neither moves its positions by late reports nor by leaving."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(9))
            await connect(storage, make_connection())
            late = await progress_of(storage, make_connection(), sent=9, confirmed=9)
            await storage.presence.record_progress([late])
            await storage.log.renew_epoch(late.epoch)
            await connect(storage, make_connection("next"), start=2)
            await _disconnect(storage, "next", 3)
            moved = await stored_offset(storage)
            await storage.presence.record_progress([late])
            await storage.presence.disconnect([late])
            assert await stored_offset(storage) == moved
            # The old connection had confirmed nothing of the new history, so it may hold the position back.
            assert moved in {2, 3}

    async def test_progress_of_a_connection_that_is_not_recorded_changes_nothing(self, tmp_path: Path) -> None:
        """What a closed or forgotten connection reports late is ignored."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await connect(storage, make_connection("one"))
            await confirm(storage, make_connection("unknown"), 9)
            assert await stored_offset(storage) == 0
            await _disconnect(storage, "one", 3)
            await confirm(storage, make_connection("one"), 9)
            await _disconnect(storage, "one", 9)
            assert await stored_offset(storage) == 3

    async def test_disconnecting_records_the_last_progress(self, tmp_path: Path) -> None:
        """What was confirmed up to the end is stored with the end; the connection is gone."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await connect(storage, make_connection())
            await _disconnect(storage, "connection-1", 7)
            assert await stored_offset(storage) == 7
            assert list((await storage.presence.status([GATEWAY]))[GATEWAY].connections) == []

    async def test_a_slow_connection_that_leaves_holds_nothing_back(self, tmp_path: Path) -> None:
        """The position moves to what those have confirmed that stay, without waiting for their next report."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await connect(storage, make_connection("fast"))
            await connect(storage, make_connection("slow"))
            await confirm(storage, make_connection("fast"), 9)
            assert await stored_offset(storage) == 0
            await _disconnect(storage, "slow", 4)
            assert await stored_offset(storage) == 9

    async def test_a_pod_that_dies_holds_nothing_back(self, tmp_path: Path) -> None:
        """Once its lease is over, the next renewal by any pod moves the positions that it held back."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await storage.presence.renew_lease("pod-2", ALIVE)
            await connect(storage, make_connection("fast"))
            await connect(storage, make_connection("slow", pod_id="pod-2"))
            await confirm(storage, make_connection("fast"), 9)
            await storage.presence.renew_lease("pod-2", EXPIRED)
            await storage.presence.renew_lease(POD, ALIVE)
            assert await stored_offset(storage) == 9

    async def test_a_pod_whose_lease_had_lapsed_catches_up(self, tmp_path: Path) -> None:
        """What its connections had confirmed counts again once the lease is renewed, also when nothing more comes."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await storage.presence.renew_lease("pod-2", ALIVE)
            await connect(storage, make_connection("fast"))
            await connect(storage, make_connection("slow", pod_id="pod-2"))
            await confirm(storage, make_connection("fast"), 9)
            await storage.presence.renew_lease(POD, EXPIRED)
            await storage.presence.renew_lease("pod-2", ALIVE)
            slow = make_connection("slow", pod_id="pod-2")
            await storage.presence.disconnect([await progress_of(storage, slow, sent=4, confirmed=4)])
            assert await stored_offset(storage) == 4
            await storage.presence.renew_lease(POD, ALIVE)
            assert await stored_offset(storage) == 9

    async def test_a_pod_that_ends_holds_nothing_back(self, tmp_path: Path) -> None:
        """An orderly end moves the positions that the pod held back."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await storage.presence.renew_lease("pod-2", ALIVE)
            await connect(storage, make_connection("fast"))
            await connect(storage, make_connection("slow", pod_id="pod-2"))
            await confirm(storage, make_connection("fast"), 9)
            await storage.presence.end_lease("pod-2")
            assert await stored_offset(storage) == 9

    async def test_s08_what_was_sent_again_is_sent_again_to_its_end(self, tmp_path: Path) -> None:
        """A gateway went back to an older event on a newer connection, so the later events must come again, too."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(9))
            await connect(storage, make_connection("before"))
            await connect(storage, make_connection("again"))
            await _disconnect(storage, "again", 4)
            assert await storage.presence.pending_disconnects(POD) == {"before": DisconnectReason.RESTARTING}
            await confirm(storage, make_connection("before"), 9)
            assert await stored_offset(storage) == 4
            await _disconnect(storage, "before", 9)
            assert await stored_offset(storage) == 4

    async def test_s08_what_was_confirmed_before_the_end_counts_no_more_either(self, tmp_path: Path) -> None:
        """It makes no difference whether the older connection's confirmation is stored before or after that."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(9))
            await connect(storage, make_connection("before"))
            await connect(storage, make_connection("again"))
            await confirm(storage, make_connection("before"), 9)
            await _disconnect(storage, "again", 4)
            assert await stored_offset(storage) == 4
            await connect(storage, make_connection("next"), start=4)
            await confirm(storage, make_connection("next"), 9)
            assert await stored_offset(storage) == 9

    @pytest.mark.parametrize("orderly", [True, False])
    async def test_s08_that_holds_when_a_whole_pod_ends(self, tmp_path: Path, *, orderly: bool) -> None:
        """The newer connection ends with its pod, which leaves, or dies and is noticed by another."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(9))
            await storage.presence.renew_lease("pod-2", ALIVE)
            await connect(storage, make_connection("before"))
            await connect(storage, make_connection("again", pod_id="pod-2"))
            await confirm(storage, make_connection("again", pod_id="pod-2"), 4)
            if orderly:
                await storage.presence.end_lease("pod-2")
            else:
                await storage.presence.renew_lease("pod-2", EXPIRED)
            await confirm(storage, make_connection("before"), 9)
            await storage.presence.renew_lease(POD, ALIVE)
            assert await stored_offset(storage) == (0 if orderly else 4)
            assert await storage.presence.pending_disconnects(POD) == {"before": DisconnectReason.RESTARTING}

    async def test_a_new_connection_to_a_pod_without_a_lease_holds_back(self, tmp_path: Path) -> None:
        """The pod lives, or nobody could have connected to it; what it held before is released, and not this one."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(9))
            await storage.presence.renew_lease("pod-2", EXPIRED)
            await connect(storage, make_connection("before"))
            await connect(storage, make_connection("lapsed", pod_id="pod-2"))
            await storage.presence.renew_lease(POD, ALIVE)
            await connect(storage, make_connection("again", pod_id="pod-2"))
            await confirm(storage, make_connection("before"), 9)
            await confirm(storage, make_connection("again", pod_id="pod-2"), 4)
            assert await stored_offset(storage) == 4
            await storage.presence.renew_lease(POD, ALIVE)
            await confirm(storage, make_connection("before"), 9)
            assert await stored_offset(storage) == 4

    async def test_a_connection_to_a_pod_that_was_forgotten_is_released_by_the_next_pod(self, tmp_path: Path) -> None:
        """It holds its position back until then, and not for ever."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await connect(storage, make_connection("one"))
            await connect(storage, make_connection("stray", pod_id="pod-unknown"))
            await confirm(storage, make_connection("one"), 6)
            assert await stored_offset(storage) == 0
            await storage.presence.renew_lease("pod-new", ALIVE)
            assert await stored_offset(storage) == 6

    async def test_whoever_ends_with_everything_confirmed_dismisses_nobody(self, tmp_path: Path) -> None:
        """Nor does an older connection close a newer one, or one of another replica."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(9))
            await connect(storage, make_connection("older"))
            await connect(storage, make_connection("one"))
            await connect(storage, make_connection("other", replica="a"))
            await connect(storage, make_connection("newest"))
            await _disconnect(storage, "one", 9)
            await _disconnect(storage, "older", 3)
            assert await storage.presence.pending_disconnects(POD) == {}
            await confirm(storage, make_connection("newest"), 8)
            assert await stored_offset(storage) == 8

    async def test_s14_what_the_superseded_confirm_counts_no_more(self, tmp_path: Path) -> None:
        """The newest connection alone says how far its gateway is, also after its end."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(9))
            await connect(storage, make_connection("old"))
            await connect(storage, make_connection("new"), newest_only=True)
            await confirm(storage, make_connection("new"), 4)
            await _disconnect(storage, "new", 5)
            await confirm(storage, make_connection("old"), 9)
            assert await stored_offset(storage) == 5

    async def test_s20_a_log_knows_the_history_it_began_in(self, tmp_path: Path) -> None:
        """After a restore, a gateway without a position may still have seen what is lost; a new one has not."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            before = (await storage.presence.standing(GATEWAY, "")).epoch
            epoch = await storage.log.renew_epoch(before)
            await storage.log.register("gateway-new")
            assert (await storage.presence.standing(GATEWAY, "")).registered_in == before
            assert (await storage.presence.standing("gateway-new", "")).registered_in == epoch

    async def test_several_connections_may_leave_in_one_report(self, tmp_path: Path) -> None:
        """Those that leave together are all counted before they are gone."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            connections = [make_connection("one"), make_connection("two")]
            for connection in connections:
                await connect(storage, connection)
            last = [
                await progress_of(storage, connection, sent=9, confirmed=offset)
                for connection, offset in zip(connections, (8, 3), strict=True)
            ]
            await storage.presence.disconnect(last)
            assert await stored_offset(storage) == 3
            assert (await storage.presence.status([GATEWAY]))[GATEWAY].sent == 9
