"""`gatecast gateway …`: the gateways of your organization."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gatecast.cli.output import JsonFlag, Output, OutputOption, print_fields, print_json, print_table, screen
from gatecast.cli.remote import (
    DEFAULT_URL,
    ServerOption,
    TokenOption,
    ask,
    ask_for_all,
    complete_gateways,
    gateway_path,
)
from gatecast.errors import InvalidValue
from gatecast.events.json_values import decode

app = typer.Typer(no_args_is_help=True, help="Create, list, show, change and delete gateways.")

GatewayArgument = Annotated[
    str, typer.Argument(help="Id or name of the gateway.", metavar="GATEWAY", autocompletion=complete_gateways)
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name, unique in your organization.")],
    *,
    display_name: Annotated[str, typer.Option(help="Name for people.")] = "",
    kind: Annotated[str, typer.Option("--type", help="regular or ai.")] = "regular",
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Register a gateway."""
    body = {"name": name, "type": kind, **({"displayName": display_name} if display_name else {})}
    created = ask(url, token, "POST", "/api/v1/gateways", body)
    if as_json:
        print_json(created)
    else:
        screen.print(f"created gateway [bold]{created['name']}[/bold] {created['id']}")
        screen.print(f"next: gatecast token create {created['name']}", style="dim")


@app.command(name="list")
def list_gateways(
    *,
    search: Annotated[str, typer.Option(help="Only those with this in their name.")] = "",
    output: OutputOption = Output.SHORT,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """List gateways with the state of their delivery."""
    gateways = ask_for_all(url, token, "/api/v1/gateways", {"search": search} if search else None)
    if as_json:
        print_json(gateways)
    else:
        columns = {"name": "NAME", "type": "TYPE", "connected": "CONNECTED", "lag": "LAG"}
        wide = {"displayName": "DISPLAY NAME", "id": "ID", "vhost": "VHOST", "createdAt": "CREATED"}
        empty = "no gateways yet; create one with: gatecast gateway create NAME"
        print_table(gateways, columns, wide=wide, output=output, empty=empty)


@app.command()
def show(
    gateway: GatewayArgument, *, url: ServerOption = DEFAULT_URL, token: TokenOption = "", as_json: JsonFlag = False
) -> None:
    """Show one gateway: its connections, its position, and how far it is behind."""
    found = _at_gateway(url, token, gateway, "GET")
    if as_json:
        print_json(found)
    else:
        print_fields(found, [key for key in found if key != "manifest"])


@app.command(name="update")
@app.command(name="change", hidden=True)
def update(
    gateway: GatewayArgument,
    *,
    name: Annotated[str | None, typer.Option(help="Name, unique in your organization.")] = None,
    display_name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    vhost: Annotated[str | None, typer.Option(help="Host that it serves.")] = None,
    properties: Annotated[str | None, typer.Option(help="A JSON object that replaces the present properties.")] = None,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Change the fields that the options name, and no others."""
    given: dict[str, object] = {"name": name, "displayName": display_name, "description": description, "vhost": vhost}
    if properties is not None:
        given["properties"] = json_object("--properties", properties)
    changes = {field: value for field, value in given.items() if value is not None}
    changed = _at_gateway(url, token, gateway, "PATCH", "", changes)
    if as_json:
        print_json(changed)
    else:
        screen.print(f"changed gateway [bold]{changed['name']}[/bold]")


@app.command()
def delete(
    gateway: GatewayArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
) -> None:
    """Delete a gateway, its tokens and its log, and close its connections on every pod."""
    if not yes:
        typer.confirm(f"Delete gateway {gateway}, its tokens and its log?", abort=True)
    _at_gateway(url, token, gateway, "DELETE")
    screen.print(f"deleted gateway [bold]{gateway}[/bold]")


@app.command()
def resynchronized(gateway: GatewayArgument, *, url: ServerOption = DEFAULT_URL, token: TokenOption = "") -> None:
    """Record that a gateway with resync-needed has the desired state again, because it was restarted."""
    _at_gateway(url, token, gateway, "POST", "/resynchronized")
    screen.print(f"gateway [bold]{gateway}[/bold] is recorded as resynchronized")


@app.command()
def parked(
    gateway: GatewayArgument, *, url: ServerOption = DEFAULT_URL, token: TokenOption = "", as_json: JsonFlag = False
) -> None:
    """List a gateway's parked entities with the reason of the rejection. Each waits for retry or skip."""
    items = ask_for_all(url, token, gateway_path(gateway, "parked"))
    if as_json:
        print_json(items)
    else:
        columns = {
            "entityType": "ENTITY TYPE",
            "entityId": "ENTITY ID",
            "replica": "REPLICA",
            "reason": "REASON",
            "offset": "OFFSET",
            "held": "HELD",
        }
        print_table(items, columns, empty="nothing is parked")


EntityTypeOption = Annotated[str, typer.Option("--entity-type", help="As `gatecast gateway parked` shows it.")]
EntityIdOption = Annotated[str, typer.Option("--entity-id", help="As `gatecast gateway parked` shows it.")]
ReplicaOption = Annotated[str, typer.Option("--replica", help="Name of the replica; empty: the unnamed replicas.")]


@app.command()
def retry(
    gateway: GatewayArgument,
    *,
    entity_type: EntityTypeOption,
    entity_id: EntityIdOption,
    replica: ReplicaOption = "",
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
) -> None:
    """Send a rejected event again, and the later events of its entity."""
    body = {"entityType": entity_type, "entityId": entity_id, "replica": replica}
    _at_gateway(url, token, gateway, "POST", "/parked/retry", body)
    screen.print(f"the rejected event of {entity_type} {entity_id} will be sent again")


@app.command()
def skip(
    gateway: GatewayArgument,
    *,
    entity_type: EntityTypeOption,
    entity_id: EntityIdOption,
    replica: ReplicaOption = "",
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
) -> None:
    """Leave a rejected event out, and send the later events of its entity."""
    body = {"entityType": entity_type, "entityId": entity_id, "replica": replica}
    _at_gateway(url, token, gateway, "POST", "/parked/skip", body)
    screen.print(f"the rejected event of {entity_type} {entity_id} will be left out")


def why(
    gateway: GatewayArgument, *, url: ServerOption = DEFAULT_URL, token: TokenOption = "", as_json: JsonFlag = False
) -> None:
    """Explain why a gateway is, or is not, up to date."""
    answer = _at_gateway(url, token, gateway, "GET", "/why")
    if as_json:
        print_json(answer)
    else:
        screen.print(f"[bold]{answer['code']}[/bold]: {answer['cause']}")


def json_object(option: str, text: str) -> dict[str, Any]:
    """The JSON object in an option.

    Raises:
        InvalidValue: it is not a JSON object.
    """
    value = decode(option, text)
    if not isinstance(value, dict):
        raise InvalidValue(option, type(value).__name__, "be a JSON object")
    return value


def _at_gateway(url: str, token: str, gateway: str, method: str, path: str = "", body: object = None) -> Any:  # noqa: ANN401 - JSON
    return ask(url, token, method, gateway_path(gateway) + path, body)
