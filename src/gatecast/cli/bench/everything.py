"""`gatecast bench all`: every scenario, one after the other, each in a process of its own and within a time limit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Any

import typer

from gatecast.cli.bench.page import page as page_of
from gatecast.cli.bench.target import QuickFlag
from gatecast.cli.output import JsonFlag, complaints, print_json, print_table
from gatecast.testing.nats_server import is_installed

#: A scenario that takes longer is ended, and counts as failed; in seconds.
SCENARIO_TIME_LIMIT = 120.0

#: All of them together take no longer, in seconds: what has not begun by then is left out, and counts as failed.
TIME_LIMIT = 590.0

_SCENARIOS = (
    "publish",
    "publish on SQLite",
    "transaction",
    "latency",
    "drain",
    "memory",
    "deliver",
    "http",
    "idle",
    "connect",
    "storm",
    "retention",
    "fan-out",
    "deploy",
)

#: Left out where no server of NATS is installed.
_ON_NATS = "jetstream"

FileOption = Annotated[Path | None, typer.Option("--file", help="Write every figure to this file, as JSON.")]
PageOption = Annotated[Path | None, typer.Option("--page", help="Write charts and tables to this file, as HTML.")]


def everything(
    *, quick: QuickFlag = False, file: FileOption = None, page: PageOption = None, as_json: JsonFlag = False
) -> None:
    """Run every scenario, within ten minutes in all. Fails when a scenario does; a missed aim is only shown."""
    with TemporaryDirectory(prefix="gatecast-bench-") as folder:
        ends_at = perf_counter() + TIME_LIMIT
        scenarios = (*_SCENARIOS, _ON_NATS) if is_installed() else _SCENARIOS
        results = {name: _run(name, Path(folder), ends_at, quick=quick) for name in scenarios}
    if file is not None:
        file.write_text(json.dumps(results, indent=2), "utf-8")
    if page is not None:
        page.write_text(page_of(results), "utf-8")
    if as_json:
        print_json(results)
    else:
        _show(results)
    if any(result["status"] != "done" for result in results.values()):
        raise typer.Exit(1)


def _run(name: str, folder: Path, ends_at: float, *, quick: bool) -> dict[str, Any]:
    """What a scenario printed, and how it ended."""
    time_limit = min(SCENARIO_TIME_LIMIT, ends_at - perf_counter())
    if time_limit <= 0:
        return {"status": "left out: there was no time left for it", "seconds": 0.0, "figures": []}
    scenario, _, on_sqlite = name.partition(" on ")
    options = ["--json", *(["--quick"] if quick else [])]
    if on_sqlite:
        options += ["--database", f"sqlite:///{folder / 'bench.db'}"]
    complaints.print(f"{name} ...", style="dim")
    begun = perf_counter()
    try:
        ended = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "gatecast.cli.main", "bench", scenario, *options],
            capture_output=True,
            text=True,
            timeout=time_limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"status": f"ended after {time_limit:.0f} s", "seconds": perf_counter() - begun, "figures": []}
    seconds = perf_counter() - begun
    if ended.returncode:
        return {"status": f"failed: {_last_line(ended.stderr)}", "seconds": seconds, "figures": []}
    return {"status": "done", "seconds": seconds, **json.loads(ended.stdout)}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _show(results: dict[str, dict[str, Any]]) -> None:
    rows = [
        {
            "scenario": name,
            "status": result["status"],
            "seconds": f"{result['seconds']:.0f}",
            "aims": _aims(result["figures"]),
        }
        for name, result in results.items()
    ]
    columns = {"scenario": "SCENARIO", "status": "STATUS", "seconds": "SECONDS", "aims": "AIMS"}
    print_table(rows, columns, empty="nothing was measured")


def _aims(figures: Sequence[dict[str, Any]]) -> str:
    """Each aim with its verdict; empty where a scenario has none."""
    return "; ".join(f"{each['what']}: {each['verdict']}" for each in figures if each.get("verdict"))
