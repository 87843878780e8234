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
    rule = "be empty for a pod whose events are in an SQL database: it keeps its tables beside them"
    assert problem.startswith(f"GATECAST_OUTBOX must {rule}")
    [problem] = problems_of({"GATECAST_DATABASE": "nats://nats-1:4222"})
    assert problem.startswith("GATECAST_OUTBOX must name the SQL database for the pod's tables")
    together = {"GATECAST_DATABASE": "nats://nats-1:4222", "GATECAST_OUTBOX": "postgresql://db/application"}
    assert problems_of(together) == []
    [problem] = problems_of({**together, "GATECAST_PROBE": "on"})
    assert problem.startswith("GATECAST_PROBE must be off with an outbox")
    assert problems_of({"GATECAST_DATABASE": "mysql://db"}) != []
