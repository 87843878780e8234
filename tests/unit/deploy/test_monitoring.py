"""Alerts, runbooks and dashboard: what they name exists, and each alert rings when it should and at no other time."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatecast.telemetry import metrics

_ROOT = Path(__file__).parents[3]
_FILES = _ROOT / "deploy/helm/gatecast/files"
_RULES: list[dict[str, Any]] = yaml.safe_load((_FILES / "alerts.yaml").read_text("utf-8"))["groups"][0]["rules"]
_DASHBOARD: dict[str, Any] = json.loads((_FILES / "dashboards/gatecast.json").read_text("utf-8"))
_ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",), "gauge": ("",)}
_SERIES = {
    artifact_kind.name + ending
    for artifact_kind in metrics.registry.collect()
    for ending in _ENDINGS[artifact_kind.type]
}


def _named(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:gatecast|process)_\w+", expression))


def _targets() -> list[tuple[str, str]]:
    return [(panel["title"], target["expr"]) for panel in _DASHBOARD["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("rule", _RULES, ids=lambda rule: rule["alert"])
def test_an_alert_names_metrics_that_exist_and_a_page_that_shows_the_rule(rule: dict[str, Any]) -> None:
    assert _named(rule["expr"])
    assert _named(rule["expr"]) <= _SERIES
    assert rule["labels"]["severity"] in {"warning", "critical"}
    url = rule["annotations"]["runbook_url"]
    page = (_ROOT / url.partition("/blob/main/")[2]).read_text("utf-8")
    assert page.startswith(f"# {rule['alert']}\n")
    assert rule["expr"] in page
    assert f"for {rule['for']}, {rule['labels']['severity']}." in page
    for heading in ("## What to look at", "## What to do"):
        assert heading in page


def test_every_runbook_belongs_to_an_alert() -> None:
    pages = {path.name for path in (_ROOT / "docs/runbooks").glob("*.md")}
    assert pages == {rule["annotations"]["runbook_url"].rpartition("/")[2] for rule in _RULES}


@pytest.mark.parametrize(("title", "expression"), _targets())
def test_a_panel_names_metrics_that_exist(title: str, expression: str) -> None:
    assert _named(expression), title
    assert _named(expression) <= _SERIES


def test_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in _DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in _DASHBOARD["panels"]}) == len(_DASHBOARD["panels"])


def test_labels_that_are_asked_for_are_there() -> None:
    """`by (…)` and matchers name labels of our own, or those that Prometheus adds."""
    ours = {"protocol", "status", "code", "hop", "route", "method", "reason", "why", "connected", "result"}
    own = ours | {"le", "job", "instance"}
    for expression in [rule["expr"] for rule in _RULES] + [each for _, each in _targets()]:
        grouped = {
            name.strip() for group in re.findall(r"(?:by|on) \(([^)]+)\)", expression) for name in group.split(",")
        }
        assert grouped <= own
        assert set(re.findall(r"[{,]\s*(\w+)=", expression)) <= own


def test_prometheus_agrees_that_each_alert_rings_when_it_should() -> None:
    """Recorded series, quiet ones too, in `alerts_test.yaml`; with promtool where it is installed."""
    cases = yaml.safe_load((Path(__file__).parent / "alerts_test.yaml").read_text("utf-8"))
    tried = {each["alertname"] for case in cases["tests"] for each in case["alert_rule_test"] if each["exp_alerts"]}
    assert tried == {rule["alert"] for rule in _RULES}
    if program := shutil.which("promtool"):
        for arguments in (("check", "rules", _FILES / "alerts.yaml"), ("test", "rules", "alerts_test.yaml")):
            ran = subprocess.run(
                [program, *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
            )
            assert ran.returncode == 0, ran.stdout + ran.stderr
