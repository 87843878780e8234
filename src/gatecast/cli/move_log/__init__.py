"""`gatecast move-log`: from SQLite to PostgreSQL, without losing an event or a position."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from gatecast.cli.ending import run_to_its_end
from gatecast.cli.move_log.moving import move, undo
from gatecast.cli.options import with_settings
from gatecast.cli.output import JsonFlag, print_json, screen
from gatecast.server.pod import MIGRATIONS
from gatecast.settings import Settings
from gatecast.storage.connect import OpenStorage, open_storage

T = TypeVar("T")


@with_settings("database", "pooler")
def move_log(
    *,
    settings: Settings,
    to: Annotated[str, typer.Option(help="The new database: the URL of an empty PostgreSQL database.")],
    give_up: Annotated[
        bool, typer.Option("--undo", help="Give up an interrupted move, so that pods write to the file again.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Move everything in an SQLite file to PostgreSQL, while pods run: logs, positions, gateways, artifacts.

    From the moment it begins, pods on the file can no longer publish; publishers repeat what they could not publish.
    Restart the pods with the new GATECAST_DATABASE: offsets, epoch and positions continue, and no gateway
    resynchronizes. If the move is interrupted, run it again or add --undo.
    """
    if give_up:
        undone = run_to_its_end(_between(settings, to, undo))
        if as_json:
            print_json({"undone": undone})
        else:
            screen.print("pods write to the file again" if undone else "nothing to undo: the file is in use")
        return
    found = run_to_its_end(_between(settings, to, move))
    if as_json:
        print_json({"epoch": str(found.epoch), "rows": found.rows})
        return
    events, gateways = (found.rows.get(f"gatecast.{name}", 0) for name in ("events", "gateway_streams"))
    screen.print(f"moved {events:,} events of {gateways:,} logs" if found.rows else "everything was moved already")
    screen.print(f"the history continues: epoch {found.epoch}")
    screen.print("start the pods with the new GATECAST_DATABASE; no program writes to the file any more")


async def _between(settings: Settings, to: str, work: Callable[[OpenStorage, OpenStorage], Awaitable[T]]) -> T:
    async with (
        open_storage(settings.database, extra_migrations=MIGRATIONS, create=False) as old,
        open_storage(to, extra_migrations=MIGRATIONS, pooler=settings.pooler) as new,
    ):
        return await work(old, new)
