"""The contract of hops: when an event was picked up, sent and confirmed, over each connection."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from gatecast.storage.contract import Connection, Engine, ReadRequest, TrimPolicy
from gatecast.storage.hops import NOTHING, Delivery, Hop, Passage
from gatecast.testing.contracts.backend import (
    GATEWAY,
    OTHER_GATEWAY,
    EngineBackend,
    connect,
    make_connection,
    make_event,
    make_events,
    progress_of,
    publish,
)

#: When the tests happen: seconds since 1970.
_BEGAN = 1_790_000_000.0

#: Most rows that a gateway leaves which comes again and again without getting on, and those of its last connection.
_MOST_REPEATS = 100


async def _passed(storage: Engine, connection: Connection, *passages: Passage, leaves: bool = False) -> None:
    """Store that events passed these hops."""
    through = max(passage.through for passage in passages)
    progress = replace(await progress_of(storage, connection, sent=through, confirmed=0), passages=passages)
    await (storage.presence.disconnect if leaves else storage.presence.record_progress)([progress])


def _passage(after: int, through: int, first: float, last: float | None = None) -> Passage:
    return Passage(after, through, _BEGAN + first, _BEGAN + (first if last is None else last))


def _seen(delivery: Delivery) -> dict[Hop, tuple[float, float]]:
    """Each hop in seconds since the tests began, and how uncertain that is."""
    return {hop: (each.at.timestamp() - _BEGAN, each.within) for hop, each in delivery.hops.items()}


class HopsContract(EngineBackend):
    """`deliveries`, and the passages of `record_progress` and `disconnect`."""

    async def test_an_event_is_followed_hop_by_hop(self, tmp_path: Path) -> None:
        """By whatever rows tell of it: it is often sent and confirmed between two of them."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(3))
            connection = make_connection(replica="a")
            await connect(storage, connection)
            await _passed(storage, connection, _passage(0, 3, 1), _passage(0, 2, 2), NOTHING)
            await _passed(storage, connection, NOTHING, _passage(2, 3, 4), _passage(0, 3, 5))
            [first] = await storage.outcomes.deliveries(GATEWAY, 1)
            assert (first.connection_id, first.replica, first.pod_id) == ("connection-1", "a", "pod-1")
            assert _seen(first) == {Hop.PICKED_UP: (1, 0), Hop.SENT: (2, 0), Hop.CONFIRMED: (5, 0)}
            assert first.hops[Hop.SENT].at == datetime.fromtimestamp(_BEGAN + 2, UTC)
            [third] = await storage.outcomes.deliveries(GATEWAY, 3)
            assert _seen(third)[Hop.SENT] == (4, 0)

    async def test_between_two_instants_is_told_how_exactly_it_is_known(self, tmp_path: Path) -> None:
        """The first and the last of those that passed together are known exactly, the others to within that time."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(5))
            await connect(storage, make_connection())
            await _passed(storage, make_connection(), _passage(0, 5, 1, 3), NOTHING, NOTHING)
            told = [
                _seen(one)[Hop.PICKED_UP] for n in range(1, 6) for one in await storage.outcomes.deliveries(GATEWAY, n)
            ]
            assert told == [(1, 0), (1.5, 2), (2, 2), (2.5, 2), (3, 0)]

    async def test_an_event_that_was_sent_again_has_a_way_over_each_connection(self, tmp_path: Path) -> None:
        """In the order in which they happened; replicas each have their own."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(1))
            for name, replica, at in (("one", "a", 1.0), ("two", "b", 2.0), ("three", "a", 3.0)):
                connection = make_connection(name, replica=replica)
                await connect(storage, connection)
                await _passed(storage, connection, _passage(0, 1, at), _passage(0, 1, at), NOTHING, leaves=True)
            ways = await storage.outcomes.deliveries(GATEWAY, 1)
            assert [(way.connection_id, way.replica) for way in ways] == [("one", "a"), ("two", "b"), ("three", "a")]

    async def test_nothing_is_told_of_an_event_that_nobody_picked_up(self, tmp_path: Path) -> None:
        """Nor of a gateway that there is not."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(2))
            await connect(storage, make_connection())
            await _passed(storage, make_connection(), _passage(0, 1, 1), NOTHING, NOTHING)
            assert await storage.outcomes.deliveries(GATEWAY, 2) == []
            assert await storage.outcomes.deliveries("nobody", 1) == []

    async def test_progress_that_does_not_count_leaves_no_passages(self, tmp_path: Path) -> None:
        """Of another history, of a connection that is not recorded, and of one that was sent away."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(1))
            connection = make_connection()
            await _passed(storage, connection, _passage(0, 1, 1), NOTHING, NOTHING)
            await connect(storage, connection)
            progress = await progress_of(storage, connection, sent=1, confirmed=1)
            other = replace(progress, epoch=uuid4(), passages=(_passage(0, 1, 1), NOTHING, NOTHING))
            await storage.presence.record_progress([other])
            await storage.presence.disconnect_token("token-1")
            await _passed(storage, connection, _passage(0, 1, 1), NOTHING, NOTHING)
            assert await storage.outcomes.deliveries(GATEWAY, 1) == []

    async def test_a_gateway_that_is_registered_again_has_none_of_the_former_ones(self, tmp_path: Path) -> None:
        """Not even where a connection of the former one tells of them late."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(1))
            await connect(storage, make_connection())
            await _passed(storage, make_connection(), _passage(0, 1, 1), NOTHING, NOTHING)
            await storage.log.forget(GATEWAY)
            await storage.log.register(GATEWAY)
            await publish(storage, *make_events(1))
            await _passed(storage, make_connection(), _passage(0, 1, 1), NOTHING, NOTHING, leaves=True)
            assert await storage.outcomes.deliveries(GATEWAY, 1) == []

    async def test_retention_removes_passages_with_their_events(self, tmp_path: Path) -> None:
        """Those of what is kept stay; nothing is left of a gateway that was deleted."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(6))
            await connect(storage, make_connection())
            for number in range(6):
                await _passed(storage, make_connection(), _passage(number, number + 1, number), NOTHING, NOTHING)
            age = timedelta(hours=1)
            await storage.log.trim(TrimPolicy(keep_confirmed=age, keep_at_most=age, max_events=2))
            assert [len(await storage.outcomes.deliveries(GATEWAY, offset)) for offset in range(1, 7)] == [0] * 4 + [
                1
            ] * 2
            assert await self.stored_passages(storage) == 2
            await storage.log.forget(GATEWAY)
            while await storage.log.trim(TrimPolicy(keep_confirmed=age, keep_at_most=age, max_events=2)):
                pass
            assert await self.stored_passages(storage) == 0

    async def test_a_gateway_that_gets_nowhere_leaves_a_bounded_trace(self, tmp_path: Path) -> None:
        """It may come every second for a week: what its newest connections did is kept."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(1))
            for number in range(_MOST_REPEATS + 20):
                connection = make_connection(f"connection-{number}")
                await connect(storage, connection)
                await _passed(storage, connection, _passage(0, 1, number), NOTHING, NOTHING, leaves=True)
            assert await self.stored_passages(storage) <= _MOST_REPEATS + 1
            assert (await storage.outcomes.deliveries(GATEWAY, 1))[-1].connection_id == connection.connection_id

    async def test_latencies_are_those_of_what_was_confirmed_lately(self, tmp_path: Path) -> None:
        """Of the gateways that are asked about; what was only sent tells nothing."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await publish(storage, *make_events(3))
            await publish(storage, make_event(OTHER_GATEWAY))
            connection = make_connection()
            await connect(storage, connection)
            result = await storage.log.read([ReadRequest(gateway_id=GATEWAY, after=2, max_events=1, max_bytes=1)])
            assert result[0] is not None
            recorded = result[0].events[0].recorded_at.timestamp()

            async def passed(*passages: Passage) -> None:
                progress = await progress_of(storage, connection, sent=3, confirmed=3)
                await storage.presence.record_progress([replace(progress, passages=passages)])

            await passed(NOTHING, Passage(0, 3, recorded + 1, recorded + 1), NOTHING)
            assert await storage.survey.latencies([GATEWAY, OTHER_GATEWAY], since=recorded) == []
            await passed(NOTHING, NOTHING, Passage(0, 3, recorded + 1, recorded + 2))
            [seconds] = await storage.survey.latencies([GATEWAY, OTHER_GATEWAY, "nobody"], since=recorded)
            assert seconds == pytest.approx(2.0, abs=0.01)
            assert await storage.survey.latencies([GATEWAY], since=recorded + 3) == []
            assert await storage.survey.latencies([OTHER_GATEWAY], since=recorded) == []
