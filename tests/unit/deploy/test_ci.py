"""What runs for each change is what people are told to run, and it is there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import yaml

_ROOT = Path(__file__).parents[3]


def _commands() -> list[list[str]]:
    """What the jobs run, as words, without `sudo`."""
    workflow = yaml.safe_load((_ROOT / ".github" / "workflows" / "ci.yml").read_text())
    lines = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    return [line.removeprefix("sudo ").split() for line in lines]


def test_each_job_runs_what_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE))
    for program, *arguments in _commands():
        assert set(arguments) <= targets if program == "make" else os.access(_ROOT / program, os.X_OK)


def test_everything_and_the_oldest_versions_are_tested() -> None:
    assert {".ci/run", "make lowest"} <= {" ".join(command) for command in _commands()}
