"""Takes a log over that another database had: its events, positions and outcomes, and at last its history.

The stream says from the first message on that a log is being moved into it, so nobody else opens it. Every batch names
the history as this run has written it last: what an earlier run sent, or this one before a failure, is stored no more.
Every purge ends before that message: what a later run has brought is not removed by this one, however late it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self
from uuid import UUID, uuid4, uuid5

from gatecast.errors import DatabaseUnsuitable, StorageUnavailable, ValueRefused
from gatecast.storage.contract import OutcomeKind, Row
from gatecast.storage.jetstream.connection import Connection
from gatecast.storage.jetstream.documents import (
    Copied,
    Head,
    History,
    LowWaterMark,
    Pod,
    encode_columns,
)
from gatecast.storage.jetstream.engine import SCHEMA, prepare
from gatecast.storage.jetstream.special import EventOutcomes
from gatecast.storage.jetstream.state import State, StoredPosition
from gatecast.storage.jetstream.stream import Stale, Stream, Write
from gatecast.storage.jetstream.stream_config import check_max_payload
from gatecast.storage.jetstream.subjects import Subjects
from gatecast.storage.row_values import to_moment
from gatecast.waiting import together

#: Most messages and bytes of one batch, and most batches that are sent together.
_MESSAGES, _BYTES, _TOGETHER = 900, 2 * 1024 * 1024, 8

#: Purges that are asked for together.
_PURGES = 50

#: What is here is counted again so often, after this many seconds, while a replica answers that lags.
_LOOKS, _LOOK_PAUSE = 50, 0.02

#: How far a move has come: nothing was copied yet; some may have been; all of it is being removed.
_BEGUN, _COPYING, _REMOVING = "begun", "copying", "removing"

#: The kinds of documents of a stream in which no gateway has ever been.
_OF_NO_GATEWAY = {"history", "pod", "claim", "moving"}

#: Those that are removed when a move is given up.
_MOVED = ("event", "id", "applied", "special", "head", "low", "state", "moving")

#: A document in place of one whose id cannot be read: retention finds events by their ids.
_WITHOUT_ID = UUID("0d1c6d5e-6f0a-4c7e-9a4e-4a8d3c0e7f11")


class MovedElsewhere(StorageUnavailable):
    """Another run of the command goes on with this move."""

    def __init__(self) -> None:
        super().__init__("another run of `gatecast move-log` goes on with this move")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivingLog:
    """A log as it is where it comes from."""

    gateway_id: str
    #: Its number there.
    source: int
    #: Offset of its last event, and the id of that, if they are known.
    head: int
    last: UUID | None
    #: Up to where retention has removed events.
    low: int
    #: The epoch in which it began.
    registered_in: str


class Arrival:
    """One run that moves a log into a stream."""

    def __init__(self, stream: Stream, history: History) -> None:
        self._stream = stream
        self._subjects = stream.subjects
        self._run = uuid4().hex
        self._history = history
        #: Sequence of the history as this run has written it.
        self._sequence = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, servers: list[str], name: str, *, replicas: int, user: str = "", password: str | None = None
    ) -> AsyncIterator[Self]:
        """The stream `name` of these servers, until the block ends; it is made if it is missing.

        Raises:
            StorageUnavailable: no server can be reached, or JetStream is off there.
            DatabaseUnsuitable: the stream is set up otherwise than the promises need.
            SchemaTooNew: a newer release has written the stream.
        """
        async with Connection.open(servers, user=user, password=password) as connection:
            check_max_payload(connection.max_payload)
            stream = Stream(connection, Subjects(name))
            yield cls(stream, await prepare(stream, replicas))

    # --- which history the stream has -----------------------------------------------------------------------------

    async def epoch(self) -> UUID:
        """The identity of its history: that of the log that is moved, once it has arrived."""
        return UUID((await self._read()).epoch)

    async def identity(self) -> str:
        """Which log it is."""
        return (await self._read()).log

    async def name(self) -> UUID:
        """What this stream is called by the database that a log is moved from, until its history is another one."""
        created = (await self._stream.info()).created
        return uuid5(UUID((await self._read()).epoch), f"{self._subjects.name} {created}")

    async def _read(self) -> History:
        # Not from a replica that lacks what the leader has: this run may have had the log arrive, unknown to it.
        self._stream.floor = max(self._stream.floor, (await self._stream.info()).last_sequence)
        found = await self._stream.snapshot([])
        self._sequence = found.sequence(self._subjects.history)
        self._history = History.decode(found.messages[self._subjects.history].data)
        return self._history

    async def begin(self, log: str) -> None:
        """Let this run, and no earlier one, move the log of this name into the stream; go on with what was copied.

        Raises:
            DatabaseUnsuitable: the stream is in use, or another log is being moved into it.
        """
        found = await self._read()
        _check_same(found, log)
        if not found.moving or found.stage == _BEGUN:
            await self._mark(found, log)
        elif (found.moving, found.stage) != (log, _COPYING):
            # Of an earlier history, or a move that was given up.
            await self._remove_everything(found)
        await self._write(replace(self._history, moving=log, mover=self._run, stage=_COPYING))

    async def _mark(self, found: History, log: str) -> None:
        """Keep everybody else from using the stream, which must be unused."""
        await self._check_unused()
        await self._write(replace(found, moving=log, mover=self._run, stage=_BEGUN))
        try:
            await self._check_unused()
        except DatabaseUnsuitable:
            await self._unmark()
            raise

    async def _unmark(self) -> None:
        await self._write(replace(self._history, moving="", mover="", stage=""))

    async def begin_again(self) -> None:
        """Let nothing more be stored of what this run has sent so far.

        Raises:
            MovedElsewhere: another run has begun since.
        """
        if (found := await self._read()).mover != self._run:
            raise MovedElsewhere
        await self._write(found)

    async def _write(self, history: History) -> None:
        write = Write(subject=self._subjects.history, data=history.encode(), expect=self._sequence)
        try:
            self._sequence = await self._stream.write(write)
        except Stale as error:
            raise MovedElsewhere from error
        self._history = history

    async def _check_unused(self) -> None:
        kinds = {
            message.subject.removeprefix(f"{self._subjects.name}.").partition(".")[0]
            async for message in self._stream.scan(f"{self._subjects.name}.>")
        }
        # The heads not from a replica that lags.
        if kinds - _OF_NO_GATEWAY or await self._stream.matching(self._subjects.heads):
            raise DatabaseUnsuitable(
                f"the stream {self._subjects.name} holds gateways, or has held some",
                "name another stream at the end of the URL; it is made",
            )
        await self._check_no_pods()

    async def _purge(self, filtered: str) -> None:
        await self._stream.purge(filtered, before=self._sequence)

    async def _check_no_pods(self) -> None:
        now = (await self._stream.info()).now
        pods = Pod.readable(await self._stream.matching(self._subjects.pods))
        if running := sorted(pod.pod_id for pod in pods if pod.lease_until > now):
            raise DatabaseUnsuitable(
                f"pods run on the stream already: {', '.join(running)}", "stop them until the log is there"
            )

    async def arrive(self, epoch: UUID, *, lineage: Sequence[UUID], first: UUID) -> None:
        """Adopt the history of the log, of which everything is here now.

        Raises:
            DatabaseUnsuitable: pods run on the stream.
            StorageUnavailable: another run has begun since, or it is not known whether the history was stored.
        """
        await self._check_no_pods()
        names = [str(each) for each in (*lineage, *(() if epoch in lineage else (epoch,)))]
        info = await self._stream.info()
        await self._write(
            History(schema=SCHEMA, epoch=str(epoch), created=info.created, lineage=names, first=str(first))
        )

    async def check_complete(self, logs: Sequence[ArrivingLog], events: int) -> None:
        """Return if these logs, with so many events together, are here, and nothing else.

        Raises:
            DatabaseUnsuitable: they are not.
        """
        heads = {each.gateway_id: each.head for each in logs}
        for _ in range(_LOOKS):
            found = Head.readable(await self._stream.all_of(self._subjects.heads))
            if {each.gateway_id: each.head for each in found} == heads and await self._events() == events:
                return
            await asyncio.sleep(_LOOK_PAUSE)
        await self._write(replace(self._history, stage=_REMOVING))
        raise DatabaseUnsuitable(
            "what was copied into the stream is not what the log holds", "repeat the command, which copies it anew"
        )

    async def _events(self) -> int:
        return await self._stream.count(f"{self._subjects.name}.event.>")

    async def clean_up(self) -> None:
        """Forget how much was copied, once everything is here."""
        await self._purge(self._subjects.copies)

    async def give_up(self, log: str) -> bool:
        """Remove what was copied of this log, and let the stream be used for something else; False: nothing was.

        Raises:
            DatabaseUnsuitable: another log is being moved into it.
        """
        found = await self._read()
        if not found.moving:
            return False
        _check_same(found, log)
        if found.stage != _BEGUN:
            await self._remove_everything(found)
        await self._unmark()
        return True

    async def _remove_everything(self, found: History) -> None:
        """Remove what was copied; a run that begins before that has ended does it again, and trusts none of it."""
        await self._write(replace(found, mover=self._run, stage=_REMOVING))
        for kind in _MOVED:
            await self._purge(f"{self._subjects.name}.{kind}.>")

    # --- events ---------------------------------------------------------------------------------------------------

    @property
    def most_events(self) -> int:
        """Most events of one log in one batch."""
        return max(1, (self._most_messages - 1) // 2)

    @property
    def _most_messages(self) -> int:
        return min(_MESSAGES, self._stream.batch_limit)

    async def copied(self, logs: Sequence[ArrivingLog]) -> dict[str, Copied]:
        """How much of each log is here, by gateway; an empty one for what is not here yet."""
        found = await self._found(logs)
        number = self._stream.floor + 1
        return {
            each.gateway_id: copied
            if (copied := found.get(each.gateway_id)) is not None and _is_of(copied, each)
            else Copied(gateway_id=each.gateway_id, source=each.source, log=number, first=0, through=0)
            for each in logs
        }

    async def _found(self, logs: Sequence[ArrivingLog]) -> dict[str, Copied]:
        """What is here of these gateways' logs, or of earlier logs of theirs."""
        found = await self._stream.newest([self._subjects.copied(each.gateway_id) for each in logs])
        return {copied.gateway_id: copied for copied in Copied.readable(found.values())}

    async def cleared(self, logs: Sequence[ArrivingLog]) -> dict[str, Copied]:
        """The same, once nothing is here that these logs have no more.

        Retention has removed it since, or its gateway was registered again, or it was lost where it comes from.
        """
        found = await self._found(logs)
        here = [(each, found[each.gateway_id]) for each in logs if each.gateway_id in found]
        outdated = [copied for log, copied in here if not _is_of(copied, log)]
        trimmed = [(log, copied) for log, copied in here if _is_of(copied, log) and 0 < copied.first <= log.low]
        if outdated or trimmed:
            await self.begin_again()
            await _some_at_once([self._remove(each) for each in outdated])
            await self._remove_fronts(trimmed)
        return await self.copied(logs)

    async def _remove(self, copied: Copied) -> None:
        """Remove all that is here of a log, and at last how much that was."""
        for every in (self._subjects.event, self._subjects.event_id, self._subjects.applied, self._subjects.special):
            await self._purge(every(copied.gateway_id, copied.log, "*"))
        await self._purge(self._subjects.copied(copied.gateway_id))

    async def _remove_fronts(self, trimmed: Sequence[tuple[ArrivingLog, Copied]]) -> None:
        """Remove the events that retention has removed since they were copied."""
        subjects = self._subjects
        firsts = {
            copied.gateway_id: subjects.event(copied.gateway_id, copied.log, log.low + 1) for log, copied in trimmed
        }
        found = await self._stream.newest(list(firsts.values()))
        ends = [
            (copied, found[first].sequence if (first := firsts[copied.gateway_id]) in found else self._sequence)
            for log, copied in trimmed
            # Where the log has a hole, it is not known what comes after it.
            if firsts[copied.gateway_id] in found or copied.through <= log.low
        ]
        await _some_at_once(
            [
                self._stream.purge(every(copied.gateway_id, copied.log, "*"), before=min(end, self._sequence))
                for copied, end in ends
                for every in (subjects.event, subjects.event_id)
            ]
        )
        await self._store(
            [Write(subject=subjects.copied(log.gateway_id), data=replace(copied, first=log.low + 1).encode())]
            for log, copied in trimmed
        )

    async def append(self, rows: Mapping[Copied, Sequence[Row]]) -> dict[str, Copied]:
        """How much of these logs is here once these events, in offset order, are here as well.

        Raises:
            StorageUnavailable: it is not known what was stored; begin again, and ask what was copied.
        """
        units = [self._unit(copied, events) for copied, events in rows.items() if events]
        await self._store(writes for writes, _ in units)
        return {after.gateway_id: after for _, after in units}

    def _unit(self, copied: Copied, rows: Sequence[Row]) -> tuple[list[Write], Copied]:
        after = replace(copied, first=copied.first or rows[0]["offset"], through=rows[-1]["offset"])
        writes = [write for row in rows for write in self._event(copied, row)]
        return [*writes, Write(subject=self._subjects.copied(after.gateway_id), data=after.encode())], after

    def _event(self, log: Copied, row: Row) -> list[Write]:
        subjects, name, offset = self._subjects, log.gateway_id, row["offset"]
        columns = {each: text for each in _TEXTS if (text := _text(row[each])) is not None}
        columns |= {"originated_at": at} if (at := _instant_text(row["originated_at"])) is not None else {}
        event_id = _uuid(row["event_id"]) or uuid5(_WITHOUT_ID, f"{log.log} {offset}")
        recorded_at = _moment(row["recorded_at"])
        data = encode_columns(columns, _text(row["payload"]))
        return [
            Write(subject=subjects.event(name, log.log, offset), data=data, stored_at=recorded_at),
            Write(subject=subjects.event_id(name, log.log, event_id), data=str(offset).encode(), stored_at=recorded_at),
        ]

    async def remove_others(self, logs: Sequence[ArrivingLog]) -> None:
        """Remove the copies of gateways that were deleted since, and every end that an earlier run has stored."""
        present = {each.gateway_id for each in logs}
        copies = Copied.readable(await self._stream.all_of(self._subjects.copies))
        await self.begin_again()
        for kind in ("head", "low", "state"):
            await self._purge(f"{self._subjects.name}.{kind}.>")
        await _some_at_once([self._remove(each) for each in copies if each.gateway_id not in present])

    # --- outcomes, positions and heads ----------------------------------------------------------------------------

    async def forget_outcomes(self) -> None:
        """Remove the outcomes that an earlier run has copied: some may be others by now."""
        for kind in ("applied", "special"):
            await self._purge(f"{self._subjects.name}.{kind}.>")

    async def record(self, outcomes: Iterable[tuple[Copied, Sequence[Row], bool]]) -> None:
        """Store these outcomes, in each place all those of one event; and whether some of it may be here already."""
        await self._store([self._outcomes(*each)] for each in outcomes)

    def _outcomes(self, log: Copied, rows: Sequence[Row], again: bool) -> Write:  # noqa: FBT001 - what a place holds
        offset = rows[0]["offset"]
        replicas = {
            row["replica"]: (row["kind"], _text(row["reason"]) or "", _seconds(row["recorded_at"])) for row in rows
        }
        event_id = _uuid(rows[0]["event_id"])
        document = EventOutcomes(
            entity_type=_text(rows[0]["entity_type"]) or "",
            entity_id=_text(rows[0]["entity_id"]) or "",
            event_id=str(event_id) if event_id is not None else "",
            replicas=replicas,
        )
        # What is special stays so.
        is_plain = not again and {kind for kind, _, _ in replicas.values()} == {OutcomeKind.APPLIED.value}
        subject = (self._subjects.applied if is_plain else self._subjects.special)(log.gateway_id, log.log, offset)
        return Write(subject=subject, data=document.encode())

    async def remove_outcomes(self, events: Sequence[tuple[Copied, int]]) -> None:
        """Remove the outcomes of these events, by log and offset, which have none any more."""
        await self.begin_again()
        kinds = (self._subjects.applied, self._subjects.special)
        await _some_at_once(
            [self._purge(every(log.gateway_id, log.log, offset)) for log, offset in events for every in kinds]
        )

    async def finish(self, logs: Iterable[tuple[ArrivingLog, Copied, Sequence[Row]]]) -> None:
        """Store the positions, the low-water mark and the end of each log."""
        await self._store(self._ends(*each) for each in logs)

    def _ends(self, log: ArrivingLog, copied: Copied, positions: Sequence[Row]) -> list[Write]:
        subjects, name = self._subjects, log.gateway_id
        writes: list[Write] = []
        if log.low:
            # Nothing that was removed is here.
            mark = LowWaterMark(log=copied.log, offset=log.low, sequence=0)
            writes.append(Write(subject=subjects.low_water_mark(name), data=mark.encode()))
        if positions:
            state = State(log=copied.log, positions={row["replica"]: _position(row) for row in positions})
            writes.append(Write(subject=subjects.state(name), data=state.encode()))
        head = Head(
            gateway_id=name,
            log=copied.log,
            head=log.head,
            last=str(log.last) if log.last is not None else None,
            registered_in=log.registered_in,
        )
        return [*writes, Write(subject=subjects.head(name), data=head.encode())]

    # --- batches --------------------------------------------------------------------------------------------------

    async def _store(self, units: Iterable[Sequence[Write]]) -> None:
        """Store these units, each whole or not at all.

        Raises:
            StorageUnavailable: it is not known what was stored.
        """
        batches = _packed(units, self._most_messages)
        for start in range(0, len(batches), _TOGETHER):
            await together(self._store_batch(batch) for batch in batches[start : start + _TOGETHER])

    async def _store_batch(self, writes: Sequence[Write]) -> None:
        first = replace(writes[0], expect=self._sequence, about=self._subjects.history)
        limit = self._stream.batch_limit
        try:
            await self._stream.write_all([first, *writes[1:]])
        except Stale as error:
            raise StorageUnavailable(
                f"the stream did not take a batch; it, its account or a disk may be full. {error}"
            ) from error
        except ValueRefused as error:
            if self._stream.batch_limit >= limit:
                raise
            # Now it is known how many messages the server takes at once.
            raise StorageUnavailable("the server takes fewer messages in one batch") from error


def _check_same(found: History, log: str) -> None:
    """Return if no other log than this one is being moved; its history may have been an earlier one.

    Raises:
        DatabaseUnsuitable: another one is.
    """
    if found.moving and found.moving.partition(" ")[0] != log.partition(" ")[0]:
        raise DatabaseUnsuitable(
            "another log is being moved into the stream", "name another stream, or give that move up with --undo"
        )


def _is_of(copied: Copied, log: ArrivingLog) -> bool:
    """Whether it is a copy of the log as that is now."""
    return copied.source == log.source and copied.through <= log.head


async def _some_at_once(work: Sequence[Awaitable[None]]) -> None:
    for start in range(0, len(work), _PURGES):
        await together(work[start : start + _PURGES])


def _packed(units: Iterable[Sequence[Write]], most: int) -> list[list[Write]]:
    """Batches of units: as many as fit into one."""
    batches: list[list[Write]] = []
    size = 0
    for unit in units:
        bytes_of_unit = sum(len(write.data) for write in unit)
        if not batches or len(batches[-1]) + len(unit) > most or size + bytes_of_unit > _BYTES:
            batches.append([])
            size = 0
        batches[-1].extend(unit)
        size += bytes_of_unit
    return batches


#: The columns of an event that are text in both databases, or an id.
_TEXTS = ("event_id", "type", "action", "entity_type", "entity_id", "trace_parent")


def _text(value: object) -> str | None:
    if isinstance(value, UUID):
        return str(value)
    return value if isinstance(value, str) else None


def _uuid(value: object) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


def _instant_text(value: object) -> str | None:
    return value.isoformat() if isinstance(value, datetime) else _text(value)


def _moment(value: object) -> datetime | None:
    try:
        return to_moment(value)
    except (ValueError, TypeError, OverflowError):
        return None


def _seconds(value: object) -> float:
    moment = _moment(value)
    return moment.timestamp() if moment is not None else 0.0


def _position(row: Row) -> StoredPosition:
    return StoredPosition(
        epoch=str(row["epoch"]),
        sent=row["sent"],
        confirmed=row["confirmed"],
        # It must resynchronize, also if it cannot be read why.
        resync_reason=_text(row["resync_reason"]) or (None if row["resync_reason"] is None else "epoch"),
        updated_at=_seconds(row["updated_at"]),
    )
