"""Removes old events: the low-water mark moves first, and then what it covers is purged."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from gatecast.containment import log_failure
from gatecast.errors import StatementFailed
from gatecast.storage.contract import TrimPass, TrimPolicy
from gatecast.storage.jetstream.documents import ForgottenLog, Head, LowWaterMark, offset_in
from gatecast.storage.jetstream.gateways import Gateway, Gateways
from gatecast.storage.jetstream.special import Special, special_outcomes
from gatecast.storage.jetstream.state import State
from gatecast.storage.jetstream.stream import Message, Stale, Stream, Write
from gatecast.storage.jetstream.subjects import last_token
from gatecast.waiting import together

#: Most gateways that are looked at together.
_AT_ONCE: Final = 32

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """A retention policy, at one instant, in seconds since 1970."""

    #: Events recorded before this instant are removed, confirmed or not.
    too_old: float
    #: Events recorded before this instant are removed once they are confirmed.
    old: float
    max_events: int
    chunk: int

    @classmethod
    def of(cls, policy: TrimPolicy, now: float) -> Limits:
        """The limits that the policy sets at this instant."""
        return cls(
            too_old=now - policy.keep_at_most.total_seconds(),
            old=now - policy.keep_confirmed.total_seconds(),
            max_events=policy.max_events,
            chunk=policy.chunk,
        )


class Retention:
    """Removes what a policy allows."""

    def __init__(self, stream: Stream, gateways: Gateways) -> None:
        self._stream = stream
        self._gateways = gateways

    async def trim(self, policy: TrimPolicy, trim_pass: TrimPass) -> int:
        """How many events were removed, at most one chunk; moves the pass on."""
        # Asked for now: what is known of the server's clock lags by as long as an answer takes.
        limits = Limits.of(policy, (await self._stream.info()).now)
        removed = await self._trim_forgotten(limits.chunk)
        if removed < limits.chunk:
            removed += await self._trim_each(trim_pass, limits, limits.chunk - removed)
        return removed

    async def _with_events(self) -> list[str]:
        heads = [message async for message in self._stream.scan(self._stream.subjects.heads)]
        return [head.gateway_id for head in Head.readable(each for each in heads if each.data) if head.head]

    async def _trim_each(self, trim_pass: TrimPass, limits: Limits, at_most: int) -> int:
        """How many events of the gateways that are left to the pass were removed; notes which it did not come to."""
        gateway_ids = trim_pass.listed or await self._with_events()
        removed, start, size = 0, 0, 1
        while start < len(gateway_ids):
            # Few at first: the chunk may be full soon.
            size = min(2 * size, _AT_ONCE)
            found = await self._gateways.find_readable(gateway_ids[start : start + size])
            known = [_as_of(gateway, trim_pass) for gateway in found if gateway.head is not None]
            concerned = await together(self._contained(gateway, self._has_old(gateway, limits)) for gateway in known)
            for gateway, is_concerned in zip(known, concerned, strict=True):
                if is_concerned and removed < at_most:
                    work = self._trim_log(gateway, limits, at_most - removed)
                    removed += await self._contained(gateway, work) or 0
                if removed >= at_most:
                    # This one may have more.
                    left = gateway_ids[gateway_ids.index(gateway.gateway_id, start) :]
                    trim_pass.move_to(gateway.gateway_id, gateway.log.head, left)
                    return removed
            start += size
        trim_pass.is_done = True
        return removed

    async def _contained(self, gateway: Gateway, work: Awaitable[T]) -> T | None:
        """The result of work on a gateway; None if something of it cannot be read, which hinders no other."""
        try:
            return await work
        except StatementFailed as error:
            log_failure("clean-up-refused", error, gateway=gateway.gateway_id)
            return None

    async def _has_old(self, gateway: Gateway, limits: Limits) -> bool:
        """Whether events of its log may be removed, as far as can be told without their outcomes.

        Removes what an earlier removal has left.
        """
        log = gateway.log.log
        if gateway.mark is None and gateway.mark_sequence:
            # Of a log that is gone; it must not be taken for this one's once that has grown.
            low = self._stream.subjects.low_water_mark(gateway.gateway_id)
            await self._stream.purge(low, before=gateway.mark_sequence + 1)
            return False
        oldest = await self._ids(gateway, 1)
        if gateway.mark is not None and oldest and offset_in(oldest[0]) <= gateway.mark.offset:
            # A pod died before it had purged what it had removed.
            await self._purge(gateway.gateway_id, log, gateway.mark.sequence + 1, gateway.mark.offset)
            oldest = await self._ids(gateway, 1)
        return bool(oldest) and _may_go(gateway, oldest[0], limits)

    async def _ids(self, gateway: Gateway, at_most: int) -> list[Message]:
        """The oldest ids in its log: they were stored with the events, and are small."""
        every_id = self._stream.subjects.event_id(gateway.gateway_id, gateway.log.log, "*")
        return await self._stream.all_of(every_id, limit=at_most)

    async def _trim_log(self, gateway: Gateway, limits: Limits, at_most: int) -> int:
        """How many events of a log were removed; 0 if another pod does that now."""
        special = await special_outcomes(self._stream, gateway)
        ids = [each for each in await self._ids(gateway, at_most) if offset_in(each) <= gateway.log.head]
        cut = _cut(gateway, ids, special, limits)
        last = next((each for each in ids if offset_in(each) == cut), None)
        if cut <= gateway.low_water_mark or last is None:
            return 0
        losers = {replica for each in special if each.offset <= cut for replica in each.waiting}
        if losers:
            # First, so that nobody believes that nothing is missing (promise P6).
            await self._gateways.change(gateway.gateway_id, lambda found: found.state.lose(losers))
        return cut - gateway.low_water_mark if await self._move(gateway, cut, last) else 0

    async def _move(self, gateway: Gateway, cut: int, last: Message) -> bool:
        """Move the low-water mark, and purge what it covers; False if another pod was faster."""
        subject = self._stream.subjects.low_water_mark(gateway.gateway_id)
        mark = LowWaterMark(log=gateway.log.log, offset=cut, sequence=last.sequence)
        try:
            await self._stream.write(Write(subject=subject, data=mark.encode(), expect=gateway.mark_sequence))
        except Stale:
            return False
        await self._purge(gateway.gateway_id, mark.log, mark.sequence + 1, cut)
        return True

    async def _purge(self, gateway_id: str, log: int, before: int, cut: int) -> None:
        subjects = self._stream.subjects
        for every in (subjects.event, subjects.event_id):
            await self._stream.purge(every(gateway_id, log, "*"), before=before)
        for every_outcome in (subjects.applied(gateway_id, log, "*"), subjects.special(gateway_id, log, "*")):
            for message in await self._stream.all_of(every_outcome):
                if int(last_token(message.subject)) <= cut:
                    await self._stream.purge(message.subject)

    # --- deleted gateways ---------------------------------------------------------------------------------------

    async def _trim_forgotten(self, at_most: int) -> int:
        removed = 0
        for message in await self._stream.all_of(self._stream.subjects.forgotten_logs):
            for left in ForgottenLog.readable([message] if removed < at_most else []):
                removed += await self._remove_front(message, left, at_most - removed)
        return removed

    async def _remove_front(self, message: Message, left: ForgottenLog, at_most: int) -> int:
        """How many events of a log that nobody has any more were removed."""
        cut = min(left.head, left.low + at_most)
        subjects, name = self._stream.subjects, left.gateway_id
        if cut == left.head:
            for every in (subjects.event, subjects.event_id, subjects.applied, subjects.special):
                await self._stream.purge(every(name, left.log, "*"))
            await self._purge_documents(name, left.log)
            await self._stream.purge(message.subject, before=message.sequence + 1)
            return cut - left.low
        advanced = ForgottenLog(gateway_id=name, log=left.log, head=left.head, low=cut)
        try:
            await self._stream.write(Write(subject=message.subject, data=advanced.encode(), expect=message.sequence))
        except Stale:
            return 0
        ids = await self._stream.all_of(subjects.event_id(name, left.log, "*"), limit=at_most)
        if gone := [each for each in ids if offset_in(each) <= cut]:
            await self._purge(name, left.log, gone[-1].sequence + 1, cut)
        return cut - left.low

    async def _purge_documents(self, gateway_id: str, log: int) -> None:
        """Remove what else is stored of a deleted gateway, unless it was registered again or is still connected."""
        subjects = self._stream.subjects
        low, state = subjects.low_water_mark(gateway_id), subjects.state(gateway_id)
        found = await self._stream.newest([low, state])
        unused = {low: lambda data: LowWaterMark.decode(data).log == log, state: lambda data: _is_left(data, log)}
        for subject, message in found.items():
            if unused[subject](message.data):
                await self._stream.purge(subject, before=message.sequence + 1)


def _is_left(data: bytes, log: int) -> bool:
    state = State.decode(data)
    return state.log == log and not state.connections


def _as_of(gateway: Gateway, trim_pass: TrimPass) -> Gateway:
    """The gateway with what of its log belongs to this pass."""
    if gateway.gateway_id != trim_pass.gateway_id:
        return gateway
    return replace(gateway, head=replace(gateway.log, head=min(gateway.log.head, trim_pass.head)))


def _may_go(gateway: Gateway, oldest: Message, limits: Limits) -> bool:
    """Whether the oldest event may be removed, as far as can be told without its outcomes."""
    stored_at = oldest.stored_at.timestamp()
    confirmed = gateway.confirmed > gateway.low_water_mark
    too_many = gateway.log.head - gateway.low_water_mark > limits.max_events
    return stored_at < limits.too_old or too_many or (confirmed and stored_at < limits.old)


def _cut(gateway: Gateway, ids: list[Message], special: list[Special], limits: Limits) -> int:
    """Up to where the log may be removed: only an unbroken run from its front (scenario S19)."""
    low = gateway.low_water_mark
    # What is parked or waits is confirmed, and not handled.
    waiting = min((each.offset - 1 for each in special if each.waiting), default=gateway.log.head)
    confirmed = min(gateway.confirmed, waiting)
    too_old, old = _run(ids, limits.too_old, low), _run(ids, limits.old, low)
    last = offset_in(ids[-1]) if ids else low
    return max(low, min(last, max(too_old, gateway.log.head - limits.max_events, min(old, confirmed))))


def _run(ids: list[Message], instant: float, low: int) -> int:
    """Offset of the last event before the first that was recorded at this instant or later."""
    for message in ids:
        if message.stored_at.timestamp() >= instant:
            return offset_in(message) - 1
    return offset_in(ids[-1]) if ids else low
