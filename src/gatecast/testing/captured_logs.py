"""Gatecast's log lines, as values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from gatecast.telemetry import logs


@contextmanager
def captured_logs() -> Iterator[list[dict[str, Any]]]:
    """The lines that are logged while the block runs, instead of their usual output; `log_level` is in each."""
    capture = structlog.testing.LogCapture()
    before = logs.processors[:]
    logs.processors[:] = [capture]
    try:
        yield capture.entries  # type: ignore[misc]
    finally:
        logs.processors[:] = before
