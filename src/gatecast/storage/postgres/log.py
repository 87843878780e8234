"""The event log on PostgreSQL: arguments in, rows out; the functions in `functions/` do the work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import groupby
from operator import itemgetter
from uuid import UUID

import asyncpg

from gatecast.containment import contained, log_failure
from gatecast.errors import LogHeld, StatementFailed, StorageError, StorageUnavailable, ValueRefused
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
    Row,
    TrimPass,
    TrimPolicy,
    Verdict,
)
from gatecast.storage.postgres.appending import QUERIES, append, append_one_group, append_to
from gatecast.storage.postgres.array_literals import array_literal, text_array
from gatecast.storage.postgres.caller_transaction import Statements, joined, statements_in
from gatecast.storage.postgres.database import PostgresDatabase, repeated
from gatecast.storage.postgres.driver_errors import translated
from gatecast.storage.row_values import recorded_event

#: Most logs that are checked to find the held one.
_SUSPECTS = 50

#: The errors that end a wait for a lock: our own time limit, or the server's.
_GAVE_UP = (TimeoutError, asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)


#: For up to so many gateways, planning the statement that reads would take longer than running it: a function keeps its
#: plan. For more, rows are better sent as they are found.
_FEW = 8

_NUMBER = itemgetter("number")


class PostgresEventLog:
    """`gatecast.storage.contract.EventLog` on PostgreSQL."""

    def __init__(self, database: PostgresDatabase, *, send_hints: bool = True) -> None:
        self._database = database
        self._send_hints = send_hints

    async def publish(
        self, groups: Sequence[Sequence[Event]], *, wait: bool = True, logs: Mapping[str, int] | None = None
    ) -> list[PublishResult]:
        """The result of each group of events, appended in one transaction.

        If that fails although the values are fine, it is tried once more without sending hints: a hint that cannot be
        sent costs a wake-up, not the publish.
        """
        try:
            return await self._publish(groups, wait=wait, hint=self._send_hints, logs=logs)
        except ValueRefused:
            raise
        except StatementFailed as error:
            if not self._send_hints:
                raise
            results = await self._publish(groups, wait=wait, hint=False, logs=logs)
            log_failure("hint-lost", error)
            return results

    async def _publish(
        self, groups: Sequence[Sequence[Event]], *, wait: bool, hint: bool, logs: Mapping[str, int] | None
    ) -> list[PublishResult]:
        async def once() -> list[PublishResult]:
            async with self._database.connection() as connection:
                if logs is not None:
                    return await append_to(connection, groups, logs, hint=hint)
                return await append(connection, groups, wait=wait, hint=hint)

        async with self._naming_holder(event for group in groups for event in group if wait):
            return await repeated(once)

    async def publish_in(self, transaction: object, events: Sequence[Event]) -> tuple[Receipt, ...]:
        """A receipt for each event, appended in the caller's transaction."""
        async with self._naming_holder(events):
            with translated():
                connection = await statements_in(transaction)
                return await append_one_group(connection, events, hint=self._send_hints)

    @asynccontextmanager
    async def _naming_holder(self, events: Iterable[Event]) -> AsyncIterator[None]:
        """Raise `LogHeld`, not `StorageUnavailable`, if a time limit was reached and one of the logs is held now."""
        try:
            yield
        except StorageUnavailable as failure:
            if isinstance(failure.__cause__, _GAVE_UP):
                for gateway_id in sorted({event.gateway_id for event in events})[:_SUSPECTS]:
                    if await self._is_surely_held(gateway_id):
                        raise LogHeld(f"the log of gateway {gateway_id}") from failure
            raise

    async def _is_surely_held(self, gateway_id: str) -> bool:
        with suppress(StorageError):
            return await self.is_held(gateway_id)
        return False

    async def identity(self) -> UUID:
        """Which log this is."""
        [row] = await self._database.fetch(QUERIES["identity"])
        return UUID(int=row["log"].int)

    async def changed_since(self, marker: int) -> Changes:
        """The logs that have grown since `marker`, which is a transaction id."""
        rows = await self._database.fetch(QUERIES["changed_since"], str(marker))
        heads = {row["gateway_id"]: row["head"] for row in rows if row["gateway_id"] is not None}
        first = rows[0]
        return Changes(
            epoch=first["epoch"],
            heads=heads,
            marker=first["marker"],
            server=first["server"],
            synchronous=first["synchronous"],
            settled=first["settled"],
            lineage=tuple(first["lineage"]),
            answered_at=first["answered_at"],
            lasting=first["lasting"],
            # The first two parts: the cluster, and the database in it.
            copy="/".join(first["server"].split("/")[:2]),
        )

    async def places(self, gateway_ids: Sequence[str], marker: int) -> Mapping[str, Place]:
        """How far each of these logs had grown when `marker` was taken."""
        rows = await self._database.fetch(QUERIES["places"], list(gateway_ids), str(marker))
        return {row["gateway_id"]: Place(row["log_id"], row["offset"], row["is_gap"]) for row in rows}

    async def read(self, requests: Sequence[ReadRequest]) -> list[ReadResult | None]:
        """The result of each request, in order, in one round trip; None where the gateway is not registered."""
        rows = await self._database.fetch(
            QUERIES["read_few" if len(requests) <= _FEW else "read"],
            text_array([request.gateway_id for request in requests]),
            array_literal([request.after for request in requests]),
            array_literal([request.max_events for request in requests]),
            array_literal([request.max_bytes for request in requests]),
        )
        results: list[ReadResult | None] = [None] * len(requests)
        for number, group in groupby(rows, key=_NUMBER):
            results[number - 1] = _read_result(requests[number - 1].gateway_id, list(group))
        return results

    async def find(self, gateway_id: str, event_ids: Sequence[UUID]) -> Mapping[UUID, Position]:
        """Where these events are in the gateway's log, by id."""
        rows = await self._database.fetch(QUERIES["find"], gateway_id, list(event_ids))
        return {row["event_id"]: Position(row["epoch"], row["offset"]) for row in rows}

    async def is_held(self, gateway_id: str) -> bool:
        """Whether an open transaction holds this log now; False for an unknown gateway."""
        return bool(await self._database.fetch(QUERIES["is_held"], gateway_id))

    async def register(self, gateway_id: str, *, transaction: object | None = None, claim: Claim | None = None) -> bool:
        """Create an empty log for the gateway; False if it has one."""

        async def work(connection: Statements) -> bool:
            if claim is None:
                return bool(await connection.fetchval(QUERIES["register"], gateway_id))
            created: bool | None = await connection.fetchval(
                QUERIES["register_under_claim"], gateway_id, claim.owner, claim.token
            )
            return claim.checked(created)

        with _naming(f"the log or the claim of gateway {gateway_id}"):
            return await self._in_one_statement(transaction, work)

    async def claim(self, claim: Claim) -> None:
        """Make every earlier claim of this owner void."""
        with _naming("the claims of logs"):
            await self._database.execute(QUERIES["claim"], claim.owner, claim.token)

    async def forget(self, gateway_id: str, *, transaction: object | None = None, log_id: int | None = None) -> bool:
        """Delete a gateway's log and disconnect it; False if it is unknown. `trim` removes its events later."""

        async def work(connection: Statements) -> bool:
            forgotten = bool(await connection.fetchval(QUERIES["forget_gateway"], gateway_id))
            if forgotten:
                await connection.fetch(QUERIES["hint_everything"])
            return forgotten

        async def work_on_this_log(connection: Statements) -> bool:
            return bool(await connection.fetchval(QUERIES["forget_log"], gateway_id, log_id))

        if log_id is None:
            return await joined(self._database, transaction, work)
        with _naming(f"the log of gateway {gateway_id}"):
            return await self._in_one_statement(transaction, work_on_this_log)

    async def _in_one_statement(
        self, transaction: object | None, work: Callable[[Statements], Awaitable[bool]]
    ) -> bool:
        """The result of one statement; without a transaction it commits by itself, so that no lock outlives it."""
        if transaction is not None:
            return await joined(self._database, transaction, work)

        async def once() -> bool:
            async with self._database.connection() as connection:
                return await work(connection)

        return await repeated(once)

    async def trim(self, policy: TrimPolicy, trim_pass: TrimPass | None = None) -> int:
        """How many old events were removed, at most one chunk; the pass is also done while another pod is trimming."""
        waits, trim_pass = trim_pass is not None, trim_pass or TrimPass()
        limits = (policy.keep_confirmed, policy.keep_at_most, policy.max_events, policy.chunk)
        [row] = await self._database.fetch(QUERIES["trim"], *limits, trim_pass.gateway_id, trim_pass.head, waits)
        if row["next_gateway_id"] is None:
            trim_pass.is_done = True
        else:
            trim_pass.move_to(row["next_gateway_id"], row["next_head"])
        return int(row["removed"])

    async def contradicts(self, remembered: Sequence[Remembered]) -> bool:
        """Whether one of these events is no longer where it was read."""
        [row] = await self._database.fetch(
            QUERIES["contradicted"],
            [each.gateway_id for each in remembered],
            [each.log_id for each in remembered],
            [each.offset for each in remembered],
            [each.event_id for each in remembered],
        )
        return bool(row["events"])

    async def renew_epoch(self, expected: UUID) -> UUID:
        """The present epoch, after a new history has begun: by this call only if the epoch was still `expected`."""
        return await self._settle(expected, "end")

    async def record_history(self, expected: UUID, verdict: Verdict = Verdict.RECORD) -> UUID:
        """The present epoch, after deciding whether the history continues on the server where it is found now."""
        return await self._settle(expected, verdict)

    async def _settle(self, expected: UUID, verdict: str) -> UUID:
        [row] = await self._database.fetch(QUERIES["settle_history"], expected, verdict)
        with contained("hint-lost"):
            await self._database.fetch(QUERIES["hint_everything"])
        return UUID(str(row["epoch"]))


@contextmanager
def _naming(held: str) -> Iterator[None]:
    """Raise `LogHeld`, not `StorageUnavailable`, if the server did not grant a lock in time."""
    try:
        yield
    except StorageUnavailable as failure:
        if isinstance(failure.__cause__, asyncpg.LockNotAvailableError):
            raise LogHeld(held) from failure
        raise


def _read_result(gateway_id: str, rows: Sequence[Row]) -> ReadResult:
    first = rows[0]
    # A log without events to read has one row without an event.
    events = [] if first["offset"] is None else [recorded_event(gateway_id, row) for row in rows]
    return ReadResult(
        events=events,
        epoch=first["epoch"],
        server=first["server"],
        log_id=first["log_id"],
        head=first["head"],
        last_event_id=first["last_event_id"],
        low_water_mark=first["trimmed_through"],
    )
