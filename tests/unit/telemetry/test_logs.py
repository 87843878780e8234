"""Log lines say what happened and no secrets."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gatecast.telemetry import get_logger
from gatecast.testing.captured_logs import captured_logs

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


_UNCAUGHT = """
import sys, threading, warnings
from gatecast.telemetry import configure_logs
configure_logs(format_name="json", pod_id="pod-1")
warnings.warn("old")
threading.Thread(target=lambda: 1 / 0).start()
class Broken:
    def __del__(self):
        raise ValueError("in vain")
Broken()
raise RuntimeError("password=a-secret")
"""


def test_in_a_pod_every_line_is_json_whatever_went_wrong() -> None:
    """Warnings, what a thread raises, what cannot be raised, and what ends the process."""
    ran = subprocess.run([sys.executable, "-c", _UNCAUGHT], capture_output=True, text=True, check=False, timeout=60)
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert ran.returncode == 1
    assert sorted(line["part"] for line in lines) == ["process", "process", "process", "py.warnings"]
    assert {line["pod"] for line in lines} == {"pod-1"}
    assert "a-secret" not in ran.stderr
    for error in ("ZeroDivisionError", "in vain", "RuntimeError"):
        assert any(error in line.get("exception", "") for line in lines)


def test_inside_a_program_its_own_logging_is_left_alone() -> None:
    command = [sys.executable, "-c", _WARNING.format(configure="import gatecast; assert not logging.root.handlers")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr
    assert shown == "it happened\n"


_HOST = """
import json, logging, structlog
own = [structlog.processors.KeyValueRenderer()]
structlog.configure(processors=own)
import gatecast
from gatecast.telemetry import get_logger
assert structlog.get_config()["processors"] is own
class Shown(logging.Handler):
    def emit(self, record):
        print(json.dumps([record.name, record.levelname, record.getMessage(), record.gatecast]))
logging.getLogger("gatecast").addHandler(Shown())
get_logger("client").info("not of interest")
logging.getLogger("gatecast.client").setLevel("INFO")
get_logger("client").info("connected", gateway="100%", token="gct_a-secret-token")
try:
    raise ValueError("went wrong")
except ValueError:
    get_logger("client").exception("failed")
"""


def test_inside_a_program_lines_go_where_its_logging_sends_them_and_its_structlog_is_left_alone() -> None:
    ran = subprocess.run([sys.executable, "-c", _HOST], capture_output=True, text=True, check=True, timeout=60)
    first, second = map(json.loads, ran.stdout.splitlines())
    assert first[:2] == ["gatecast.client", "INFO"]
    assert first[2].startswith("connected gateway='100%' token=")
    assert first[3]["gateway"] == "100%"
    assert second[:2] == ["gatecast.client", "ERROR"]
    assert second[2].startswith("failed")
    assert "ValueError: went wrong" in second[2]
    assert "a-secret-token" not in ran.stdout


def test_what_is_logged_can_be_looked_at_in_tests() -> None:
    with captured_logs() as lines:
        get_logger("part").warning("happened", to="it")
    assert lines == [{"event": "happened", "log_level": "warning", "part": "part", "to": "it"}]


_COUNTED = """
import io, sys
from gatecast.telemetry import configure_logs, get_logger
configure_logs(format_name="json", pod_id="pod-1")
sys.stderr, calls = io.StringIO(), [0]
logger = get_logger("gateway-api")
def line():
    logger.info("connected", gateway="edge-1", version="gateway.v1", start="0:12", of=frozenset())
def count(frame, event, argument):
    calls[0] += event == "call"
line()
sys.setprofile(count)
line()
sys.setprofile(None)
print(calls[0], sys.stderr.getvalue().splitlines()[1])
"""


def test_a_line_takes_little_work_and_shows_every_value() -> None:
    """Two are written for each connection; what takes thrice as long as the rest would not show otherwise."""
    ran = subprocess.run([sys.executable, "-c", _COUNTED], capture_output=True, text=True, check=True, timeout=60)
    calls, line = ran.stdout.split(" ", 1)
    assert int(calls) < 45
    assert json.loads(line)["of"] == "frozenset()"
