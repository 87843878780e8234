"""The contract of publishing inside the caller's own transaction (promise P8)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from gatecast.errors import TransactionUnusable, UnknownGateway
from gatecast.storage.contract import Place, Receipt, Storage
from gatecast.testing.contracts.backend import (
    GATEWAY,
    OTHER_GATEWAY,
    POD,
    StorageBackend,
    connect,
    ids_of,
    make_connection,
    make_event,
    make_events,
    offsets_of,
    publish,
    read,
    rolled_back,
    settled_marker,
)


class TransactionContract(StorageBackend):
    """`EventLog.publish_in`, and the other operations of a log that take the caller's transaction."""

    async def caught_up(self, storage: Storage) -> None:
        """Return when the log has everything that was committed: at once, unless it goes through an outbox."""

    async def offsets(self, storage: Storage, receipts: Sequence[Receipt]) -> list[int]:  # noqa: ARG002 - others ask it
        """The offsets of these events, once they are committed and in the log."""
        return offsets_of(receipts)

    async def test_events_commit_with_the_callers_transaction(self, tmp_path: Path) -> None:
        """Events of a committed transaction are in the log, with the positions that were promised."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            for number, opening in enumerate(self.transactions(storage, tmp_path)):
                async with opening as transaction:
                    receipts = await storage.log.publish_in(transaction, make_events(2))
                assert await self.offsets(storage, receipts) == [2 * number + 1, 2 * number + 2]
                assert len(await ids_of(storage)) == 2 * number + 2

    async def test_nobody_sees_events_before_the_commit(self, tmp_path: Path) -> None:
        """An open transaction's events are not read and change no head."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            for opening in self.transactions(storage, tmp_path):
                before = await read(storage)
                async with opening as transaction:
                    await storage.log.publish_in(transaction, [make_event()])
                    assert await read(storage) == before
                    assert (await storage.log.changed_since(0)).heads == {GATEWAY: before.head}
                await self.caught_up(storage)
                assert (await read(storage)).head == before.head + 1

    async def test_s06_a_rolled_back_transaction_leaves_no_event(self, tmp_path: Path) -> None:
        """The change and its event exist both or neither; the next event takes the number that became free."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            for opening in self.transactions(storage, tmp_path):
                async with rolled_back(opening) as transaction:
                    await storage.log.publish_in(transaction, make_events(3))
                await self.caught_up(storage)
                assert (await read(storage)).head == 0
            assert await self.offsets(storage, await publish(storage, make_event())) == [1]

    async def test_several_publishes_in_one_transaction_continue_each_other(self, tmp_path: Path) -> None:
        """A transaction sees its own events: numbers go on and ids are recognized."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            for number, opening in enumerate(self.transactions(storage, tmp_path)):
                event = make_event()
                async with opening as transaction:
                    (first,) = await storage.log.publish_in(transaction, [event])
                    again, other = await storage.log.publish_in(transaction, [event, make_event()])
                assert (first.created, again.created, other.created) == (True, False, True)
                offsets = await self.offsets(storage, [first, again, other])
                assert offsets == [2 * number + 1, 2 * number + 1, 2 * number + 2]

    async def test_s17_a_refused_publish_leaves_the_transaction_usable(self, tmp_path: Path) -> None:
        """After UnknownGateway nothing of that group is appended, and the transaction can still commit others."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            for opening in self.transactions(storage, tmp_path):
                head = (await read(storage)).head
                async with opening as transaction:
                    with pytest.raises(UnknownGateway) as caught:
                        await storage.log.publish_in(transaction, [make_event(), make_event("gateway-unknown")])
                    assert caught.value.gateway_id == "gateway-unknown"
                    receipts = await storage.log.publish_in(transaction, [make_event()])
                assert await self.offsets(storage, receipts) == [head + 1]
                assert (await read(storage)).head == head + 1

    async def test_publishing_nothing_in_a_transaction(self, tmp_path: Path) -> None:
        """No events give no receipts."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            for opening in self.transactions(storage, tmp_path):
                async with opening as transaction:
                    assert await storage.log.publish_in(transaction, []) == ()

    async def test_what_cannot_carry_a_publish_is_refused(self, tmp_path: Path) -> None:
        """Something that is no transaction of this database is refused with a reason."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            for impostor in (object(), "BEGIN", None):
                with pytest.raises(TransactionUnusable):
                    await storage.log.publish_in(impostor, [make_event()])
            assert (await read(storage)).head == 0

    async def test_an_ended_transaction_is_refused(self, tmp_path: Path) -> None:
        """A transaction that has committed carries nothing any more."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            for opening in self.transactions(storage, tmp_path):
                async with opening as transaction:
                    pass
                with pytest.raises(TransactionUnusable):
                    await storage.log.publish_in(transaction, [make_event()])
            assert (await read(storage)).head == 0

    async def test_s02_a_transaction_held_open_is_not_overtaken(self, tmp_path: Path) -> None:
        """Within a gateway, a publish while a transaction holds the log comes after that transaction."""
        async with self.open_with(tmp_path, GATEWAY) as storage, self.open_second(tmp_path) as second:
            for opening in self.transactions(storage, tmp_path):
                head = (await read(storage)).head
                async with opening as transaction:
                    held = await storage.log.publish_in(transaction, [make_event()])
                    later = asyncio.create_task(publish(second, make_event()))
                    await read(second)
                    assert not later.done()
                assert await self.offsets(storage, [*held, *await later]) == [head + 1, head + 2]

    async def test_s02_a_log_given_up_by_a_rollback_has_no_gap(self, tmp_path: Path) -> None:
        """A publisher that waited for a transaction that rolls back takes its numbers."""
        async with self.open_with(tmp_path, GATEWAY) as storage, self.open_second(tmp_path) as second:
            for number, opening in enumerate(self.transactions(storage, tmp_path)):
                async with rolled_back(opening) as transaction:
                    await storage.log.publish_in(transaction, make_events(3))
                    later = asyncio.create_task(publish(second, make_event()))
                    await read(second)
                assert await self.offsets(second, await later) == [number + 1]

    async def test_s02_a_late_commit_is_not_missed(self, tmp_path: Path) -> None:
        """A log whose transaction commits after later ones is still named by the next call of changed_since."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage, self.open_second(tmp_path) as second:
            for opening in self.transactions(storage, tmp_path):
                head = (await read(storage)).head
                async with opening as transaction:
                    await storage.log.publish_in(transaction, [make_event()])
                    other = asyncio.create_task(publish(second, make_event(OTHER_GATEWAY)))
                    if self.commits_overlap:
                        await other
                    marker = (await second.log.changed_since(0)).marker
                    marker = (await second.log.changed_since(marker)).marker
                await other
                await self.caught_up(second)
                assert (await second.log.changed_since(marker)).heads[GATEWAY] == head + 1

    async def test_whoever_has_published_and_not_committed_holds_the_log(self, tmp_path: Path) -> None:
        """Every pod sees without waiting that a log is held; a log that nobody changes is not held."""
        async with self.open_with(tmp_path, GATEWAY, OTHER_GATEWAY) as storage, self.open_second(tmp_path) as second:
            await self.caught_up(storage)
            for opening in self.transactions(storage, tmp_path):
                assert not await second.log.is_held(GATEWAY)
                async with opening as transaction:
                    await storage.log.publish_in(transaction, [make_event()])
                    for one in (storage, second):
                        assert await one.log.is_held(GATEWAY)
                    assert await second.log.is_held(OTHER_GATEWAY) is not self.commits_overlap
                await self.caught_up(storage)
                assert not await second.log.is_held(GATEWAY)
            assert not await second.log.is_held("unknown")

    async def test_registering_takes_part_in_the_transaction(self, tmp_path: Path) -> None:
        """A log begun in a transaction can be published to in it, and exists only if it commits."""
        async with self.open_with(tmp_path) as storage:
            for number, opening in enumerate(self.transactions(storage, tmp_path)):
                gateway_id = f"new-{number}"
                async with opening as transaction:
                    assert await storage.log.register(gateway_id, transaction=transaction)
                    assert not await storage.log.register(gateway_id, transaction=transaction)
                    await storage.log.publish_in(transaction, [make_event(gateway_id)])
                await self.caught_up(storage)
                assert len(await ids_of(storage, gateway_id)) == 1
            for opening in self.transactions(storage, tmp_path):
                async with rolled_back(opening) as transaction:
                    assert await storage.log.register("never", transaction=transaction)
                assert await storage.log.register("never") is True
                await storage.log.forget("never")

    async def test_forgetting_takes_part_in_the_transaction(self, tmp_path: Path) -> None:
        """A log forgotten in a transaction is gone only if it commits."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, make_event())
            for opening in self.transactions(storage, tmp_path):
                async with rolled_back(opening) as transaction:
                    assert await storage.log.forget(GATEWAY, transaction=transaction)
                await self.caught_up(storage)
                assert len(await ids_of(storage)) == 1
            for opening in self.transactions(storage, tmp_path):
                await storage.log.register(GATEWAY)
                async with opening as transaction:
                    assert await storage.log.forget(GATEWAY, transaction=transaction)
                assert not await storage.log.forget(GATEWAY)

    async def test_what_was_rolled_back_moves_no_place(self, tmp_path: Path) -> None:
        """Its number may be given to another."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            await publish(storage, make_event())
            await self.caught_up(storage)
            async with rolled_back(storage.database.transaction()) as transaction:
                await storage.log.publish_in(transaction, [make_event()])
            marker = await settled_marker(storage.log)
            await publish(storage, make_event())
            await self.caught_up(storage)
            places = await storage.log.places([GATEWAY], marker)
            assert places == {GATEWAY: Place((await read(storage)).log_id, 1, is_gap=False)}


class RevocationContract(StorageBackend):
    """`Presence.disconnect_token` in the caller's transaction."""

    async def test_s26_a_revocation_takes_part_in_the_transaction(self, tmp_path: Path) -> None:
        """Revoking inside the caller's transaction closes the connections when that commits."""
        async with self.open_with(tmp_path, GATEWAY) as storage:
            for number, opening in enumerate(self.transactions(storage, tmp_path)):
                await connect(storage, make_connection(f"connection-{number}", token_id=f"token-{number}"))
                async with opening as transaction:
                    assert await storage.presence.disconnect_token(f"token-{number}", transaction=transaction) == 1
                    assert f"connection-{number}" not in await storage.presence.pending_disconnects(POD)
                assert f"connection-{number}" in await storage.presence.pending_disconnects(POD)
