"""Parking on a stream, from the special outcomes of a log."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import partial

from gatecast.events import RecordedEvent
from gatecast.storage.contract import DeliveryFilter, DisconnectReason, Entity, OutcomeKind, ParkedEntity
from gatecast.storage.jetstream.documents import decode_event, moment
from gatecast.storage.jetstream.gateways import Gateway, Gateways
from gatecast.storage.jetstream.outcomes import JetStreamOutcomes
from gatecast.storage.jetstream.publishing import Appending
from gatecast.storage.jetstream.repeating import repeated
from gatecast.storage.jetstream.special import Special, special_outcomes
from gatecast.storage.jetstream.state import dismiss
from gatecast.storage.jetstream.stream import Stream, Write
from gatecast.storage.parking import copies_of

_PARKED = (OutcomeKind.PARKED, OutcomeKind.UNDELIVERABLE)
_DECIDED = (OutcomeKind.HELD, OutcomeKind.RETRIED, OutcomeKind.SKIPPED)
_SETTLED = (OutcomeKind.RELEASED, OutcomeKind.REJECTED, OutcomeKind.OMITTED)
_NOT_AGAIN = (*_SETTLED, OutcomeKind.SKIPPED)

#: Events that are read together.
_PAGE = 500


class JetStreamParking:
    """`gatecast.storage.contract.Parking` on a stream."""

    def __init__(self, stream: Stream, gateways: Gateways, outcomes: JetStreamOutcomes) -> None:
        self._stream = stream
        self._gateways = gateways
        self._outcomes = outcomes

    async def _special(self, gateway_id: str) -> tuple[Gateway, list[Special]]:
        gateway = (await self._gateways.find([gateway_id]))[gateway_id]
        if gateway.head is None:
            return gateway, []
        return gateway, await special_outcomes(self._stream, gateway)

    # --- what a connection must not receive -----------------------------------------------------------------------

    async def withheld(self, gateway_id: str, replica: str, *, after: int, parks: bool = True) -> DeliveryFilter:
        """The delivery filter of a recorded connection; republishes first what decisions have released."""
        if not parks:
            return await repeated(partial(self._left_out, gateway_id, replica, after))
        _, found = await self._special(gateway_id)
        if _released(found, replica):
            await repeated(partial(self._release, gateway_id, replica))
            _, found = await self._special(gateway_id)
        settled = [each.offset for each in found if each.outcomes.kind(replica) in _SETTLED and each.offset > after]
        return DeliveryFilter(parked=frozenset(_entities(found, replica, _PARKED)), settled=frozenset(settled))

    async def _left_out(self, gateway_id: str, replica: str, after: int) -> DeliveryFilter:
        gateway, found = await self._special(gateway_id)
        later = [each for each in found if each.offset > after]
        for each in later:
            if each.outcomes.kind(replica) is OutcomeKind.RETRIED:
                await self._stream.write(self._changed(gateway, each, each.outcomes.without(replica).encode()))
        omitted = [each.offset for each in later if each.outcomes.kind(replica) is OutcomeKind.OMITTED]
        return DeliveryFilter(settled=frozenset(omitted))

    def _changed(self, gateway: Gateway, special: Special, data: bytes) -> Write:
        subject = self._stream.subjects.special(gateway.gateway_id, gateway.log.log, special.offset)
        return Write(subject=subject, data=data, expect=special.sequence)

    # --- decisions --------------------------------------------------------------------------------------------------

    async def parked(self, gateway_id: str, *, after: int, limit: int) -> list[ParkedEntity]:
        """At most `limit` entities whose rejected events come after `after`, by offset."""
        _, found = await self._special(gateway_id)
        first: dict[tuple[str, Entity], Special] = {}
        for each in found:
            for replica in each.waiting:
                if each.outcomes.kind(replica) in _PARKED:
                    first.setdefault((replica, each.entity), each)
        listed = sorted(first.items(), key=lambda item: (item[1].offset, item[0][0]))
        entities = [_parked(replica, each, found) for (replica, _), each in listed if each.offset > after]
        return entities[:limit]

    async def resolve(self, gateway_id: str, replica: str, entity: Entity, *, retry: bool) -> bool:
        """Store the decision about a parked entity and disconnect its replica; False if the entity is not parked."""
        return await repeated(partial(self._resolve, gateway_id, replica, entity, retry=retry))

    async def _resolve(self, gateway_id: str, replica: str, entity: Entity, *, retry: bool) -> bool:
        gateway, found = await self._special(gateway_id)
        now, writes = await self._stream.now(), list[Write]()
        for each in found:
            kind = each.outcomes.kind(replica)
            if each.entity == entity and kind in _PARKED:
                left_out = OutcomeKind.OMITTED if kind is OutcomeKind.UNDELIVERABLE else OutcomeKind.SKIPPED
                decided = each.outcomes.with_kind(replica, OutcomeKind.RETRIED if retry else left_out, now)
                writes.append(self._changed(gateway, each, decided.encode()))
        if not writes:
            return False
        before = deepcopy(gateway.state)
        dismiss((each for each in gateway.state.connections if each.replica == replica), DisconnectReason.RESTARTING)
        await self._gateways.store(gateway, before, writes)
        return True

    # --- what decisions release -----------------------------------------------------------------------------------

    async def _release(self, gateway_id: str, replica: str) -> None:
        """Republish the waiting events of entities that are no longer parked, in one batch for each."""
        gateway, found = await self._special(gateway_id)
        for entity in sorted(_released(found, replica)):
            await self._publish_again(gateway, replica, entity, found)
            gateway, found = await self._special(gateway_id)

    async def _publish_again(self, gateway: Gateway, replica: str, entity: Entity, found: Sequence[Special]) -> None:
        those = {each.offset: each for each in found if each.entity == entity}
        events = await self._to_release(gateway, replica, entity, those)
        copies, problem = copies_of(events)
        now = await self._stream.now()
        # After exactly the head that was read: an event published meanwhile makes the batch stale.
        appending = Appending.after(self._stream.subjects, gateway)
        for copy in copies:
            appending.append(copy)
        changes = {event.offset: (OutcomeKind.RELEASED, "") for event in events[: len(copies)]}
        if problem:
            changes[events[len(copies)].offset] = (OutcomeKind.UNDELIVERABLE, problem)
        skipped = [each.offset for each in those.values() if each.outcomes.kind(replica) is OutcomeKind.SKIPPED]
        writes = [await self._note(gateway, replica, offset, *change, now) for offset, change in changes.items()]
        writes += [await self._note(gateway, replica, offset, OutcomeKind.OMITTED, None, now) for offset in skipped]
        if writes:
            await self._stream.write_all([*writes, *appending.batch()])

    async def _note(
        self, gateway: Gateway, replica: str, offset: int, kind: OutcomeKind, reason: str | None, now: float
    ) -> Write:
        log = gateway.log.log
        known, _, sequence = await self._outcomes.read(gateway.gateway_id, log, offset)
        return Write(
            subject=self._stream.subjects.special(gateway.gateway_id, log, offset),
            data=known.with_kind(replica, kind, now, reason).encode(),
            expect=sequence,
        )

    async def _to_release(
        self, gateway: Gateway, replica: str, entity: Entity, those: dict[int, Special]
    ) -> list[RecordedEvent]:
        """The events of an entity from the first that waits, or after the first skipped one, up to the head.

        Events that were published again already, or are left out, are skipped.
        """
        kinds = {offset: each.outcomes.kind(replica) for offset, each in those.items()}
        begins = [offset + (kind is OutcomeKind.SKIPPED) for offset, kind in kinds.items() if kind in _DECIDED]
        events: list[RecordedEvent] = []
        for begin in range(min(begins), gateway.log.head + 1, _PAGE):
            events += await self._events(gateway, range(begin, min(begin + _PAGE, gateway.log.head + 1)))
        same = [event for event in events if (event.entity_type, event.entity_id) == entity]
        return [event for event in same if kinds.get(event.offset) not in _NOT_AGAIN]

    async def _events(self, gateway: Gateway, offsets: range) -> list[RecordedEvent]:
        name, log = gateway.gateway_id, gateway.log.log
        subjects = {self._stream.subjects.event(name, log, offset): offset for offset in offsets}
        found = await self._stream.newest(list(subjects))
        return [decode_event(name, subjects[subject], found[subject]) for subject in subjects if subject in found]


def _entities(found: Sequence[Special], replica: str, kinds: Sequence[OutcomeKind]) -> set[Entity]:
    return {each.entity for each in found if each.outcomes.kind(replica) in kinds}


def _released(found: Sequence[Special], replica: str) -> set[Entity]:
    """The entities with waiting or decided events, and no parked one."""
    return _entities(found, replica, _DECIDED) - _entities(found, replica, _PARKED)


def _parked(replica: str, first: Special, found: Sequence[Special]) -> ParkedEntity:
    kinds = (*_PARKED, OutcomeKind.HELD)
    same = [each for each in found if each.entity == first.entity and each.outcomes.kind(replica) in kinds]
    kind, reason, recorded_at = first.outcomes.replicas[replica]
    return ParkedEntity(
        replica=replica,
        entity_type=first.entity[0],
        entity_id=first.entity[1],
        offset=first.offset,
        event_id=first.event_id,
        reason=reason,
        rejected_at=moment(recorded_at),
        held=len(same) - 1,
        undeliverable=kind == OutcomeKind.UNDELIVERABLE,
    )
