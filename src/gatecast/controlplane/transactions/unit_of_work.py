"""One change of the control plane: what is stored and what is published, all of it or nothing (promise P8)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import LiteralString

from gatecast.controlplane.transactions.foreign_events import count_own
from gatecast.controlplane.transactions.locks import lock_gateways, lock_names
from gatecast.errors import NotFound
from gatecast.events import Event
from gatecast.hub import EventHub
from gatecast.storage.contract import Receipt, Transaction
from gatecast.storage.rows import as_rows


@dataclass(slots=True)
class UnitOfWork:
    """An open transaction, and the rows and events that are written when it ends.

    Locks are taken in one order, so that no two changes wait for each other: the organization's names, providers,
    the artifacts that need them, gateways, and last the gateways' logs.
    """

    transaction: Transaction
    #: In the order in which they are published.
    events: list[Event] = field(default_factory=list)
    #: The receipts of its events; known once the change has ended.
    receipts: Sequence[Receipt] = ()
    #: Rows that are not written yet, by the statement that writes all of its rows at once.
    _rows: dict[LiteralString, dict[Hashable, Mapping[str, object]]] = field(default_factory=dict)

    async def lock_names(self, organization: str) -> None:
        """Nobody else gives a name in this organization until this change ends."""
        await lock_names(self.transaction, organization)

    async def lock_gateways(self, organization: str, gateway_ids: Iterable[str]) -> None:
        """Nobody else changes what runs on these gateways until this change ends.

        Raises:
            NotFound: one of them is not in this organization.
        """
        wanted = set(gateway_ids)
        if not wanted:
            return
        if missing := wanted - await lock_gateways(self.transaction, organization, wanted):
            raise NotFound("gateway", min(missing))

    def store(self, statement: LiteralString, row: Mapping[str, object], *, key: Hashable) -> None:
        """Write this row before the events; of several rows with one key the last one counts.

        Statements run in the order in which each was first used.
        """
        self._rows.setdefault(statement, {})[key] = row

    async def write(self) -> None:
        """Write the rows now, one statement for all of a kind, so that what comes next can read them."""
        rows, self._rows = self._rows, {}
        for statement, each in rows.items():
            await self.transaction.execute(statement, as_rows(each.values()))


@asynccontextmanager
async def begin_unit_of_work(hub: EventHub) -> AsyncIterator[UnitOfWork]:
    """Begin a change; commit it with its events when the block ends, undo all of it when the block raises."""
    async with hub.database.transaction() as transaction:
        change = UnitOfWork(transaction)
        yield change
        await change.write()
        if change.events:
            await count_own(transaction, change.events)
            # Last, because from here on other publishers to these gateways wait for the commit.
            change.receipts = await hub.append(change.events, transaction)
