"""The command `gatecast`."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from gatecast.cli import admin_token, bench, epoch, gateway, token
from gatecast.cli.demo import demo
from gatecast.cli.doctor import doctor
from gatecast.cli.migrate import migrate
from gatecast.cli.output import complaints, screen
from gatecast.cli.publish import publish
from gatecast.cli.reseal import reseal
from gatecast.cli.roles import roles
from gatecast.cli.serve import serve
from gatecast.cli.settings import settings
from gatecast.cli.tail import tail
from gatecast.cli.verify import verify
from gatecast.errors import GatecastError
from gatecast.hiding import redacted
from gatecast.telemetry import configure_logs
from gatecast.version import __version__


class _Commands(TyperGroup):
    """The commands; what is said of arguments that cannot be used repeats nothing that may be a secret."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own copy of click has no public types
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if isinstance(message := getattr(error, "message", None), str):
                # An argument too many is most often a value whose flag was forgotten.
                error.message = redacted(_TOO_MANY.sub(r"\1", message))  # type: ignore[attr-defined]
            raise


_TOO_MANY = re.compile(r"(unexpected extra arguments?)\b.*", re.DOTALL)


app = typer.Typer(
    name="gatecast",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Durable, ordered, confirmed delivery of configuration changes to gateways.",
)
app.command()(serve)
app.command()(demo)
app.command()(migrate)
app.command()(roles)
app.add_typer(gateway.app, name="gateway")
app.add_typer(token.app, name="token")
app.add_typer(admin_token.app, name="admin-token")
app.command()(reseal)
app.command()(publish)
app.command()(tail)
app.command()(gateway.why)
app.add_typer(epoch.app, name="epoch")
app.add_typer(bench.app, name="bench")
app.command()(verify)
app.command()(doctor)
app.command()(settings)


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
    configure_logs(format_name="text", pod_id="", level=logging.ERROR)
    try:
        app()
    except GatecastError as error:
        complaints.print(f"[bold red]error:[/bold red] {escape(redacted(str(error)))}")
        sys.exit(1)
    except Exception:  # noqa: BLE001 - a mistake of ours, shown as Python would
        sys.stderr.write(redacted(traceback.format_exc()))
        sys.exit(1)


if __name__ == "__main__":
    run()
