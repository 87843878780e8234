"""Where events are that went through an outbox: an answer has an offset once the log has the event."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final
from uuid import UUID

from gatecast.errors import EventNotForwarded, RepeatUncertain, StorageError, StorageUnavailable
from gatecast.events import Event, PendingPosition, Position
from gatecast.server.admin_api.context import AdminContext
from gatecast.storage.contract import Receipt
from gatecast.waiting import together

#: Longest wait of an answer for offsets, in seconds, if the request does not ask to wait.
_OFFSET_TIME_LIMIT: Final = 1.0

#: Longest wait for the log to say which ids it knows, in seconds.
_KNOWN_TIME_LIMIT: Final = 1.0


class RemovedPosition(PendingPosition):
    """The position of a repeated event that the log has removed since: nobody knows it any more."""

    __slots__ = ()


def is_removed(receipt: Receipt) -> bool:
    """Whether it is of a repeated event that its log has removed."""
    return isinstance(receipt.position, RemovedPosition)


def _without_place(receipt: Receipt) -> Receipt:
    """The receipt of an event that is in neither the outbox nor the log; of a new one, an operator has just decided."""
    if receipt.created:
        return receipt
    return replace(receipt, position=RemovedPosition(receipt.gateway_id, receipt.event_id))


async def place_now(context: AdminContext, receipt: Receipt) -> Receipt:
    """The receipt with the event's place in the log, if it is there now; otherwise as it was.

    Raises:
        StorageError: that cannot be told now.
    """
    if not receipt.pending:
        return receipt
    try:
        position = await context.hub.outbox.position_of(receipt)
    except EventNotForwarded:
        return _without_place(receipt)
    return replace(receipt, position=position) if position is not None else receipt


async def place_soon(context: AdminContext, receipts: Sequence[Receipt]) -> Sequence[Receipt]:
    """The receipts, each with its place in the log if that is known within a second; otherwise as it was.

    Nobody waits while the log is known to be away, nor where too many wait.
    """
    if not any(receipt.pending for receipt in receipts) or is_log_away(context) or context.waits.locked():
        return receipts
    placed = dict(enumerate(receipts))
    with suppress(TimeoutError):
        async with context.waits, asyncio.timeout(_OFFSET_TIME_LIMIT):
            for number, receipt in enumerate(receipts):
                placed[number] = await _placed(context, receipt)
    return list(placed.values())


async def check_not_lost(context: AdminContext, receipt: Receipt) -> None:
    """Return unless the log does not say now where a repeated event is, and another history has begun since.

    "It waits" would be untrue then: it was forwarded, and what the log has lost comes never.

    Raises:
        RepeatUncertain: so it is.
    """
    last = context.hub.delivery.reader.last_sweep
    if receipt.created or not receipt.pending or is_removed(receipt) or last is None:
        return
    if await context.hub.outbox.may_be_lost(receipt, last.epoch):
        raise RepeatUncertain(receipt.event_id)


async def log_made_soon(context: AdminContext, gateway_id: str) -> None:
    """Return when a new gateway has its log, so that it can connect; after some seconds in any case."""
    if context.hub.has_outbox and not is_log_away(context) and not context.waits.locked():
        async with context.waits:
            await context.hub.outbox.registered_soon(gateway_id)


async def _placed(context: AdminContext, receipt: Receipt) -> Receipt:
    if not receipt.pending:
        return receipt
    # The event is durable, and its later state is unknown now.
    with suppress(StorageError):
        try:
            return replace(receipt, position=await context.hub.outbox.wait_until_forwarded(receipt))
        except EventNotForwarded:
            return _without_place(receipt)
    return receipt


def is_log_away(context: AdminContext) -> bool:
    """Whether this pod could not read the log the last time that it tried."""
    return context.hub.delivery.reader.loop.problem is not None


async def known_in_log(context: AdminContext, events: Sequence[Event]) -> Mapping[tuple[str, UUID], Position]:
    """The positions of these gateways' events that the log has already, if there is an outbox and the log answers.

    The log may know ids that the outbox no longer keeps. An event with such an id is not published again, so that the
    answer is the same; the log would not store it twice either.
    """
    if not context.hub.has_outbox or is_log_away(context):
        return {}
    by_gateway: dict[str, list[UUID]] = {}
    for event in events:
        by_gateway.setdefault(event.gateway_id, []).append(event.event_id)
    found: Sequence[Mapping[UUID, Position]] = ()
    with suppress(StorageError, TimeoutError):
        async with asyncio.timeout(_KNOWN_TIME_LIMIT):
            found = await together(context.hub.engine.log.find(*each) for each in by_gateway.items())
    return {
        (gateway_id, event_id): position
        for gateway_id, places in zip(by_gateway, found, strict=False)
        for event_id, position in places.items()
    }


async def known_for_sure(context: AdminContext, event: Event) -> Receipt | None:
    """The receipt of an event whose id was published before; None if it is new, or if there is no outbox.

    For events that also change tables: an old change must not be repeated after later ones. A concurrent publish is
    found by the transaction of the change.

    Raises:
        RepeatUncertain: the log cannot be asked, and the outbox has not kept ids for long enough.
    """
    if not context.hub.has_outbox:
        return None
    seconds = 0.0 if is_log_away(context) else _KNOWN_TIME_LIMIT
    try:
        position = await context.hub.outbox.known(event.gateway_id, event.event_id, within=seconds)
    except StorageUnavailable as error:
        raise RepeatUncertain(event.event_id) from error
    if position is None:
        return None
    return Receipt(gateway_id=event.gateway_id, event_id=event.event_id, position=position, created=False)


def receipt_of(event: Event, known: Mapping[tuple[str, UUID], Position]) -> Receipt | None:
    """The receipt of an event that the log has already; None: it is not among the known ones."""
    position = known.get((event.gateway_id, event.event_id))
    if position is None:
        return None
    return Receipt(gateway_id=event.gateway_id, event_id=event.event_id, position=position, created=False)
