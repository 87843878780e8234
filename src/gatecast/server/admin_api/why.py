"""Why a gateway is, or is not, up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC

from gatecast.controlplane.catalog.artifact_kinds import MCP_PROXY
from gatecast.controlplane.deployments.artifacts import Placed
from gatecast.controlplane.deployments.placements import WAITING
from gatecast.controlplane.gateway_sync.synchronizations import Synchronization
from gatecast.errors import shorten
from gatecast.hub import EventHub
from gatecast.outbox.gateways import GatewayQueue
from gatecast.outbox.outbox import Forwarding
from gatecast.server.admin_api.models import WhyView
from gatecast.server.fleet_metrics import SLOW_UNTIL
from gatecast.storage.contract import (
    Engine,
    GatewayStatus,
    Outcome,
    OutcomeKind,
    ParkedEntity,
    ReadRequest,
    ReadResult,
)
from gatecast.storage.reading import read_each

#: A confirmed change without an acknowledgement after this time, in seconds, counts as not acknowledged.
ANSWERED_WITHIN = 60.0

#: An open transaction holds a log if each of this many looks, this many seconds apart, finds it held. Each publish
#: holds it for an instant, and on SQLite each write.
_LOOKS = 4
_BETWEEN_LOOKS = 0.05

#: Number of the newest events that are searched for rejections.
_RECENT_EVENTS = 100
_RECENT_BYTES = 8 * 1024 * 1024


async def explain(engine: Engine, status: GatewayStatus) -> WhyView:
    """Why this gateway is, or is not, up to date.

    Raises:
        StorageUnavailable: the database is away.
    """
    rejected = await standing_rejection(engine, status)
    handled = status.head <= status.confirmed
    held = handled and rejected is None and await _stays_held(engine, status.gateway_id)
    view = why(status, rejected=rejected, held=held)
    if handled and view.code != "resync-needed":
        for parked in await engine.parking.parked(status.gateway_id, after=0, limit=1):
            return why_undeliverable(parked) if parked.undeliverable else why_parked(parked)
    if view.code in ("slow", "pod-lagging", "not-confirming"):
        for parked in await engine.parking.parked(status.gateway_id, after=status.confirmed, limit=1):
            if parked.undeliverable and parked.offset == status.confirmed + 1:
                return why_undeliverable(parked)
    return view


async def explain_unforwarded(hub: EventHub, gateway_id: str) -> WhyView | None:
    """Events for it stay in the outbox, for longer than each does; None: they do not.

    Raises:
        StorageUnavailable: the outbox's database is away.
    """
    first = await hub.unforwarded(gateway_id)
    if not first.events:
        return None
    await asyncio.sleep(_LOOKS * _BETWEEN_LOOKS)
    queue = await hub.unforwarded(gateway_id)
    if not queue.events or queue.event_ids[:1] != first.event_ids[:1]:
        return None
    return why_unforwarded(queue, (await hub.outbox.forwarding()))


def why_unforwarded(queue: GatewayQueue, forwarding: Forwarding) -> WhyView:
    """The log does not have these events yet."""
    waiting = _events(queue.events, "waits in the outbox", "wait in the outbox")
    since = f" since {queue.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if queue.since is not None else ""
    if queue.refusal is not None:
        cause = (
            f"{waiting}{since}: the log refused event {queue.event_ids[0]} ({shorten(queue.refusal)}). Decide "
            "with `gatecast outbox retry` or `skip`; later events of this gateway wait for that"
        )
    elif forwarding.problem is not None:
        cause = f"{waiting}{since}: {shorten(forwarding.problem)}. They are forwarded as soon as that is over"
    elif forwarding.pod_id:
        cause = f"{waiting}{since}; pod {shorten(forwarding.pod_id)} forwards: if that lasts, look at its log"
    else:
        cause = (
            f"{waiting}{since}, and no pod forwards: one takes over within 10 s; if none does, look at the pods' logs"
        )
    return WhyView(code="publisher-unforwarded", cause=cause)


async def _stays_held(engine: Engine, gateway_id: str) -> bool:
    """Whether a transaction holds the log for longer than a publish does."""
    for _ in range(_LOOKS):
        if not await engine.log.is_held(gateway_id):
            return False
        await asyncio.sleep(_BETWEEN_LOOKS)
    return True


def why_undeliverable(parked: ParkedEntity) -> WhyView:
    """An unreadable event waits for a decision."""
    return WhyView(
        code="undeliverable",
        cause=f"event {parked.event_id} of {parked.entity_type} {shorten(parked.entity_id)} at offset {parked.offset} "
        f"cannot be delivered: {shorten(parked.reason)}; repair its row and retry it, or skip it (`gatecast gateway "
        "skip`). Until then, an unmodified gateway receives no more events; others receive none of this entity",
    )


def why_parked(parked: ParkedEntity) -> WhyView:
    """A decision is missing."""
    said = f": {shorten(parked.reason)}" if parked.reason else ""
    match parked.held:
        case 0:
            waiting = "it waits"
        case 1:
            waiting = "it and 1 later event of the entity wait"
        case _:
            waiting = f"it and {parked.held:,} later events of the entity wait"
    return WhyView(
        code="rejected",
        cause=f"it rejected {parked.entity_type} {shorten(parked.entity_id)} at offset {parked.offset}{said}; "
        f"{waiting} until you retry or skip it (`gatecast gateway parked`)",
    )


def why(status: GatewayStatus, *, rejected: Outcome | None, held: bool) -> WhyView:
    """The cause, from what storage knows.

    `rejected` is a rejection that still counts; `held` means that a transaction holds the gateway's log.
    """
    if status.resync_reason is not None:
        cause = f"its position cannot be resumed ({status.resync_reason}); it must read the desired state again"
        return WhyView(code="resync-needed", cause=cause)
    if status.head > status.confirmed:
        return _why_behind(status, status.head - status.confirmed)
    if held and rejected is None:
        cause = "it has confirmed every event; an open transaction holds its log: the events of that transaction come "
        return WhyView(code="publisher-uncommitted", cause=f"{cause}with its commit, and other publishers wait for it")
    said = ""
    if rejected is not None:
        because = f": {shorten(rejected.reason)}" if rejected.reason else ""
        said = f", but it rejected the event at offset {rejected.offset}{because}"
    if not status.connections:
        return WhyView(code="offline", cause=f"it is not connected; it has confirmed every event{said}")
    if rejected is not None:
        return WhyView(code="rejected", cause=f"it has handled every event{said}")
    return WhyView(code="current", cause="it has confirmed every event")


def _why_behind(status: GatewayStatus, lag: int) -> WhyView:
    if not status.connections:
        return WhyView(code="offline", cause=f"it is not connected; {_events(lag, 'waits', 'wait')} for it")
    if status.sent <= status.confirmed:
        return WhyView(
            code="pod-lagging",
            cause=f"{_events(lag, 'is', 'are')} stored, and its pod has not sent {'it' if lag == 1 else 'them'} yet",
        )
    if status.lag_seconds < SLOW_UNTIL:
        return WhyView(code="slow", cause=f"it is working: {_events(lag, 'is', 'are')} not confirmed yet")
    return WhyView(
        code="not-confirming",
        cause=f"events were sent up to offset {status.sent}, and none after {status.confirmed} was confirmed "
        f"for {status.lag_seconds:.0f} s",
    )


def _events(number: int, one: str, many: str) -> str:
    """A number of events as the subject of a sentence."""
    return f"1 event {one}" if number == 1 else f"{number:,} events {many}"


def why_synchronizing(seen: Synchronization | None, status: GatewayStatus) -> WhyView | None:
    """It has just connected and reads its lists; None: it does not."""
    if seen is None or not seen.goes_on or not any(map(seen.belongs_to, status.connections)):
        return None
    waiting = max(0, status.head - status.confirmed)
    return WhyView(
        code="synchronizing",
        cause=f"it has just connected and reads its lists (for {seen.began:.0f} s); "
        f"{_events(waiting, 'waits', 'wait')} until it has read the last list",
    )


def why_unrecovered(reason: str) -> WhyView:
    """The control plane's events were republished, and foreign events are missing."""
    return WhyView(
        code="resync-needed",
        cause=f"its position could not be resumed ({reason}). Everything that it should run was republished, but "
        "its log also had events that the control plane does not know: foreign ones, which only their publisher can "
        "publish again, or what was published after a backup that was restored. Afterwards run "
        "`gatecast gateway resynchronized`",
    )


def why_unlisted(reason: str, placed: Sequence[Placed]) -> WhyView:
    """It may have what only a lost history knew."""
    if any(each.kind == MCP_PROXY.kind for each in placed):
        has = "artifacts of the lost history, and keys of MCP proxies"
        do = "Restart the controller with an empty database: it then fetches what it should have"
    else:
        has, do = "artifacts of the lost history", "Restart the controller: it then asks what to keep"
    return WhyView(
        code="resync-needed",
        cause=f"the history of its position was lost ({reason}). Everything that it should run was "
        f"republished, but it may also have {has}, and a running process does not name all of them. {do}. Or run "
        "`gatecast gateway resynchronized`",
    )


def why_unanswered(placed: Sequence[Placed], *, now: int) -> WhyView | None:
    """The oldest change that was confirmed and not acknowledged in time; None: there is none."""
    waiting = [each.deployment for each in placed if each.deployment.state in WAITING]
    oldest = min(waiting, key=lambda each: each.performed_at, default=None)
    age = (now - oldest.performed_at) / 1000 if oldest else 0.0
    if oldest is None or age < ANSWERED_WITHIN:
        return None
    [place] = [each for each in placed if each.deployment is oldest]
    return WhyView(
        code="not-acknowledged",
        cause=f"it has confirmed every event, but for {age:.0f} s it has not acknowledged {place.kind} "
        f'"{place.handle}" ({oldest.state}): the acknowledgement was lost, or it ignored the event. The event is '
        "republished when it reconnects; or deploy the artifact again",
    )


def why_manifest_refused(fault: str) -> WhyView | None:
    """A gateway's last manifest could not be stored; None: it was."""
    if not fault:
        return None
    return WhyView(
        code="manifest-refused",
        cause=f"it has confirmed every event, but its last manifest could not be stored ({fault}): deployments are "
        "checked against its manifest before that; look at the policies that it has loaded",
    )


async def standing_rejection(engine: Engine, status: GatewayStatus) -> Outcome | None:
    """The last rejection among the newest events, unless a later event replaced what was rejected."""
    recent = list(range(max(0, status.head - _RECENT_EVENTS) + 1, status.head + 1))
    outcomes = await engine.outcomes.of_events(status.gateway_id, recent)
    rejections = [one for one in outcomes if one.kind is OutcomeKind.REJECTED]
    if not rejections:
        return None
    newest = await _newest_of_their_entities(engine, status.gateway_id, rejections)
    return next((one for one in reversed(rejections) if newest.get(one.offset, one.offset) == one.offset), None)


async def _newest_of_their_entities(engine: Engine, gateway_id: str, rejections: list[Outcome]) -> dict[int, int]:
    """For each event since the first rejection, the offset of the last event of the same entity."""
    request = ReadRequest(
        gateway_id=gateway_id,
        after=rejections[0].offset - 1,
        max_events=_RECENT_EVENTS,
        max_bytes=_RECENT_BYTES,
    )
    [result] = await read_each(engine.log, [request])
    events = result.events if isinstance(result, ReadResult) else []
    last = {(event.entity_type, event.entity_id): event.offset for event in events}
    return {event.offset: last[event.entity_type, event.entity_id] for event in events}
