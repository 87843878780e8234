"""Each benchmark runs on each database and prints what it measured. How fast it was is nobody's business here."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from gatecast.cli.bench import app
from gatecast.cli.bench.everything import SCENARIO_TIME_LIMIT
from gatecast.cli.bench.figures import Figure
from gatecast.cli.bench.page import page
from gatecast.cli.bench.report import percentile
from gatecast.testing.pods import Pods, PodTemplate

pytestmark = pytest.mark.slow


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch, empty_postgres_url: str, pod_template: PodTemplate | Sequence[str]) -> None:
    """A server for each benchmark is there already, pods have imported everything, and most waits are short."""
    monkeypatch.setattr(_module("target"), "_temporary_database", lambda _: empty_postgres_url)
    for name in ("measured_pod", "memory"):
        monkeypatch.setattr(_module(name), "Pods", partial(Pods, command=pod_template))
    waits = {"connect": ["_LEFT_AFTER"], "deliver": ["_SETTLED_AFTER", "_IDLE"], "idle": ["_CALM_AFTER"]}
    for name, constants in waits.items():
        for constant in constants:
            monkeypatch.setattr(_module(name), constant, 0.1)


def _module(name: str) -> ModuleType:
    """The package has its commands under the names of their modules."""
    return import_module(f"gatecast.cli.bench.{name}")


def _run(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--quick", "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def _database(kind: str, folder: Path) -> list[str]:
    return ["--database", f"sqlite:///{folder / 'bench.db'}"] if kind == "sqlite" else []


def _assert_as_it_was(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "bench.db")) as connection:
        for table in ("gatecast_gateway_streams", "gatecast_events"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name LIKE 'gatecast_bench%'")
        assert tables.fetchone() == (0,)


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_publish_measures_every_design_under_eight_loads(kind: str, tmp_path: Path) -> None:
    document = _run("publish", *_database(kind, tmp_path))
    assert document["database"] == kind
    loads = {(each["gateways"] > 1, each["publishers"], each["design"]) for each in document["figures"]}
    designs = ("usual", "single", "hub", *(["pgbench"] if kind == "postgresql" else []))
    expected = {
        (many, publishers, design) for many in (True, False) for publishers in (1, 8, 32, 64) for design in designs
    }
    if kind == "postgresql":
        expected |= {(many, 1, "waking") for many in (True, False)}
    assert loads == expected
    assert len(document["figures"]) == len(expected)
    for each in document["figures"]:
        assert each["events_per_second"] > 0
        assert each["ratio"] > 0
        assert each["spread"] == 0
        assert 0 < each["p50_ms"] <= each["p99_ms"]
    if kind == "sqlite":
        _assert_as_it_was(tmp_path)


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_latency_measures_with_wakeups_and_with_polling_alone(kind: str, tmp_path: Path) -> None:
    document = _run("latency", *_database(kind, tmp_path))
    assert document["database"] == kind
    assert [each["mode"] for each in document["figures"]] == ["wake-ups", "polling"]
    for each in document["figures"]:
        assert each["events"] == 60
        assert each["ratio"] > 0
        assert each["whole_p50_ms"] > 0
        assert each["p50_ms"] <= each["p95_ms"] <= each["p99_ms"]
    if kind == "sqlite":
        _assert_as_it_was(tmp_path)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_s11_drain_measures_a_backlog_against_reading_it(kind: str, tmp_path: Path) -> None:
    document = _run("drain", *_database(kind, tmp_path))
    assert document["database"] == kind
    reading, delivery = document["figures"]
    assert [reading["mode"], delivery["mode"]] == ["reading", "delivery"]
    assert reading["ratio"] == 1
    for each in (reading, delivery):
        assert each["events"] == 1_000
        assert each["events_per_second"] > 0
        assert each["ratio"] > 0


@pytest.mark.usefixtures("ready")
def test_memory_measures_connections_with_tls_and_without() -> None:
    figures = _run("memory")["figures"]
    assert [each["tls"] for each in figures] == [False, True]
    for each in figures:
        assert each["connections"] == 100
        assert each["kib_per_connection"] > 0
        assert each["connects_per_second"] > 0


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(("scenario", "figures"), [("deliver", 10), ("http", 9), ("idle", 3), ("connect", 3)])
def test_what_a_pod_does_is_measured_in_several_rounds_against_a_yardstick(scenario: str, figures: int) -> None:
    document = _run(scenario)
    assert document["scenario"] == scenario
    assert len(document["figures"]) == figures
    for each in document["figures"]:
        assert len(each["rounds"]) == 2
        # What an idle pod uses is subtracted, and varies by more than these few events cost.
        assert each["median"] >= 0
        assert (each["verdict"] == "") == (each["aim"] is None)
    assert any(each["yardstick"] for each in document["figures"])


#: Stands in for Centrifugo: it answers, and stores nothing.
_CENTRIFUGO = """#!{python}
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

configuration = json.load(open(sys.argv[2]))
assert configuration["broker"]["postgres"]["dsn"].startswith("postgresql://")

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200 if self.path == "/health" else 404)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        admitted = self.headers["X-API-Key"] == configuration["http_api"]["key"]
        self.answer(200 if admitted and self.path == "/api/publish" else 403)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{{}}")

    def log_message(self, *_):
        pass

server = configuration["http_server"]
ThreadingHTTPServer((server["address"], server["port"]), Handler).serve_forever()
"""


@pytest.mark.usefixtures("ready")
def test_publishing_over_http_is_compared_with_a_centrifugo_that_is_there(tmp_path: Path) -> None:
    program = tmp_path / "centrifugo"
    program.write_text(_CENTRIFUGO.format(python=sys.executable), "utf-8")
    program.chmod(0o755)
    figures = {each["what"]: each for each in _run("http", "--centrifugo", str(program))["figures"]}
    assert len(figures) == 13
    multiple = figures["requests, as a multiple of Centrifugo's, 32 callers"]
    assert (multiple["aim"], len(multiple["rounds"])) == (2, 2)
    assert figures["requests at Centrifugo, 32 callers"]["median"] > 0


@pytest.mark.usefixtures("ready")
def test_publishing_in_the_callers_transaction_is_one_round_trip_more() -> None:
    """How much more time that takes is the difference of two times, which noise can turn round."""
    round_trips, time_more = _run("transaction")["figures"]
    assert (round_trips["rounds"], round_trips["verdict"]) == ([1, 1], "pass")
    assert len(time_more["rounds"]) == 2
    assert time_more["yardstick"] > 0


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(("scenario", "figures"), [("storm", 1), ("retention", 4)])
def test_what_happens_once_is_measured_once(scenario: str, figures: int) -> None:
    document = _run(scenario)
    assert [len(each["rounds"]) for each in document["figures"]] == [1] * figures
    assert all(each["median"] > 0 for each in document["figures"])
    assert document["figures"][0]["yardstick"] > 0


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["idle", "--gateways", "50", "--pods", "2"], "processor time, 30 of 80 gateways connected, 2 pods"),
        (["storm", "--gateways", "10"], "gateways back, of 10"),
    ],
)
def test_what_takes_minutes_at_its_full_size_is_asked_for(arguments: Sequence[str], what: str) -> None:
    assert _run(*arguments)["figures"][0]["what"] == what


@pytest.mark.parametrize(
    "arguments", [["idle", "--gateways", "0"], ["idle", "--pods", "11"], ["retention", "--rows", "1"]]
)
def test_a_size_that_is_none_is_refused(arguments: Sequence[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("scenario", ["fan-out", "deploy"])
def test_what_reaches_many_gateways_is_measured_for_few_and_for_many(scenario: str) -> None:
    document = _run(scenario)
    assert document["scenario"] == scenario
    assert len(document["figures"]) == 2
    for each in document["figures"]:
        assert each["median"] > 0
        assert each["yardstick"] > 0
        assert each["verdict"]


@pytest.mark.parametrize(("more_is_better", "verdict"), [(False, "short by 2.0x"), (True, "pass")])
def test_a_figure_says_by_how_much_it_misses_its_aim(more_is_better: bool, verdict: str) -> None:  # noqa: FBT001 - a case
    figure = Figure(what="it", unit="µs", rounds=[10, 30, 20], aim=10, more_is_better=more_is_better)
    assert (figure.middle, figure.spread, figure.verdict) == (20, 1, verdict)


def test_a_cost_that_vanishes_beside_what_is_subtracted_reaches_no_aim() -> None:
    assert Figure(what="it", unit="µs", rounds=[0.0, 0.0, 3.0], aim=10).verdict == "too little to tell"


def test_all_runs_every_scenario_and_tells_how_each_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each within a time limit; one that fails makes the whole fail, after the others have run."""

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401 - subprocess's own
        assert options["timeout"] <= SCENARIO_TIME_LIMIT
        scenario = command[command.index("bench") + 1]
        if scenario == "latency":
            raise subprocess.TimeoutExpired(command, options["timeout"])
        figures = [{"what": "it", "verdict": "pass"}]
        failed = scenario == "http"
        return subprocess.CompletedProcess(command, int(failed), json.dumps({"figures": figures}), "no socket\n")

    monkeypatch.setattr(subprocess, "run", run)
    file = tmp_path / "bench.json"
    result = CliRunner().invoke(app, ["all", "--quick", "--file", str(file)], catch_exceptions=False)
    assert result.exit_code == 1
    statuses = {name: each["status"] for name, each in json.loads(file.read_text()).items()}
    assert statuses.pop("latency").startswith("ended after")
    assert statuses.pop("http") == "failed: no socket"
    more = ("fan-out", "deploy", "transaction", "storm", "retention", "jetstream")
    assert set(statuses) == {"publish", "publish on SQLite", "drain", "memory", "deliver", "idle", "connect", *more}
    assert set(statuses.values()) == {"done"}
    assert "it: pass" in result.output


def test_jetstream_tells_how_fast_one_caller_and_many_publish_and_how_long_an_event_takes() -> None:
    """Against the client of NATS alone, on the same servers."""
    figures = _run("jetstream")["figures"]
    assert [each["unit"] for each in figures] == ["events/s", "events/s", "ms", "ms"]
    assert all(each["median"] > 0 for each in figures)
    assert all(each["yardstick"] for each in figures[:2])


def test_what_has_not_begun_after_ten_minutes_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 100_000, 118))
    limits: list[float] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401 - subprocess's own
        limits.append(options["timeout"])
        return subprocess.CompletedProcess(command, 0, '{"figures": []}', "")

    monkeypatch.setattr(_module("everything"), "perf_counter", lambda: next(clock))
    monkeypatch.setattr(subprocess, "run", run)
    result = CliRunner().invoke(app, ["all", "--json"], catch_exceptions=False)
    assert result.exit_code == 1
    statuses = [each["status"] for each in json.loads(result.stdout).values()]
    assert statuses[:2] == ["done", "done"]
    assert set(statuses[2:]) == {"left out: there was no time left for it"}
    assert limits == [SCENARIO_TIME_LIMIT, 118]


def test_the_page_draws_every_figure_and_names_what_failed() -> None:
    missed = Figure(what="a <b> & c", unit="µs", rounds=[20, 20], aim=10).as_json()
    shown = page(
        {
            "deliver": {"status": "done", "figures": [missed]},
            "publish": {
                "status": "done",
                "figures": [{"design": "hub", "gateways": 1_000, "publishers": 8, "events_per_second": 9_000.0}],
            },
            "drain": {"status": "failed: no <socket>", "figures": []},
        }
    )
    assert "a &lt;b&gt; &amp; c" in shown
    assert 'class="missed"' in shown
    assert 'class="aim"' in shown
    assert "hub, 1,000 gateways, 8 publishers" in shown
    assert "no &lt;socket&gt;" in shown
    assert "http" not in shown


def test_people_get_a_table() -> None:
    result = CliRunner().invoke(app, ["latency", "--quick"], catch_exceptions=False)
    assert "TO WAKE-UPS" in result.output
    assert "polling" in result.output


def test_a_percentile_of_nothing_is_zero_and_of_one_value_that_value() -> None:
    assert percentile([], 0.5) == 0
    assert percentile([3.0], 0.99) == 3
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2
