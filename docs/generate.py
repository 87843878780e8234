"""Writes the generated parts of the reference: `python docs/generate.py`. A test fails when they are out of date."""  # noqa: INP001 - a script

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import typer

import gatecast
from gatecast import errors
from gatecast.cli.main import app
from gatecast.protocol.close_codes import CLOSE_CODES
from gatecast.server.admin_api import AdminContext, create_admin_app
from gatecast.server.error_replies import ERROR_REPLIES
from gatecast.settings import Settings, descriptions, show
from gatecast.telemetry import metrics

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
    tree, _, _ = rest.partition("\n\n")
    return f"```text\n{textwrap.dedent(tree).rstrip()}\n```"


def metrics_table() -> str:
    """Every metric of a pod, under the name that Prometheus stores."""
    rows = [
        (f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels), documentation)
        for name, kind, labels, documentation in described_metrics()
    ]
    return _table(("metric", "type", "labels", "meaning"), sorted(rows))


#: What a name ends with, beside the name of its kind.
_ENDINGS = {"counter": "_total", "info": "_info"}


def described_metrics() -> Iterator[tuple[str, str, Sequence[str], str]]:
    """Name, kind, labels and meaning of each."""
    for collector in metrics.registry._collector_to_names:  # noqa: SLF001 - there is no other list with labels
        for family in collector.collect():
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            labels |= set(getattr(collector, "_labelnames", ())) | (
                {collector.label} if hasattr(collector, "label") else set()
            )
            yield family.name + _ENDINGS.get(family.type, ""), family.type, sorted(labels), family.documentation


def commands() -> str:
    """Every command with its arguments and options."""
    return "\n\n".join(_commands("gatecast", typer.main.get_command(app)))


def _commands(name: str, command: Any) -> Iterator[str]:  # noqa: ANN401 - typer's own copy of click has no public types
    if hasattr(command, "commands"):
        for own_name in command.list_commands(None):
            yield from _commands(f"{name} {own_name}", command.get_command(None, own_name))
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


def limits() -> str:
    """Every limit, with the comment that stands above it in the code."""
    return "\n\n".join(f"## {title}\n\n{_limits_of(prefixes)}" for title, prefixes in _LIMIT_GROUPS.items())


#: Modules by the beginning of their names; the first group that fits counts.
_LIMIT_GROUPS: Mapping[str, Sequence[str]] = {
    "What is published": ("events.",),
    "Publishing and delivery": ("delivery.", "containment"),
    "Admin API": ("server.admin_api.", "server.api_server", "server.error_replies"),
    "Console": ("server.console.",),
    "Gateways: requests": (
        "server.gateway_api.archives",
        "server.gateway_api.holding",
        "server.gateway_api.request_bodies",
        "server.gateway_api.rest",
    ),
    "Gateways: connections and frames": ("protocol.", "server.gateway_api."),
    "Both listeners": ("server.",),
    "Gateways, artifacts and keys": ("controlplane.",),
    "Clients": ("client.",),
    "Database and wake-ups": ("storage.", "wakeup.", ""),
}

#: Numbers that limit nothing.
_NO_LIMITS = {"STOPPED_LATE", "OLDEST_VERSION"}

#: Classes whose fields are limits.
_LIMIT_CLASSES = {"SessionLimits", "ClientLimits", "ClientOptions", "ReconnectTimes"}


def _limits_of(prefixes: Sequence[str]) -> str:
    rows = [row for name in _modules() if _group_of(name) == prefixes for row in _limits_in(name)]
    return _table(("limit", "value", "what it limits", "in"), rows)


def _group_of(module: str) -> Sequence[str]:
    return next((each for each in _LIMIT_GROUPS.values() if module.startswith(tuple(each))), ())


def _modules() -> list[str]:
    """Every module of the product itself, without `gatecast.` in front."""
    folder = Path(gatecast.__file__).parent
    names = (".".join(path.relative_to(folder).with_suffix("").parts) for path in folder.rglob("*.py"))
    return sorted(name for name in names if not name.startswith(("cli.", "testing.")) and not name.endswith("__init__"))


def _limits_in(name: str) -> Iterator[tuple[str, str, str, str]]:
    module = importlib.import_module(f"gatecast.{name}")
    lines = (inspect.getsource(module)).splitlines()
    for number, line in enumerate(lines):
        constant = re.match(r"([A-Z][A-Z0-9_]*)(?:: [^=]+)? = ", line)
        if constant and (value := _limit(constant[1], getattr(module, constant[1]))):
            yield f"`{constant[1]}`", value, _comment_above(lines, number), f"`{name}`"
        if (found := re.match(r"class (\w+)", line)) and found[1] in _LIMIT_CLASSES:
            yield from _limits_in_class(getattr(module, found[1]), f"`{name}`")


def _limits_in_class(kind: Any, place: str) -> Iterator[tuple[str, str, str, str]]:  # noqa: ANN401 - a dataclass
    lines = inspect.getsource(kind).splitlines()
    for field in dataclasses.fields(kind):
        number = next(number for number, line in enumerate(lines) if line.startswith(f"    {field.name}: "))
        if value := _limit(field.name.upper(), field.default):
            yield f"`{kind.__name__}.{field.name}`", value, _comment_above(lines, number), place


def _comment_above(lines: Sequence[str], number: int) -> str:
    """What is said of a limit; of several with one comment, the same."""
    begin = number
    while not lines[begin - 1].strip().startswith("#:"):
        begin -= 1
        if not lines[begin].strip():
            raise ValueError(f"no comment above {lines[number]}")
    words: list[str] = []
    while (line := lines[begin - 1].strip()).startswith("#:"):
        words.insert(0, line.removeprefix("#:").strip())
        begin -= 1
    return " ".join(words)


def _limit(name: str, value: object) -> str:
    """A limit as people write it; empty for what is none."""
    if name in _NO_LIMITS:
        return ""
    match value:
        case timedelta():
            return show(value)
        case datetime():
            return value.isoformat()
        case int() if not isinstance(value, bool):
            return _size(value) if "BYTES" in name else f"{value:,}"
        case float():
            return f"{value:,g}"
    return ""


def _size(value: int) -> str:
    for unit, size in (("MiB", 1024 * 1024), ("KiB", 1024)):
        if value % size == 0:
            return f"{value // size} {unit}"
    return f"{value:,} bytes"


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
    ("reference/limits.md", "limits"): limits,
    ("reference/metrics.md", "metrics"): metrics_table,
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
