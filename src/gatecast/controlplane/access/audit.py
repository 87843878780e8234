"""Who asked for which change, when, from where, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from gatecast.controlplane.transactions.clock import milliseconds
from gatecast.storage.contract import Database, Row
from gatecast.storage.queries import Queries

_QUERIES = Queries("gatecast.controlplane.access", "audit.sql")

#: Audit entries are kept this long, in milliseconds.
KEPT_FOR = 400 * 24 * 60 * 60 * 1000

#: So many old entries are removed in one transaction.
_CHUNK = 1_000

#: Longest target and subject that are kept, in characters.
_LONGEST = 512

#: After every entry.
END = (2**62, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Somebody asks for a change."""

    organization: str
    #: The token or the person.
    subject: str
    role: str
    #: The address that the request came from.
    remote: str
    #: `api` or `console`.
    door: str
    #: What was asked for, like `create_gateway`.
    action: str
    #: What it is about: the path of the request.
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry(Attempt):
    """An attempt as it is kept."""

    id: str
    asked_at: datetime
    #: The HTTP status that it was answered with; None: the pod ended before it answered, so look at the target.
    status: int | None

    @property
    def cursor(self) -> str:
        """Where the next page begins."""
        return f"{int(self.asked_at.timestamp() * 1000)}:{self.id}"


class AuditLog:
    """Keeps what was asked for. An attempt is stored before it is tried, so that no change goes without an entry."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, attempt: Attempt) -> str:
        """Store an attempt and return its id.

        Raises:
            StorageUnavailable: it cannot be stored; then nothing may be changed.
        """
        entry_id = str(uuid4())
        values = (attempt.subject[:_LONGEST], attempt.role, attempt.remote, attempt.door, attempt.action)
        target = attempt.target[:_LONGEST]
        columns = (entry_id, attempt.organization, milliseconds(), *values, target)
        await self._database.execute(_QUERIES["record"], *columns)
        return entry_id

    async def describe(self, entry_id: str, target: str) -> None:
        """Note more precisely what an attempt is about, before it is tried.

        Raises:
            StorageUnavailable: it cannot be stored; then nothing may be changed.
        """
        await self._database.execute(_QUERIES["describe"], entry_id, target[:_LONGEST])

    async def answered(self, entry_id: str, status: int, made: str) -> None:
        """Note what an attempt was answered with, and what it made; empty: what it is about stays."""
        await self._database.execute(_QUERIES["answered"], entry_id, status, made[:_LONGEST])

    async def page(
        self, organization: str, *, before: tuple[int, str] = END, action: str = "", subject: str = "", limit: int
    ) -> list[AuditEntry]:
        """At most `limit` entries of an organization, the newest first."""
        rows = await self._database.fetch(_QUERIES["page"], organization, *before, action, subject, limit)
        return [_entry(organization, row) for row in rows]

    async def clean_up(self) -> int:
        """Remove a chunk of what is older than it is kept, and return how much went."""
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
