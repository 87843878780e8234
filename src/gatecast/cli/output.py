"""What commands print: text for people, JSON for machines, errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

#: Rich colours output only on a terminal, and honours NO_COLOR.
screen = Console(highlight=False, soft_wrap=True)
complaints = Console(stderr=True, highlight=False, soft_wrap=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

#: Wide enough for every row: piped output is never wrapped, so that a line is a row for its reader.
_UNBOUNDED = 1_000_000


class Output(StrEnum):
    """How many columns a list shows."""

    #: The columns that fit a terminal of 80 characters.
    SHORT = "short"
    #: Every column.
    WIDE = "wide"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="short, or wide: every column, ids among them.")]


def print_json(value: object) -> None:
    """Print one JSON document on a line of its own."""
    typer.echo(json.dumps(value, default=str, ensure_ascii=False))


def print_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    *,
    empty: str,
    wide: Mapping[str, str] | None = None,
    output: Output = Output.SHORT,
) -> None:
    """Print rows as a table; `columns` gives the heading of each key, `wide` those of keys that only `-o wide` shows.

    Prints `empty` if there are no rows.
    """
    if not rows:
        screen.print(f"[dim]{empty}[/dim]")
        return
    shown = {**columns, **(wide or {})} if output is Output.WIDE else columns
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in shown.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(cell(row.get(key)) for key in shown))
    _print_table(table)


def print_fields(row: Mapping[str, Any], names: Iterable[str]) -> None:
    """Print one row, a field on each line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name in names:
        table.add_row(name, cell(row.get(name)))
    _print_table(table)


def _print_table(table: Table) -> None:
    if screen.is_terminal:
        screen.print(table)
        return
    for line in screen.render_lines(table, screen.options.update(width=_UNBOUNDED), pad=False):
        # Rich pads the last column; a file needs no such blanks.
        typer.echo("".join(segment.text for segment in line).rstrip())


@contextmanager
def progress(what: str) -> Iterator[None]:
    """On a terminal, show what the block waits for until it ends."""
    with complaints.status(f"{what} …") if complaints.is_terminal else _nothing():
        yield


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def cell(value: object) -> str:
    """A value as a person reads it."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case dict() | list():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return escape(str(value))
