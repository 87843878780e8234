"""The unit: systemd itself finds nothing wrong with it, where there is one."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

_UNIT = Path(__file__).parents[3] / "deploy/systemd/gatecast.service"


def _unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(_UNIT, "utf-8")
    return parser


def test_it_restarts_a_pod_that_failed_and_runs_it_as_nobody() -> None:
    service = _unit()["Service"]
    assert service["ExecStart"] == "/opt/gatecast/bin/gatecast serve"
    assert service["Restart"] == "on-failure"
    assert service["DynamicUser"] == "yes"
    assert service["ProtectSystem"] == "strict"


def test_systemd_knows_every_line_of_it(tmp_path: Path) -> None:
    """A misspelt directive is only logged when the unit is loaded."""
    assert set(_unit().sections()) == {"Unit", "Service", "Install"}
    if program := shutil.which("systemd-analyze"):
        unit = tmp_path / _UNIT.name
        # The program that it starts is not on this machine.
        unit.write_text(_UNIT.read_text("utf-8").replace("/opt/gatecast/bin/gatecast", "/bin/true"), "utf-8")
        ran = subprocess.run([program, "verify", unit], capture_output=True, text=True, check=False)
        assert "gatecast.service:" not in ran.stderr
        assert ran.returncode == 0, ran.stderr
