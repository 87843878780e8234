"""The script that creates roles with the least rights that Gatecast needs."""

from __future__ import annotations

from importlib import resources


def role_script() -> str:
    """Statements for PostgreSQL that create the roles and grant their rights; running them again is harmless."""
    return resources.files("gatecast.storage.postgres").joinpath("roles.sql").read_text("utf-8")
