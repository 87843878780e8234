"""Writes the generated parts of the reference: `python docs/generate.py`. A test fails when they are out of date."""  # noqa: INP001 - a script

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import typer

from gatecast import errors
from gatecast.cli.main import app
from gatecast.protocol.close_codes import CLOSE_CODES
from gatecast.server.admin_api import AdminContext, create_admin_app
from gatecast.server.error_replies import ERROR_REPLIES
from gatecast.settings import Settings, descriptions, show

FOLDER = Path(__file__).parent


def settings_table() -> str:
    """Every option of `Settings`."""
    plain = Settings()
    return _table(
        ("variable", "flag", "default", "meaning"),
        [
            (
                f"`{one.variable}`",
                f"`{one.flag}`",
                "host name and six characters" if one.name == "pod_id" else _code(show(getattr(plain, one.name))),
                one.meaning,
            )
            for one in descriptions()
        ],
    )


def close_codes_table() -> str:
    """Every code that a pod sends."""
    return _table(
        ("code", "reason", "come back?", "meaning"),
        [
            (str(each.number), f"`{each.reason}`", "yes" if each.reconnect else "no", each.meaning)
            for each in CLOSE_CODES
        ],
    )


def routes_table() -> str:
    """Every route of the API listener, as its own documentation describes it."""
    document = create_admin_app(cast("AdminContext", None)).openapi()
    return _table(
        ("route", "what it does"),
        [
            (f"`{method.upper()} {path}`", operation["description"].partition("\n\n")[0].replace("\n", " "))
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        ],
    )


def problems_table() -> str:
    """Which error is which status."""
    rows = sorted(ERROR_REPLIES.values(), key=lambda each: (each.status, each.kind))
    return _table(
        ("status", "`type`", "title"),
        [(str(each.status), f"`urn:gatecast:problem:{each.kind}`", each.title) for each in rows],
    )


def errors_tree() -> str:
    """The tree that stands in the module's docstring."""
    _, _, rest = (errors.__doc__ or "").partition("::\n\n")
    tree, _, _ = rest.partition("\n\nData stands")
    return f"```text\n{textwrap.dedent(tree).rstrip()}\n```"


def commands() -> str:
    """Every command with its arguments and options."""
    return "\n\n".join(_commands("gatecast", typer.main.get_command(app)))


def _commands(name: str, command: Any) -> Iterator[str]:  # noqa: ANN401 - typer's own copy of click has no public types
    if hasattr(command, "commands"):
        for own_name, own in command.commands.items():
            yield from _commands(f"{name} {own_name}", own)
        return
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    usage = " ".join([name, *(_usage(each) for each in arguments)])
    lines = [f"## `{usage}`", "", textwrap.dedent(command.help or "").strip(), ""]
    if name == "gatecast serve":
        lines += ["Every one of the [settings](settings.md) is a flag, and `--json` prints the addresses as JSON.", ""]
        options = []
    rows = [(f"`{_usage(each)}`", each.help or "") for each in arguments]
    rows += [(", ".join(f"`{flag}`" for flag in each.opts), each.help or "") for each in options]
    if rows:
        lines.append(_table(("", ""), rows))
    yield "\n".join(lines).rstrip()


def _usage(argument: Any) -> str:  # noqa: ANN401 - as above
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


#: The file and the name between its markers, and what stands there.
PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("reference/settings.md", "settings"): settings_table,
    ("reference/commands.md", "commands"): commands,
    ("reference/http-api.md", "routes"): routes_table,
    ("reference/http-api.md", "problems"): problems_table,
    ("reference/errors.md", "errors"): errors_tree,
    ("reference/close-codes.md", "close codes"): close_codes_table,
}


def with_part(text: str, name: str, part: str) -> str:
    """The text with this part between its markers."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n\n{part}\n\n{end}", text, count=1, flags=re.DOTALL)


def main() -> None:
    """Bring every generated part up to date."""
    for (file, name), make in PARTS.items():
        path = FOLDER / file
        path.write_text(with_part(path.read_text("utf-8"), name, make()), "utf-8")


if __name__ == "__main__":
    main()
