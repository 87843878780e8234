"""Commands that work on the database itself."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gatecast import EventHub
from gatecast.cli.main import app
from gatecast.errors import DatabaseUnsuitable
from gatecast.version import __version__

_KEY = base64.b64encode(bytes(32)).decode()


class _Shell:
    """Runs `gatecast` on one database."""

    def __init__(self, database: str) -> None:
        self._database = database

    def text(self, *arguments: str) -> str:
        """What a command prints for people."""
        result = CliRunner().invoke(app, [*arguments, "--database", self._database], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:  # noqa: ANN401 - JSON
        """What it prints for machines."""
        return json.loads(self.text(*arguments, "--json"))


@pytest.fixture(params=["sqlite", "postgresql"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> _Shell:
    """On an empty database of the test's own."""
    if request.param == "sqlite":
        return _Shell(f"sqlite:///{tmp_path / 'gatecast.db'}")
    return _Shell(str(request.getfixturevalue("empty_postgres_url")))


def test_admin_tokens_are_created_listed_and_revoked(shell: _Shell) -> None:
    shell.text("migrate")
    assert shell.json("admin-token", "list") == []
    made = shell.json("admin-token", "create", "team-a")
    assert made["organization"] == "team-a"
    [listed] = shell.json("admin-token", "list")
    assert (listed["id"], listed["organization"]) == (made["id"], "team-a")
    assert made["token"] not in shell.text("admin-token", "list")
    assert made["id"] in shell.text("admin-token", "revoke", made["id"])
    assert shell.json("admin-token", "list") == []
    assert "admin-token create" in shell.text("admin-token", "list")


def test_what_several_tasks_of_a_command_fail_with_is_shown_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A group of errors has a message that cannot be replaced, as messages about arguments are."""

    async def fail(*_: object, **__: object) -> None:
        raise ExceptionGroup("two tasks", [ValueError("one"), ValueError("two")])

    monkeypatch.setattr("gatecast.cli.migrate.prepare", fail)
    with pytest.raises(ExceptionGroup, match="two tasks"):
        CliRunner().invoke(app, ["migrate", "--database", f"sqlite:///{tmp_path}/x"], catch_exceptions=False)


def test_migrations_are_applied_once(shell: _Shell) -> None:
    assert 1001 in shell.json("migrate")["applied"]
    assert shell.json("migrate") == {"applied": []}
    assert "up to date" in shell.text("migrate")


def test_an_outbox_is_migrated_by_itself(shell: _Shell, tmp_path: Path) -> None:
    outbox = f"sqlite:///{tmp_path}/application.db"
    applied = shell.json("migrate", "--outbox", outbox)["applied"]
    assert applied[-1] >= 2001
    assert 1001 not in applied
    assert shell.json("migrate", "--outbox", outbox) == {"applied": []}
    assert 1001 in shell.json("migrate")["applied"]


def test_a_log_with_gateways_becomes_no_outbox(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"

    async def register() -> None:
        async with EventHub.open(url) as hub:
            await hub.register_gateway("gateway")

    asyncio.run(register())
    with pytest.raises(DatabaseUnsuitable, match="it holds a log"):
        _Shell(url).text("migrate", "--outbox", url)


def test_a_renewed_epoch_is_another_one(shell: _Shell) -> None:
    shell.text("migrate")
    before = shell.json("epoch", "show")["epoch"]
    renewed = shell.json("epoch", "renew")
    assert renewed["before"] == before != renewed["epoch"]
    assert shell.json("epoch", "show")["epoch"] == renewed["epoch"]


def test_an_epoch_that_is_kept_goes_on(shell: _Shell) -> None:
    shell.text("migrate")
    before = shell.json("epoch", "show")["epoch"]
    assert shell.json("epoch", "keep") == {"epoch": before}
    assert shell.json("epoch", "show") == {"epoch": before, "settled": True, "synchronous": False}
    assert before in shell.text("epoch", "keep")


def test_where_nobody_has_decided_the_operator_is_told(postgres_url: str) -> None:
    """A database that was copied on its server is another place; the operator who copied it decides."""
    shell = _Shell(postgres_url)
    before = shell.json("epoch", "show")
    assert not before["settled"]
    assert "gatecast epoch keep" in shell.text("epoch", "show")
    shell.text("epoch", "keep")
    assert "gatecast epoch keep" not in shell.text("epoch", "show")


def test_nothing_is_sealed_in_an_empty_database(shell: _Shell) -> None:
    shell.text("migrate")
    assert shell.json("reseal", "--secret-key", _KEY) == {"resealed": 0}
    assert "already" in shell.text("reseal", "--secret-key", _KEY)


def test_settings_show_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATECAST_SECRET_KEY", _KEY)
    monkeypatch.setenv("GATECAST_RETENTION", "36h")
    for flags in ([], ["--json"]):
        result = CliRunner().invoke(app, ["settings", *flags], catch_exceptions=False)
        assert result.exit_code == 0
        assert _KEY not in result.stdout
        assert "36h" in result.stdout


@pytest.mark.parametrize("scheme", ["sqlite", "postgresql+embedded"])
@pytest.mark.parametrize(
    "command", [("admin-token", "list"), ("admin-token", "create"), ("epoch", "show"), ("epoch", "renew"), ("reseal",)]
)
def test_a_mistyped_path_makes_nothing(tmp_path: Path, scheme: str, command: tuple[str, ...]) -> None:
    """Neither a database nor the key beside it."""
    result = CliRunner().invoke(app, [*command, "--database", f"{scheme}:///{tmp_path}/mistyped"])
    assert isinstance(result.exception, DatabaseUnsuitable)
    assert "gatecast migrate" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_the_statements_for_roles_are_printed() -> None:
    result = CliRunner().invoke(app, ["roles"], catch_exceptions=False)
    assert "CREATE ROLE gatecast_pod LOGIN" in result.stdout


def test_the_version_is_printed_without_a_command() -> None:
    result = CliRunner().invoke(app, ["--version"], catch_exceptions=False)
    assert (result.exit_code, result.stdout.strip()) == (0, __version__)
