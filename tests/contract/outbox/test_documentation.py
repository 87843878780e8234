"""The program on the page about the outbox runs, and prints what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

_PAGE = Path(__file__).parents[3] / "docs/how-to/use-an-outbox.md"


def test_the_program_prints_what_the_page_says(stream_url: str, empty_postgres_url: str, tmp_path: Path) -> None:
    """As a reader runs it, in an empty folder."""
    [(program, output)] = re.findall(r"```py\n(.*?)```\n\n```text\n(.*?)```", _PAGE.read_text("utf-8"), re.DOTALL)
    (tmp_path / "program.py").write_text(program, "utf-8")
    environment = os.environ | {"LOG_URL": stream_url, "APPLICATION_URL": empty_postgres_url}
    ran = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.returncode) == (output, 0), ran.stderr
