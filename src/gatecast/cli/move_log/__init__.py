"""`gatecast move-log`: from SQLite to PostgreSQL, or from either to NATS JetStream, without losing anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from gatecast.cli.ending import run_to_its_end
from gatecast.cli.move_log.moving import Moved, Target, abandon, move, undo
from gatecast.cli.move_log.places import opened_alone, opened_places
from gatecast.cli.move_log.source import Source
from gatecast.cli.options import with_settings
from gatecast.cli.output import JsonFlag, print_json, screen
from gatecast.settings import Settings
from gatecast.storage.stream_url import parse_stream

T = TypeVar("T")

_PLACES = "an empty PostgreSQL database, or a new stream: nats://…"


@with_settings("database", "pooler")
def move_log(
    *,
    settings: Settings,
    to: Annotated[str, typer.Option(help=f"Where the log goes on: the URL of {_PLACES}.")],
    give_up: Annotated[
        bool, typer.Option("--undo", help="Give up an interrupted move, so that pods use the log again.")
    ] = False,
    target_lost: Annotated[
        bool,
        typer.Option(
            "--target-lost",
            help="With --undo: what the log is moved to is gone for good, with all that has come there.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Move the log, while pods run: from SQLite to PostgreSQL with everything else, or to NATS JetStream alone.

    From the moment it begins, or with a stream from shortly before it ends, pods on the old database can no longer
    publish; publishers repeat what they could not publish. Restart the pods with the new GATECAST_DATABASE, and with
    the old one as GATECAST_OUTBOX if that is a stream: offsets, epoch and positions continue, and no gateway
    resynchronizes. If the move is interrupted, run it again or add --undo.
    """
    if give_up:
        work = _abandoned(settings) if target_lost else _between(settings, to, undo, give_up=True)
        undone = run_to_its_end(work)
        if as_json:
            print_json({"undone": undone})
        else:
            screen.print("pods use the log again" if undone else "nothing to undo: the log is in use")
        return
    found = run_to_its_end(_between(settings, to, move))
    if as_json:
        print_json({"epoch": str(found.epoch), "rows": found.rows})
        return
    _show(found, to_stream=parse_stream(to) is not None)


def _show(found: Moved, *, to_stream: bool) -> None:
    events, gateways = (found.rows.get(f"gatecast.{name}", 0) for name in ("events", "gateway_streams"))
    screen.print(f"moved {events:,} events of {gateways:,} logs" if found.rows else "everything was moved already")
    screen.print(f"the history continues: epoch {found.epoch}")
    if to_stream:
        screen.print("start the pods with the stream as GATECAST_DATABASE and the old database as GATECAST_OUTBOX")
    else:
        screen.print("start the pods with the new GATECAST_DATABASE; no program writes to the file any more")


async def _abandoned(settings: Settings) -> bool:
    async with opened_alone(settings.database, pooler=settings.pooler) as (old, source):
        return await abandon(source, old.storage.log)


async def _between(
    settings: Settings, to: str, work: Callable[[Source, Target], Awaitable[T]], *, give_up: bool = False
) -> T:
    opening = opened_places(settings.database, to, pooler=settings.pooler, undo=give_up)
    async with opening as (source, target):
        return await work(source, target)
