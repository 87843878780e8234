"""`gatecast roles`: the statements that make roles with the least rights on PostgreSQL."""

from __future__ import annotations

import typer

from gatecast.storage.postgres.roles import role_script


def roles() -> None:
    """Print statements for `psql` that create roles with the least rights on PostgreSQL.

    One role migrates, one serves, and one publishes for your applications. The command itself changes nothing.
    """
    typer.echo(role_script(), nl=False)
