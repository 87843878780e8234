"""What commands print fits a terminal, and is never wrapped where a program reads it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from gatecast.cli import output
from gatecast.cli.output import Output, print_fields, print_table

_ROWS: list[dict[str, Any]] = [{"name": "n" * 200, "id": "i-1", "on": True}, {"name": "[red]", "id": "i-2", "on": None}]
_COLUMNS = {"name": "NAME", "on": "ON"}


def _terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=80, color_system=None, soft_wrap=True)
    monkeypatch.setattr(output, "screen", console)
    return shown


def test_a_row_is_a_line_where_it_is_piped(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(_ROWS, _COLUMNS, empty="none")
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["NAME", "ON"]
    assert first.split() == ["n" * 200, "yes"]
    assert second.split() == ["[red]", "-"]
    assert second == second.rstrip()
    print_fields(_ROWS[0], ["name", "id"])
    assert capsys.readouterr().out.splitlines() == [f"name  {'n' * 200}", "id    i-1"]


def test_a_table_fits_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _terminal(monkeypatch)
    print_table(_ROWS, _COLUMNS, empty="none")
    assert max(map(len, shown.getvalue().splitlines())) <= 80
    assert shown.getvalue().count("n") == 200


def test_wide_shows_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(_ROWS, _COLUMNS, wide={"id": "ID"}, output=Output.WIDE, empty="none")
    assert capsys.readouterr().out.splitlines()[0].split() == ["NAME", "ON", "ID"]
    print_table([], _COLUMNS, wide={"id": "ID"}, empty="none yet")
    assert capsys.readouterr().out == "none yet\n"
