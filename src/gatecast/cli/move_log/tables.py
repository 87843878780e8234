"""Which tables are moved, and how values are converted from SQLite to PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID

from gatecast.errors import DatabaseUnsuitable

#: Tables that belong to one database: its migrations, and its present pods and connections.
STAY = frozenset({"gatecast.schema_migrations", "gatecast.schema_functions", "gatecast.pods", "gatecast.connections"})

#: Its one row exists already, and takes over the identity of the history.
EPOCH = "gatecast.epoch"

#: The last change of a row; each database numbers its changes in its own way.
_OF_ONE_DATABASE = frozenset({"changed_seq", "trimmed_seq"})

#: How values of some PostgreSQL types are read from a file; others are the same.
_READ: Mapping[str, Callable[[Any], Any]] = MappingProxyType({"uuid": UUID, "boolean": bool, "bytea": bytes})


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that both databases have."""

    #: Its name in PostgreSQL, with the schema unless that is the default one.
    name: str
    #: The PostgreSQL types of the columns that both have.
    types: Mapping[str, str]

    @property
    def name_in_file(self) -> str:
        """Its name in SQLite."""
        return name_in_file(self.name)

    @property
    def read(self) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
        """Turns a row of the file, with these columns, into one of PostgreSQL."""
        readers = [_READ.get(kind) for kind in self.types.values()]

        def read(row: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(
                value if reader is None or value is None else reader(value)
                for reader, value in zip(readers, row, strict=True)
            )

        return read


def passed_as(kind: str) -> str:
    """The type in which a value of a column is passed; PostgreSQL converts it."""
    # The driver takes the first and the last instant of `datetime` for -infinity and infinity.
    return "text" if kind == "timestamp with time zone" else kind


def name_in_file(table: str) -> str:
    """The name in SQLite of a PostgreSQL table."""
    return table.replace(".", "_")


def moved(created: Sequence[str]) -> list[str]:
    """Those of these tables whose rows are moved, in an order that satisfies references."""
    return [name for name in dict.fromkeys(created) if name not in STAY and name != EPOCH]


def table(name: str, types: Mapping[str, str], columns_in_file: Sequence[str]) -> Table:
    """A table, given the types of its columns in PostgreSQL and the names of those in the file.

    Raises:
        DatabaseUnsuitable: the file has a column that PostgreSQL lacks.
    """
    if unknown := set(columns_in_file) - types.keys() - _OF_ONE_DATABASE:
        problem = f"{name_in_file(name)} has columns that are unknown here: {', '.join(sorted(unknown))}"
        raise DatabaseUnsuitable(problem, "move it with the release that made them")
    return Table(name=name, types={each: types[each] for each in columns_in_file if each in types})
