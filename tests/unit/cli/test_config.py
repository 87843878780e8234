"""`gatecast config check` says what a pod would refuse, before it starts."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from gatecast.cli.config import problems_of
from gatecast.cli.main import app


def test_settings_that_fit_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATECAST_RETENTION", "36h")
    monkeypatch.setenv("GATECAST_URL", "http://pod:8080")
    # What Kubernetes says of a service.
    monkeypatch.setenv("GATECAST_PORT_8080_TCP_ADDR", "10.0.0.1")
    result = CliRunner().invoke(app, ["config", "check"], catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (0, "the settings are valid\n")
    assert json.loads(CliRunner().invoke(app, ["config", "check", "--json"]).stdout) == {"problems": []}


def test_every_mistake_is_told_at_once_without_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATECAST_RETENTOIN", "36h")
    monkeypatch.setenv("GATECAST_RETENTION", "soon")
    monkeypatch.setenv("GATECAST_LOG_FORMAT", "xml")
    result = CliRunner().invoke(app, ["config", "check"], catch_exceptions=False)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    for name in ("GATECAST_RETENTOIN", "GATECAST_RETENTION", "GATECAST_LOG_FORMAT"):
        assert any(f"{name} must" in line for line in lines)


@pytest.mark.parametrize("url", ["mysql://me:a-secret@db/gatecast", "postgresql://me:a-secret@/x?y=%"])
def test_a_database_that_none_can_open_is_told(url: str) -> None:
    found = problems_of({"GATECAST_DATABASE": url})
    assert "a-secret" not in str(found)


def test_settings_that_do_not_fit_together_are_told() -> None:
    [problem] = problems_of({"GATECAST_OUTBOX": "postgresql://me:a-secret@db/application"})
    assert problem == "GATECAST_OUTBOX must be empty for a pod, which keeps its tables beside its log"
    assert problems_of({"GATECAST_DATABASE": "mysql://db"}) != []
