"""One change of the control plane: what is stored and what is published, all of it or nothing (promise P8)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gatecast.controlplane.gateways import QUERIES
from gatecast.controlplane.losses import count_own
from gatecast.errors import NotFound
from gatecast.events import Event
from gatecast.hub import EventHub
from gatecast.storage.contract import Receipt, Transaction


@dataclass(slots=True)
class Change:
    """An open transaction, and the events that are published when it ends.

    Locks are taken in one order, so that no two changes wait for each other: the organization's names, providers,
    the artifacts that need them, gateways, and last the gateways' logs.
    """

    transaction: Transaction
    #: In the order in which they are published.
    events: list[Event] = field(default_factory=list)
    #: Where they stand in the logs; known once the change has ended.
    receipts: Sequence[Receipt] = ()

    async def lock_names(self, organization: str) -> None:
        """Nobody else gives a name in this organization until this change ends."""
        await self.transaction.execute(QUERIES["lock_names"], organization)

    async def lock_gateways(self, organization: str, gateway_ids: Iterable[str]) -> None:
        """Nobody else changes what runs on these gateways until this change ends.

        Raises:
            NotFound: one of them is not in this organization.
        """
        for gateway_id in sorted(set(gateway_ids)):
            if not await self.transaction.execute(QUERIES["lock_gateway"], organization, gateway_id):
                raise NotFound("gateway", gateway_id)


@asynccontextmanager
async def begin_change(hub: EventHub) -> AsyncIterator[Change]:
    """Begin a change; commit it with its events when the block ends, undo all of it when the block raises."""
    async with hub.storage.database.transaction() as transaction:
        change = Change(transaction)
        yield change
        if change.events:
            await count_own(transaction, change.events)
            # Last, because from here on other publishers to these gateways wait for the commit.
            change.receipts = await hub.append(change.events, transaction)
