"""`gatecast config …`: check the settings of a pod."""

from __future__ import annotations

import os
from collections.abc import Mapping

import typer
from rich.markup import escape

from gatecast.cli.output import JsonFlag, print_json, screen
from gatecast.errors import SettingInvalid
from gatecast.settings import PREFIX, Settings
from gatecast.storage.database_url import parse
from gatecast.storage.stream_url import parse_stream

app = typer.Typer(no_args_is_help=True, help="Check the settings of a pod before it starts.")


@app.callback()
def config() -> None:
    """Check the settings of a pod before it starts."""


@app.command()
def check(*, as_json: JsonFlag = False) -> None:
    """Check every GATECAST_* variable: is it a setting, and would a pod accept its value?

    Opens no database and no socket; `gatecast doctor` does. The exit status is 1 if something is wrong.
    """
    problems = problems_of(os.environ)
    if as_json:
        print_json({"problems": problems})
    elif problems:
        for problem in problems:
            screen.print(f"[red]wrong[/red]  {escape(problem)}")
    else:
        screen.print("the settings are valid")
    if problems:
        raise typer.Exit(1)


def problems_of(environment: Mapping[str, str]) -> list[str]:
    """The mistakes in the variables, a sentence each, without their values."""
    ours = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    found = [problem for name in sorted(ours) for problem in _refusal({name: ours[name]})]
    # Each by itself, so that all mistakes are reported at once; then together.
    return found or _refusal(ours, together=True)


def _refusal(environment: Mapping[str, str], *, together: bool = False) -> list[str]:
    try:
        settings = Settings.read(environment)
        if parse_stream(settings.database) is None:
            parse(settings.database)
        if together:
            settings.check_for_pod()
    except SettingInvalid as error:
        return [str(error)]
    return []
