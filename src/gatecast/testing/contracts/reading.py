"""The contract of reading: bounded, in order, and no change is ever missed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from gatecast.errors import UnknownGateway
from gatecast.storage.contract import DisconnectReason, Outcome, OutcomeKind, ReadRequest
from gatecast.testing.contracts.backend import (
    ALIVE,
    GATEWAY,
    OTHER_GATEWAY,
    POD,
    EngineBackend,
    confirm,
    connect,
    epoch_of,
    ids_of,
    make_connection,
    make_event,
    make_events,
    offsets_of,
    publish,
    read,
    stored_offset,
)


def _request(
    gateway_id: str = GATEWAY, *, after: int = 0, max_events: int = 100, max_bytes: int = 10_000
) -> ReadRequest:
    return ReadRequest(gateway_id=gateway_id, after=after, max_events=max_events, max_bytes=max_bytes)


class ReadingContract(EngineBackend):
    """`EventLog.read`, `changed_since`, `register`, `forget` and `renew_epoch`."""

    async def test_reads_what_lies_behind_an_offset(self, tmp_path: Path) -> None:
        """Events come in offset order, starting after `after`, with the log's head."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(5))
            result = await read(storage, after=2)
            assert [event.offset for event in result.events] == [3, 4, 5]
            assert [event.data["number"] for event in result.events] == [3, 4, 5]
            assert (result.head, result.low_water_mark) == (5, 0)

    async def test_reads_nothing_behind_the_head(self, tmp_path: Path) -> None:
        """At the head, and beyond it, a read returns no events, and the head."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            assert (await read(storage)).head == 0
            await publish(storage, *make_events(2))
            for after in (2, 3, 2**62):
                result = await read(storage, after=after)
                assert (list(result.events), result.head) == ([], 2)

    async def test_reads_at_most_so_many_events(self, tmp_path: Path) -> None:
        """`max_events` bounds the answer, and the next request continues it."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, *make_events(5))
            assert [event.offset for event in (await read(storage, limit=2)).events] == [1, 2]
            assert [event.offset for event in (await read(storage, after=2, limit=2)).events] == [3, 4]

    async def test_reads_at_most_so_many_bytes(self, tmp_path: Path) -> None:
        """`max_bytes` bounds the encoded data, counted in bytes and not in characters."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            event = make_event(text="ü" * 100)
            size = len(event.payload.encode())
            await publish(storage, *(make_event(text="ü" * 100) for _ in range(5)))
            for budget, expected in ((3 * size, 3), (3 * size - 1, 2), (3 * size + 1, 3), (5 * size, 5)):
                (result,) = await storage.log.read([_request(max_bytes=budget)])
                assert result is not None
                assert len(result.events) == expected

    async def test_the_first_event_is_returned_whatever_its_size(self, tmp_path: Path) -> None:
        """An event larger than `max_bytes` does not block the log."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, make_event(text="x" * 900_000), make_event(), make_event(text="x" * 900_000))
            for after in (0, 1, 2):
                (result,) = await storage.log.read([_request(after=after, max_bytes=1)])
                assert result is not None
                assert [event.offset for event in result.events] == [after + 1]

    async def test_many_requests_are_answered_in_their_order(self, tmp_path: Path) -> None:
        """One call reads for many gateways; an unregistered one is None; the same gateway may be asked for twice."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await publish(storage, *make_events(3), make_event(OTHER_GATEWAY))
            results = await storage.log.read(
                [
                    _request(OTHER_GATEWAY),
                    _request("gateway-unknown"),
                    _request(after=1),
                    _request(OTHER_GATEWAY, after=1),
                    _request(max_events=1),
                ]
            )
            assert await storage.log.read([]) == []
        offsets = [None if result is None else [event.offset for event in result.events] for result in results]
        assert offsets == [[1], None, [2, 3], [], [1]]

    async def test_marker_zero_names_every_gateway(self, tmp_path: Path) -> None:
        """The first call names all gateways, also those without an event."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await publish(storage, *make_events(2))
            assert (await storage.log.changed_since(0)).heads == {GATEWAY: 2, OTHER_GATEWAY: 0}

    async def test_a_chain_of_markers_misses_nothing(self, tmp_path: Path) -> None:
        """Each call names at least what grew since the call before it, with its head."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage, self.open_second(tmp_path) as second:
            marker = (await second.log.changed_since(0)).marker
            for head in range(1, 6):
                for gateway_id in (GATEWAY, OTHER_GATEWAY):
                    await publish(storage, make_event(gateway_id))
                    changes = await second.log.changed_since(marker)
                    assert changes.heads[gateway_id] == head
                    marker = changes.marker

    async def test_changed_since_costs_what_changed(self, tmp_path: Path) -> None:
        """Gateways that rest are not named."""
        gateways = [f"gateway-{number}" for number in range(20)]
        async with self.open_with(tmp_path, *gateways) as storage:
            marker = (await storage.log.changed_since(0)).marker
            marker = (await storage.log.changed_since(marker)).marker
            await publish(storage, make_event("gateway-7"))
            heads = (await storage.log.changed_since(marker)).heads
            assert heads["gateway-7"] == 1
            assert "gateway-0" not in heads

    async def test_a_racing_reader_misses_no_commit(self, tmp_path: Path) -> None:
        """A reader that only follows markers ends with the true head of every log."""
        gateways = [f"gateway-{number}" for number in range(5)]
        async with self.open_with(tmp_path, *gateways) as storage, self.open_second(tmp_path) as second:
            publishing = asyncio.gather(
                *(publish((storage, second)[number % 2], make_event(gateways[number % 5])) for number in range(100))
            )
            seen: dict[str, int] = {}
            marker = 0
            while not publishing.done():
                changes = await second.log.changed_since(marker)
                seen, marker = {**seen, **changes.heads}, changes.marker
            await publishing
            seen.update((await second.log.changed_since(marker)).heads)
            assert seen == dict.fromkeys(gateways, 20)

    async def test_registering_twice_changes_nothing(self, tmp_path: Path) -> None:
        """The second registration says False and leaves the log alone; two at once say True once."""
        async with self.open_with(tmp_path) as storage, self.open_second(tmp_path) as second:
            both = await asyncio.gather(storage.log.register(GATEWAY), second.log.register(GATEWAY))
            assert sorted(both) == [False, True]
            await publish(storage, make_event())
            assert not await storage.log.register(GATEWAY)
            assert (await read(storage)).head == 1

    async def test_a_new_gateway_is_named_as_changed(self, tmp_path: Path) -> None:
        """Pods learn of a gateway that was registered after their last look."""
        async with self.open_with(tmp_path) as storage:
            marker = (await storage.log.changed_since(0)).marker
            await storage.log.register(GATEWAY)
            assert (await storage.log.changed_since(marker)).heads == {GATEWAY: 0}

    async def test_s17_a_forgotten_gateway_is_unknown(self, tmp_path: Path) -> None:
        """A forgotten gateway is refused, read as None, named no more; forgetting it again says False."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await publish(storage, *make_events(3), make_event(OTHER_GATEWAY))
            assert await storage.log.forget(GATEWAY) is True
            assert await storage.log.forget(GATEWAY) is False
            assert await storage.log.read([_request()]) == [None]
            assert (await storage.log.changed_since(0)).heads == {OTHER_GATEWAY: 1}
            (result,) = await storage.log.publish([[make_event()]])
            assert isinstance(result, UnknownGateway)
            with pytest.raises(UnknownGateway):
                await storage.presence.standing(GATEWAY, "")

    async def test_a_log_that_is_named_is_not_taken_for_a_later_one(self, tmp_path: Path) -> None:
        """What names its log and arrives when the gateway has another one changes nothing there."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            log = storage.log
            logs = {name: (await read(storage, name)).log_id for name in (GATEWAY, OTHER_GATEWAY)}
            events, others = make_events(2), make_events(3, OTHER_GATEWAY)
            results = await log.publish([events, others[:1]], wait=False, logs=logs)
            assert [offsets_of(result) for result in results if isinstance(result, tuple)] == [[1, 2], [1]]
            assert await log.forget(GATEWAY, log_id=logs[GATEWAY])
            assert await log.forget(GATEWAY, log_id=logs[GATEWAY]) is False
            [result] = await log.publish([events], wait=False, logs=logs)
            assert isinstance(result, UnknownGateway)
            await log.register(GATEWAY)
            assert await log.forget(GATEWAY, log_id=logs[GATEWAY]) is False
            refused, stored = await log.publish([events, others], wait=False, logs=logs)
            assert isinstance(refused, UnknownGateway)
            assert refused.gateway_id == GATEWAY
            assert isinstance(stored, tuple)
            assert (offsets_of(stored), [receipt.created for receipt in stored]) == ([1, 2, 3], [False, True, True])
            assert (await ids_of(storage), await log.publish([], wait=False, logs={})) == ([], [])

    async def test_forgetting_removes_log_positions_and_outcomes(self, tmp_path: Path) -> None:
        """A gateway registered anew begins from nothing, even its old ids are free."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            events = make_events(3)
            await publish(storage, *events)
            connection = make_connection()
            await connect(storage, connection)
            await confirm(storage, connection, 2)
            applied = Outcome(gateway_id=GATEWAY, replica="", offset=1, kind=OutcomeKind.APPLIED, reason="")
            await storage.outcomes.record([applied])
            await storage.log.forget(GATEWAY)
            await storage.log.register(GATEWAY)
            assert await ids_of(storage) == []
            assert await stored_offset(storage) is None
            assert await storage.outcomes.of_events(GATEWAY, [1, 2, 3]) == []
            assert offsets_of(await publish(storage, events[2])) == [1]

    async def test_forgetting_dismisses_the_gateways_connections(self, tmp_path: Path) -> None:
        """Every pod learns that it must close that gateway's connections, and no others."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage:
            await storage.presence.renew_lease("pod-2", ALIVE)
            await connect(storage, make_connection("one"))
            await connect(storage, make_connection("two", pod_id="pod-2"))
            await connect(storage, make_connection("three", OTHER_GATEWAY))
            await storage.log.forget(GATEWAY)
            assert await storage.presence.pending_disconnects(POD) == {"one": DisconnectReason.GATEWAY_DELETED}
            assert await storage.presence.pending_disconnects("pod-2") == {"two": DisconnectReason.GATEWAY_DELETED}

    async def test_s20_a_renewed_epoch_is_seen_by_everybody(self, tmp_path: Path) -> None:
        """A new history has another epoch, for receipts, changes, reads and standings alike, and keeps the log."""
        async with self.open_with(tmp_path, GATEWAY) as storage, self.open_second(tmp_path) as second:
            (old,) = await publish(storage, make_event())
            await connect(storage, make_connection(), start=1)
            renewed = await storage.log.renew_epoch(old.position.epoch)
            assert renewed != old.position.epoch
            assert await epoch_of(second) == renewed
            assert (await read(second)).epoch == renewed
            (receipt,) = await publish(second, make_event())
            assert (receipt.position.epoch, receipt.position.offset) == (renewed, 2)
            standing = await second.presence.standing(GATEWAY, "")
            assert (standing.epoch, standing.confirmed) == (renewed, old.position)

    async def test_the_epoch_is_renewed_once_when_raced(self, tmp_path: Path) -> None:
        """Pods that find the same damage at once begin one new history together."""
        async with self.open_with(tmp_path) as storage, self.open_second(tmp_path) as second:
            expected = await epoch_of(storage)
            renewed = await asyncio.gather(
                *((storage, second)[number % 2].log.renew_epoch(expected) for number in range(6))
            )
            assert len(set(renewed)) == 1
            assert renewed[0] != expected
            assert await storage.log.renew_epoch(uuid4()) == renewed[0] == await epoch_of(second)
