"""Questions about many gateways and long logs, on a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from gatecast.errors import UnknownGateway
from gatecast.events import RecordedEvent
from gatecast.storage import survey
from gatecast.storage.contract import DeliverySummary, EventSearch, FoundEvents, GatewayCount, Outcome, OutcomeKind
from gatecast.storage.jetstream.documents import Head, decode_event
from gatecast.storage.jetstream.gateways import Gateway, Gateways
from gatecast.storage.jetstream.outcomes import JetStreamOutcomes
from gatecast.storage.jetstream.presence import JetStreamPresence, live_connections
from gatecast.storage.jetstream.special import special_outcomes
from gatecast.storage.jetstream.stream import Message, Stream
from gatecast.waiting import together

#: Events that are read together.
_PAGE = 500

_PARKED = (OutcomeKind.PARKED, OutcomeKind.UNDELIVERABLE)
_REJECTED = {
    OutcomeKind.REJECTED,
    OutcomeKind.PARKED,
    OutcomeKind.SKIPPED,
    OutcomeKind.UNDELIVERABLE,
    OutcomeKind.OMITTED,
}


class JetStreamSurvey:
    """`gatecast.storage.contract.Survey` on a stream; latencies are not known, because hops are not recorded."""

    def __init__(
        self, stream: Stream, gateways: Gateways, presence: JetStreamPresence, outcomes: JetStreamOutcomes
    ) -> None:
        self._stream = stream
        self._gateways = gateways
        self._presence = presence
        self._outcomes = outcomes

    async def summaries(self, gateway_ids: Sequence[str]) -> list[DeliverySummary]:
        """The delivery summary of each registered gateway among these."""
        now = await self._stream.now()
        alive = {pod.pod_id for pod in await self._presence.pods()}
        found = [each for each in (await self._gateways.find(gateway_ids)).values() if each.head is not None]
        oldest = await self._presence.oldest_unconfirmed(found)
        parked = await together(map(self._has_parked, found))
        return [
            _summary(each, alive, oldest.get(each.gateway_id), now, is_parked)
            for each, is_parked in zip(found, parked, strict=True)
        ]

    async def _has_parked(self, gateway: Gateway) -> bool:
        special = await special_outcomes(self._stream, gateway)
        return any(each.outcomes.kind(replica) in _PARKED for each in special for replica in each.waiting)

    async def counts(self, *, slow_after: float, except_for: str) -> list[GatewayCount]:
        """All registered gateways, counted here, so many at a time: nothing counts them for us."""
        names = [each for each in await self.beginning_with("") if not each.startswith(except_for)]
        counted: dict[tuple[bool, ...], GatewayCount] = {}
        for first in range(0, len(names), _PAGE):
            for summary in await self.summaries(names[first : first + _PAGE]):
                one = _alone(summary)
                key = (one.resynchronizing, one.parked, one.connected, one.lagging, one.lag_seconds < slow_after)
                counted[key] = _together(one, counted.get(key))
        return list(counted.values())

    async def beginning_with(self, prefix: str) -> list[str]:
        """The registered gateways whose ids begin with this."""
        found = [message async for message in self._stream.scan(self._stream.subjects.heads, after=0)]
        heads = Head.readable(each for each in found if each.data)
        return [head.gateway_id for head in heads if head.gateway_id.startswith(prefix)]

    async def latencies(self, gateway_ids: Sequence[str], *, since: float) -> list[float]:  # noqa: ARG002 - nothing is recorded
        """Empty: a stream does not record when events were confirmed."""
        return []

    # --- search -------------------------------------------------------------------------------------------------

    async def search(self, wanted: EventSearch, *, confirmed: int) -> FoundEvents:
        """The matching events among the newest 10,000 that are wanted, newest first."""
        gateway = (await self._gateways.find([wanted.gateway_id]))[wanted.gateway_id]
        if gateway.head is None:
            raise UnknownGateway(wanted.gateway_id)
        first, last = await self._range(gateway, wanted)
        low = max(first, last - survey.LOOKED_AT)
        matched: list[RecordedEvent] = []
        size = 0
        for end in range(last, low, -_PAGE):
            for event in await self._matching(gateway, range(end, max(low, end - _PAGE), -1), wanted, confirmed):
                size += len(event.payload.encode())
                if len(matched) == wanted.max_events or (matched and size > wanted.max_bytes):
                    return FoundEvents(matched, matched[-1].offset)
                matched.append(event)
        if len(matched) == wanted.max_events:
            low = matched[-1].offset - 1
        return FoundEvents(matched, low + 1 if low > first else None)

    async def _range(self, gateway: Gateway, wanted: EventSearch) -> tuple[int, int]:
        """Two offsets: only events after the first, up to and including the second, can match."""
        first, last = gateway.low_water_mark, gateway.log.head
        if wanted.before is not None:
            last = min(last, wanted.before - 1)
        if wanted.since is not None:
            first = max(first, await self._recorded_before(gateway, wanted.since))
        if wanted.until is not None:
            last = min(last, await self._recorded_before(gateway, wanted.until))
        return first, last

    async def _recorded_before(self, gateway: Gateway, instant: datetime) -> int:
        """The last offset that was recorded before an instant, found by halves."""
        low, high = gateway.low_water_mark, gateway.log.head
        while low < high:
            middle = (low + high + 1) // 2
            subject = self._stream.subjects.event(gateway.gateway_id, gateway.log.log, middle)
            found = await self._stream.read([subject], max_bytes=1)
            if found and found[0].stored_at < instant:
                low = middle
            else:
                high = middle - 1
        return low

    async def _matching(
        self, gateway: Gateway, offsets: range, wanted: EventSearch, confirmed: int
    ) -> list[RecordedEvent]:
        name, log = gateway.gateway_id, gateway.log.log
        subjects = {self._stream.subjects.event(name, log, offset): offset for offset in offsets}
        found = await self._stream.newest(list(subjects))
        events = [decode_event(name, subjects[each], found[each]) for each in subjects if each in found]
        events = [event for event in events if _fits(event, wanted)]
        if not wanted.state:
            return events
        outcomes: dict[int, list[Outcome]] = {}
        for outcome in await self._outcomes.of_events(name, [event.offset for event in events]):
            outcomes.setdefault(outcome.offset, []).append(outcome)
        return [
            event for event in events if _state(event.offset, outcomes.get(event.offset, []), confirmed) == wanted.state
        ]


def _fits(event: RecordedEvent, wanted: EventSearch) -> bool:
    pairs = (
        (wanted.type, event.type),
        (wanted.entity_type, event.entity_type),
        (wanted.entity_id, event.entity_id),
    )
    return all(asked in {"", found} for asked, found in pairs)


def _state(offset: int, outcomes: Sequence[Outcome], confirmed: int) -> str:
    """The state of an event, in one word."""
    kinds = {each.kind for each in outcomes}
    if kinds & _REJECTED:
        return "rejected"
    if OutcomeKind.APPLIED in kinds:
        return "applied"
    return "confirmed" if offset <= confirmed and not kinds else "stored"


def _alone(summary: DeliverySummary) -> GatewayCount:
    return GatewayCount(
        gateways=1,
        resynchronizing=summary.resynchronizing,
        parked=summary.parked,
        connected=summary.connected,
        lagging=summary.lagging,
        lag_seconds=summary.lag_seconds,
    )


def _together(one: GatewayCount, others: GatewayCount | None) -> GatewayCount:
    if others is None:
        return one
    return replace(one, gateways=one.gateways + others.gateways, lag_seconds=max(one.lag_seconds, others.lag_seconds))


def _summary(
    gateway: Gateway,
    alive: set[str],
    oldest: Message | None,
    now: float,
    parked: bool,  # noqa: FBT001 - a field's value
) -> DeliverySummary:
    return DeliverySummary(
        gateway_id=gateway.gateway_id,
        head=gateway.log.head,
        lag=max(0, gateway.log.head - gateway.confirmed),
        lag_seconds=max(0.0, now - oldest.stored_at.timestamp()) if oldest is not None else 0.0,
        last_seen=gateway.last_seen,
        resync_reason=gateway.resync_reason or "",
        pods=tuple(each.pod_id for each in live_connections(gateway, alive)),
        parked=parked,
    )
