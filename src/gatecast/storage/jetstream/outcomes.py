"""Outcomes of single events on a stream."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby, islice

from gatecast.storage.contract import Outcome, OutcomeKind
from gatecast.storage.hops import Delivery
from gatecast.storage.jetstream.documents import decode_event
from gatecast.storage.jetstream.gateways import Gateway, Gateways
from gatecast.storage.jetstream.repeating import repeated
from gatecast.storage.jetstream.special import EventOutcomes, replaces
from gatecast.storage.jetstream.stream import Stream, Write
from gatecast.waiting import together

#: Outcomes that show that the event was not applied: if retention has removed it, the replica must resynchronize.
_UNHANDLED = (OutcomeKind.PARKED, OutcomeKind.HELD, OutcomeKind.UNDELIVERABLE)

#: Most outcomes of one event where those of many are asked for.
_MOST_REPLICAS = 100


class JetStreamOutcomes:
    """`gatecast.storage.contract.Outcomes` on a stream; the hops of events are not recorded."""

    def __init__(self, stream: Stream, gateways: Gateways) -> None:
        self._stream = stream
        self._gateways = gateways

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Store outcomes; outcomes of events that are not in the log are ignored."""
        by_event: dict[tuple[str, int], list[Outcome]] = {}
        for outcome in outcomes:
            by_event.setdefault((outcome.gateway_id, outcome.offset), []).append(outcome)
        found = await self._gateways.find(gateway_id for gateway_id, _ in by_event)
        await together(
            repeated(partial(self._record, found[gateway_id], offset, those))
            for (gateway_id, offset), those in by_event.items()
            if _is_in_log(found[gateway_id], offset)
        )
        await self._tell_losers([one for one in outcomes if one.kind in _UNHANDLED])

    async def _record(self, gateway: Gateway, offset: int, outcomes: Sequence[Outcome]) -> None:
        log, now = gateway.log.log, await self._stream.now()
        before, applied_sequence, special_sequence = await self.read(gateway.gateway_id, log, offset)
        if not before.event_id and not await self._is_missing(gateway, offset):
            return
        after = before
        for one in outcomes:
            if replaces(one.kind, after.kind(one.replica)):
                after = after.with_kind(one.replica, one.kind, now, one.reason)
        if after == before:
            return
        only_applied = {kind for kind, _, _ in after.replicas.values()} == {OutcomeKind.APPLIED.value}
        subjects = self._stream.subjects
        if only_applied and not special_sequence:
            subject, expect = subjects.applied(gateway.gateway_id, log, offset), applied_sequence
        else:
            subject, expect = subjects.special(gateway.gateway_id, log, offset), special_sequence
        await self._stream.write(Write(subject=subject, data=after.encode(), expect=expect))

    async def _is_missing(self, gateway: Gateway, offset: int) -> bool:
        """Whether an event should be there; else retention has just removed it, or the stream was put back."""
        found = await self._gateways.find([gateway.gateway_id])
        return _is_in_log(found[gateway.gateway_id], offset)

    async def read(self, gateway_id: str, log: int, offset: int) -> tuple[EventOutcomes, int, int]:
        """The outcomes of an event, and the sequences of its two documents, 0 for one that does not exist.

        Without an event id, if the event is no longer there.
        """
        subjects = self._stream.subjects
        event, applied, special = (
            each(gateway_id, log, offset) for each in (subjects.event, subjects.applied, subjects.special)
        )
        found = await self._stream.newest([applied, special])
        sequences = tuple(found[each].sequence if each in found else 0 for each in (applied, special))
        if special in found:
            known = EventOutcomes.decode(found[special].data)
        else:
            known = EventOutcomes()
            for message in (await self._stream.newest([event])).values():
                recorded = decode_event(gateway_id, offset, message)
                known = EventOutcomes(
                    entity_type=recorded.entity_type,
                    entity_id=recorded.entity_id,
                    event_id=str(recorded.event_id),
                )
        if applied in found:
            earlier = EventOutcomes.decode(found[applied].data)
            known = EventOutcomes(
                entity_type=known.entity_type,
                entity_id=known.entity_id,
                event_id=known.event_id,
                replicas={**earlier.replicas, **known.replicas},
            )
        return known, sequences[0], sequences[1]

    async def _tell_losers(self, unhandled: Sequence[Outcome]) -> None:
        """If retention removed an event before it could be recorded as waiting, its replica must resynchronize."""
        if not unhandled:
            return
        # Read after they were stored: retention looks for what waits before it removes.
        found = await self._gateways.find(one.gateway_id for one in unhandled)
        lost = [one for one in unhandled if _was_removed(found[one.gateway_id], one.offset)]
        for gateway_id in dict.fromkeys(one.gateway_id for one in lost):
            replicas = {one.replica for one in lost if one.gateway_id == gateway_id}
            await self._gateways.change(gateway_id, partial(_lose, replicas))

    async def of_events(self, gateway_id: str, offsets: Sequence[int]) -> list[Outcome]:
        """The outcomes of these events, of every replica, in offset order."""
        found = await self._of([(gateway_id, offset) for offset in offsets])
        return sorted(found, key=lambda each: (each.offset, each.replica))

    async def of_many(self, events: Sequence[tuple[str, int]]) -> list[Outcome]:
        """The outcomes of events of many gateways, in the order they were recorded; at most 100 for each event."""
        by_name = sorted(await self._of(events), key=lambda each: (each.gateway_id, each.offset, each.replica))
        of_each = groupby(by_name, key=lambda each: (each.gateway_id, each.offset))
        found = [each for _, outcomes in of_each for each in islice(outcomes, _MOST_REPLICAS)]
        return sorted(found, key=lambda each: (each.recorded_at, each.gateway_id, each.offset, each.replica))

    async def _of(self, events: Sequence[tuple[str, int]]) -> list[Outcome]:
        subjects, gateways = self._stream.subjects, await self._gateways.find(name for name, _ in events)
        logs = {name: each.head.log for name, each in gateways.items() if each.head is not None}
        named = [(name, offset, logs[name]) for name, offset in dict.fromkeys(events) if name in logs]
        wanted = [
            each(name, log, offset) for name, offset, log in named for each in (subjects.applied, subjects.special)
        ]
        found = {
            subject: EventOutcomes.decode(each.data) for subject, each in (await self._stream.newest(wanted)).items()
        }
        outcomes: list[Outcome] = []
        for name, offset, log in named:
            nothing = EventOutcomes()
            applied = found.get(subjects.applied(name, log, offset), nothing)
            special = found.get(subjects.special(name, log, offset), nothing)
            merged = EventOutcomes(replicas={**applied.replicas, **special.replicas})
            outcomes += merged.outcomes(name, offset)
        return outcomes

    async def deliveries(self, gateway_id: str, offset: int) -> Sequence[Delivery]:  # noqa: ARG002 - nothing is recorded
        """Empty: a stream does not record when events pass their hops."""
        return []


def _lose(replicas: set[str], gateway: Gateway) -> None:
    gateway.state.lose(replicas)


def _is_in_log(gateway: Gateway, offset: int) -> bool:
    return gateway.head is not None and gateway.low_water_mark < offset <= gateway.head.head


def _was_removed(gateway: Gateway, offset: int) -> bool:
    return gateway.head is not None and offset <= gateway.low_water_mark
