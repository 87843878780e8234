"""The database that is measured."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import Annotated
from uuid import uuid4

import typer

from gatecast.delivery.retention import clean_up
from gatecast.events import Action, Event
from gatecast.hub import EventHub
from gatecast.settings import Settings
from gatecast.storage.connect import OpenStorage, open_storage
from gatecast.storage.contract import Storage, TrimPolicy
from gatecast.storage.database_url import Backend
from gatecast.storage.postgres.storage import PostgresStorage

DatabaseFlag = Annotated[
    str | None,
    typer.Option(
        "--database",
        help="Database to measure; the command removes what it writes. [default: a temporary PostgreSQL]",
    ),
]
QuickFlag = Annotated[bool, typer.Option("--quick", help="Measure for a few seconds only; figures vary more.")]

#: As many connections as publishers, so that the designs that need one each are not held back by the pool.
_CONNECTIONS = 32

#: Nothing is old, and no log is long: what goes is what was forgotten.
_KEEP = TrimPolicy(keep_confirmed=timedelta(days=36_500), keep_at_most=timedelta(days=36_500), max_events=2**60)

#: With its other columns an event makes a row of about 400 bytes.
_FILLING = "x" * 220


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An open database with a hub on it."""

    #: Opens the same database once more.
    url: str
    hub: EventHub
    backend: Backend
    #: On a pool that is large enough for every publisher.
    storage: Storage
    #: True when nobody needs it afterwards.
    temporary: bool

    @asynccontextmanager
    async def gateways(self, count: int) -> AsyncIterator[list[str]]:
        """The ids of new gateways; they and their logs are removed afterwards."""
        run = uuid4().hex[:8]
        names = [f"bench-{run}-{number}" for number in range(count)]
        async with self.storage.database.transaction() as transaction:
            for name in names:
                await self.storage.log.register(name, transaction=transaction)
        try:
            yield names
        finally:
            if not self.temporary:
                await self._forget(names)

    async def _forget(self, names: Sequence[str]) -> None:
        for name in names:
            await self.storage.log.forget(name)
        await clean_up(self.storage.log, _KEEP)


@asynccontextmanager
async def open_target(url: str | None, *, migrations: Sequence[str] = ()) -> AsyncIterator[Target]:
    """The database at `url`, or a PostgreSQL in a temporary folder, with the tables of these migrations as well.

    Raises:
        GatecastError: it cannot be opened, or its schema does not fit.
    """
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(open_storage(url or _temporary_database(stack)))
        target_url = opened.location if opened.backend is Backend.POSTGRESQL else f"sqlite:///{opened.location}"
        # Opening a hub brings an empty database its schema, and refuses one that does not fit.
        hub = await stack.enter_async_context(EventHub.open(target_url, settings=Settings(), migrations=migrations))
        yield Target(
            url=target_url,
            hub=hub,
            backend=opened.backend,
            storage=await _with_many_connections(stack, opened),
            temporary=url is None,
        )


def _temporary_database(stack: AsyncExitStack) -> str:
    folder = stack.enter_context(TemporaryDirectory(prefix="gatecast-bench-", ignore_cleanup_errors=True))
    return f"postgresql+embedded:///{folder}"


async def _with_many_connections(stack: AsyncExitStack, opened: OpenStorage) -> Storage:
    if opened.backend is Backend.SQLITE:
        return opened.storage
    return await stack.enter_async_context(
        PostgresStorage.open(opened.location, pool_size=_CONNECTIONS, send_hints=False)
    )


def sample_event(gateway_id: str) -> Event:
    """An event of a common size."""
    return Event(
        gateway_id=gateway_id,
        type="llmprovider.deployed",
        action=Action.UPDATE,
        entity_type="LlmProvider",
        entity_id="provider-1",
        data={"filling": _FILLING},
    )
