"""The event log on SQLite: each operation is one piece of work for the writing or the reading thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

from gatecast.events import Event, Position
from gatecast.storage.contract import (
    Changes,
    Claim,
    Place,
    PublishResult,
    ReadRequest,
    ReadResult,
    Receipt,
    Remembered,
    TrimPass,
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
    """`gatecast.storage.contract.EventLog` on SQLite."""

    def __init__(self, database: SqliteDatabase, clock: Clock = system_clock) -> None:
        self._database = database
        self._clock = clock

    async def publish(
        self,
        groups: Sequence[Sequence[Event]],
        *,
        wait: bool = True,  # noqa: ARG002 - one writer at a time: no log is ever held while another is free
        logs: Mapping[str, int] | None = None,
    ) -> list[PublishResult]:
        """The result of each group of events, appended in one transaction; never `Busy`."""
        return await self._database.write(lambda connection: self._append(connection, groups, logs))

    async def publish_in(self, transaction: object, events: Sequence[Event]) -> tuple[Receipt, ...]:
        """A receipt for each event, appended in the caller's transaction."""
        return await self._database.write_in(transaction, lambda connection: self._append_one_group(connection, events))

    def _append(
        self, connection: sqlite3.Connection, groups: Sequence[Sequence[Event]], logs: Mapping[str, int] | None
    ) -> list[PublishResult]:
        # The time is an argument: a caller's own connection does not know our `now()`.
        return append(connection, groups, to_text(self._clock()), logs)

    def _append_one_group(self, connection: sqlite3.Connection, events: Sequence[Event]) -> tuple[Receipt, ...]:
        return append_one_group(connection, events, to_text(self._clock()))

    async def identity(self) -> UUID:
        """Which log this is."""
        [(log,)] = await self._database.read(lambda connection: select(connection, QUERIES["identity"]))
        return UUID(log)

    async def changed_since(self, marker: int) -> Changes:
        """The logs that have grown since `marker`, which is the number of a change."""
        file = self._database.history_file
        return await self._database.read(partial(reading.changed_since, marker=marker, file=file, now=self._clock()))

    async def places(self, gateway_ids: Sequence[str], marker: int) -> Mapping[str, Place]:
        """How far each of these logs had grown when `marker` was taken."""
        return await self._database.read(partial(reading.places, gateway_ids=gateway_ids, marker=marker))

    async def read(self, requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
        """The result of each request, in order, all from one instant; None where the gateway is not registered."""
        file = self._database.history_file
        return await self._database.read(partial(reading.read_logs, requests=requests, file=file))

    async def find(self, gateway_id: str, event_ids: Sequence[UUID]) -> Mapping[UUID, Position]:
        """Where these events are in the gateway's log, by id."""
        return await self._database.read(partial(reading.find, gateway_id=gateway_id, event_ids=event_ids))

    async def is_held(self, gateway_id: str) -> bool:  # noqa: ARG002 - one writer at a time holds every log
        """Whether a transaction in this process or another one writes to the file now, whatever the gateway."""
        return await self._database.is_being_written()

    async def register(self, gateway_id: str, *, transaction: object | None = None, claim: Claim | None = None) -> bool:
        """Create an empty log for the gateway; False if it has one."""
        work = partial(_register, gateway_id=gateway_id, claim=claim)
        created = await self._database.write_with(transaction, work)
        return bool(created) if claim is None else claim.checked(created)

    async def claim(self, claim: Claim) -> None:
        """Make every earlier claim of this owner void."""
        await self._database.write(lambda connection: change(connection, QUERIES["claim"], claim.owner, claim.token))

    async def forget(self, gateway_id: str, *, transaction: object | None = None, log_id: int | None = None) -> bool:
        """Delete a gateway's log and disconnect it; False if it is unknown. `trim` removes its events later."""
        return await self._database.write_with(transaction, partial(_forget, gateway_id=gateway_id, log_id=log_id))

    async def trim(self, policy: TrimPolicy, trim_pass: TrimPass | None = None) -> int:
        """How many old events were removed, at most one chunk; locks nothing if there is nothing to remove."""
        trim_pass = trim_pass or TrimPass()
        limits = retention.TrimLimits.of(policy, self._clock())
        removable = await self._database.read(partial(retention.find, limits=limits, trim_pass=trim_pass))
        trimmed = retention.Trimmed(removed=0)
        if removable:
            trimmed = await self._database.write(partial(retention.trim, limits=limits, removable=removable))
        retention.move_on(trim_pass, limits, removable, trimmed)
        return trimmed.removed

    async def contradicts(self, remembered: Sequence[Remembered]) -> bool:
        """Whether one of these events is no longer where it was read."""
        return await self._database.read(partial(reading.contradicts, remembered=remembered))

    async def renew_epoch(self, expected: UUID) -> UUID:
        """The present epoch, after a new history has begun: by this call only if the epoch was still `expected`."""
        return await self._database.write(partial(_renew_epoch, expected=expected, moment=self._clock()))

    async def record_history(self, expected: UUID, verdict: Verdict = Verdict.RECORD) -> UUID:
        """The present epoch: every writing transaction decides when it begins whether the history continues.

        With `Verdict.KEEP` the history file is removed first, so that the history continues whatever the file said.
        """
        if verdict is Verdict.KEEP:
            await self._database.keep_history(expected)
        return await self._database.write(_epoch)


def _register(connection: sqlite3.Connection, gateway_id: str, claim: Claim | None) -> bool | None:
    if claim is not None and not select(connection, QUERIES["is_claimed"], claim.owner, claim.token):
        return None
    return change(connection, QUERIES["register"], gateway_id, next_change(connection)) == 1


def _forget(connection: sqlite3.Connection, gateway_id: str, log_id: int | None) -> bool:
    if change(connection, QUERIES["note_forgotten_log"], gateway_id, log_id) == 0:
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
