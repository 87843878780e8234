"""The audit log: who asked for which change, when, from where, and with what result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from gatecast.controlplane.transactions.clock import milliseconds
from gatecast.events import printable
from gatecast.storage.contract import Database, Row
from gatecast.storage.queries import Queries

_QUERIES = Queries("gatecast.controlplane.access", "audit.sql")

#: How long audit entries are kept, in milliseconds: 400 days.
KEPT_FOR = 400 * 24 * 60 * 60 * 1000

#: Most entries removed in one transaction.
_CHUNK = 1_000

#: Longest stored target and subject, in characters; the rest is cut off.
_LONGEST = 512

#: A place after every entry, so that a page before it begins with the newest.
END = (2**62, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A request for a change, before it is carried out."""

    organization: str
    #: The token or the person, as in `Caller.subject`.
    subject: str
    role: str
    #: The address that the request came from.
    remote: str
    #: `api` or `console`.
    door: str
    #: The requested change, like `create_gateway`.
    action: str
    #: The path of the request; once something was created, the path of that.
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry(Attempt):
    """A stored attempt and its result."""

    id: str
    asked_at: datetime
    #: HTTP status of the answer. None: no answer is stored, because the request still runs, its pod ended first, or the
    #: answer could not be stored; look at the target to learn what happened.
    status: int | None

    @property
    def cursor(self) -> str:
        """The entry's place in the log, as `milliseconds:id`; the next page begins after it."""
        return f"{int(self.asked_at.timestamp() * 1000)}:{self.id}"


class AuditLog:
    """The stored attempts of every organization.

    An attempt is stored before it is carried out, so that there is no change without an entry.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, attempt: Attempt) -> str:
        """The id of the new entry, which is stored when this returns.

        Raises:
            StorageUnavailable: it cannot be stored; the caller must not carry out the change.
        """
        entry_id = str(uuid4())
        # Nobody has checked the path yet, and no text of a peer may keep a database from storing the entry.
        values = (printable(attempt.subject, _LONGEST), attempt.role, attempt.remote, attempt.door, attempt.action)
        target = printable(attempt.target, _LONGEST)
        columns = (entry_id, attempt.organization, milliseconds(), *values, target)
        await self._database.execute(_QUERIES["record"], *columns)
        return entry_id

    async def describe(self, entry_id: str, target: str) -> None:
        """Replace an entry's target by a more precise one, before the change is carried out.

        Raises:
            StorageUnavailable: it cannot be stored; the caller must not carry out the change.
        """
        await self._database.execute(_QUERIES["describe"], entry_id, printable(target, _LONGEST))

    async def answered(self, entry_id: str, status: int, made: str) -> None:
        """Store the HTTP status of the answer, and the path of what was created; empty keeps the target as it is."""
        await self._database.execute(_QUERIES["answered"], entry_id, status, made[:_LONGEST])

    async def page(
        self, organization: str, *, before: tuple[int, str] = END, action: str = "", subject: str = "", limit: int
    ) -> list[AuditEntry]:
        """At most `limit` entries of an organization, newest first.

        `before` is a time in milliseconds and an id, as in `AuditEntry.cursor`: only older entries are returned. An
        empty `action` or `subject` matches every entry.
        """
        rows = await self._database.fetch(_QUERIES["page"], organization, *before, action, subject, limit)
        return [_entry(organization, row) for row in rows]

    async def clean_up(self) -> int:
        """How many expired entries were removed: at most 1,000 in one call, and 0 when none are left."""
        return await self._database.execute(_QUERIES["forget"], milliseconds() - KEPT_FOR, _CHUNK)


def _entry(organization: str, row: Row) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        organization=organization,
        asked_at=datetime.fromtimestamp(row["asked_at"] / 1000, UTC),
        subject=row["subject"],
        role=row["role"],
        remote=row["remote"],
        door=row["door"],
        action=row["action"],
        target=row["target"],
        status=row["status"] or None,
    )
