"""The servers of NATS in memory: one stream on three replicas, with faults on the way to it. The engine is real.

What is simulated is what the engine can observe: writes under compare-and-set, batches that are stored whole, answers
that are lost, writes that arrive long after their sender has given up, and replicas that answer with an older state.
"""

from __future__ import annotations

import asyncio
import random
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any, NoReturn, TypeVar, cast
from unittest.mock import patch
from uuid import UUID

from gatecast.errors import StorageUnavailable
from gatecast.storage.contract import Connection, DisconnectReason, OutcomeKind, PositionState, Progress
from gatecast.storage.jetstream.connection import Connection as NatsConnection
from gatecast.storage.jetstream.connection import Outgoing, Reply, TooMany
from gatecast.storage.jetstream.documents import Head, History, LowWaterMark, decode_event
from gatecast.storage.jetstream.engine import JetStreamEngine
from gatecast.storage.jetstream.gateways import Gateways
from gatecast.storage.jetstream.presence import JetStreamPresence
from gatecast.storage.jetstream.special import EventOutcomes
from gatecast.storage.jetstream.state import State, StoredConnection
from gatecast.storage.jetstream.stream import Message, Stream
from gatecast.storage.jetstream.stream_config import wanted
from gatecast.storage.jetstream.subjects import Subjects, text_of
from simulation import database
from simulation.database import LOOKED_UP, START, ConnectionRow, Cursor, Link, Rows, log_what_is_there
from simulation.history import History as WhatHappened

T = TypeVar("T")

_NAME = "gatecast"
_EXPECT = "Nats-Expected-Last-Subject-Sequence"

#: Most messages that the server finds at once.
_MOST_FOUND = 1_024

#: How long a message may be on its way, in seconds.
_LONGEST_WAY = 6.0

_STALE = {"error": {"code": 400, "err_code": 10071, "description": "wrong last sequence"}}
_GONE = {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}
_NOT_TAKEN = {"error": {"code": 400, "err_code": 10176, "description": "batch publish is incomplete"}}


@dataclass(frozen=True, slots=True)
class _Purge:
    """Messages that were removed, at this instant."""

    filtered: str
    before: int | None
    at: float


@dataclass(frozen=True, slots=True)
class _Stored:
    """A message that was stored, at this instant."""

    message: Message
    at: float


@dataclass(slots=True)
class _Replica:
    """One copy of the stream: the newest message of each subject, as far as it has got."""

    messages: dict[str, Message] = field(default_factory=dict)
    #: So many changes are in it.
    changes: int = 0
    last_sequence: int = 0
    #: It takes over nothing until then.
    stalled_until: float = 0.0

    def take_over(self, changes: Sequence[_Stored | _Purge], count: int) -> None:
        """Apply what it has not got yet of so many changes."""
        for change in changes[self.changes : count]:
            if isinstance(change, _Stored):
                self.messages[change.message.subject] = change.message
                self.last_sequence = change.message.sequence
            else:
                for message in self.purged(change):
                    del self.messages[message.subject]
        self.changes = max(self.changes, count)

    def purged(self, purge: _Purge) -> list[Message]:
        """What a purge removes."""
        return [each for each in self.matching(purge.filtered) if purge.before is None or each.sequence < purge.before]

    def matching(self, filtered: str) -> list[Message]:
        """The messages of the subjects that match."""
        if "*" not in filtered:
            return [self.messages[filtered]] if filtered in self.messages else []
        matches = _pattern(filtered).fullmatch
        return [message for subject, message in self.messages.items() if matches(subject)]


@cache
def _pattern(filtered: str) -> re.Pattern[str]:
    return re.compile(re.escape(filtered).replace(r"\*", r"[^.]+"))


class SimulatedStream:
    """The stream that every pod shares, and what is in it as rows, for those who check."""

    #: What cannot happen to it: nobody holds a log of a stream, and its replicas need nobody who promotes one.
    impossible = frozenset({"hold_transaction", "replicate", "fail_over"})
    #: They can be reached from then on, and a majority of them from then on.
    reachable_at = led_at = 0.0
    #: Who asks them knows within so many seconds that there will be no answer.
    answers_within = 3.0
    #: A pod finds by itself that it was put back, within so many seconds.
    settles_within = 10.0

    def __init__(
        self, random_source: random.Random, history: WhatHappened, notify: Callable[[frozenset[str] | None], None]
    ) -> None:
        self.random = random_source
        self.history = history
        self.notify = notify
        #: The clock of the servers runs apart from the others by this much.
        self.clock_error = timedelta(0)
        #: Which stream of this name it is: one that was put back is another one.
        self.place = 0
        self.subjects = Subjects(_NAME)
        epoch = self.uuid()
        history.told = self._told
        self._begin([], epoch)
        begun = History(schema=1, epoch=str(epoch), created=self._created, lineage=[str(epoch)], first=str(epoch))
        self._store_all([(self.subjects.history, begun.encode(), {})], at=0.0)

    def _begin(self, messages: Sequence[Message], epoch: UUID) -> None:
        """Hold these messages, and nothing else."""
        self.rows = Rows(epoch=epoch)
        self._documents = _Documents(self.rows, self.history, self.uuid)
        self._changes: list[_Stored | _Purge] = [_Stored(each, 0.0) for each in messages]
        self._leader = _Replica()
        self._leader.take_over(self._changes, len(messages))
        #: Those that follow the leader.
        self.replicas = [_Replica(), _Replica()]
        self.last_sequence = self._leader.last_sequence

    @property
    def _created(self) -> str:
        return _written(START + timedelta(seconds=self.place))

    def uuid(self) -> UUID:
        """A uuid that the seed determines."""
        return UUID(int=self.random.getrandbits(128), version=4)

    def _told(self, gateway_id: str, epoch: UUID) -> set[int] | None:
        is_there = epoch == self.rows.epoch and gateway_id in self.rows.streams
        return self.rows.told(gateway_id) if is_there else None

    def now(self) -> datetime:
        """The servers' clock."""
        return START + timedelta(seconds=asyncio.get_running_loop().time()) + self.clock_error

    # --- disasters ----------------------------------------------------------------------------------------------

    def backup(self) -> list[Message]:
        """Everything that is stored."""
        return sorted(self._leader.messages.values(), key=lambda each: each.sequence)

    def restore(self, backup: list[Message]) -> None:
        """Put the stream back to an older state; nothing tells the pods."""
        before = self.rows
        (history,) = (each for each in backup if each.subject == self.subjects.history)
        self.place += 1
        self._begin(backup, UUID(History.decode(history.data).epoch))
        self._documents.read_again(backup)
        lost = (self.rows.epoch, self.rows.heads()) != (before.epoch, before.heads())
        self.history.moved(self.rows.epoch, lost=lost, certain=False)
        log_what_is_there(self.rows, self.history, self.uuid)

    def storage(self) -> JetStreamStorage:
        """Every contract of the log, over a link of its own."""
        return JetStreamStorage(self)

    @contextmanager
    def repeatable(self) -> Iterator[None]:
        """Let whatever the engine draws inside the block come from the seed, and its clock be the loop's."""
        monotonic = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
        with patch("os.urandom", self.random.randbytes), patch("gatecast.storage.jetstream.stream.time", monotonic):
            yield

    # --- writing ------------------------------------------------------------------------------------------------

    def store(self, messages: Sequence[Outgoing]) -> dict[str, Any]:
        """Store all of these messages, or none: what the leader answers."""
        if any(map(self._is_stale, messages)):
            return _STALE
        self._store_all(messages, at=asyncio.get_running_loop().time())
        return {"seq": self.last_sequence}

    def _is_stale(self, message: Outgoing) -> bool:
        subject, _, headers = message
        if (expected := headers.get(_EXPECT)) is None:
            return False
        known = self._leader.messages.get(headers.get(f"{_EXPECT}-Subject", subject))
        return int(expected) != (known.sequence if known is not None else 0)

    def _store_all(self, messages: Iterable[Outgoing], *, at: float) -> None:
        heads: dict[str, None] = {}
        for subject, data, _ in messages:
            self.last_sequence += 1
            stored_at = START + timedelta(seconds=at) + self.clock_error
            message = Message(subject, self.last_sequence, stored_at, data)
            self._changes.append(_Stored(message, at))
            self._leader.take_over(self._changes, len(self._changes))
            if (grown := self._documents.stored(message)) is not None:
                heads[grown] = None
        for gateway_id in heads:
            self.notify(frozenset([gateway_id]))

    def purge(self, filtered: str, before: int | None) -> dict[str, Any]:
        """Remove messages: what the leader answers."""
        purge = _Purge(filtered, before, asyncio.get_running_loop().time())
        gone = self._leader.purged(purge)
        self._changes.append(purge)
        self._leader.take_over(self._changes, len(self._changes))
        for message in gone:
            self._documents.removed(message)
        return {"success": True}

    # --- reading ------------------------------------------------------------------------------------------------

    def answer(self, subject: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """What the leader answers to a request of its interface."""
        if ".PURGE." in subject:
            return self.purge(request["filter"], request.get("seq"))
        return {
            "created": self._created,
            "state": {"last_seq": self.last_sequence},
            "ts": _written(self.now()),
            "config": wanted(_NAME, 3),
        }

    def find(self, request: Mapping[str, Any]) -> tuple[list[Reply], int]:
        """What some replica answers to a read, and how far it has got."""
        replica = self._some_replica()
        if "multi_last" in request:
            found = [message for each in request["multi_last"] for message in replica.matching(each)]
            if len(found) > _MOST_FOUND:
                raise TooMany
        else:
            found = [each for each in replica.matching(request["next_by_subj"]) if each.sequence >= request["seq"]]
        found.sort(key=lambda each: each.sequence)
        return list(map(_reply, _limited(found, request))), replica.last_sequence

    def _some_replica(self) -> _Replica:
        """One that answers now; a follower may lag, and at times it takes over nothing for a while."""
        replica = self.random.choice((self._leader, *self.replicas))
        now = asyncio.get_running_loop().time()
        if replica is self._leader and now >= self.led_at:
            return replica
        if now < self.led_at:
            # The one that is left takes over nothing.
            return self.replicas[0]
        if now >= replica.stalled_until:
            if self.random.random() < _STALLS:
                replica.stalled_until = now + self.random.choice((0.1, 1.0, 10.0))
            lag = self.random.choice((0.0, 0.0, 0.01))
            replica.take_over(self._changes, bisect_right(self._changes, now - lag, key=lambda each: each.at))
        return replica


#: How likely a replica that is asked stalls from now on.
_STALLS = 0.002


def _limited(found: list[Message], request: Mapping[str, Any]) -> list[Message]:
    """No more than the request wants, and at least one."""
    found = found[: request.get("batch")]
    left = request.get("max_bytes")
    if left is None:
        return found
    taken: list[Message] = []
    for message in found:
        if taken and left <= 0:
            break
        taken.append(message)
        left -= len(message.data)
    return taken


def _reply(message: Message) -> Reply:
    headers = {
        "Nats-Subject": message.subject,
        "Nats-Sequence": str(message.sequence),
        "Nats-Time-Stamp": _written(message.stored_at),
    }
    return Reply(headers, message.data)


def _written(instant: datetime) -> str:
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


class _Unnoticed:
    """Takes note of nothing."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_arguments, **_options: None


class _Documents:
    """Reads every document that is stored, for those who check."""

    def __init__(self, rows: Rows, history: WhatHappened, new_id: Callable[[], UUID]) -> None:
        self._rows = rows
        self._history = history
        self._new_id = new_id
        self._outcomes: dict[tuple[str, int], dict[str, EventOutcomes]] = {}
        #: The gateways that were deleted; none is registered again.
        self._deleted: set[str] = set()

    def stored(self, message: Message) -> str | None:
        """Take note of a message; the gateway whose log has grown with it."""
        kind, _, rest = message.subject.removeprefix(f"{_NAME}.").partition(".")
        reader = getattr(self, f"_read_{kind}", None)
        grown: str | None = reader(message, rest) if reader is not None else None
        return grown

    def read_again(self, messages: Sequence[Message]) -> None:
        """Read what a backup holds: nothing of it happens now."""
        history, self._history = self._history, cast("WhatHappened", _Unnoticed())
        # Outcomes are about events.
        for each in sorted(messages, key=lambda each: ".special." in each.subject):
            self.stored(each)
        self._history = history

    def removed(self, message: Message) -> None:
        """Take note of a message that was removed."""
        kind, _, rest = message.subject.removeprefix(f"{_NAME}.").partition(".")
        if kind in ("event", "applied", "special") and _event_in(rest)[0] in self._deleted:
            return
        if kind == "event":
            gateway_id, offset = _event_in(rest)
            stream = self._rows.streams[gateway_id]
            event = stream.events.pop(offset)
            # Stored twice, as by a server that does not compare: the promises tell.
            stream.offsets.pop(event.event_id, None)
        elif kind == "low" and text_of(rest) not in self._deleted:
            self._stream(text_of(rest)).low_water_mark = 0
        elif kind in ("applied", "special"):
            gateway_id, offset = _event_in(rest)
            self._outcomes[gateway_id, offset].pop(kind)
            self._merge(gateway_id, offset)

    def _stream(self, gateway_id: str) -> database.Stream:
        return self._rows.streams.setdefault(gateway_id, database.Stream(self._rows.epoch))

    def _read_history(self, message: Message, _rest: str) -> None:
        epoch = UUID(History.decode(message.data).epoch)
        if epoch != self._rows.epoch:
            self._history.replaced(self._rows.epoch)
            self._rows.epoch = epoch
            log_what_is_there(self._rows, self._history, self._new_id)

    def _read_event(self, message: Message, rest: str) -> None:
        gateway_id, offset = _event_in(rest)
        event = decode_event(gateway_id, offset, message)
        stream = self._stream(gateway_id)
        stream.events[offset], stream.offsets[event.event_id] = event, offset
        self._history.committed(self._rows.epoch, gateway_id, offset, event)

    def _read_head(self, message: Message, rest: str) -> str | None:
        gateway_id = text_of(rest)
        if not message.data:
            self._delete(gateway_id)
            return None
        head = Head.decode(message.data)
        stream = self._stream(gateway_id)
        stream.registered_in, stream.head = UUID(head.registered_in), head.head
        stream.last_event_id = UUID(head.last) if head.last else None
        self._history.grew(self._rows.epoch, gateway_id, head.head)
        return gateway_id

    def _delete(self, gateway_id: str) -> None:
        rows = self._rows
        self._deleted.add(gateway_id)
        del rows.streams[gateway_id]
        rows.cursors = {key: each for key, each in rows.cursors.items() if key[0] != gateway_id}
        rows.outcomes = {key: each for key, each in rows.outcomes.items() if key[0] != gateway_id}

    def _read_low(self, message: Message, rest: str) -> None:
        if not message.data:
            return
        self._stream(text_of(rest)).low_water_mark = LowWaterMark.decode(message.data).offset

    def _read_state(self, message: Message, rest: str) -> None:
        gateway_id, state, rows = text_of(rest), State.decode(message.data), self._rows
        for connection_id in [key for key, row in rows.connections.items() if row.connection.gateway_id == gateway_id]:
            del rows.connections[connection_id]
        rows.connections |= {each.connection_id: _row(gateway_id, each) for each in state.connections}
        if gateway_id in self._deleted:
            return
        for replica, each in state.positions.items():
            known = rows.cursors.get((gateway_id, replica))
            cursor = Cursor(UUID(each.epoch), each.sent, each.confirmed, each.resync_reason)
            rows.cursors[gateway_id, replica] = cursor
            moved = known is None or (known.epoch, known.confirmed) != (cursor.epoch, cursor.confirmed)
            if moved and cursor.resync_reason is None:
                self._history.stored_position(gateway_id, cursor.epoch, cursor.confirmed)

    def _read_applied(self, message: Message, rest: str) -> None:
        self._note("applied", message, *_event_in(rest))

    def _read_special(self, message: Message, rest: str) -> None:
        self._note("special", message, *_event_in(rest))

    def _note(self, kind: str, message: Message, gateway_id: str, offset: int) -> None:
        if gateway_id in self._deleted:
            return
        self._outcomes.setdefault((gateway_id, offset), {})[kind] = EventOutcomes.decode(message.data)
        self._merge(gateway_id, offset)

    def _merge(self, gateway_id: str, offset: int) -> None:
        known, outcomes = self._outcomes[gateway_id, offset], self._rows.outcomes
        before = {key: outcomes.pop(key) for key in list(outcomes) if (key[0], key[2]) == (gateway_id, offset)}
        for document in (known[kind] for kind in ("applied", "special") if kind in known):
            for replica in document.replicas:
                kind_now = document.kind(replica)
                assert kind_now is not None
                outcomes[gateway_id, replica, offset] = kind_now
                if kind_now is OutcomeKind.SKIPPED and before.get((gateway_id, replica, offset)) is not kind_now:
                    self._history.skipped(gateway_id, self._rows.streams[gateway_id].events[offset])


def _event_in(rest: str) -> tuple[str, int]:
    """The gateway and the offset that a subject names, with the log between them."""
    gateway, _, offset = rest.split(".")
    return text_of(gateway), int(offset)


def _row(gateway_id: str, stored: StoredConnection) -> ConnectionRow:
    connection = Connection(
        connection_id=stored.connection_id,
        gateway_id=gateway_id,
        replica=stored.replica,
        pod_id=stored.pod_id,
        protocol=stored.protocol,
        remote=stored.remote,
        token_id=stored.token_id,
    )
    dismissal = DisconnectReason.read(stored.dismissal) if stored.dismissal is not None else None
    return ConnectionRow(connection, stored.sent, stored.confirmed, dismissal, released=stored.released)


class _NatsLink(Link[SimulatedStream]):
    """One pod's way to the servers. What its client has given up may arrive nevertheless, and late."""

    async def call(self, work: Callable[[], T]) -> T:
        """Let the servers do the work in one instant, some time after the call and some time before the answer."""
        if self.database.random.random() >= self.loss / 2:
            return await super().call(work)
        await self.travel()
        return await self._unanswered(work, asyncio.get_running_loop().time())

    async def ask_leader(self, work: Callable[[], T]) -> T:
        """The same for what only a leader can do: without a majority perhaps once there is one again."""
        if asyncio.get_running_loop().time() >= self.database.led_at:
            return await self.call(work)
        await self.travel()
        is_lost, place = self.database.random.random() < _LOST, self.database.place

        def perhaps() -> None:
            # Of a stream that was put back meanwhile the servers know nothing.
            if not is_lost and place == self.database.place:
                work()

        return await self._unanswered(perhaps, self.database.led_at)

    async def _unanswered(self, work: Callable[[], object], begins: float) -> NoReturn:
        """Let the servers do the work some time after this instant, and give up waiting before."""
        asyncio.get_running_loop().call_at(begins + self.database.random.uniform(0, _LONGEST_WAY), work)
        await asyncio.sleep(self.database.answers_within)
        raise StorageUnavailable("JetStream did not answer in time")

    async def travel(self) -> None:
        """The time that a message takes."""
        await super().travel()
        if asyncio.get_running_loop().time() < self.database.reachable_at:
            raise StorageUnavailable("there is no connection to a NATS server")


#: How likely the servers forget what they were sent without a majority.
_LOST = 0.5


class _SimulatedConnection:
    """What the engine uses of its connection to the servers."""

    max_payload = 2 * 1024 * 1024
    connected = True

    def __init__(self, stream: SimulatedStream, link: _NatsLink) -> None:
        self._stream = stream
        self._link = link
        self.unique = stream.uuid().hex

    async def ask(self, subject: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The leader's answer to a request of its interface; one to a stream that was put back is not one to this."""
        place = self._stream.place
        return await self._link.ask_leader(
            lambda: self._stream.answer(subject, request) if place == self._stream.place else _GONE
        )

    async def send(self, subject: str, data: bytes, headers: dict[str, str]) -> dict[str, Any]:
        """The leader's answer to a message."""
        return await self._link.ask_leader(lambda: self._stream.store([(subject, data, headers)]))

    async def send_batch(self, messages: Sequence[Outgoing]) -> dict[str, Any]:
        """The leader's answer to the last of these messages; now and then it does not take them."""
        if self._stream.random.random() < self._link.loss:
            return await self._link.ask_leader(lambda: _NOT_TAKEN)
        return await self._link.ask_leader(lambda: self._stream.store(messages))

    async def collect(self, _subject: str, request: Mapping[str, Any]) -> tuple[list[Reply], int]:
        """The messages that answer a request."""
        return await self._link.call(lambda: self._stream.find(request))


class _NotedPresence(JetStreamPresence):
    """Takes note of what a pod is told."""

    def __init__(self, stream: Stream, history: WhatHappened) -> None:
        super().__init__(stream, Gateways(stream))
        self._history = history

    async def standing(self, gateway_id: str, replica: str) -> PositionState:
        """The state of the log and of the stored position."""
        found = await super().standing(gateway_id, replica)
        LOOKED_UP.set(found)
        return found

    async def record_progress(self, progress: Sequence[Progress]) -> None:
        """Store how far connections have come."""
        await super().record_progress(progress)
        self._note(progress)

    async def disconnect(self, progress: Sequence[Progress]) -> None:
        """Record last progress and remove those connections."""
        await super().disconnect(progress)
        self._note(progress)

    def _note(self, progress: Sequence[Progress]) -> None:
        noted = self._history.noted
        for one in progress:
            noted[one.connection_id] = max(one.confirmed, noted.get(one.connection_id, 0))


class JetStreamStorage:
    """The contracts of the log, by the real engine, over one pod's link."""

    def __init__(self, servers: SimulatedStream) -> None:
        self.link = _NatsLink(servers)
        connection = cast("NatsConnection", _SimulatedConnection(servers, self.link))
        # As if it had opened the stream.
        self.stream = Stream(connection, servers.subjects, floor=servers.last_sequence)
        engine = JetStreamEngine(self.stream)
        self.log, self.outcomes, self.parking = engine.log, engine.outcomes, engine.parking
        self.presence = _NotedPresence(self.stream, servers.history)
