"""`gatecast migrate`: bring the database schema up to date."""

from __future__ import annotations

import asyncio

from gatecast.cli.databases import prepare, prepare_outbox
from gatecast.cli.options import with_settings
from gatecast.cli.output import JsonFlag, print_json, progress, screen
from gatecast.settings import Settings


@with_settings("database", "outbox", "pooler")
def migrate(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """Create or update the schema. Safe to repeat, and safe when several pods do it at once.

    With --outbox it is the schema of that outbox, and of nothing else.
    """
    if settings.outbox:
        work = prepare_outbox(settings.outbox, pooler=settings.pooler)
    else:
        work = prepare(settings.database, pooler=settings.pooler)
    with progress("migrating"):
        applied = asyncio.run(work)
    if as_json:
        print_json({"applied": applied})
    elif applied:
        screen.print(f"applied migrations {', '.join(map(str, applied))}")
    else:
        screen.print("the schema is up to date")
