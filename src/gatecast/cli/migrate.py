"""`gatecast migrate`: bring the database schema up to date."""

from __future__ import annotations

import asyncio

from gatecast.cli.databases import prepare
from gatecast.cli.options import with_settings
from gatecast.cli.output import JsonFlag, print_json, progress, screen
from gatecast.settings import Settings


@with_settings("database", "pooler")
def migrate(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """Create or update the schema. Safe to repeat, and safe when several pods do it at once."""
    with progress("migrating"):
        applied = asyncio.run(prepare(settings.database, pooler=settings.pooler))
    if as_json:
        print_json({"applied": applied})
    elif applied:
        screen.print(f"applied migrations {', '.join(map(str, applied))}")
    else:
        screen.print("the schema is up to date")
