"""Subscriptions and their plans, for gateways that read them when they connect.

There is no resource for them: they are published as events. Their content is kept for each gateway, because a gateway
removes records that the list leaves out (gateway-protocol.md 3.8).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gatecast.controlplane.encryption import Encryption
from gatecast.controlplane.transactions.foreign_events import count_own
from gatecast.controlplane.transactions.timestamps import instant
from gatecast.events import Event
from gatecast.hub import EventHub
from gatecast.protocol.instants import parse_instant
from gatecast.storage.contract import Receipt, Row, Transaction
from gatecast.storage.queries import Queries
from gatecast.storage.repeating import whole
from gatecast.telemetry import get_logger

_logger = get_logger("subscriptions")

SUBSCRIPTIONS = Queries("gatecast.controlplane.gateway_sync", "subscriptions.sql")


class RecordKind(StrEnum):
    """The kind of a kept record."""

    SUBSCRIPTION = "subscription"
    PLAN = "subscriptionPlan"


#: The field of an event that names what it is about.
_ID_FIELDS = {RecordKind.SUBSCRIPTION: "subscriptionId", RecordKind.PLAN: "planId"}

#: An update may leave these out, and the gateway keeps what it has (gateway-protocol.md 2.7).
_KEPT = ("planName", "status")

#: An update of a subscription does not touch these (gateway-protocol.md 2.6).
_NEVER_UPDATED = ("billingCustomerId", "billingSubscriptionId")

#: And these stay when it leaves them out.
_KEPT_OF_SUBSCRIPTION = ("subscriptionToken", "apiId")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRecord:
    """A subscription, or a plan, of a gateway."""

    id: str
    api_id: str
    #: The fields of its event.
    fields: Mapping[str, Any]
    #: Rises with every change.
    version: int
    created_at: str
    updated_at: str


def keeps_record_of(event_type: str) -> bool:
    """Whether an event of this type is about a subscription or a plan."""
    return event_type.partition(".")[0] in set(RecordKind)


class Subscriptions:
    """The content of the published events, by gateway."""

    def __init__(self, hub: EventHub, encryption: Encryption) -> None:
        self._hub = hub
        self._database = hub.database
        self._encryption = encryption

    @whole
    async def publish(self, event: Event) -> Receipt:
        """Publish an event and keep its content, in one transaction; a repeated event changes nothing."""
        async with self._database.transaction() as transaction:
            # The gateway reads the records when it connects, so they are never lost for good.
            await count_own(transaction, [event])
            [receipt] = await self._hub.append([event], transaction)
            if receipt.created:
                await self._record(transaction, event)
            else:
                await count_own(transaction, [event], by=-1)
        return receipt

    async def plans(self, gateway_id: str) -> list[SubscriptionRecord]:
        """The plans that a gateway should have."""
        rows = await self._database.fetch(SUBSCRIPTIONS["plans"], gateway_id)
        return [self._shown(row) for row in rows]

    async def of_api(self, gateway_id: str, api_id: str) -> list[SubscriptionRecord]:
        """The subscriptions of one API that a gateway should have."""
        rows = await self._database.fetch(SUBSCRIPTIONS["subscriptions_of_api"], gateway_id, api_id)
        return [self._shown(row) for row in rows]

    async def _record(self, transaction: Transaction, event: Event) -> None:
        prefix, _, verb = event.type.partition(".")
        kind = RecordKind(prefix)
        data = json.loads(event.payload)
        record_id = data.get(_ID_FIELDS[kind])
        if not isinstance(record_id, str) or not record_id:
            return
        ids = (event.gateway_id, kind, record_id)
        if verb == "deleted":
            await transaction.execute(SUBSCRIPTIONS["delete_record"], *ids)
            return
        row = await transaction.fetch_one(SUBSCRIPTIONS["record"], *ids)
        before = json.loads(self._encryption.open(row["body"], place=record_place(*ids))) if row else {}
        if verb == "updated" and row is None:
            # A gateway also ignores an update of a record that it lacks.
            return
        fields = data if verb == "created" else _updated(kind, before, data)
        if not is_readable(kind, fields):
            # The gateway drops such an event; in a list it would make the whole list unreadable, for ever.
            _logger.warning("event-not-recorded", gateway=event.gateway_id, type=event.type, id=record_id)
            return
        body = self._encryption.encrypt(json.dumps(fields), place=record_place(*ids))
        await transaction.execute(SUBSCRIPTIONS["store_record"], *ids, str(fields.get("apiId") or ""), body)

    def _shown(self, row: Row) -> SubscriptionRecord:
        place = record_place(row["gateway_id"], row["kind"], row["id"])
        return SubscriptionRecord(
            id=row["id"],
            api_id=row["api_id"],
            fields=json.loads(self._encryption.open(row["body"], place=place)),
            version=row["version"],
            created_at=_written(row["created_at"]),
            updated_at=_written(row["updated_at"]),
        )


def _updated(kind: RecordKind, before: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """An update replaces everything but what gateways keep."""
    if kind is RecordKind.PLAN:
        return {**data, **{name: data.get(name) or before.get(name) for name in _KEPT}}
    kept = {name: data.get(name) or before.get(name) for name in _KEPT_OF_SUBSCRIPTION}
    return {**data, **kept, **{name: before.get(name) for name in _NEVER_UPDATED}}


def is_readable(kind: RecordKind, fields: Mapping[str, Any]) -> bool:
    """Whether a gateway can read these fields in a list; it reads strictly, and all of a list or nothing (3.8)."""
    shape = _PLAN if kind is RecordKind.PLAN else _SUBSCRIPTION
    return all(
        fields[name] is None or fits(fields[name]) for name, fits in shape.optional.items() if name in fields
    ) and all(fits(fields.get(name)) for name, fits in shape.required.items())


@dataclass(frozen=True, slots=True)
class _Shape:
    """The fields of a record and their types."""

    required: Mapping[str, Callable[[Any], bool]]
    optional: Mapping[str, Callable[[Any], bool]]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_instant(value: object) -> bool:
    with suppress(ValueError):
        return isinstance(value, str) and bool(parse_instant(value))
    return False


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _one_of(*values: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in values


_PLAN = _Shape(
    required={"planName": _is_name, "status": _one_of("ACTIVE", "INACTIVE")},
    optional={
        "billingPlan": _is_text,
        "stopOnQuotaReach": _is_flag,
        "throttleLimitCount": _is_count,
        "throttleLimitUnit": _is_text,
        "expiryTime": _is_instant,
    },
)

_SUBSCRIPTION = _Shape(
    required={
        "apiId": _is_name,
        "subscriptionToken": _is_name,
        "status": _one_of("ACTIVE", "INACTIVE", "REVOKED"),
    },
    optional={
        "applicationId": _is_text,
        "subscriptionPlanId": _is_text,
        "billingCustomerId": _is_text,
        "billingSubscriptionId": _is_text,
    },
)


def record_place(gateway_id: str, kind: str, record_id: str) -> str:
    """The place that a subscription, or a plan, is encrypted for."""
    return f"{kind}:{gateway_id}:{record_id}"


def _written(value: object) -> str:
    return instant(value).isoformat(timespec="milliseconds").replace("+00:00", "Z")
