"""`gatecast migrate`: bring the database schema up to date."""

from __future__ import annotations

import asyncio

from gatecast.cli.databases import prepare, prepare_outbox, prepare_stream
from gatecast.cli.options import with_settings
from gatecast.cli.output import JsonFlag, print_json, progress, screen
from gatecast.settings import Settings


@with_settings("database", "outbox", "pooler")
def migrate(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """Create or update the schema. Safe to repeat, and safe when several pods do it at once.

    With --outbox, only the schema of that outbox. If the database is also a nats:// URL, the outbox gets the tables of
    pods as well, and the stream is created.
    """
    with progress("migrating"):
        applied = asyncio.run(_prepared(settings))
    if as_json:
        print_json({"applied": applied})
    elif applied:
        screen.print(f"applied migrations {', '.join(map(str, applied))}")
    else:
        screen.print("the schema is up to date")


async def _prepared(settings: Settings) -> list[int]:
    if not settings.outbox:
        return await prepare(settings.database, pooler=settings.pooler)
    if settings.is_on_stream:
        await prepare_stream(settings.database)
    return await prepare_outbox(settings.outbox, pooler=settings.pooler, for_pods=settings.is_on_stream)
