"""The event log on SQLite: each operation is one piece of work for one of the two threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

from gatecast.events import Event
from gatecast.storage.contract import (
    Changes,
    Place,
    PublishResult,
    ReadRequest,
    ReadResult,
    Receipt,
    Remembered,
    TrimPolicy,
    Verdict,
)
from gatecast.storage.sqlite import history, reading, retention
from gatecast.storage.sqlite.connection import Clock, system_clock
from gatecast.storage.sqlite.database import SqliteDatabase
from gatecast.storage.sqlite.publishing import QUERIES, append, append_one_group, next_change
from gatecast.storage.sqlite.statements import change, select
from gatecast.storage.sqlite.values import to_text


class SqliteEventLog:
    """One log per gateway in SQLite."""

    def __init__(self, database: SqliteDatabase, clock: Clock = system_clock) -> None:
        self._database = database
        self._clock = clock

    async def publish(self, groups: Sequence[Sequence[Event]], *, wait: bool = True) -> list[PublishResult]:  # noqa: ARG002 - one writer at a time: no log is ever held while another is free
        """Append groups of events in one transaction."""
        return await self._database.write(lambda connection: self._append(connection, groups))

    async def publish_in(self, transaction: object, events: Sequence[Event]) -> tuple[Receipt, ...]:
        """Append events inside the caller's own transaction."""
        return await self._database.write_in(transaction, lambda connection: self._append_one_group(connection, events))

    def _append(self, connection: sqlite3.Connection, groups: Sequence[Sequence[Event]]) -> list[PublishResult]:
        # The time is an argument: a caller's own connection does not know our `now()`.
        return append(connection, groups, to_text(self._clock()))

    def _append_one_group(self, connection: sqlite3.Connection, events: Sequence[Event]) -> tuple[Receipt, ...]:
        return append_one_group(connection, events, to_text(self._clock()))

    async def changed_since(self, marker: int) -> Changes:
        """The gateways whose logs grew since `marker`, which is a number of a change."""
        file = self._database.history_file
        return await self._database.read(partial(reading.changed_since, marker=marker, file=file, now=self._clock()))

    async def places(self, gateway_ids: Sequence[str], marker: int) -> Mapping[str, Place]:
        """Where each of these logs stood when `marker` was taken."""
        return await self._database.read(partial(reading.places, gateway_ids=gateway_ids, marker=marker))

    async def read(self, requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
        """The next events for each request, all of one instant."""
        file = self._database.history_file
        return await self._database.read(partial(reading.read_logs, requests=requests, file=file))

    async def is_held(self, gateway_id: str) -> bool:  # noqa: ARG002 - one writer at a time holds every log
        """Whether somebody, in this process or another, writes to the file now."""
        return await self._database.is_being_written()

    async def register(self, gateway_id: str, *, transaction: object | None = None) -> bool:
        """Begin an empty log."""
        return await self._database.write_with(transaction, partial(_register, gateway_id=gateway_id))

    async def forget(self, gateway_id: str, *, transaction: object | None = None) -> bool:
        """Remove a gateway's log, positions and outcomes, and dismiss its connections; its events go with `trim`."""
        return await self._database.write_with(transaction, partial(_forget, gateway_id=gateway_id))

    async def trim(self, policy: TrimPolicy) -> int:
        """Remove at most one chunk of old events."""
        limits = retention.TrimLimits.of(policy, self._clock())
        removable = await self._database.read(partial(retention.find, limits=limits))
        if not removable:
            return 0
        return await self._database.write(partial(retention.trim, limits=limits, removable=removable))

    async def contradicts(self, remembered: Sequence[Remembered]) -> bool:
        """Whether any of these events is not where it was read."""
        return await self._database.read(partial(reading.contradicts, remembered=remembered))

    async def renew_epoch(self, expected: UUID) -> UUID:
        """Begin a new history unless another pod did so first."""
        return await self._database.write(partial(_renew_epoch, expected=expected, moment=self._clock()))

    async def record_history(self, expected: UUID, verdict: Verdict = Verdict.RECORD) -> UUID:  # noqa: ARG002 - decided under the lock, by what the database holds then
        """Decide whether the history goes on: every transaction that writes does so when it begins."""
        if verdict is Verdict.KEEP:
            await self._database.read(lambda _: self._database.history_file.remove())
        return await self._database.write(_epoch)


def _register(connection: sqlite3.Connection, gateway_id: str) -> bool:
    return change(connection, QUERIES["register"], gateway_id, next_change(connection)) == 1


def _forget(connection: sqlite3.Connection, gateway_id: str) -> bool:
    if change(connection, QUERIES["note_forgotten_log"], gateway_id) == 0:
        return False
    for removal in ("forget_stream", "forget_positions", "dismiss_gateway"):
        change(connection, QUERIES[removal], gateway_id)
    return True


def _renew_epoch(connection: sqlite3.Connection, expected: UUID, moment: datetime) -> UUID:
    history.begin(connection, expected, behind=0, moment=moment)
    return _epoch(connection)


def _epoch(connection: sqlite3.Connection) -> UUID:
    [(epoch, _, _)] = select(connection, QUERIES["epoch"])
    return UUID(epoch)
