"""`/api/v1/events/stream`: events as they are recorded, as server-sent events."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from gatecast.errors import InvalidValue, LimitReached, StorageError
from gatecast.events import RecordedEvent
from gatecast.server.admin_api.context import MAX_STREAMS, AdminContext, Context, Organization
from gatecast.storage.contract import ReadRequest

router = APIRouter(tags=["events"])

#: Most gateways that one stream follows; name a gateway to follow one of more.
MAX_GATEWAYS = 500

#: A comment is sent this often, in seconds, so that proxies keep the connection.
_HEARTBEAT = 15.0

#: How often a stream looks for new events, in seconds.
_INTERVAL = 0.5

_EVENTS_PER_GATEWAY = 100
_BYTES_PER_GATEWAY = 256 * 1024

#: Largest Last-Event-ID, once it is unpacked.
_LARGEST_CURSOR = 64 * 1024


@router.get("/api/v1/events/stream", response_class=StreamingResponse)
async def stream_events(
    context: Context,
    organization: Organization,
    gateway: Annotated[str, Query(max_length=255, description="Follow only this gateway.")] = "",
    last_event_id: Annotated[str, Header(max_length=32_768, description="Continue behind it.")] = "",
) -> StreamingResponse:
    """Follow the events of your gateways as they are recorded. Each carries an id to continue from."""
    if context.streams.locked():
        raise LimitReached(f"this pod serves {MAX_STREAMS} streams already; try again later, or on another pod")
    followed = await _followed(context, organization, gateway)
    if last_event_id:
        followed |= {name: offset for name, offset in _unpack(last_event_id).items() if name in followed}
    return StreamingResponse(_stream(context, followed), media_type="text/event-stream")


async def _followed(context: AdminContext, organization: str, gateway: str) -> dict[str, int]:
    """The gateways to follow, and the offset behind which each is followed: its present head."""
    if gateway:
        ids = [(await context.gateways.get(organization, gateway)).id]
    else:
        ids = [one.id for one in await context.gateways.page(organization, after="", limit=MAX_GATEWAYS + 1)]
    if len(ids) > MAX_GATEWAYS:
        raise InvalidValue("gateway", gateway, f"name one gateway, because you have more than {MAX_GATEWAYS}")
    status = await context.hub.storage.presence.status(ids)
    return {gateway_id: one.head for gateway_id, one in status.items()}


async def _stream(context: AdminContext, followed: dict[str, int]) -> AsyncIterator[str]:
    async with context.streams:
        yield ": following\n\n"
        loop = asyncio.get_running_loop()
        silent_since = loop.time()
        marker = 0
        while not context.stopping.is_set():
            with suppress(StorageError):
                changes = await context.hub.storage.log.changed_since(marker)
                marker = changes.marker
                moved = [name for name, head in changes.heads.items() if head > followed.get(name, head)]
                while moved:
                    text, moved = await _read(context, followed, moved)
                    silent_since = loop.time()
                    yield text
            if loop.time() - silent_since > _HEARTBEAT:
                silent_since = loop.time()
                yield ": still here\n\n"
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL):
                    await context.stopping.wait()


async def _read(context: AdminContext, followed: dict[str, int], moved: list[str]) -> tuple[str, list[str]]:
    """What is new of these gateways, as text, and which of them have more."""
    now, later = moved[:20], moved[20:]
    results = await context.hub.storage.log.read(
        [
            ReadRequest(
                gateway_id=name,
                after=followed[name],
                max_events=_EVENTS_PER_GATEWAY,
                max_bytes=_BYTES_PER_GATEWAY,
            )
            for name in now
        ]
    )
    lines: list[str] = []
    for name, result in zip(now, results, strict=True):
        events = result.events if result is not None else []
        for event in events:
            followed[name] = event.offset
            lines.append(f"id: {_pack(followed)}\nevent: recorded\ndata: {_shown(event)}\n\n")
        if result is not None and events and followed[name] < result.head:
            later.append(name)
    return "".join(lines), later


def _shown(event: RecordedEvent) -> str:
    return json.dumps(
        {
            "gatewayId": event.gateway_id,
            "offset": event.offset,
            "eventId": str(event.event_id),
            "type": event.type,
            "action": event.action,
            "entityType": event.entity_type,
            "entityId": event.entity_id,
            "data": event.data,
            "recordedAt": event.recorded_at.isoformat(),
        },
        ensure_ascii=False,
    )


def _pack(followed: Mapping[str, int]) -> str:
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(followed).encode())).decode()


def _unpack(cursor: str) -> dict[str, int]:
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(base64.urlsafe_b64decode(cursor), _LARGEST_CURSOR)
        known = json.loads(text)
        return {str(name): int(offset) for name, offset in known.items() if 0 <= int(offset) < 2**63}
    except (binascii.Error, zlib.error, ValueError, TypeError, AttributeError, RecursionError):
        raise InvalidValue("Last-Event-ID", cursor, "be the id of an earlier event of this stream") from None
