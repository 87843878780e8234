"""`gatecast outbox …`: show the events in an outbox, and decide about those that its log refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from gatecast.cli.options import with_settings
from gatecast.cli.output import JsonFlag, print_fields, print_json, print_table, screen
from gatecast.errors import DatabaseUnsuitable, InvalidValue, SchemaMissing, SettingInvalid
from gatecast.events import clean_identifier
from gatecast.outbox.binding import named, rebind
from gatecast.outbox.entries import Entries, OutboxStatus, RefusedEntry
from gatecast.outbox.outbox import check
from gatecast.outbox.records import MIGRATIONS, Records
from gatecast.settings import Settings, variable
from gatecast.storage.connect import OpenStorage, open_engine, open_storage, place_of
from gatecast.storage.contract import EventLog, Storage
from gatecast.storage.migrations import SchemaNeed

app = typer.Typer(
    no_args_is_help=True,
    help="Show the events in an outbox, decide about those that its log refused, and bind it to another log.",
)

GatewayArgument = Annotated[str, typer.Argument(help="Id of the gateway, as `gatecast outbox status` shows it.")]
YesFlag = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
@with_settings("outbox", "pooler")
def status(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """Show for each gateway how many events wait, since when, what the log refused and why; and which pod forwards."""
    found = asyncio.run(_status(settings))
    if as_json:
        print_json(_as_json(found))
        return
    shown = {
        "log": named(found.log, found.log_place),
        "forwarder": found.forwarder,
        "waiting": sum(found.waiting.values()),
        "since": found.oldest,
    }
    print_fields(shown, shown)
    rows = [
        {"gateway": name, "waiting": count, "since": found.since.get(name)}
        for name, count in sorted(found.waiting.items())
    ]
    columns = {"gateway": "GATEWAY", "waiting": "WAITING", "since": "SINCE"}
    print_table(rows, columns, empty="nothing waits")
    if found.refused:
        print_table(_refused(found), {"gateway": "REFUSED OF", "eventId": "EVENT", "reason": "REASON"}, empty="")
        screen.print("decide: gatecast outbox retry GATEWAY, or gatecast outbox skip GATEWAY", style="dim")


@app.command()
@with_settings("outbox", "pooler")
def retry(gateway: GatewayArgument, *, settings: Settings, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """Forward the refused event of a gateway again, and then its later ones.

    If the gateway was deleted from the log in another way, this registers it there.
    """
    _decide(settings, gateway, retry=True, yes=yes, as_json=as_json)


@app.command()
@with_settings("outbox", "pooler")
def skip(gateway: GatewayArgument, *, settings: Settings, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """Never forward the refused event of a gateway, and continue with its later ones."""
    _decide(settings, gateway, retry=False, yes=yes, as_json=as_json)


@app.command()
@with_settings("database", "outbox", "pooler")
def bind(*, settings: Settings, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """Let the outbox forward into the log at --database from now on.

    That may be a database, or a stream at nats://host:4222/STREAM. Waiting events go there, and so does every gateway
    of the outbox. Forwarded events stay in the previous log. A log that was moved, restored or failed over is still the
    same one, and needs no binding.
    """
    before = asyncio.run(_status(settings))
    if not yes:
        old, new = named(before.log, before.log_place) or "no log", place_of(settings.database)
        typer.confirm(f"The outbox belongs to {old}. Forward into the log at {new} from now on?", abort=True)
    log = asyncio.run(_bind(settings))
    if as_json:
        print_json({"before": before.log or None, "log": log})
    else:
        screen.print(f"the outbox forwards into the log {named(log, place_of(settings.database))}")


def _decide(settings: Settings, gateway: str, *, retry: bool, yes: bool, as_json: bool) -> None:
    gateway_id = clean_identifier("gateway", gateway)
    entry = asyncio.run(_refused_of(settings, gateway_id))
    what = f"the event {entry.event_id} of gateway {gateway_id}"
    if not yes:
        question = "Forward it again?" if retry else "Leave it out for good?"
        typer.confirm(f"The log refused {what}: {entry.reason}\n{question}", abort=True)
    if not asyncio.run(_decided(settings, entry, retry=retry)):
        raise _nothing_refused(gateway_id)
    if as_json:
        print_json({"gateway": gateway_id, "eventId": entry.event_id, "decision": "retry" if retry else "skip"})
    else:
        screen.print(f"{what} {'will be forwarded again' if retry else 'is left out'}", markup=False)


def _nothing_refused(gateway_id: str) -> InvalidValue:
    return InvalidValue("GATEWAY", gateway_id, "have a refused event in the outbox; see `gatecast outbox status`")


async def _status(settings: Settings) -> OutboxStatus:
    async with _opened_entries(settings) as entries:
        return await entries.status()


async def _refused_of(settings: Settings, gateway_id: str) -> RefusedEntry:
    async with _opened_entries(settings) as entries:
        found = next((each for each in await entries.refused() if each.gateway_id == gateway_id), None)
    if found is None:
        raise _nothing_refused(gateway_id)
    return found


async def _decided(settings: Settings, entry: RefusedEntry, *, retry: bool) -> bool:
    event_id = UUID(int=entry.event_id.int)
    async with _opened_entries(settings) as entries:
        if retry:
            return await entries.try_again(entry.gateway_id, event_id)
        return await entries.leave_out(entry.gateway_id, event_id)


async def _bind(settings: Settings) -> str:
    async with _opened(settings) as (storage, records), _open_log(settings) as log:
        await check(storage, log)
        return await rebind(records, log, place_of(settings.database))


@asynccontextmanager
async def _open_log(settings: Settings) -> AsyncIterator[EventLog]:
    """The existing log that the settings name, until the block ends: a mistyped address creates no new one.

    Raises:
        DatabaseUnsuitable: it is not there.
        SchemaMissing: the database lacks the schema of this release.
    """
    async with open_engine(settings.database, pooler=settings.pooler, create=False) as opened:
        if isinstance(opened, OpenStorage) and await opened.storage.database.schema_need() is not SchemaNeed.NOTHING:
            raise SchemaMissing
        yield opened.engine.log


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Storage, Records]]:
    """The outbox that the settings name, until the block ends.

    Raises:
        SettingInvalid: they name no outbox.
        DatabaseUnsuitable: the database is not an outbox.
        SchemaMissing: an earlier release made it.
    """
    if not settings.outbox:
        raise SettingInvalid(variable("outbox"), "", "name the SQL database of the outbox, here or with --outbox")
    opening = open_storage(settings.outbox, extra_migrations=(MIGRATIONS,), pooler=settings.pooler, create=False)
    async with opening as opened:
        if not await opened.storage.database.is_outbox():
            raise DatabaseUnsuitable("it is not an outbox", "name the database that the hub was opened with as outbox")
        if await opened.storage.database.schema_need() is not SchemaNeed.NOTHING:
            raise SchemaMissing
        yield opened.storage, Records(opened.storage.database, opened.backend)


@asynccontextmanager
async def _opened_entries(settings: Settings) -> AsyncIterator[Entries]:
    async with _opened(settings) as (storage, records):
        yield Entries(storage.log, records)


def _as_json(found: OutboxStatus) -> dict[str, object]:
    return {
        "log": found.log or None,
        "logPlace": found.log_place or None,
        "forwarder": found.forwarder or None,
        "waiting": sum(found.waiting.values()),
        "oldest": _moment(found.oldest),
        "gateways": [
            {"gateway": name, "waiting": count, "since": _moment(found.since.get(name))}
            for name, count in sorted(found.waiting.items())
        ],
        "refused": _refused(found),
    }


def _moment(value: datetime | None) -> str | None:
    return value.isoformat() if value is not None else None


def _refused(found: OutboxStatus) -> list[dict[str, object]]:
    return [
        {
            "gateway": entry.gateway_id,
            "eventId": str(entry.event_id),
            "reason": entry.reason,
            "since": entry.stored_at.isoformat(),
        }
        for entry in found.refused
    ]
