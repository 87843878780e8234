"""Changes the states of gateways under compare-and-set, and notes where connections are.

A seat says that a gateway may have a connection to a pod, a call that the pod may have to disconnect one, or to say
that it lives. Both are hints. They are stored before the state says so, and removed after it says otherwise, up to the
sequence of that state. So none is missing, and one too many does no harm, because the pod that finds it looks into the
state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from uuid import UUID

from gatecast.containment import log_failure
from gatecast.errors import StatementFailed, UnknownGateway
from gatecast.storage.jetstream.documents import Head, History, LowWaterMark
from gatecast.storage.jetstream.repeating import repeated
from gatecast.storage.jetstream.state import State
from gatecast.storage.jetstream.stream import Snapshot, Stale, Stream, Write
from gatecast.waiting import together

T = TypeVar("T")

#: So many gateways are changed at the same time.
_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """One gateway as it was found."""

    gateway_id: str
    #: The epoch of the present history.
    epoch: UUID
    #: Sequence of the stored history.
    history_sequence: int
    #: None if it is not registered.
    head: Head | None
    #: Sequence of the stored head; 0 if there is none.
    head_sequence: int
    #: Up to where retention has removed events of the present log; None if nowhere.
    mark: LowWaterMark | None
    #: Sequence of the stored low-water mark; 0 if there is none.
    mark_sequence: int
    #: A copy that may be changed.
    state: State
    #: Sequence of the stored state; 0 if there is none.
    sequence: int

    @property
    def low_water_mark(self) -> int:
        """Offset up to which retention has removed events."""
        return self.mark.offset if self.mark is not None else 0

    @property
    def confirmed(self) -> int:
        """What the slowest of the replicas with a position in the present epoch has confirmed; 0 if there is none."""
        epoch = str(self.epoch)
        return min((each.confirmed for each in self.state.positions.values() if each.epoch == epoch), default=0)

    @property
    def resync_reason(self) -> str | None:
        """Why it must resynchronize: a position of an older epoch has confirmed nothing of this one."""
        epoch = str(self.epoch)
        reasons = (each.resync_reason if each.epoch == epoch else "epoch" for each in self.state.positions.values())
        return max((reason for reason in reasons if reason is not None), default=None)

    @property
    def last_seen(self) -> float | None:
        """When a connection was last opened or made progress, in seconds since 1970."""
        return max((each.updated_at for each in self.state.positions.values()), default=None)

    @property
    def end(self) -> int | None:
        """Offset of the last event; None if the gateway is not registered."""
        return self.head.head if self.head is not None else None

    @property
    def log(self) -> Head:
        """Its log.

        Raises:
            UnknownGateway: it has none.
        """
        if self.head is None:
            raise UnknownGateway(self.gateway_id)
        return self.head


def never(_: Gateway) -> bool:
    """Nothing is stored that is as it was."""
    return False


class Gateways:
    """The states of all gateways."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def find(self, gateway_ids: Iterable[str]) -> dict[str, Gateway]:
        """These gateways, registered or not."""
        names = list(dict.fromkeys(gateway_ids))
        groups = [self._subjects_of(name) for name in names]
        found = zip(names, await self._stream.snapshots(groups), strict=True)
        return {name: self.read(name, snapshot) for name, snapshot in found}

    def _subjects_of(self, gateway_id: str) -> list[str]:
        subjects = self._stream.subjects
        return [subjects.head(gateway_id), subjects.low_water_mark(gateway_id), subjects.state(gateway_id)]

    def read(self, gateway_id: str, found: Snapshot) -> Gateway:
        """The gateway in a snapshot."""
        head, low, state = (found.messages.get(subject) for subject in self._subjects_of(gateway_id))
        history = found.messages[self._stream.subjects.history]
        log = Head.decode(head.data) if head is not None and head.data else None
        stored = State.decode(state.data) if state is not None and state.data else State(log=0)
        return Gateway(
            gateway_id=gateway_id,
            epoch=UUID(History.decode(history.data).epoch),
            history_sequence=history.sequence,
            head=log,
            head_sequence=head.sequence if head is not None else 0,
            mark=LowWaterMark.of(low, log) if log is not None else None,
            mark_sequence=low.sequence if low is not None else 0,
            state=stored.of_log(log.log) if log is not None else stored,
            sequence=state.sequence if state is not None else 0,
        )

    async def find_readable(self, gateway_ids: Iterable[str]) -> list[Gateway]:
        """The gateways among these with readable documents: an unreadable one hinders no other."""
        names = list(dict.fromkeys(gateway_ids))
        found = zip(names, await self._stream.snapshots([self._subjects_of(name) for name in names]), strict=True)
        gateways: list[Gateway] = []
        for name, snapshot in found:
            try:
                gateways.append(self.read(name, snapshot))
            except StatementFailed as error:
                log_failure("document-unreadable", error, gateway=name)
        return gateways

    async def change_readable(self, gateway_ids: Iterable[str], work: Callable[[Gateway], T]) -> list[T]:
        """The result of the same work for each of these gateways whose documents can be read."""
        return await self._change_all(await self.find_readable(gateway_ids), work)

    async def change(
        self,
        gateway_id: str,
        work: Callable[[Gateway], T],
        found: Gateway | None = None,
        *,
        fences: Callable[[Gateway], bool] = never,
    ) -> T:
        """The result of work that changes a gateway's state in place; repeated if another pod was faster."""
        try:
            return await self._change(found or (await self.find([gateway_id]))[gateway_id], work, fences)
        except Stale:
            return await repeated(partial(self._find_and_change, gateway_id, work, fences))

    async def change_each(
        self, gateway_ids: Iterable[str], work: Callable[[Gateway], T], *, fences: Callable[[Gateway], bool] = never
    ) -> list[T]:
        """The result of the same work for each of these gateways.

        A state that `fences` is stored also if the work leaves it as it is: whatever was decided by the stored one, and
        is still on its way, is stale then.
        """
        return await self._change_all((await self.find(gateway_ids)).values(), work, fences)

    async def _change_all(
        self, found: Iterable[Gateway], work: Callable[[Gateway], T], fences: Callable[[Gateway], bool] = never
    ) -> list[T]:
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(gateway: Gateway) -> T:
            async with limit:
                return await self.change(gateway.gateway_id, work, gateway, fences=fences)

        return await together(map(one, found))

    async def _find_and_change(
        self, gateway_id: str, work: Callable[[Gateway], T], fences: Callable[[Gateway], bool]
    ) -> T:
        return await self._change((await self.find([gateway_id]))[gateway_id], work, fences)

    async def _change(self, gateway: Gateway, work: Callable[[Gateway], T], fences: Callable[[Gateway], bool]) -> T:
        before, is_fence = deepcopy(gateway.state), fences(gateway)
        result = work(gateway)
        if gateway.state == before and not is_fence:
            return result
        await self.store(gateway, before)
        return result

    async def store(self, gateway: Gateway, before: State, together_with: Sequence[Write] = ()) -> None:
        """Store the changed state of a gateway, together with other messages or not at all.

        Raises:
            Stale: another writer has changed it; nothing was stored.
        """
        needed, needed_before = self._hints(gateway.gateway_id, gateway.state), self._hints(gateway.gateway_id, before)
        for hint in sorted(needed - needed_before):
            await self._stream.write(Write(subject=hint, data=gateway.gateway_id.encode()))
        subject = self._stream.subjects.state(gateway.gateway_id)
        state = Write(subject=subject, data=gateway.state.encode(), expect=gateway.sequence)
        sequence = await self._stream.write_all([*together_with, state])
        for hint in sorted(needed_before - needed):
            await self._stream.purge(hint, before=sequence)

    def _hints(self, gateway_id: str, state: State) -> set[str]:
        subjects = self._stream.subjects
        seats = {subjects.seat(each.pod_id, each.token_id, gateway_id) for each in state.connections}
        called = [each for each in state.connections if each.dismissal is not None or each.released]
        return seats | {subjects.call(each.pod_id, gateway_id) for each in called}

    async def named_in(self, filtered: str) -> list[str]:
        """The gateways that these hints name."""
        return list(dict.fromkeys(message.data.decode() for message in await self._stream.matching(filtered)))
