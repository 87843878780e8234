"""Logs and metrics: what an operator sees of a running pod."""

from gatecast.telemetry.logs import configure_logs, get_logger

__all__ = ["configure_logs", "get_logger"]
