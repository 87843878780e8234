"""The command `gatecast`."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from gatecast.cli.output import complaints, screen
from gatecast.errors import GatecastError
from gatecast.extras import ExtraMissing
from gatecast.hiding import redacted
from gatecast.version import __version__

#: The module of each command, in the order of `gatecast --help`. It is imported when the command runs, so that an HTTP
#: command starts at once, and works without the packages of a server.
COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "serve": "serve:serve",
        "demo": "demo:demo",
        "migrate": "migrate:migrate",
        "move-log": "move_log:move_log",
        "roles": "roles:roles",
        "reseal": "reseal:reseal",
        "publish": "publish:publish",
        "tail": "tail:tail",
        "receive": "receive:receive",
        "why": "gateway:why",
        "verify": "verify:verify",
        "doctor": "doctor:doctor",
        "settings": "settings:settings",
        "config": "config:app",
        "gateway": "gateway:app",
        "token": "token:app",
        "events": "events:app",
        "provider": "artifacts:provider",
        "proxy": "artifacts:proxy",
        "api": "artifacts:api",
        "mcp": "artifacts:mcp",
        "key": "key:app",
        "admin-token": "admin_token:app",
        "epoch": "epoch:app",
        "outbox": "outbox:app",
        "bench": "bench:app",
    }
)


class _Commands(TyperGroup):
    """The commands; errors about arguments repeat nothing that may be a secret."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002, ANN401 - typer's own copy of click has no public types
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - as above
        """The command with this name; None: there is none."""
        if cmd_name not in COMMANDS:
            return None
        command = _command(cmd_name)
        if ctx is not None and ctx.obj is _log_only_errors:
            _log_only_errors()
        return command

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own copy of click has no public types
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if hasattr(error, "format_message"):
                # Of the arguments. An extra one is most often a value whose flag was forgotten.
                error.message = redacted(_TOO_MANY.sub(r"\1", error.message))  # type: ignore[attr-defined]
            raise


_TOO_MANY = re.compile(r"(unexpected extra arguments?)\b.*", re.DOTALL)


def _command(name: str) -> Any:  # noqa: ANN401 - as above
    module, _, attribute = COMMANDS[name].partition(":")
    holder = typer.Typer(add_completion=False)
    try:
        found = getattr(import_module(f"gatecast.cli.{module}"), attribute)
    except ExtraMissing as missing:
        holder.command(name, context_settings=_WHATEVER)(_refusal(missing))
    else:
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=name)
        else:
            holder.command(name)(found)
    return typer.main.get_group(holder).commands[name]


def _log_only_errors() -> None:
    """Nobody reads the logs of a command; without the logging library there are none."""
    if "gatecast.telemetry" in sys.modules:
        sys.modules["gatecast.telemetry"].configure_logs(format_name="text", pod_id="", level=logging.ERROR)


#: A command that cannot run says so before it parses its arguments.
_WHATEVER: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True}


def _refusal(missing: ExtraMissing) -> Callable[[], None]:
    """A command that names the missing extra."""

    def refuse() -> None:
        raise missing

    refuse.__doc__ = f"Not installed: gatecast[{missing.extra}]."
    return refuse


app = typer.Typer(
    name="gatecast",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Durable, ordered, confirmed delivery of configuration changes to gateways.",
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's signature
    if wanted:
        screen.print(__version__)
        raise typer.Exit


@app.callback()
def about(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Durable, ordered, confirmed delivery of configuration changes to gateways."""


def run() -> None:
    """Run the command that the arguments name; an error is one line that says what to do."""
    try:
        # A program that runs these commands itself keeps its own logging.
        app(obj=_log_only_errors)
    except (GatecastError, ExtraMissing) as error:
        complaints.print(f"[bold red]error:[/bold red] {escape(redacted(str(error)))}")
        sys.exit(1)
    except Exception:  # noqa: BLE001 - a mistake of ours, shown as Python would
        sys.stderr.write(redacted(traceback.format_exc()))
        sys.exit(1)


if __name__ == "__main__":
    run()
