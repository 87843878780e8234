"""`gatecast epoch …`: the identity of the database's history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import typer

from gatecast.cli.options import with_settings
from gatecast.cli.output import JsonFlag, print_json, screen
from gatecast.errors import DatabaseUnsuitable
from gatecast.settings import Settings
from gatecast.storage.connect import OpenStorage, open_engine
from gatecast.storage.contract import Changes, EventLog, Verdict

app = typer.Typer(
    no_args_is_help=True,
    help="Show the database's history, and decide whether it continues after the database was moved or restored.",
)


@app.command()
@with_settings("database", "pooler")
def show(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """Show the history that positions belong to, and whether it is known to continue in this place."""
    found = asyncio.run(_found(settings))
    if as_json:
        print_json({"epoch": str(found.epoch), "settled": found.settled, "synchronous": found.synchronous})
        return
    screen.print(str(found.epoch))
    if not found.settled:
        screen.print(
            "this place is not recorded yet; a pod decides when it starts, or you decide with gatecast epoch keep|renew"
        )


@app.command()
@with_settings("database", "pooler")
def renew(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """Begin a new history, because events were lost and pods cannot notice. Every gateway resynchronizes."""
    before, after = asyncio.run(_renew(settings))
    if as_json:
        print_json({"before": str(before), "epoch": str(after)})
    else:
        screen.print(f"a new epoch has begun: {after}")


@app.command()
@with_settings("database", "pooler")
def keep(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """Continue the history where the database is now, because nothing was lost (for example after pg_upgrade).

    Run it before the pods start. A pod that remembers events which are missing here still begins a new history.
    """
    epoch = asyncio.run(_keep(settings))
    print_json({"epoch": str(epoch)}) if as_json else screen.print(f"the epoch continues: {epoch}")


async def _found(settings: Settings) -> Changes:
    async with _log(settings) as log:
        return await log.changed_since(0)


async def _keep(settings: Settings) -> UUID:
    async with _log(settings) as log:
        return await log.record_history((await log.changed_since(0)).epoch, Verdict.KEEP)


async def _renew(settings: Settings) -> tuple[UUID, UUID]:
    async with _log(settings, refused=_OF_THE_LOG) as log:
        before = (await log.changed_since(0)).epoch
        return before, await log.renew_epoch(before)


#: What to do instead where the database is an outbox: gateways have no positions in it.
_OF_THE_LOG = "name the log whose outbox it is: gatecast epoch renew --database nats://…"


@asynccontextmanager
async def _log(settings: Settings, *, refused: str = "") -> AsyncIterator[EventLog]:
    """The event logs in an existing database.

    Raises:
        DatabaseUnsuitable: it is an outbox, and the advice is what to do instead.
    """
    opening = open_engine(settings.database, pooler=settings.pooler, create=False)
    async with opening as opened:
        if refused and isinstance(opened, OpenStorage) and await opened.storage.database.is_outbox():
            raise DatabaseUnsuitable("it is the outbox of another log", refused)
        yield opened.engine.log
