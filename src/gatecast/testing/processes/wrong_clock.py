"""A pod whose wall clock is wrong; what measures how long something takes is right."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from importlib import import_module

import time_machine


def serve_with_clock(ahead: timedelta) -> tuple[str, ...]:
    """The command that runs a pod whose clock is ahead by this much, or slow if negative; for `Pods`."""
    return (sys.executable, "-m", __name__, str(ahead.total_seconds()))


def _main(seconds: float) -> None:
    # Before anything of the pod is imported, so that nothing has the true time.
    time_machine.travel(datetime.now(UTC) + timedelta(seconds=seconds), tick=True).start()
    sys.argv = ["gatecast", "serve", "--json"]
    import_module("gatecast.cli.main").run()


if __name__ == "__main__":
    _main(float(sys.argv[1]))
