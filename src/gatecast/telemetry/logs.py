"""Structured logs. A line says what happened and names what it happened to; secrets never get here."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from gatecast.hiding import redacted


def get_logger(name: str) -> Any:  # noqa: ANN401 - structlog's loggers are dynamic by design
    """A logger that names the part it speaks for."""
    return structlog.get_logger(part=name)


def configure_logs(*, format_name: str, pod_id: str, level: int = logging.INFO) -> None:
    """Send log lines to standard error, as `text` for people or as `json` for machines."""
    structlog.configure(
        processors=_processors(format_name),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Looked up for each line: whoever runs us may put another stream in its place, and close that.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    if pod_id:
        # A pod's process is ours as a whole, its libraries included.
        logging.root.handlers = [_FromLibraries(logging.WARNING)]
        structlog.contextvars.bind_contextvars(pod=pod_id)


class _FromLibraries(logging.Handler):
    """Gives what libraries log the same shape, so that a machine can read every line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log it as our own."""
        logger = structlog.get_logger(part=record.name)
        logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info or None)


def _processors(format_name: str) -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # A plain traceback: a pretty one would show the variables, and secrets among them.
        structlog.processors.format_exc_info,
        _redact,
        structlog.processors.JSONRenderer()
        if format_name == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0),
    ]


def _redact(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401 - structlog's signature
    """The line without what may be a secret, tracebacks included."""
    return {key: redacted(value) if isinstance(value, str) else value for key, value in line.items()}


if not structlog.is_configured():
    # Inside somebody's program, say only what matters. Its own configuration wins.
    configure_logs(format_name="text", pod_id="", level=logging.WARNING)
