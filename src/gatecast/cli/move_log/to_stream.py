"""Moves a log of an SQL database to a stream of NATS JetStream; that database becomes the outbox of the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from gatecast.cli.move_log.source import QUERIES, Source
from gatecast.cli.output import progress
from gatecast.errors import DatabaseUnsuitable, StorageUnavailable
from gatecast.storage.contract import Changes, Row
from gatecast.storage.jetstream.arrival import Arrival, ArrivingLog, MovedElsewhere
from gatecast.storage.moved import Blocking
from gatecast.waiting import Backoff

if TYPE_CHECKING:
    from gatecast.storage.jetstream.documents import Copied

#: Logs that are copied together, and most bytes of the data of one of them in memory.
_LOGS, _BYTES = 50, 512 * 1024

#: While pods run, what has come meanwhile is copied again: so often, or until it is so little.
_ROUNDS, _LITTLE = 10, 500

#: Outcomes that are read together.
_OUTCOMES = 5_000

#: What the stream did not take is sent again so often.
_ATTEMPTS = 8

_BACKOFF = Backoff(first=0.05, longest=2.0)

T = TypeVar("T")


class StreamTarget:
    """`gatecast.cli.move_log.moving.Target` on a stream. Lets others know what it is called: `place`."""

    def __init__(
        self, arrival: Arrival, *, place: str, settled: Callable[[], Awaitable[Changes]], bound: str = ""
    ) -> None:
        self._arrival = arrival
        #: The log whose outbox the database is by now; empty if it is none.
        self._bound = bound
        self._place = place
        #: What the log says of its history, once that is decided.
        self._settled = settled
        #: A number for the outcomes of each event that were copied, by log and offset.
        self._outcomes: dict[int, dict[int, int]] = {}
        #: What the stream calls the log since this run has begun; empty before.
        self._log = ""
        #: The logs that have arrived, if this run has copied them.
        self._arrived: Sequence[ArrivingLog] | None = None

    async def moved_before(self) -> UUID | None:
        """The epoch of the log whose outbox the database is by now."""
        if not self._bound:
            return None
        if self._bound != await self._arrival.identity():
            raise DatabaseUnsuitable("it is the outbox of another log", "name the stream of that one with --to")
        await self._arrival.clean_up()
        return await self._arrival.epoch()

    async def epoch(self) -> UUID:
        """The identity of its history."""
        return await self._arrival.epoch()

    async def name(self, known: UUID | None) -> UUID:  # noqa: ARG002 - it has one name only
        """What it is called by a database whose log is moved to it."""
        return await self._arrival.name()

    async def _begin(self, source: Source) -> None:
        """Begin, or begin anew if the log has another history by now."""
        log = await _log_of(source)
        if log == self._log:
            return
        await self._arrival.begin(log)
        self._log, self._outcomes = log, {}
        # An earlier run may have copied some that are others by now.
        await self._persistently(self._arrival.forget_outcomes)

    # --- copying ----------------------------------------------------------------------------------------------------

    async def prepare(self, source: Source) -> None:
        """Copy what is there, and what comes meanwhile until that is little."""
        await self._begin(source)
        with progress("copying events while pods run"):
            for _ in range(_ROUNDS):
                logs = await _logs(source)
                if await self._copy(source, logs) + await self._copy_outcomes(source, logs) <= _LITTLE:
                    return

    async def take(self, source: Source, blocking: Blocking) -> dict[str, int]:
        """Copy what is left, and adopt the history."""
        await self._begin(source)
        with progress("copying the rest"):
            logs = await _logs(source)
            await self._copy(source, logs)
            await self._copy_outcomes(source, logs)
            await self._persistently(lambda: self._arrival.remove_others(logs))
            copied = await self._arrival.copied(logs)
            positions = _by_gateway(filter(_is_readable, await source.fetch(QUERIES["positions"])))
            ends = [(each, copied[each.gateway_id], positions.get(each.gateway_id, ())) for each in logs]
            await self._persistently(lambda: self._arrival.finish(ends))
            [row] = await source.fetch(QUERIES["count_events"])
            await self._persistently(lambda: self._arrival.check_complete(logs, row["events"]))
        await self._arrive(source, blocking)
        self._arrived = logs
        return {
            "gatecast.gateway_streams": len(logs),
            "gatecast.events": row["events"],
            "gatecast.cursors": sum(len(rows) for _, _, rows in ends),
            "gatecast.outcomes": sum(map(len, self._outcomes.values())),
        }

    async def _arrive(self, source: Source, blocking: Blocking) -> None:
        """Let the stream adopt the history, unless the log may have been changed since this run has blocked it.

        Another server may have taken over, which knows nothing of that.
        """
        history = await self._settled()
        [row] = await source.fetch(QUERIES["history"])
        if not history.settled or f"{row['log']} {history.epoch}" != self._log:
            raise DatabaseUnsuitable(
                "it is not decided whether the history of the log goes on",
                "give the move up with --undo, and repeat it",
            )
        if await source.blocking() != blocking:
            raise DatabaseUnsuitable("the log may have been changed while it was copied", "repeat the command")
        await self._arrival.arrive(history.epoch, lineage=history.lineage, first=UUID(row["log"]))

    async def _copy(self, source: Source, logs: Sequence[ArrivingLog]) -> int:
        """How many events were copied that were not in the stream."""
        copied = await self._persistently(lambda: self._arrival.cleared(logs))
        starts = range(0, len(logs), _LOGS)
        return sum([await self._copy_some(source, logs[start : start + _LOGS], copied) for start in starts])

    async def _copy_some(self, source: Source, logs: Sequence[ArrivingLog], known: Mapping[str, Copied]) -> int:
        count = failures = 0
        copied = {each.gateway_id: known[each.gateway_id] for each in logs}
        left = list(logs)
        while left:
            rows = {copied[each.gateway_id]: await self._next(source, each, copied[each.gateway_id]) for each in left}
            left = [each for each in left if rows[copied[each.gateway_id]]]
            try:
                copied |= await self._arrival.append(rows)
            except MovedElsewhere:
                raise
            except StorageUnavailable:
                failures += 1
                if failures >= _ATTEMPTS:
                    raise
                await asyncio.sleep(_BACKOFF.pause(failures))
                before, copied = copied, copied | await self._ask_again(logs)
                if any(copied[name].through > each.through for name, each in before.items()):
                    # Some batches were taken, and only others not.
                    failures = 0
            else:
                failures = 0
                count += sum(map(len, rows.values()))
        return count

    async def _ask_again(self, logs: Sequence[ArrivingLog]) -> dict[str, Copied]:
        """How much of these logs is here, after a failure."""

        async def ask() -> dict[str, Copied]:
            await self._arrival.begin_again()
            return await self._arrival.copied(logs)

        return await _repeated(ask)

    async def _next(self, source: Source, log: ArrivingLog, copied: Copied) -> list[Row]:
        after = max(copied.through, log.low)
        if after >= log.head:
            return []
        most = min(self._arrival.most_events, log.head - after)
        return await source.fetch(QUERIES["events"], log.source, after, most, _BYTES)

    async def _copy_outcomes(self, source: Source, logs: Sequence[ArrivingLog]) -> int:
        """How many events have got other outcomes than were copied."""
        copied = await self._arrival.copied(logs)
        here = {each.source: (each, copied[each.gateway_id]) for each in logs}
        present: dict[int, dict[int, int]] = {each.source: {} for each in logs}
        count = 0
        async for page in _outcomes(source):
            changed: list[tuple[Copied, Sequence[Row], bool]] = []
            for (log_id, offset), found in page.items():
                rows = [row for row in found if isinstance(row["replica"], str) and isinstance(row["kind"], str)]
                if not rows or log_id not in here or not here[log_id][0].low < offset <= here[log_id][0].head:
                    continue
                known = self._outcomes.get(log_id, {}).get(offset)
                present[log_id][offset] = number = hash(tuple(map(_told, rows)))
                if number != known:
                    changed.append((here[log_id][1], rows, known is not None))
            await self._persistently(lambda changed=changed: self._arrival.record(changed))  # type: ignore[misc]
            count += len(changed)
        gone = [
            (copy, offset)
            for log_id, (log, copy) in here.items()
            for offset in self._outcomes.get(log_id, {}).keys() - present[log_id].keys()
            if offset > log.low
        ]
        if gone:
            await self._persistently(lambda: self._arrival.remove_outcomes(gone))
        self._outcomes = present
        return count

    async def _persistently(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of work that may be done twice."""

        async def again() -> T:
            await self._arrival.begin_again()
            return await work()

        try:
            return await work()
        except MovedElsewhere:
            raise
        except StorageUnavailable:
            return await _repeated(again)

    # --- ending -----------------------------------------------------------------------------------------------------

    async def call_off(self, epoch: UUID) -> bool:
        """Whether the log has not arrived, and will not by what this run has sent."""
        if await self._arrival.epoch() == epoch:
            return False
        if self._log:
            try:
                await self._arrival.begin_again()
            except MovedElsewhere:
                # By what this run has sent, it does not arrive either.
                return await self._arrival.epoch() != epoch
        return True

    async def finish(self, source: Source, blocking: Blocking) -> bool:
        """Make the outbox of the stream of the database that the log came from."""
        log = UUID(await self._arrival.identity())
        made = await source.become_outbox(log=log, place=self._place, blocking=blocking, logs=self._ends())
        await self._arrival.clean_up()
        return made

    def _ends(self) -> set[tuple[str, int, int]] | None:
        """The logs that have arrived, and the head of each; None if another run has copied them."""
        if self._arrived is None:
            return None
        return {(each.gateway_id, each.source, each.head) for each in self._arrived}

    async def give_up(self, source: Source) -> bool:
        """Remove what was copied."""
        if await self._arrival.epoch() == await source.epoch():
            raise DatabaseUnsuitable("the log has arrived in the stream", "use it there")
        return await self._arrival.give_up(await _log_of(source))


async def _repeated(work: Callable[[], Awaitable[T]]) -> T:
    for attempt in range(1, _ATTEMPTS):
        await asyncio.sleep(_BACKOFF.pause(attempt))
        try:
            return await work()
        except MovedElsewhere:
            raise
        except StorageUnavailable:
            continue
    return await work()


async def _log_of(source: Source) -> str:
    """What the stream calls the log that is moved into it."""
    [row] = await source.fetch(QUERIES["history"])
    return f"{row['log']} {row['epoch']}"


async def _logs(source: Source) -> list[ArrivingLog]:
    return [
        ArrivingLog(
            gateway_id=row["gateway_id"],
            source=row["log_id"],
            head=row["head"],
            last=_uuid(row["last_event_id"]),
            low=row["trimmed_through"],
            registered_in=str(_uuid(row["registered_in"]) or UUID(int=0)),
        )
        for row in await source.fetch(QUERIES["logs"])
    ]


def _uuid(value: object) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


def _by_gateway(rows: Iterable[Row]) -> dict[str, list[Row]]:
    return {name: list(found) for name, found in groupby(rows, key=itemgetter("gateway_id"))}


def _is_readable(position: Row) -> bool:
    """Whether a position can be read; otherwise its replica has none."""
    kinds = {"gateway_id": str, "replica": str, "epoch": str, "sent": int, "confirmed": int}
    return all(isinstance(position[name], kind) for name, kind in kinds.items())


async def _outcomes(source: Source) -> AsyncIterator[dict[tuple[int, int], list[Row]]]:
    """The outcomes of every event, by log and offset, some events at a time."""
    rest: list[Row] = []
    after = (0, 0, "")
    while rows := await source.fetch(QUERIES["outcomes"], *after, _OUTCOMES):
        after = rows[-1]["log_id"], rows[-1]["offset"], rows[-1]["replica"]
        rest += rows
        events = {event: list(found) for event, found in groupby(rest, key=itemgetter("log_id", "offset"))}
        # The last event may have more.
        rest = events.popitem()[1]
        yield events
    if rest:
        yield {(rest[0]["log_id"], rest[0]["offset"]): rest}


def _told(row: Row) -> tuple[object, ...]:
    return row["replica"], row["kind"], row["reason"], row["recorded_at"]
