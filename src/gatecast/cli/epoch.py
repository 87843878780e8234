"""`gatecast epoch …`: the identity of the database's history."""

from __future__ import annotations

import asyncio
from uuid import UUID

import typer

from gatecast.cli.options import with_settings
from gatecast.cli.output import JsonFlag, print_json, screen
from gatecast.settings import Settings
from gatecast.storage.connect import open_storage

app = typer.Typer(no_args_is_help=True, help="Show the database's history, or begin a new one after a restore.")


@app.command()
@with_settings("database", "pooler")
def show(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """Show which history the positions of gateways belong to."""
    epoch = asyncio.run(_epoch(settings))
    print_json({"epoch": str(epoch)}) if as_json else screen.print(str(epoch))


@app.command()
@with_settings("database", "pooler")
def renew(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """Begin a new history: after a restore, before the pods start. Every gateway is told to resynchronize."""
    before, after = asyncio.run(_renew(settings))
    if as_json:
        print_json({"before": str(before), "epoch": str(after)})
    else:
        screen.print(f"a new epoch has begun: {after}")


async def _epoch(settings: Settings) -> UUID:
    async with open_storage(settings.database, pooler=settings.pooler, create=False) as opened:
        return (await opened.storage.log.changed_since(0)).epoch


async def _renew(settings: Settings) -> tuple[UUID, UUID]:
    async with open_storage(settings.database, pooler=settings.pooler, create=False) as opened:
        before = (await opened.storage.log.changed_since(0)).epoch
        return before, await opened.storage.log.renew_epoch(before)
