"""What commands print: text for people, JSON for machines, errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

#: Colour appears only on a terminal; Rich sees to that, and honours NO_COLOR.
screen = Console(highlight=False, soft_wrap=True)
complaints = Console(stderr=True, highlight=False, soft_wrap=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def print_json(value: object) -> None:
    """One JSON document on a line of its own."""
    typer.echo(json.dumps(value, default=str, ensure_ascii=False))


def print_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, empty: str) -> None:
    """Rows as a table, `columns` giving the heading of each key; `empty` is said when there are none."""
    if not rows:
        screen.print(f"[dim]{empty}[/dim]")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(cell(row.get(key)) for key in columns))
    screen.print(table)


def print_fields(row: Mapping[str, Any], names: Iterable[str]) -> None:
    """One thing, a field on each line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name in names:
        table.add_row(name, cell(row.get(name)))
    screen.print(table)


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
