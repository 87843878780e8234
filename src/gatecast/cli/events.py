"""`gatecast events …`: the logs of gateways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from gatecast.cli.gateway import GatewayArgument
from gatecast.cli.output import JsonFlag, Output, OutputOption, print_fields, print_json, print_table
from gatecast.cli.remote import DEFAULT_URL, ServerOption, TokenOption, ask, ask_for_all, gateway_path
from gatecast.cli.tail import tail

app = typer.Typer(no_args_is_help=True, help="List, search, show and follow the events of a gateway's log.")
app.command()(tail)

_Limit = Annotated[int, typer.Option(help="At most this many events; 0: all.", min=0)]

#: A page holds at most this many.
_PAGE = 500


@app.command(name="list")
def list_events(
    gateway: GatewayArgument,
    *,
    after: Annotated[int, typer.Option(help="Only events after this offset.", min=0)] = 0,
    limit: _Limit = 100,
    output: OutputOption = Output.SHORT,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """List a gateway's log, oldest first, with the state of each event."""
    parameters = {"after": str(after), **_page(limit)}
    _print(ask_for_all(url, token, gateway_path(gateway, "events"), parameters, most=limit), output, as_json=as_json)


@app.command()
def search(
    gateway: GatewayArgument,
    *,
    event_type: Annotated[str, typer.Option("--type", help="Exactly this type.")] = "",
    entity_type: Annotated[str, typer.Option(help="Exactly this entity type.")] = "",
    entity_id: Annotated[str, typer.Option(help="Exactly this entity.")] = "",
    state: Annotated[str, typer.Option(help="stored, confirmed, applied or rejected.")] = "",
    since: Annotated[str, typer.Option(help="Recorded then or later, like 2026-05-01T12:00:00Z.")] = "",
    until: Annotated[str, typer.Option(help="Recorded before.")] = "",
    limit: _Limit = 100,
    output: OutputOption = Output.SHORT,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Find events of a gateway's log, newest first."""
    wanted = {
        "type": event_type,
        "entityType": entity_type,
        "entityId": entity_id,
        "state": state,
        "since": since,
        "until": until,
    }
    parameters = {name: value for name, value in wanted.items() if value} | _page(limit)
    path = gateway_path(gateway, "events", "search")
    _print(ask_for_all(url, token, path, parameters, most=limit, cursor="before"), output, as_json=as_json)


@app.command()
def show(
    gateway: GatewayArgument,
    offset: Annotated[int, typer.Argument(help="Its offset in the gateway's log.", min=1)],
    *,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Show one event, and when it was recorded, picked up, sent, confirmed and applied."""
    found = ask(url, token, "GET", gateway_path(gateway, "events", str(offset)))
    if as_json:
        print_json(found)
    else:
        print_fields(found, found)


def _page(limit: int) -> dict[str, str]:
    return {"limit": str(min(limit, _PAGE) if limit else _PAGE)}


def _print(events: Sequence[dict[str, Any]], output: Output, *, as_json: bool) -> None:
    if as_json:
        print_json(events)
        return
    columns = {"offset": "OFFSET", "type": "TYPE", "action": "ACTION", "entityId": "ENTITY", "state": "STATE"}
    wide = {
        "entityType": "ENTITY TYPE",
        "eventId": "EVENT ID",
        "recordedAt": "RECORDED",
        "outcome": "OUTCOME",
        "data": "DATA",
    }
    print_table(events, columns, wide=wide, output=output, empty="no events")
