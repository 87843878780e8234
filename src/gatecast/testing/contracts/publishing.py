"""The contract of publishing: atomic groups, gapless offsets in commit order, each id once."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID, uuid4

from gatecast.errors import UnknownGateway
from gatecast.events import Action, Event
from gatecast.storage.contract import Engine, PublishResult, Receipt
from gatecast.testing.contracts.backend import (
    GATEWAY,
    OTHER_GATEWAY,
    EngineBackend,
    epoch_of,
    ids_of,
    make_event,
    make_events,
    offsets_of,
    publish,
    read,
)


class PublishingContract(EngineBackend):
    """`EventLog.publish`."""

    async def test_offsets_count_from_one_without_gaps(self, tmp_path: Path) -> None:
        """The first event of a log has offset 1, and every next one the next number."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            first = await publish(storage, *make_events(3))
            second = await publish(storage, make_event())
            assert offsets_of(first) == [1, 2, 3]
            assert offsets_of(second) == [4]
            assert len(await ids_of(storage)) == 4

    async def test_each_gateway_counts_for_itself(self, tmp_path: Path) -> None:
        """Offsets of one gateway do not depend on what others are sent."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            mixed = [make_event(), make_event(OTHER_GATEWAY), make_event(), make_event(OTHER_GATEWAY)]
            assert offsets_of(await publish(storage, *mixed)) == [1, 1, 2, 2]

    async def test_a_receipt_names_gateway_event_and_epoch(self, tmp_path: Path) -> None:
        """A receipt says which event lies where, in which history, and that it is new."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            event = make_event()
            (receipt,) = await publish(storage, event)
            assert (receipt.gateway_id, receipt.event_id, receipt.created) == (GATEWAY, event.event_id, True)
            assert receipt.position.epoch == await epoch_of(storage)

    async def test_an_event_is_found_by_its_id(self, tmp_path: Path) -> None:
        """In its gateway's log only, and while it is there."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            events = make_events(3)
            receipts = await publish(storage, *events)
            wanted = [events[2].event_id, events[0].event_id, uuid4()]
            found = await storage.log.find(GATEWAY, wanted)
            assert found == {each.event_id: each.position for each in (receipts[0], receipts[2])}
            assert await storage.log.find(GATEWAY, []) == {}
            assert await storage.log.find(OTHER_GATEWAY, wanted) == {}
            assert await storage.log.find("unknown", wanted) == {}

    async def test_what_was_published_is_read_unchanged(self, tmp_path: Path) -> None:
        """Every field comes back as published; the recorded time is the database's, in UTC."""
        moment = datetime(2026, 3, 29, 2, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
        event = Event(
            gateway_id=GATEWAY,
            type="apikey.created",
            action=Action.PROVISION,
            entity_type="ApiKey",
            entity_id="schlüssel-1",
            data={"text": "é\u2028\x01'\"$1 %s", "number": 2**60, "nested": {"list": [None, True]}},
            originated_at=moment,
            trace_parent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, event)
            (recorded,) = (await read(storage)).events
        assert (recorded.gateway_id, recorded.offset, recorded.event_id) == (GATEWAY, 1, event.event_id)
        assert (recorded.type, recorded.action) == (event.type, event.action)
        assert (recorded.entity_type, recorded.entity_id) == (event.entity_type, event.entity_id)
        assert (recorded.payload, recorded.trace_parent) == (event.payload, event.trace_parent)
        assert recorded.originated_at == moment
        assert recorded.recorded_at.utcoffset() == datetime.now(UTC).utcoffset()

    async def test_the_first_and_the_last_instant_are_read_unchanged(self, tmp_path: Path) -> None:
        """Alone and among others."""
        edges = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
        async with self.open_with(tmp_path, GATEWAY) as storage:
            for edge in edges:
                await publish(storage, _originated(edge))
            await publish(storage, *map(_originated, edges))
            assert [event.originated_at for event in (await read(storage)).events] == edges * 2

    async def test_nothing_to_publish_is_no_error(self, tmp_path: Path) -> None:
        """No groups give no results, and an empty group gives an empty receipt."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            assert await storage.log.publish([]) == []
            assert await storage.log.publish([[], [make_event()], []]) != []
            assert (await storage.log.publish([[], []])) == [(), ()]

    async def test_s15_the_same_id_to_one_gateway_is_one_event(self, tmp_path: Path) -> None:
        """An id that is already in the log is answered with its first position and stored no more."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            event = make_event(answer=42)
            (first,) = await publish(storage, event)
            await publish(storage, make_event())
            (again,) = await publish(storage, make_event(event_id=event.event_id, answer=43))
            assert (first.created, again.created) == (True, False)
            assert again.position == first.position
            result = await read(storage)
            assert result.head == 2
            assert result.events[0].data == {"answer": 42}

    async def test_s15_the_same_id_to_two_gateways_is_two_events(self, tmp_path: Path) -> None:
        """Ids are unique per gateway: a fan-out shares one id."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            event = make_event()
            receipts = await publish(storage, event, event.addressed_to(OTHER_GATEWAY))
            assert [receipt.created for receipt in receipts] == [True, True]
            assert await ids_of(storage) == await ids_of(storage, OTHER_GATEWAY) == [event.event_id]

    async def test_s15_the_same_id_twice_within_one_call(self, tmp_path: Path) -> None:
        """Repetitions within one group and across groups of one call are found as well."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            event, other = make_event(), make_event()
            results = await storage.log.publish([[event, event, other], [event]])
            receipts = _receipts(results)
            assert offsets_of(receipts) == [1, 1, 2, 1]
            assert [receipt.created for receipt in receipts] == [True, False, True, False]
            assert await ids_of(storage) == [event.event_id, other.event_id]

    async def test_s16_a_repeated_group_is_answered_like_the_first(self, tmp_path: Path) -> None:
        """A caller that missed the answer publishes the same again, and gets the first positions."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            events = make_events(5)
            first = await publish(storage, *events)
            again = await publish(storage, *events, make_event())
            assert offsets_of(again) == [*offsets_of(first), 6]

    async def test_s17_an_unknown_gateway_is_refused(self, tmp_path: Path) -> None:
        """Nothing is stored for a gateway that is not registered, not even when it is registered later."""
        async with self.open_with(tmp_path) as storage:
            (result,) = await storage.log.publish([[make_event("gateway-unknown")]])
            assert isinstance(result, UnknownGateway)
            assert result.gateway_id == "gateway-unknown"
            await storage.log.register("gateway-unknown")
            assert await ids_of(storage, "gateway-unknown") == []

    async def test_s17_an_id_with_blanks_means_the_trimmed_one(self, tmp_path: Path) -> None:
        """Events for `" gateway-1 "` stand in the log of `"gateway-1"`."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            (receipt,) = await publish(storage, make_event(f"  {GATEWAY}\n"))
            assert receipt.gateway_id == GATEWAY
            assert await ids_of(storage) == [receipt.event_id]

    async def test_a_group_is_stored_whole_or_not_at_all(self, tmp_path: Path) -> None:
        """One unknown gateway refuses its whole group, and no other group."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            shared = make_event()
            refused = [shared, make_event(OTHER_GATEWAY), make_event("gateway-unknown")]
            before, result, after = await storage.log.publish([[make_event()], refused, [shared]])
            assert isinstance(result, UnknownGateway)
            assert offsets_of(_receipts([before, after])) == [1, 2]
            assert all(receipt.created for receipt in _receipts([before, after]))
            assert await ids_of(storage, OTHER_GATEWAY) == []

    async def test_fan_out_to_a_thousand_gateways(self, tmp_path: Path) -> None:
        """One group reaches a thousand logs at once."""
        gateways = [f"gateway-{number}" for number in range(1_000)]
        async with self.open_storage(tmp_path) as storage:
            await self.register_all(storage, gateways)
            event = make_event(gateways[0])
            receipts = await publish(storage, *(event.addressed_to(gateway_id) for gateway_id in gateways))
            assert [receipt.gateway_id for receipt in receipts] == gateways
            assert set(offsets_of(receipts)) == {1}
            assert set((await storage.log.changed_since(0)).heads.values()) == {1}

    async def test_s06_a_refused_fan_out_reaches_nobody(self, tmp_path: Path) -> None:
        """A thousand known gateways get nothing when one more is unknown."""
        gateways = [f"gateway-{number}" for number in range(1_000)]
        async with self.open_storage(tmp_path) as storage:
            await self.register_all(storage, gateways)
            events = [make_event(gateway_id) for gateway_id in [*gateways, "gateway-unknown"]]
            (result,) = await storage.log.publish([events])
            assert isinstance(result, UnknownGateway)
            assert set((await storage.log.changed_since(0)).heads.values()) == {0}

    async def test_s15_racing_publishers_store_each_id_once(self, tmp_path: Path) -> None:
        """Twenty publishers, two instances, the same ids in different orders: each id is created exactly once."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as first, self.open_second(tmp_path) as second:
            ids = [uuid4() for _ in range(10)]
            tasks = [_publish_shuffled((first, second)[number % 2], ids, seed=number) for number in range(20)]
            receipts = [receipt for results in await asyncio.gather(*tasks) for receipt in _receipts(results)]
            for gateway_id in (GATEWAY, OTHER_GATEWAY):
                assert sorted(await ids_of(first, gateway_id)) == sorted(ids)
            positions = {(receipt.gateway_id, receipt.event_id, receipt.position) for receipt in receipts}
            assert len(positions) == sum(receipt.created for receipt in receipts) == 20

    async def test_racing_publishers_leave_no_gap(self, tmp_path: Path) -> None:
        """What many publishers of two instances append at once is numbered 1, 2, 3 … and complete."""
        async with self.open_with(tmp_path, GATEWAY) as first, self.open_second(tmp_path) as second:
            groups = [make_events(7) for _ in range(20)]
            results = await asyncio.gather(
                *(publish((first, second)[number % 2], *group) for number, group in enumerate(groups))
            )
            assert sorted(offset for receipts in results for offset in offsets_of(receipts)) == list(range(1, 141))
            for receipts in results:
                # A call's own events stay in their order.
                assert offsets_of(receipts) == sorted(offsets_of(receipts))
            assert len(await ids_of(second)) == 140

    async def test_a_publish_that_does_not_wait_is_stored_all_the_same(self, tmp_path: Path) -> None:
        """Where no other transaction holds the log, `wait=False` makes no difference."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            results = await storage.log.publish([[make_event()], make_events(3)], wait=False)
            assert offsets_of(_receipts(results)) == [1, 2, 3, 4]

    async def test_what_was_published_is_there_after_reopening(self, tmp_path: Path) -> None:
        """A closed and reopened database holds the same log, in the same epoch, and goes on counting."""
        events = make_events(3)
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *events)
            epoch = await epoch_of(storage)
        async with self.open_storage(tmp_path) as storage:
            assert await epoch_of(storage) == epoch
            assert await ids_of(storage) == [event.event_id for event in events]
            assert offsets_of(await publish(storage, events[1], make_event())) == [2, 4]


def _originated(moment: datetime) -> Event:
    return Event(
        gateway_id=GATEWAY,
        type="t",
        action=Action.UPDATE,
        entity_type="T",
        entity_id="e",
        originated_at=moment,
    )


def _receipts(results: list[PublishResult]) -> list[Receipt]:
    receipts: list[Receipt] = []
    for result in results:
        assert isinstance(result, tuple)
        receipts.extend(result)
    return receipts


async def _publish_shuffled(storage: Engine, ids: list[UUID], *, seed: int) -> list[PublishResult]:
    events = [make_event(gateway_id, event_id) for event_id in ids for gateway_id in (GATEWAY, OTHER_GATEWAY)]
    random.Random(seed).shuffle(events)  # noqa: S311 - a repeatable order, not a secret
    return await storage.log.publish([events[:5], events[5:]])
