"""Settings as command-line flags, generated from `Settings`, so that each is defined once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from gatecast.settings import Settings, descriptions


def with_settings(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command a flag for each named setting (all when none is named) and pass it the `Settings`.

    The flag wins over the environment variable of the same name, and the variable over the default.
    """
    chosen = [one for one in descriptions() if not names or one.name in names]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(**arguments: Any) -> Any:  # noqa: ANN401 - whatever the command takes
            flags = {one.name: arguments.pop(one.name) for one in chosen}
            return command(settings=Settings.read(**flags), **arguments)

        own = [
            each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "settings"
        ]
        flags = [_flag(one.name, one.flag, f"{one.meaning} [{one.variable}]") for one in chosen]
        wrapped.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
        wrapped.__annotations__ = {each.name: each.annotation for each in [*own, *flags]}
        wrapped.__doc__ = command.__doc__
        wrapped.__name__ = command.__name__
        return wrapped

    return decorate


def _flag(name: str, flag: str, meaning: str) -> inspect.Parameter:
    option = typer.Option(flag, help=meaning, show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )
