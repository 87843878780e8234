"""The Dockerfile, its rules, and what it leaves out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[3]
_FILE = _ROOT / "deploy/docker/Dockerfile"
_TEXT = _FILE.read_text("utf-8")


def test_the_linter_finds_nothing_to_warn_of() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    ran = subprocess.run(
        [hadolint, "--no-color", "--failure-threshold", "warning", _FILE], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout


def test_the_last_stage_runs_as_nobody_and_installs_nothing() -> None:
    last = _TEXT.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 65532:65532$", last, re.MULTILINE)
    assert "pip install" not in last
    assert "apt-get" not in last
    assert re.search(r"^HEALTHCHECK ", last, re.MULTILINE)


def test_it_says_what_it_is_and_where_the_list_of_its_parts_is() -> None:
    labels = dict(re.findall(r"^(?:LABEL)? +([\w.]+)=\"([^\"]+)\"", _TEXT, re.MULTILINE)) | dict(
        re.findall(r"^LABEL ([\w.]+)=\"([^\"]+)\"", _TEXT, re.MULTILINE)
    )
    assert {"org.opencontainers.image.title", "org.opencontainers.image.licenses"} <= set(labels)
    assert f"--output-file {labels['io.gatecast.sbom']} " in _TEXT


def test_the_build_sees_only_what_it_copies() -> None:
    allowed = {
        line[1:] for line in Path(f"{_FILE}.dockerignore").read_text("utf-8").splitlines() if line.startswith("!")
    }
    copied = {
        name.removeprefix("./")
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", _TEXT, re.MULTILINE)
        for name in line.split()
    }
    assert copied == allowed
    assert all((_ROOT / name).exists() for name in copied)
