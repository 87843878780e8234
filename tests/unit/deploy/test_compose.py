"""The composition: what depends on what, and that every pod is told the same."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, validators

_FOLDER = Path(__file__).parents[3] / "deploy/compose"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services by name, merges resolved."""
    services: dict[str, Any] = yaml.safe_load((_FOLDER / "compose.yaml").read_text("utf-8"))["services"]
    return services


def test_it_fits_the_schema_of_compose_files() -> None:
    schema = json.loads((Path(__file__).parent / "vendor/compose-spec.json").read_text("utf-8"))
    validator = validators.validator_for(schema, Draft202012Validator)(schema)
    file = yaml.safe_load((_FOLDER / "compose.yaml").read_text("utf-8"))
    assert list(validator.iter_errors(file)) == []
    wrong: Any = {"services": {"pod": {"image": "gatecast", "enviroment": {}}}}
    assert list(validator.iter_errors(wrong)) != [], "a misspelt key is found"


def test_the_balancer_can_read_its_configuration() -> None:
    """Where HAProxy is installed; that the names of pods lead nowhere here is a warning."""
    if program := shutil.which("haproxy"):
        ran = subprocess.run(
            [program, "-c", "-f", _FOLDER / "haproxy.cfg"], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert "[ALERT]" not in ran.stderr


def test_pods_start_once_the_schema_is_there(services: dict[str, Any]) -> None:
    assert services["migrate"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    for pod in ("pod-a", "pod-b"):
        assert services[pod]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
        assert services[pod]["environment"]["GATECAST_MIGRATE"] == "never"


def test_pods_differ_in_nothing_but_their_name(services: dict[str, Any]) -> None:
    first, second = services["pod-a"], services["pod-b"]
    assert first["environment"].pop("GATECAST_POD_ID") == "pod-a"
    assert second["environment"].pop("GATECAST_POD_ID") == "pod-b"
    assert first == second
    assert first["read_only"] is True
    assert first["cap_drop"] == ["ALL"]


def test_every_variable_that_it_asks_for_is_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", (_FOLDER / "compose.yaml").read_text("utf-8")))
    given = set(re.findall(r"^(\w+)=$", (_FOLDER / "example.env").read_text("utf-8"), re.MULTILINE))
    assert asked == given


def test_the_balancer_knows_every_pod(services: dict[str, Any]) -> None:
    balancer = (_FOLDER / "haproxy.cfg").read_text("utf-8")
    for pod in (name for name in services if name.startswith("pod-")):
        assert f"server {pod} {pod}:8080" in balancer
        assert f"server {pod} {pod}:9243 port 8080" in balancer


def test_the_balancer_keeps_connections_longer_than_pods_do() -> None:
    """It would else send a request into a connection that the pod just closes, or end a quiet gateway's."""
    times = re.findall(r"timeout (?:client|server) (\d+)([mh])", (_FOLDER / "haproxy.cfg").read_text("utf-8"))
    assert min(int(number) * {"m": 60, "h": 3600}[unit] for number, unit in times) > 75
