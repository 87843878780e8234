"""The script that makes roles with the least rights."""

from __future__ import annotations

from importlib import resources


def role_script() -> str:
    """Statements for PostgreSQL that make the roles and grant their rights; may be repeated."""
    return resources.files("gatecast.storage.postgres").joinpath("roles.sql").read_text("utf-8")
