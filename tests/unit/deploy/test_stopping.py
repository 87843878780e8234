"""Whatever runs a pod gives it longer to stop than it takes to drain."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import yaml

from gatecast.server.pod import _LATEST_EXIT
from gatecast.settings import Settings, parse_duration

_DEPLOY = Path(__file__).parents[3] / "deploy"


def _needed(drain_time: timedelta) -> float:
    return drain_time.total_seconds() + _LATEST_EXIT


def test_systemd_waits_longer() -> None:
    unit = (_DEPLOY / "systemd/gatecast.service").read_text("utf-8")
    told = re.findall(r"GATECAST_DRAIN_TIME=(\w+)", (_DEPLOY / "systemd/gatecast.env").read_text("utf-8"))
    assert int(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0]) > _needed(parse_duration(told[0]))


def test_compose_waits_longer() -> None:
    pod = yaml.safe_load((_DEPLOY / "compose/compose.yaml").read_text("utf-8"))["services"]["pod-a"]
    drain_time = parse_duration(pod["environment"]["GATECAST_DRAIN_TIME"])
    assert parse_duration(pod["stop_grace_period"]).total_seconds() > _needed(drain_time)


def test_a_pod_without_a_drain_time_of_its_own_is_waited_for_too() -> None:
    """By default: the image's default and Docker's stop time in the documentation."""
    unit = (_DEPLOY / "systemd/gatecast.service").read_text("utf-8")
    assert int(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0]) > _needed(Settings().drain_time)
