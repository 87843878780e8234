"""`gatecast roles`: the statements that make roles with the least rights on PostgreSQL."""

from __future__ import annotations

import typer

from gatecast.storage.postgres.roles import role_script


def roles() -> None:
    """Print the statements that make roles with the least rights on PostgreSQL, for `psql`.

    One role migrates, one serves, and one publishes for your applications. Nothing is changed by printing them.
    """
    typer.echo(role_script(), nl=False)
