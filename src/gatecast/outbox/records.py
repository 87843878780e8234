"""The tables of forwarding: which process forwards, and how far each gateway's entries were forwarded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import timedelta
from typing import Final, LiteralString
from uuid import uuid4

from gatecast.errors import StorageUnavailable
from gatecast.storage.contract import Database, ReadResult, Row, Transaction
from gatecast.storage.database_url import Backend
from gatecast.storage.queries import Queries

#: The package with the migrations of these tables.
MIGRATIONS: Final = "gatecast.outbox.migrations"

_QUERIES = Queries("gatecast.outbox")

#: A new id for each row.
_NEW_ID: Final = """lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2)
    || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))"""

#: What SQLite calls otherwise, as an instant in seconds since 1970. An unreadable column does not fail the statement.
_ON_SQLITE: Final = (
    ("date_part('epoch', e.recorded_at)", "(julianday(e.recorded_at) - 2440587.5) * 86400.0"),
    ("date_part('epoch', now())", "(julianday(now()) - 2440587.5) * 86400.0"),
    ("gen_random_uuid()", _NEW_ID),
)


class TermOver(StorageUnavailable):
    """Another process forwards now: nothing was recorded."""

    def __init__(self) -> None:
        super().__init__("another process has begun to forward the outbox")


@dataclass(frozen=True, slots=True)
class Forwarder:
    """The row that says which process forwards."""

    #: Empty if no pod forwards.
    pod_id: str
    term: str
    beats: int
    #: Identity of the log that the outbox forwards into, and where that was found last; empty until it is bound to one.
    log: str = ""
    log_place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far the entries of one gateway were forwarded."""

    gateway_id: str
    #: The gateway's log in the outbox.
    outbox_log: int
    #: Every entry up to this offset is in the gateway's log, or was left out.
    forwarded: int
    #: The epoch and the end of the gateway's log when that was recorded. Without an epoch they have to be looked up
    #: before anything is forwarded, and the log created if there is none.
    log_epoch: str
    log_head: int
    #: Offset of the entry that the log refused; 0 if it has refused none. It counts while it is past `forwarded`.
    refused: int = 0
    #: Why it was refused.
    reason: str = ""

    @property
    def is_refused(self) -> bool:
        """Whether the next entry was refused, so that nothing can be done before a decision."""
        return self.refused > self.forwarded

    def forwarded_to(self, offset: int, *, log_epoch: str, log_head: int) -> Mark:
        """The mark once the entries up to and including this offset are in the log, which then ended there."""
        return replace(self, forwarded=offset, log_epoch=log_epoch, log_head=log_head, refused=0, reason="")

    def left_out(self) -> Mark:
        """The mark after leaving out the entry that was refused."""
        return replace(self, forwarded=max(self.refused, self.forwarded), refused=0, reason="")

    def may_lack(self, log: ReadResult) -> bool:
        """Whether the log may have removed events that are not recorded here."""
        return self.log_epoch == str(log.epoch) and self.log_head < log.low_water_mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A gateway with work to forward."""

    gateway_id: str
    #: Its log in the outbox, and the offset of the last entry there; None and 0 if it was deleted.
    log_id: int | None
    head: int
    #: Its mark; None if nothing was forwarded yet. If it names another log than `log_id`, it was registered again
    #: since.
    mark: Mark | None
    #: When the first entry that waits was stored, in seconds since 1970; None if none waits, or its row does not tell.
    since: float | None = None

    @property
    def current(self) -> Mark | None:
        """Its mark, unless that is one of a gateway that was deleted since."""
        return self.mark if self.mark is not None and self.mark.outbox_log == self.log_id else None

    @property
    def present(self) -> Mark | None:
        """Its current mark, unless the end of its log has to be looked up first."""
        return self.current if self.current is not None and self.current.log_epoch else None

    @property
    def entries(self) -> int:
        """How many entries wait."""
        return self.head - self.forwarded

    @property
    def forwarded(self) -> int:
        """The offset before the first entry that waits."""
        return self.current.forwarded if self.current is not None else 0

    @property
    def is_refused(self) -> bool:
        """Whether its next entry was refused, so that nothing can be done before a decision."""
        return self.current is not None and self.current.is_refused


class Records:
    """Reads and writes the tables of forwarding."""

    def __init__(self, database: Database, backend: Backend) -> None:
        self._database = database
        self._backend = backend

    async def forwarder(self) -> Forwarder:
        """The process that forwards, according to the table."""
        [row] = await self._database.fetch(_QUERIES["forwarder"])
        return Forwarder(**row)

    async def take(self, pod_id: str, term: str, seen: Forwarder) -> bool:
        """Begin a term, unless something has changed since `seen`; False if it has."""
        take = self._of_the_log("take"), pod_id, term, seen.term, seen.beats, seen.log
        return await self._database.execute(*take) == 1

    async def bind(self, log: str, place: str) -> bool:
        """Bind the outbox to this log; False if it is bound to another one."""
        return await self._database.execute(_QUERIES["bind"], log, place) == 1

    async def rebind(self, known: str, log: str, place: str) -> bool:
        """Bind the outbox to another log; False if it is no longer bound to the known one."""
        async with self._database.transaction() as transaction:
            if await transaction.execute(_QUERIES["rebind"], known, log, place, str(uuid4())) == 0:
                return False
            await transaction.execute(_QUERIES["begin_anew"])
            await transaction.execute(self._of_the_log("free_forwarded_ids"))
        return True

    async def log_epochs(self) -> set[str]:
        """The epochs of the log in which something was forwarded, as far as they are recorded."""
        return {row["log_epoch"] for row in await self._database.fetch(_QUERIES["log_epochs"])}

    async def beat(self, term: str) -> bool:
        """Show that the forwarder lives; False if its term is over."""
        return await self._database.execute(_QUERIES["beat"], term) == 1

    async def give_up(self, term: str) -> None:
        """Let another process take over at once."""
        await self._database.execute(_QUERIES["give_up"], term)

    async def waiting(self) -> list[Waiting]:
        """The gateways with work to forward. The cost grows with the number of gateways."""
        return [_waiting(row) for row in await self._database.fetch(self._of_the_log("waiting"))]

    async def entries(self, gateway_ids: Iterable[str]) -> dict[str, int]:
        """How many entries of each of these gateways wait; only those with some."""
        named = json.dumps(dict.fromkeys(gateway_ids), ensure_ascii=False)
        return {
            row["gateway_id"]: row["entries"] for row in await self._database.fetch(self._of_the_log("entries"), named)
        }

    async def marked_gateways(self) -> set[str]:
        """The gateways with a mark."""
        return {row["gateway_id"] for row in await self._database.fetch(_QUERIES["marked"])}

    async def with_logs(self) -> list[Mark]:
        """The marks of the gateways that are in the outbox now and have a log, as far as is recorded."""
        return [Mark(**row) for row in await self._database.fetch(self._of_the_log("with_logs"))]

    async def mark(self, gateway_id: str) -> Mark | None:
        """The mark of one gateway; None if nothing of it was forwarded yet."""
        rows = await self._database.fetch(_QUERIES["mark"], gateway_id)
        return Mark(**rows[0]) if rows else None

    async def adopt(self, transaction: Transaction, gateway_id: str) -> None:
        """Note that a gateway that is being registered in the outbox has a log, whose ids are not known here."""
        await transaction.execute(self._of_the_log("adopt"), gateway_id)
        await transaction.execute(self._of_the_log("begin_ids_anew"))

    async def begin_ids(self, *, ever: bool) -> None:
        """Note, unless that was done, since when every published id is known here: since `ever`, or since now."""
        await self._database.execute(self._of_the_log("begin_ids"), int(ever))

    async def knows_ids(self, kept: timedelta) -> bool:
        """Whether every id is known here that was published while ids are kept."""
        [row] = await self._database.fetch(self._of_the_log("knows_ids"), kept.total_seconds())
        return bool(row["knows_ids"])

    async def forget_ids(self, kept: timedelta) -> None:
        """Note that ids of events that were published longer ago than this are about to be removed."""
        await self._database.execute(self._of_the_log("forget_ids"), kept.total_seconds())

    async def save(self, term: str, marks: Sequence[Mark]) -> None:
        """Record how far these gateways were forwarded, all of them or none.

        Raises:
            TermOver: another process forwards now.
        """
        if marks and not await self._database.execute(_QUERIES["save"], _as_object(marks), term):
            raise TermOver

    async def drop(self, term: str, mark: Mark) -> None:
        """Remove the mark of a gateway that was deleted; changes nothing once another process forwards."""
        await self._database.execute(_QUERIES["drop"], mark.gateway_id, mark.outbox_log, term)

    async def try_again(self, mark: Mark) -> bool:
        """Let the refused entry be forwarded again; False if it is no longer refused."""
        return await self._database.execute(_QUERIES["try_again"], mark.gateway_id, mark.outbox_log, mark.refused) == 1

    async def leave_out(self, mark: Mark) -> bool:
        """Continue after the refused entry; False if it is no longer refused."""
        async with self._database.transaction() as transaction:
            left_out = _QUERIES["leave_out"], mark.gateway_id, mark.outbox_log, mark.refused
            if await transaction.execute(*left_out) != 1:
                return False
            await transaction.execute(self._of_the_log("free_id"), mark.outbox_log, mark.refused, uuid4())
        return True

    async def confirm(self) -> None:
        """Let retention remove what was forwarded from the outbox; of a gateway that is just being deleted, later."""
        await self._database.execute(self._of_the_log("confirm"))

    def _of_the_log(self, name: str) -> LiteralString:
        text = _QUERIES[name]
        if self._backend is not Backend.SQLITE:
            return text
        for elsewhere, on_sqlite in _ON_SQLITE:
            text = text.replace(elsewhere, on_sqlite)
        return text.replace("gatecast.", "gatecast_")


def _waiting(row: Row) -> Waiting:
    columns = dict(row)
    log_id, head, since = columns.pop("log_id"), columns.pop("head"), columns.pop("since")
    mark = Mark(**columns) if columns["outbox_log"] is not None else None
    return Waiting(gateway_id=row["gateway_id"], log_id=log_id, head=head, mark=mark, since=since)


def _as_object(marks: Sequence[Mark]) -> str:
    return json.dumps({str(number): astuple(mark) for number, mark in enumerate(marks)}, ensure_ascii=False)
