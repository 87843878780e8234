"""The contract of an SQL database, for the modules that keep their own tables in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, LiteralString, Protocol, TypeAlias, TypeVar

from gatecast.storage.migrations import SchemaNeed
from gatecast.storage.replication import Replication

#: One row of a result, by column name.
Row: TypeAlias = Mapping[str, Any]

T = TypeVar("T")


class Transaction(Protocol):
    """An open transaction. Placeholders are `$1`, `$2` … in every database."""

    async def fetch(self, query: LiteralString, *arguments: object) -> list[Row]:
        """Every row of the result."""

    async def fetch_one(self, query: LiteralString, *arguments: object) -> Row | None:
        """The first row of the result, or None."""

    async def execute(self, query: LiteralString, *arguments: object) -> int:
        """How many rows the statement changed."""


class Database(Protocol):
    """One database, for the modules that keep their own tables in it."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction that commits when the block ends, and rolls back when it raises or is cancelled."""

    async def fetch(self, query: LiteralString, *arguments: object) -> list[Row]:
        """Every row of a query that changes nothing, outside any transaction."""

    async def execute(self, query: LiteralString, *arguments: object) -> int:
        """How many rows a statement changed; it is a transaction of its own, repeated as by `repeated`."""

    async def repeated(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of work that is one transaction, repeated if the database rolled it back for another one.

        Raises:
            StorageUnavailable: the database still rolled it back after as long as one statement may take.
        """

    async def ping(self) -> None:
        """Return once the database has answered.

        Raises:
            StorageUnavailable: it cannot be reached.
        """

    async def replication(self) -> Replication | None:
        """The standbys, and whether commits wait for them; None on SQLite and on a server that is a standby itself."""

    async def is_outbox(self) -> bool:
        """Whether it holds an outbox, whose logs hold what is to be forwarded to another log."""

    async def schema_version(self) -> int:
        """Number of the newest applied migration of the event log; 0 for an empty database."""

    async def schema_need(self) -> SchemaNeed:
        """What the database lacks of the schema that this release needs.

        Raises:
            SchemaTooNew: a newer release migrated the database.
            DatabaseUnsuitable: the role that connects cannot find or use the tables.
        """

    async def migrate(self) -> Sequence[int]:
        """The numbers of the migrations that this call applied; of pods that start together, one applies them.

        Raises:
            SchemaTooNew: a newer release migrated the database.
            DatabaseUnsuitable: the role that connects cannot find or use the tables, or must not change the schema.
        """
