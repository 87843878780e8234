"""Events that unmodified gateways apply and ask for in no list: the latest of each entity is kept, and repeated.

A gateway that has lost its database would never hear of them again.
"""

from __future__ import annotations

import json
from functools import partial

from gatecast.controlplane.newer_releases import known, member
from gatecast.controlplane.transactions.foreign_events import count_own
from gatecast.controlplane.transactions.unit_of_work import UnitOfWork
from gatecast.events import Action, Event
from gatecast.hub import EventHub
from gatecast.storage.contract import Receipt, Row, Transaction
from gatecast.storage.queries import Queries
from gatecast.storage.repeating import whole
from gatecast.telemetry import get_logger

KEPT = Queries("gatecast.controlplane.gateway_sync", "kept_events.sql")

#: Most entities that are kept for each gateway; the loss of further ones is shown.
MAX_KEPT = 1_000

#: Kinds of events whose state gateways do not fetch in lists, by the first part of the type.
_KINDS = frozenset({"application", "websub", "webbroker"})

_logger = get_logger("kept-events")


def keeps_event(event_type: str) -> bool:
    """Whether the latest event of this type is kept."""
    return event_type.partition(".")[0] in _KINDS


class KeptEvents:
    """Publishes such events, and keeps what they say."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._database = hub.database

    @whole
    async def publish(self, event: Event) -> Receipt:
        """Publish an event and keep it, in one transaction; a repeated event changes nothing."""
        async with self._database.transaction() as transaction:
            # Rows of gateways are locked before their logs.
            await count_own(transaction, [event])
            [receipt] = await self._hub.append([event], transaction)
            if not receipt.created or not await _keep(transaction, event):
                # It cannot be repeated by this control plane, or was counted before.
                await count_own(transaction, [event], by=-1)
        return receipt


async def _keep(transaction: Transaction, event: Event) -> bool:
    """Keep the event, or forget its entity; False where too many are kept."""
    place = (event.gateway_id, event.entity_type, event.entity_id)
    if event.action is Action.DELETE or event.type.endswith(".deleted"):
        await transaction.execute(KEPT["forget_event"], *place)
        return True
    if not await transaction.fetch_one(KEPT["is_kept"], *place):
        row = await transaction.fetch_one(KEPT["count_kept"], event.gateway_id)
        if row is not None and row["kept"] >= MAX_KEPT:
            _logger.warning("event-not-kept", gateway=event.gateway_id, type=event.type, limit=MAX_KEPT)
            return False
    await transaction.execute(KEPT["keep_event"], *place, event.type, event.action, event.payload)
    return True


async def repeat_kept(change: UnitOfWork, gateway_id: str) -> None:
    """Publish once more what is kept for a gateway, in a change that holds its lock."""
    change.events += known(await change.transaction.fetch(KEPT["kept_events"], gateway_id), partial(_kept, gateway_id))


def _kept(gateway_id: str, row: Row) -> Event:
    return Event(
        gateway_id=gateway_id,
        type=row["type"],
        action=member(Action, "the action", row["action"]),
        entity_type=row["entity_type"],
        entity_id=row["entity_id"],
        data=json.loads(row["payload"]),
    )
