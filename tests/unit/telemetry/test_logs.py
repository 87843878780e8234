"""Log lines say what happened and no secrets."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

_FAILURE = """
import gatecast
from gatecast.telemetry import configure_logs, get_logger
{configure}
def fail(token):
    raise ValueError("something went wrong")
try:
    fail("gct_a-secret-token")
except ValueError:
    get_logger("part").exception("request-failed", path="/here")
"""


@pytest.mark.parametrize("format_name", ["text", "json", None])
def test_a_traceback_shows_no_variables(format_name: str | None) -> None:
    """None: inside a program that configured nothing."""
    configure = f"configure_logs(format_name={format_name!r}, pod_id='pod-1')" if format_name else ""
    command = [sys.executable, "-c", _FAILURE.format(configure=configure)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr
    assert "ValueError: something went wrong" in shown
    assert "a-secret-token" not in shown.replace('fail("gct_a-secret-token")', "")
    if format_name == "json":
        line = json.loads(shown)
        assert (line["event"], line["part"], line["path"], line["pod"]) == ("request-failed", "part", "/here", "pod-1")


_WARNING = """
import logging
from gatecast.telemetry import configure_logs
{configure}
logging.getLogger("some.library").warning("%s happened", "it")
logging.getLogger("some.library").info("never mind")
"""


def test_what_libraries_log_in_a_pod_is_a_line_like_every_other() -> None:
    configure = "configure_logs(format_name='json', pod_id='pod-1')"
    command = [sys.executable, "-c", _WARNING.format(configure=configure)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr
    line = json.loads(shown)
    assert (line["event"], line["part"], line["level"]) == ("it happened", "some.library", "warning")


def test_inside_a_program_its_own_logging_is_left_alone() -> None:
    command = [sys.executable, "-c", _WARNING.format(configure="import gatecast; assert not logging.root.handlers")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr
    assert shown == "it happened\n"
