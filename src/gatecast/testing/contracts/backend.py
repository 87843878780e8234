"""The backend that a contract suite runs on, and the small steps that its tests share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import LiteralString, TypeVar, cast
from uuid import UUID, uuid4

from gatecast.events import Action, Event, Position
from gatecast.storage.contract import (
    Changes,
    Connection,
    Database,
    Engine,
    EventLog,
    PositionState,
    Progress,
    ReadRequest,
    ReadResult,
    Receipt,
    Storage,
)
from gatecast.testing.eventually import eventually

T = TypeVar("T")

GATEWAY = "gateway-1"
OTHER_GATEWAY = "gateway-2"
POD = "pod-1"
#: A lease that outlives any test.
ALIVE = timedelta(hours=1)
#: A lease that is over when it begins.
EXPIRED = timedelta(seconds=-1)


_PLAIN = Connection(
    connection_id="",
    gateway_id="",
    replica="",
    pod_id=POD,
    protocol="gatecast.v2",
    remote="127.0.0.1:5000",
    token_id="token-1",  # noqa: S106 - an id
)


class EngineBackend:
    """Subclass it together with the suite, and override how the engine is opened."""

    #: False where a second transaction cannot commit while a first one is open (SQLite: one writer at a time).
    commits_overlap = True

    def open_storage(self, tmp_path: Path) -> AbstractAsyncContextManager[Engine]:
        """The engine that belongs to `tmp_path`: made and migrated when first opened, the same one afterwards."""
        raise NotImplementedError

    def open_second(self, tmp_path: Path) -> AbstractAsyncContextManager[Engine]:
        """One more instance on the same engine, as another pod would open it."""
        return self.open_storage(tmp_path)

    @asynccontextmanager
    async def open_with(self, tmp_path: Path, *gateways: str) -> AsyncIterator[Engine]:
        """An engine in which these gateways are registered and the pod `POD` is alive."""
        async with self.open_storage(tmp_path) as storage:
            await _prepare(storage, gateways)
            yield storage

    async def register_all(self, storage: Engine, gateways: Sequence[str]) -> None:
        """Register very many gateways."""
        for gateway_id in gateways:
            await storage.log.register(gateway_id)

    async def commit_somehow(self, storage: Engine, events: Sequence[Event], source: random.Random) -> bool:  # noqa: ARG002 - other backends choose
        """Publish these events in one of the ways that there are; False if they were rolled back."""
        await publish(storage, *events)
        return True

    async def stored_passages(self, storage: Engine) -> int:
        """How many notes of passages are stored."""
        raise NotImplementedError


class StorageBackend(EngineBackend):
    """An engine on an SQL database, which a caller's transaction can join."""

    #: Counts the rows of passages; another database may call its table otherwise.
    count_passages: LiteralString = "SELECT count(*) AS number FROM gatecast_passages"

    def open_storage(self, tmp_path: Path) -> AbstractAsyncContextManager[Storage]:
        """The database that belongs to `tmp_path`: made and migrated when first opened, the same one afterwards."""
        raise NotImplementedError

    def open_second(self, tmp_path: Path) -> AbstractAsyncContextManager[Storage]:
        """One more instance on the same database, as another pod would open it."""
        return self.open_storage(tmp_path)

    @asynccontextmanager
    async def open_with(self, tmp_path: Path, *gateways: str) -> AsyncIterator[Storage]:
        """A storage in which these gateways are registered and the pod `POD` is alive."""
        async with self.open_storage(tmp_path) as storage:
            await _prepare(storage, gateways)
            yield storage

    def caller_transaction(self, storage: Storage, tmp_path: Path) -> AbstractAsyncContextManager[object]:
        """A transaction on a connection of the caller's own driver.

        Commits when the block ends, rolls back when it raises.
        """
        raise NotImplementedError

    def transactions(self, storage: Storage, tmp_path: Path) -> list[AbstractAsyncContextManager[object]]:
        """One of each kind that a caller can publish in."""
        return [storage.database.transaction(), self.caller_transaction(storage, tmp_path)]

    async def register_all(self, storage: Engine, gateways: Sequence[str]) -> None:
        """Register very many gateways in one transaction."""
        async with _database(storage).transaction() as transaction:
            for gateway_id in gateways:
                await storage.log.register(gateway_id, transaction=transaction)

    async def commit_somehow(self, storage: Engine, events: Sequence[Event], source: random.Random) -> bool:
        """Publish these events by themselves, or in a transaction that takes its time, or roll it back."""
        if source.random() < 0.3:
            async with rolled_back(_database(storage).transaction()) as transaction:
                await storage.log.publish_in(transaction, events)
            return False
        if source.random() < 0.5:
            async with _database(storage).transaction() as transaction:
                await storage.log.publish_in(transaction, events)
                await asyncio.sleep(source.uniform(0, 0.02))
            return True
        return await super().commit_somehow(storage, events, source)

    async def stored_passages(self, storage: Engine) -> int:
        """How many rows of passages there are."""
        [row] = await _database(storage).fetch(self.count_passages)
        return int(row["number"])


def _database(storage: Engine) -> Database:
    """The SQL database of this engine, which `StorageBackend.open_storage` has opened."""
    return cast("Storage", storage).database


async def _prepare(storage: Engine, gateways: Sequence[str]) -> None:
    for gateway_id in gateways:
        await storage.log.register(gateway_id)
    await storage.presence.renew_lease(POD, ALIVE)


class _CallerFailed(Exception):
    """The caller's own reason to give up."""


@asynccontextmanager
async def rolled_back(opening: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
    """This transaction, whose caller fails at the end of the block."""
    with suppress(_CallerFailed):
        async with opening as transaction:
            yield transaction
            raise _CallerFailed


def make_event(gateway_id: str = GATEWAY, event_id: UUID | None = None, **data: object) -> Event:
    """An event for this gateway."""
    return Event(
        gateway_id=gateway_id,
        type="llmprovider.deployed",
        action=Action.CREATE,
        entity_type="LlmProvider",
        entity_id="provider-1",
        event_id=event_id or uuid4(),
        data=data,
    )


def make_events(count: int, gateway_id: str = GATEWAY) -> list[Event]:
    """Events for this gateway, each with its number in its data."""
    return [make_event(gateway_id, number=number) for number in range(1, count + 1)]


async def publish(storage: Engine, *events: Event) -> tuple[Receipt, ...]:
    """Publish one group that must be accepted."""
    (result,) = await storage.log.publish([events])
    assert isinstance(result, tuple), result
    return result


async def read(storage: Engine, gateway_id: str = GATEWAY, *, after: int = 0, limit: int = 1_000) -> ReadResult:
    """The events after `after` in the log of a registered gateway."""
    request = ReadRequest(gateway_id=gateway_id, after=after, max_events=limit, max_bytes=64_000_000)
    (result,) = await storage.log.read([request])
    assert result is not None
    return result


async def ids_of(storage: Engine, gateway_id: str = GATEWAY) -> list[UUID]:
    """The ids in the log, once its offsets have proved to count from 1 without gaps."""
    result = await read(storage, gateway_id)
    assert [event.offset for event in result.events] == list(range(1, result.head + 1))
    return [event.event_id for event in result.events]


async def epoch_of(storage: Engine) -> UUID:
    """Identity of the database's history now."""
    return (await storage.log.changed_since(0)).epoch


async def settled_marker(log: EventLog) -> int:
    """The marker `lasting` after everything that is committed now.

    On a shared server it comes once the transactions that were open meanwhile have ended: until then a marker may lie
    further back, and what follows it is shown again.
    """

    async def settled() -> Changes | None:
        changes = await log.changed_since(0)
        return None if (await log.changed_since(changes.lasting)).heads else changes

    found = await eventually(settled)
    assert found is not None
    return found.lasting


def offsets_of(receipts: Sequence[Receipt]) -> list[int]:
    """The offsets in these receipts."""
    return [receipt.position.offset for receipt in receipts]


def make_connection(connection_id: str = "connection-1", gateway_id: str = GATEWAY, **fields: str) -> Connection:
    """A connection of the pod `POD`, unnamed unless `replica` says otherwise."""
    return replace(_PLAIN, connection_id=connection_id, gateway_id=gateway_id, **fields)


async def connect(
    storage: Engine,
    connection: Connection,
    start: int = 0,
    *,
    resync_reason: str | None = None,
    newest_only: bool = False,
) -> None:
    """Connect at an offset of the current epoch."""
    position = Position(await epoch_of(storage), start)
    await storage.presence.connect(connection, start=position, resync_reason=resync_reason, newest_only=newest_only)


async def progress_of(storage: Engine, connection: Connection, *, sent: int, confirmed: int) -> Progress:
    """Progress of this connection in the current epoch."""
    return Progress(
        connection_id=connection.connection_id,
        gateway_id=connection.gateway_id,
        replica=connection.replica,
        epoch=await epoch_of(storage),
        sent=sent,
        confirmed=confirmed,
    )


async def confirm(storage: Engine, connection: Connection, offset: int) -> None:
    """Record that this connection has confirmed everything up to `offset`."""
    await storage.presence.record_progress([await progress_of(storage, connection, sent=offset, confirmed=offset)])


async def stored_offset(storage: Engine, gateway_id: str = GATEWAY, replica: str = "") -> int | None:
    """The stored position, which must be one of the current epoch; None when never connected."""
    standing: PositionState = await storage.presence.standing(gateway_id, replica)
    if standing.confirmed is None:
        return None
    assert standing.confirmed.epoch == standing.epoch
    return standing.confirmed.offset
