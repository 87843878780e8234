"""One stream of a NATS server: reads of its newest messages, and writes that store nothing if one of them is stale."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gatecast.errors import StatementFailed, StorageUnavailable, ValueRefused
from gatecast.storage.jetstream.connection import Connection, Reply, TooMany
from gatecast.storage.jetstream.subjects import Subjects
from gatecast.waiting import Backoff

#: Most subjects in one request; the server answers at most 1,024.
_SUBJECTS_PER_REQUEST = 1_000

#: Most messages that one request of a scan brings.
_PAGE = 500

#: A replica that has not stored what this pod already saw is asked again: so often, after these pauses. Mostly it lags
#: by a millisecond.
_LOOKS, _LOOK_PAUSE = 50, Backoff(first=0.002, longest=0.04)

#: The server's clock is asked for again after this many seconds.
_CLOCK_LASTS = 5.0

#: The server's codes for a write whose expectation is not met.
_STALE = 10071

#: The same: what a write expects something about is being written, or expected, by another one just now.
_IN_PROCESS = 10164

#: Its codes for a batch that it did not store, because it had too many at once, or the batch arrived too slowly.
_NOT_TAKEN = {10176, 10210, 10211}

#: Most batches that this process sends at once; the server takes 50 for each stream.
_BATCHES_AT_ONCE = 8

_TOO_LARGE = 10199

#: Its codes when the account, its memory or its disk is full, and when the stream is missing.
_FULL_OR_GONE = {10002, 10028, 10047, 10059}

_EXPECT = "Nats-Expected-Last-Subject-Sequence"

#: When an event was recorded that has been moved into the stream; of others the server knows.
_RECORDED_AT = "Gatecast-Recorded-At"


class Stale(Exception):
    """Nothing of a write was stored, mostly because what it expected has changed. Read again."""


class InProcess(Stale):
    """The server is busy with a write that expects something about the same; whether it has changed is unknown."""


@dataclass(frozen=True, slots=True)
class Message:
    """A stored message."""

    subject: str
    sequence: int
    #: By the clock of the server; of an event that was moved here, of the database that has recorded it.
    stored_at: datetime
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A message to store."""

    subject: str
    data: bytes
    #: Sequence of the message that the subject holds now; 0: it holds none; None: whatever it holds.
    expect: int | None = None
    #: Another subject that the expectation is about.
    about: str = ""
    #: The server removes it after this many seconds; 0: never.
    lasts: int = 0
    #: When it was stored, if not now.
    stored_at: datetime | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers by which the server knows."""
        headers: dict[str, str] = {}
        if self.expect is not None:
            headers[_EXPECT] = str(self.expect)
        if self.about:
            headers[f"{_EXPECT}-Subject"] = self.about
        if self.lasts:
            headers["Nats-TTL"] = f"{self.lasts}s"
        if self.stored_at is not None:
            headers[_RECORDED_AT] = self.stored_at.isoformat()
        return headers


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The newest messages of some subjects, at one instant."""

    messages: Mapping[str, Message]
    #: Sequence of the last message of the stream at that instant.
    through: int

    def sequence(self, subject: str) -> int:
        """Sequence of the message of this subject; 0 if there is none."""
        message = self.messages.get(subject)
        return message.sequence if message is not None else 0


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """The leader's facts about the stream."""

    #: When the stream was created, as the server writes it.
    created: str
    last_sequence: int
    #: The clock of that server, in seconds since 1970.
    now: float
    config: Mapping[str, Any]


@dataclass(slots=True)
class _Clock:
    shown: float = 0.0
    measured: float = -1e9

    def set(self, shown: float) -> None:
        self.shown, self.measured = shown, time.monotonic()

    @property
    def age(self) -> float:
        return time.monotonic() - self.measured


@dataclass(slots=True)
class Stream:
    """The stream that holds everything of one installation."""

    connection: Connection
    subjects: Subjects
    #: A later answer that does not know this sequence comes from a replica that lags.
    floor: int = 0
    #: The same for heads.
    head_floor: int = 0
    #: Most messages in one atomic batch, as far as is known.
    batch_limit: int = 1_000
    #: When the stream was created, as the server writes it.
    created: str = ""
    #: How often it was found to have lost what was seen: what was read before then is not what it holds.
    losses: int = 0
    _clock: _Clock = field(default_factory=_Clock)
    _batches: Any = field(default_factory=itertools.count)
    _sending: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_BATCHES_AT_ONCE))

    # --- reading ------------------------------------------------------------------------------------------------

    async def snapshot(self, subjects: Sequence[str]) -> Snapshot:
        """The newest messages of at most 1,000 subjects, and of the history, at one instant.

        Never older than what this pod has seen or written.

        Raises:
            StorageUnavailable: there is no history, or the replicas lag.
        """
        found = await self.fresh([self.subjects.history, *subjects])
        if self.subjects.history not in found.messages:
            raise StorageUnavailable("the stream holds no history; restore it from a backup")
        return found

    async def fresh(self, subjects: Sequence[str]) -> Snapshot:
        """The same without the history."""
        request = {"multi_last": list(subjects)}
        for look in itertools.count(1):
            replies, through = await self._collect(request)
            if through >= self.floor:
                break
            if look == _LOOKS:
                await self._settle_floor()
            await asyncio.sleep(_LOOK_PAUSE.pause(look))
        self.floor = max(self.floor, through)
        return Snapshot({message.subject: message for message in map(_message, replies)}, through)

    async def snapshots(self, groups: Sequence[Sequence[str]]) -> list[Snapshot]:
        """A snapshot for each group of subjects, with as few requests as possible."""
        results: list[Snapshot] = []
        start = 0
        while start < len(groups):
            subjects, end = list(groups[start]), start + 1
            while end < len(groups) and len(subjects) + len(groups[end]) <= _SUBJECTS_PER_REQUEST:
                subjects += groups[end]
                end += 1
            found = await self.snapshot(subjects)
            results += [found] * (end - start)
            start = end
        return results

    async def newest(self, subjects: Sequence[str]) -> dict[str, Message]:
        """The newest messages of any number of subjects, by subject; never older than an earlier answer."""
        found: dict[str, Message] = {}
        for chunk in chunks(subjects):
            messages = (await self.snapshot(chunk)).messages
            found |= {subject: messages[subject] for subject in chunk if subject in messages}
        return found

    async def read(self, subjects: Sequence[str], *, max_bytes: int) -> list[Message]:
        """The newest messages of at most 1,000 subjects, in the order of their sequences.

        At least one, and about `max_bytes`. A replica that lags may answer.
        """
        replies, _ = await self._collect({"multi_last": list(subjects), "max_bytes": max_bytes})
        return list(map(_message, replies))

    async def scan(self, filtered: str, *, after: int = 0, limit: int | None = None) -> AsyncIterator[Message]:
        """The messages of the subjects that match, in the order of their sequences, after one of them.

        A replica that lags may leave out the last ones. Later answers are not older than what was found.
        """
        remaining = limit
        while remaining is None or remaining > 0:
            size = _PAGE if remaining is None else min(_PAGE, remaining)
            request = {"next_by_subj": filtered, "seq": after + 1, "batch": size}
            replies, _ = await self._collect(request)
            for reply in replies:
                message = _message(reply)
                after = message.sequence
                self.floor = max(self.floor, after)
                yield message
            if remaining is not None:
                remaining -= len(replies)
            if len(replies) < size:
                return

    async def all_of(self, filtered: str, *, limit: int | None = None) -> list[Message]:
        """The messages of the subjects that match, in the order of their sequences."""
        return [message async for message in self.scan(filtered, limit=limit)]

    async def count(self, filtered: str) -> int:
        """How many subjects with a message match. A replica that lags may answer."""
        replies, _ = await self._collect({"next_by_subj": filtered, "seq": 1, "batch": 1})
        return 1 + int(replies[0].headers["Nats-Num-Pending"]) if replies else 0

    async def matching(self, filtered: str) -> list[Message]:
        """The messages of the subjects that match, in the order of their sequences; never older than earlier answers.

        If there are more than about 1,000, a lagging replica may leave some out.
        """
        try:
            found = (await self.snapshot([filtered])).messages
        except TooMany:
            return await self.all_of(filtered)
        return [message for message in found.values() if message.subject != self.subjects.history]

    async def info(self) -> StreamInfo:
        """The leader's present facts about the stream."""
        answer = await self.connection.ask(f"$JS.API.STREAM.INFO.{self.subjects.name}", {})
        raise_error(answer)
        info = StreamInfo(
            created=answer["created"],
            last_sequence=answer["state"]["last_seq"],
            now=_seconds(answer["ts"]),
            config=answer["config"],
        )
        self._clock.set(info.now)
        self.created = info.created
        return info

    async def now(self) -> float:
        """The server's clock, in seconds since 1970."""
        if self._clock.age > _CLOCK_LASTS:
            await self.info()
        return self._clock.shown + self._clock.age

    async def _collect(self, request: dict[str, Any]) -> tuple[list[Reply], int]:
        """The messages that answer a request, and how far the replica that answered has got."""
        return await self.connection.collect(f"$JS.API.DIRECT.GET.{self.subjects.name}", request)

    async def _settle_floor(self) -> None:
        """Ask the leader whether the stream has lost what was seen, as after a restore; then it begins from there.

        Raises:
            StorageUnavailable: it has not; the replicas lag.
        """
        last = (await self.info()).last_sequence
        if last >= self.floor:
            raise StorageUnavailable("the replicas of the stream lag behind its leader")
        self.floor = self.head_floor = last
        self.losses += 1

    # --- writing ------------------------------------------------------------------------------------------------

    async def write(self, write: Write) -> int:
        """Store one message; its sequence.

        Raises:
            Stale: what it expects is not so; nothing was stored.
            StorageUnavailable: the server did not answer; the message may be stored.
            ValueRefused: the message is too large.
        """
        seen = self.floor
        return self._acknowledged(await self.connection.send(write.subject, write.data, write.headers), seen)

    async def write_all(self, writes: Sequence[Write]) -> int:
        """Store all of these messages or none; the sequence of the last one.

        Raises:
            Stale: what one of them expects is not so; nothing was stored.
            StorageUnavailable: the server did not answer; all may be stored, or none.
            ValueRefused: they are too many, or one is too large.
        """
        if len(writes) == 1:
            return await self.write(writes[0])
        async with self._sending:
            return await self._write_batch(writes)

    async def _write_batch(self, writes: Sequence[Write]) -> int:
        name, size = f"{self.connection.unique}-{next(self._batches)}", len(writes)
        messages = [
            (write.subject, write.data, write.headers | _place_in_batch(name, number, size))
            for number, write in enumerate(writes, 1)
        ]
        seen = self.floor
        return self._acknowledged(await self.connection.send_batch(messages), seen, size)

    async def purge(self, filtered: str, *, before: int | None = None) -> None:
        """Remove the messages of the subjects that match, or those with a sequence before this one."""
        request: dict[str, Any] = {"filter": filtered}
        if before is not None:
            if before <= 1:
                # There is none, and the server would take it for no limit.
                return
            request["seq"] = before
        raise_error(await self.connection.ask(f"$JS.API.STREAM.PURGE.{self.subjects.name}", request))

    def _acknowledged(self, answer: Mapping[str, Any], seen: int, count: int = 1) -> int:
        """The sequence of the messages stored after `seen` was read."""
        error = answer.get("error")
        if error is not None:
            if error.get("err_code") == _TOO_LARGE:
                self.batch_limit = _limit_in(str(error.get("description"))) or self.batch_limit
                raise ValueRefused(
                    f"{count} messages are more than the server takes in one atomic batch ({self.batch_limit}); "
                    f"publish to fewer gateways at once, or raise jetstream.limits.batch.max_msgs in the server's "
                    f"configuration"
                )
            raise_error(answer)
        sequence = int(answer["seq"])
        if sequence <= seen:
            raise StorageUnavailable("the stream was put back to an older state, which a pod looks at first")
        self.floor = max(self.floor, sequence)
        return sequence


def _place_in_batch(name: str, number: int, size: int) -> dict[str, str]:
    """The headers by which the server knows a batch; it answers when it has stored the last message."""
    place = {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(number)}
    return place | {"Nats-Batch-Commit": "1"} if number == size else place


def raise_error(answer: Mapping[str, Any]) -> None:
    """Return if the server has done what it was asked to do.

    Raises:
        Stale: nothing was stored; read again, or if it is `InProcess` try again.
        StorageUnavailable: it does nothing for anyone now, as when the stream is full.
        StatementFailed: it does not do this.
    """
    error = answer.get("error")
    if error is None:
        return
    code, number = error.get("code"), error.get("err_code")
    text = f"JetStream says: {error.get('description')} ({number})"
    if number == _IN_PROCESS:
        raise InProcess(text)
    if number == _STALE or number in _NOT_TAKEN:
        raise Stale(text)
    if code == _UNAVAILABLE or number in _FULL_OR_GONE:
        raise StorageUnavailable(text)
    raise StatementFailed(text)


_UNAVAILABLE = 503


def _message(reply: Reply) -> Message:
    headers = reply.headers
    return Message(
        subject=headers["Nats-Subject"],
        sequence=int(headers["Nats-Sequence"]),
        stored_at=_stored_at(headers),
        data=reply.data,
    )


def _stored_at(headers: Mapping[str, str]) -> datetime:
    if (recorded := headers.get(_RECORDED_AT)) is not None:
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(recorded).astimezone(UTC)
    return datetime.fromtimestamp(_seconds(headers["Nats-Time-Stamp"]), UTC)


def _seconds(text: str) -> float:
    """The instant that the server has written, with nanoseconds, in seconds since 1970."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+00:00").timestamp()


def _limit_in(description: str) -> int | None:
    number = description.rpartition(" ")[2]
    return int(number) if number.isdigit() else None


def chunks(subjects: Sequence[str]) -> list[list[str]]:
    """The subjects in parts that one request can ask for."""
    size = _SUBJECTS_PER_REQUEST
    return [list(subjects[start : start + size]) for start in range(0, len(subjects), size)]
