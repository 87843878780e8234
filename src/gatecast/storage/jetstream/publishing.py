"""Appends events: the events, their ids and the heads of their logs are one atomic batch, under compare-and-set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import UUID

from gatecast.errors import UnknownGateway
from gatecast.events import Event, Position
from gatecast.storage.contract import PublishResult, Receipt
from gatecast.storage.jetstream.documents import Head, History, encode_event, offset_in
from gatecast.storage.jetstream.gateways import Gateway
from gatecast.storage.jetstream.repeating import repeated
from gatecast.storage.jetstream.stream import Message, Stale, Stream, Write
from gatecast.storage.jetstream.subjects import Subjects

#: Messages of a batch for one event: itself, and its id.
_MESSAGES_PER_EVENT = 2


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
                Write(subject=self.subjects.event_id(gateway_id, head.log, event.event_id), data=str(offset).encode()),
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


class Publishing:
    """Stores groups of events."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def publish(self, groups: Sequence[Sequence[Event]], logs: Mapping[str, int]) -> list[PublishResult]:
        """The result of each group, in order: each is stored whole or not at all.

        Of a gateway in `logs`, only that log counts.
        """
        results: list[PublishResult] = []
        for part in _parts(groups, self._stream.batch_limit):
            results += await repeated(partial(self._append, part, logs))
        return results

    async def _append(self, groups: Sequence[Sequence[Event]], logs: Mapping[str, int]) -> list[PublishResult]:
        appending = await self._read([event for group in groups for event in group])
        results = [_result(appending, group, logs) for group in groups]
        if writes := appending.batch():
            self._stream.head_floor = max(self._stream.head_floor, await self._stream.write_all(writes))
        return results

    async def _read(self, events: Sequence[Event]) -> Appending:
        subjects, losses = self._stream.subjects, self._stream.losses
        gateway_ids = list(dict.fromkeys(event.gateway_id for event in events))
        # First: if a new history begins meanwhile, the batch is stale.
        history = (await self._stream.snapshot([])).messages
        History.decode(history[subjects.history].data).check_in_use()
        heads = await self._stream.newest([subjects.head(name) for name in gateway_ids])
        appending = Appending.read(subjects, gateway_ids, {**heads, **history})
        wanted = {
            subjects.event_id(event.gateway_id, appending.heads[event.gateway_id].log, event.event_id): event
            for event in events
            if event.gateway_id in appending.heads
        }
        for subject, message in (await self._stream.newest(list(wanted))).items():
            event = wanted[subject]
            appending.known[event.gateway_id, event.event_id] = offset_in(message)
        if self._stream.losses != losses:
            raise Stale("the stream was put back to an older state meanwhile")
        return appending


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
