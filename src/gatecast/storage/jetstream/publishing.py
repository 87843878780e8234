"""Appends events: the events, their ids and the heads of their logs are one atomic batch, under compare-and-set.

The batch expects that no id is stored, and that the heads are as this pod has seen them last: a publish is one request,
and reads only if the server finds that one of these is not so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from gatecast.errors import UnknownGateway
from gatecast.events import Event, Position
from gatecast.storage.contract import PublishResult, Receipt
from gatecast.storage.jetstream.documents import Head, History, encode_event, offset_in
from gatecast.storage.jetstream.gateways import Gateway
from gatecast.storage.jetstream.repeating import repeated
from gatecast.storage.jetstream.stream import InProcess, Message, Stale, Stream, Write, chunks
from gatecast.storage.jetstream.subjects import Subjects

#: Messages of a batch for one event: itself, and its id.
_MESSAGES_PER_EVENT = 2

#: Seconds for which a head counts as it was seen last. A stream that is put back to an older state gives its sequences
#: to other messages, so that comparing them proves nothing then: until this pod has noticed, it may read a head only
#: shortly before. To read a head that is rarely published to costs little.
_LASTS = 0.5

#: Most heads that are remembered.
_MOST_HEADS = 10_000


@dataclass(slots=True)
class Appending:
    """Heads of logs as they were read, and what is to be appended to them."""

    subjects: Subjects
    epoch: UUID
    #: Sequence of the history that was read: the epoch stays the same until the batch is stored.
    history: int
    heads: dict[str, Head]
    sequences: dict[str, int]
    #: Offsets of the events that are in a log, by gateway and id.
    known: dict[tuple[str, UUID], int] = field(default_factory=dict)
    _appended: dict[str, list[Write]] = field(default_factory=dict)

    @classmethod
    def read(cls, subjects: Subjects, gateway_ids: Iterable[str], found: Mapping[str, Message]) -> Appending:
        """The gateways' heads in these messages."""
        heads, sequences = {}, {}
        for gateway_id in gateway_ids:
            message = found.get(subjects.head(gateway_id))
            if message is not None and message.data:
                heads[gateway_id] = Head.decode(message.data)
                sequences[gateway_id] = message.sequence
        history = found[subjects.history]
        epoch = UUID(History.decode(history.data).epoch)
        return cls(subjects, epoch, history.sequence, heads, sequences)

    @classmethod
    def after(cls, subjects: Subjects, gateway: Gateway) -> Appending:
        """What is appended to one log, as it was found."""
        name = gateway.gateway_id
        return cls(
            subjects, gateway.epoch, gateway.history_sequence, {name: gateway.log}, {name: gateway.head_sequence}
        )

    def append(self, event: Event) -> Receipt:
        """The receipt of an event: it is appended unless its id is known."""
        gateway_id, key = event.gateway_id, (event.gateway_id, event.event_id)
        offset = self.known.get(key)
        created = offset is None
        if offset is None:
            offset = self.known[key] = self._append(event)
        position = Position(self.epoch, offset)
        return Receipt(gateway_id=gateway_id, event_id=event.event_id, position=position, created=created)

    def _append(self, event: Event) -> int:
        gateway_id, head = event.gateway_id, self.heads[event.gateway_id]
        offset = head.head + 1
        self.heads[gateway_id] = replace(head, head=offset, last=str(event.event_id))
        self._appended.setdefault(gateway_id, []).extend(
            [
                Write(subject=self.subjects.event(gateway_id, head.log, offset), data=encode_event(event)),
                Write(
                    subject=self.subjects.event_id(gateway_id, head.log, event.event_id),
                    data=str(offset).encode(),
                    expect=0,
                ),
            ]
        )
        return offset

    def batch(self) -> list[Write]:
        """Every message to store.

        Log by log: the head of each comes after its events, so that a reader that sees a head sees all of its log, and
        before the events of the next log, so that a reader that has seen the head finds the later ones.
        """
        writes: list[Write] = []
        for gateway_id, appended in self._appended.items():
            head = self.subjects.head(gateway_id)
            data, expect = self.heads[gateway_id].encode(), self.sequences[gateway_id]
            writes += [*appended, Write(subject=head, data=data, expect=expect)]
        if writes:
            writes[0] = replace(writes[0], expect=self.history, about=self.subjects.history)
        return writes


@dataclass(frozen=True, slots=True)
class _Seen:
    """A head as it was last seen, at this time of the event loop."""

    head: Head
    sequence: int
    at: float


class _Heads:
    """The heads of logs as this pod has last read or written them."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._seen: dict[str, _Seen] = {}
        #: The epoch, the sequence of its history, and the losses of the stream that all of these were seen with.
        self._with: tuple[UUID, int, int] | None = None

    def note(self, appending: Appending, losses: int, sequences: Mapping[str, int]) -> None:
        """Remember the heads of these sequences."""
        seen_with = (appending.epoch, appending.history, losses)
        if seen_with != self._with or len(self._seen) + len(sequences) > _MOST_HEADS:
            self._seen.clear()
        self._with, now = seen_with, asyncio.get_running_loop().time()
        self._seen |= {name: _Seen(appending.heads[name], number, now) for name, number in sequences.items()}

    def forget(self, gateway_ids: Iterable[str]) -> None:
        """Read these again."""
        for gateway_id in gateway_ids:
            self._seen.pop(gateway_id, None)

    def recall(self, gateway_ids: Sequence[str], logs: Mapping[str, int]) -> Appending | None:
        """What is appended to these heads; None if one of them must be read, as when another log is meant."""
        after = asyncio.get_running_loop().time() - _LASTS
        seen = {name: self._seen[name] for name in gateway_ids if name in self._seen}
        usable = (each.at > after and each.head.log == logs.get(name, each.head.log) for name, each in seen.items())
        if self._with is None or len(seen) < len(gateway_ids) or not all(usable):
            return None
        epoch, history, losses = self._with
        if losses != self._stream.losses:
            return None
        heads, sequences = {n: each.head for n, each in seen.items()}, {n: each.sequence for n, each in seen.items()}
        return Appending(self._stream.subjects, epoch, history, heads, sequences)


class Publishing:
    """Stores groups of events."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._heads = _Heads(stream)

    async def publish(self, groups: Sequence[Sequence[Event]], logs: Mapping[str, int]) -> list[PublishResult]:
        """The result of each group, in order: each is stored whole or not at all.

        Of a gateway in `logs`, only that log counts.
        """
        results: list[PublishResult] = []
        for part in _parts(groups, self._stream.batch_limit):
            results += await self._publish(part, logs)
        return results

    async def _publish(self, groups: Sequence[Sequence[Event]], logs: Mapping[str, int]) -> list[PublishResult]:
        gateway_ids = list(dict.fromkeys(event.gateway_id for group in groups for event in group))
        #: Whether the server has found that something is not as it was expected.
        is_stale = False

        async def attempt() -> list[PublishResult]:
            nonlocal is_stale
            losses = self._stream.losses
            appending = self._heads.recall(gateway_ids, logs) or await self._read(gateway_ids)
            if is_stale:
                await self._read_ids(appending, [event for group in groups for event in group])
            try:
                return await self._append(appending, losses, groups, logs)
            except InProcess:
                raise
            except Stale:
                is_stale = True
                raise

        return await repeated(attempt)

    async def _append(
        self, appending: Appending, losses: int, groups: Sequence[Sequence[Event]], logs: Mapping[str, int]
    ) -> list[PublishResult]:
        """Store it, if the stream has lost nothing since the heads were seen."""
        if self._stream.losses != losses:
            raise Stale("the stream was put back to an older state meanwhile")
        results = [_result(appending, group, logs) for group in groups]
        if writes := appending.batch():
            await self._store(appending, losses, writes)
        return results

    async def _store(self, appending: Appending, losses: int, writes: Sequence[Write]) -> None:
        try:
            last = await self._stream.write_all(writes)
        except InProcess:
            raise
        except BaseException:
            self._heads.forget(appending.heads)
            raise
        self._stream.head_floor = max(self._stream.head_floor, last)
        # The messages of a batch follow each other without a gap.
        sequences = {write.subject: number for number, write in enumerate(writes, last - len(writes) + 1)}
        heads = {name: sequences.get(appending.subjects.head(name)) for name in appending.heads}
        self._heads.note(appending, losses, {name: number for name, number in heads.items() if number is not None})

    async def _read(self, gateway_ids: Sequence[str]) -> Appending:
        """The heads of these gateways, and the history before them: if a new one begins, the batch is stale."""
        subjects, found = self._stream.subjects, dict[str, Message]()
        for chunk in chunks([subjects.head(name) for name in gateway_ids]) or [[]]:
            found = {**(await self._stream.snapshot(chunk)).messages, **found}
        History.decode(found[subjects.history].data).check_in_use()
        return Appending.read(subjects, gateway_ids, found)

    async def _read_ids(self, appending: Appending, events: Sequence[Event]) -> None:
        """Note which of these events are in their logs."""
        wanted = {
            appending.subjects.event_id(event.gateway_id, appending.heads[event.gateway_id].log, event.event_id): event
            for event in events
            if event.gateway_id in appending.heads
        }
        for subject, message in (await self._stream.newest(list(wanted))).items():
            event = wanted[subject]
            appending.known[event.gateway_id, event.event_id] = offset_in(message)


def _result(appending: Appending, group: Sequence[Event], logs: Mapping[str, int]) -> PublishResult:
    for event in group:
        head = appending.heads.get(event.gateway_id)
        if head is None or head.log != logs.get(event.gateway_id, head.log):
            return UnknownGateway(event.gateway_id)
    return tuple(appending.append(event) for event in group)


def _parts(groups: Sequence[Sequence[Event]], limit: int) -> list[list[Sequence[Event]]]:
    """Runs of groups that each fit into one batch; a group that does not fit is a run of its own."""
    parts: list[list[Sequence[Event]]] = []
    size = 0
    for group in groups:
        messages = _MESSAGES_PER_EVENT * len(group) + len({event.gateway_id for event in group})
        if not parts or size + messages > limit:
            parts.append([])
            size = 0
        parts[-1].append(group)
        size += messages
    return parts
