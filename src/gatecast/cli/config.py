"""`gatecast config …`: whether the settings of a pod fit together."""

from __future__ import annotations

import os
from collections.abc import Mapping

import typer

from gatecast.cli.output import JsonFlag, print_json, screen
from gatecast.errors import SettingInvalid
from gatecast.settings import Settings, descriptions
from gatecast.storage.database_url import parse

app = typer.Typer(no_args_is_help=True, help="Check the settings of a pod before it starts.")

_PREFIX = "GATECAST_"

#: Read by commands, and by nothing else.
_OF_COMMANDS = frozenset({"GATECAST_URL", "GATECAST_TOKEN"})


@app.callback()
def config() -> None:
    """Check the settings of a pod before it starts."""


@app.command()
def check(*, as_json: JsonFlag = False) -> None:
    """Check every GATECAST_* variable: names that are no setting, and values that a pod would refuse.

    Opens no database and no socket; `gatecast doctor` does. The exit status is 1 if something is wrong.
    """
    problems = problems_of(os.environ)
    if as_json:
        print_json({"problems": problems})
    elif problems:
        for problem in problems:
            screen.print(f"[red]wrong[/red]  {problem}")
    else:
        screen.print("the settings are valid")
    if problems:
        raise typer.Exit(1)


def problems_of(environment: Mapping[str, str]) -> list[str]:
    """What is wrong with the variables, a sentence each, without their values."""
    known = {one.variable for one in descriptions()} | _OF_COMMANDS
    found = [
        f"{name} is no setting; `gatecast settings` lists them all"
        for name in sorted(environment)
        if name.startswith(_PREFIX) and name not in known
    ]
    sound: dict[str, str] = {}
    for one in descriptions():
        if one.variable in environment:
            alone = {one.variable: environment[one.variable]}
            found += _refusal(alone)
            sound |= {} if _refusal(alone) else alone
    if not found:
        found += _refusal(sound)
    return list(dict.fromkeys(found))


def _refusal(environment: Mapping[str, str]) -> list[str]:
    try:
        parse(Settings.read(environment).database)
    except SettingInvalid as error:
        return [str(error)]
    return []
