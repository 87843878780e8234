"""Structured logs. A line says what happened and names what it happened to; secrets never get here.

In a process of ours lines go to standard error. Inside a host program they go where its own `logging` sends them, under
the names `gatecast.…`; how that program set up structlog or `logging` stays as it is.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import MutableMapping
from typing import Any, TypeAlias

import structlog

from gatecast.hiding import may_hold_secret, redacted

_Line: TypeAlias = MutableMapping[str, Any]


def get_logger(name: str) -> Any:  # noqa: ANN401 - structlog's loggers are dynamic by design
    """A logger that names the part it speaks for."""
    return structlog.wrap_logger(
        _Target(name), processors=processors, wrapper_class=_EveryLevel, cache_logger_on_first_use=True, part=name
    )


def configure_logs(*, format_name: str, pod_id: str, level: int = logging.INFO) -> None:
    """Send log lines to standard error, as `text` for people or as `json` for machines.

    With a `pod_id` the whole process is ours: library logs, warnings and uncaught errors become lines like every other,
    and each names the pod.
    """
    processors[:] = _to_standard_error(format_name, level, pod_id)
    if pod_id:
        logging.root.handlers = [_FromLibraries(logging.WARNING)]
        logging.captureWarnings(capture=True)
        _log_what_nobody_caught()


#: Lets every line through: whether it is wanted is known by the first of the processors.
_EveryLevel = structlog.make_filtering_bound_logger(logging.NOTSET)


class _Target:
    """Where the lines of one part end up: a text goes to standard error, a record to `logging`."""

    def __init__(self, name: str) -> None:
        self.logging = logging.getLogger(f"gatecast.{name}")

    def write(self, line: str = "", *, level: int = 0, message: str = "", parts: _Line | None = None) -> None:
        if parts is not None:
            # As an argument, so that a % in it is literal.
            self.logging.log(level, "%s", message, extra={"gatecast": parts})
        else:
            # Looked up for each line: the host program may replace the stream, and close the replacement.
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    debug = info = warning = error = critical = write


class _FromLibraries(logging.Handler):
    """Gives what libraries log the same shape, so that a machine can read every line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log it as our own."""
        get_logger(record.name).log(record.levelno, record.getMessage(), exc_info=record.exc_info or None)


def _log_what_nobody_caught() -> None:
    logger = get_logger("process")
    sys.excepthook = lambda kind, error, trace: logger.critical("not-caught", exc_info=(kind, error, trace))
    sys.unraisablehook = lambda what: logger.error("not-raised", exc_info=what.exc_value, where=repr(what.object))
    threading.excepthook = lambda what: logger.critical("not-caught", exc_info=what.exc_value)


# --- in a process of ours ---------------------------------------------------------------------------------------------


def _to_standard_error(format_name: str, level: int, pod_id: str) -> list[Any]:
    def is_wanted(_target: object, method: str, line: _Line) -> _Line:
        if _level(method) < level:
            raise structlog.DropEvent
        # Not by a context: a thread has none of ours.
        return {**line, "pod": pod_id} if pod_id else line

    return [
        is_wanted,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # A plain traceback: a pretty one would show the variables, and secrets among them.
        structlog.processors.format_exc_info,
        _redact,
        _as_json
        if format_name == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0),
    ]


#: A value that is not JSON is shown by its `repr`.
_JSON = json.JSONEncoder(default=repr)


def _as_json(_target: object, _method: str, line: _Line) -> str:
    return _JSON.encode(line)


def _redact(_target: object, _method: str, line: _Line) -> _Line:
    """The line without what may be a secret, tracebacks included."""
    if not may_hold_secret("\n".join([f"{key}={value}" for key, value in line.items() if isinstance(value, str)])):
        return line
    return {key: _shown(key, value) if isinstance(value, str) else value for key, value in line.items()}


def _shown(key: str, value: str) -> str:
    # Together, because the name may be what says that the value is a secret.
    return redacted(f"{key}={value}").removeprefix(f"{key}=")


# --- inside an application --------------------------------------------------------------------------------------------


def _to_logging() -> list[Any]:
    """Its `logging` decides what is of interest, and what becomes of it."""
    return [
        _is_enabled,
        structlog.contextvars.merge_contextvars,
        structlog.processors.format_exc_info,
        _redact,
        _record,
    ]


def _is_enabled(target: _Target, method: str, line: _Line) -> _Line:
    if not target.logging.isEnabledFor(_level(method)):
        raise structlog.DropEvent
    return line


def _record(_target: object, method: str, line: _Line) -> _Line:
    """A complete message, and its parts for other formatters."""
    event, exception = line.pop("event"), line.pop("exception", None)
    line.pop("part", None)
    words = " ".join([str(event), *(f"{key}={value!r}" for key, value in line.items())])
    message = f"{words}\n{exception}" if exception else words
    return {"level": _level(method), "message": message, "parts": {"event": event, **line}}


#: By the names of structlog's methods.
_LEVELS = {name.lower(): level for name, level in logging.getLevelNamesMapping().items()}


def _level(method: str) -> int:
    return _LEVELS[method]


#: The processors of each line, in order; one list for all loggers, so that loggers may be created before it is set.
processors: list[Any] = _to_logging()
