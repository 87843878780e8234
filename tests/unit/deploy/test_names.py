"""What the deployment files name exists: settings, commands, routes, ports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from starlette.routing import Match

from gatecast.cli.main import app
from gatecast.server.admin_api import AdminContext, create_admin_app
from gatecast.settings import Settings, descriptions

_ROOT = Path(__file__).parents[3]
_FILES = sorted(path for path in (_ROOT / "deploy").rglob("*") if path.is_file() and path.suffix != ".md")
_TEXTS = {str(path.relative_to(_ROOT)): path.read_text("utf-8") for path in _FILES}

#: Variables of the command line that are no settings.
_OF_COMMANDS = {"GATECAST_TOKEN", "GATECAST_URL"}


@pytest.mark.parametrize("name", _TEXTS)
def test_every_variable_is_a_setting(name: str) -> None:
    known = {one.variable for one in descriptions()} | _OF_COMMANDS
    assert set(re.findall(r"\bGATECAST_[A-Z0-9_]*[A-Z0-9]\b", _TEXTS[name])) - known == set()


def test_every_path_of_a_probe_is_a_route() -> None:
    routes = create_admin_app(cast("AdminContext", None)).routes
    named = {path for text in _TEXTS.values() for path in re.findall(r"(?:path: |GET |:8080)(/[a-z][\w/]*)", text)}
    assert {"/healthz", "/readyz", "/metrics"} <= named
    asked = {path: {"type": "http", "method": "GET", "path": path} for path in named}
    assert [path for path in named if not any(route.matches(asked[path])[0] is Match.FULL for route in routes)] == []


def test_every_command_exists() -> None:
    group: Any = typer.main.get_command(app)
    commands = set(group.list_commands(None))
    pattern = re.compile(r"(?:args: \[|command: \[|CMD \[\"|`gatecast |bin/gatecast )([a-z-]+)")
    named = {name for text in _TEXTS.values() for name in pattern.findall(text)}
    assert {"serve", "migrate"} <= named
    assert named - commands == {"python"}


def test_values_that_can_be_checked_are_accepted() -> None:
    """What the files set, set by hand: an assignment in any of them is one that a pod starts with."""
    pattern = re.compile(r"^\s*#?(GATECAST_[A-Z_]+)(?:: |=)\"?([^\s\"$\\{]+)\"?(?: \\)?$", re.MULTILINE)
    found = [pair for text in _TEXTS.values() for pair in pattern.findall(text)]
    assert len(found) > 10
    for variable, value in found:
        Settings.read({variable: value})


def test_the_ports_are_those_that_the_settings_have() -> None:
    plain = Settings()
    ports = {plain.api_listen.rpartition(":")[2], plain.gateway_listen.rpartition(":")[2]}
    for text in _TEXTS.values():
        assert set(re.findall(r"(?:0\.0\.0\.0|127\.0\.0\.1|pod-[ab]):(\d+)", text)) <= ports
        for line in re.findall(r"^EXPOSE (.+)$|containerPort: (\d+)$", text, re.MULTILINE):
            assert set(" ".join(line).split()) <= ports
