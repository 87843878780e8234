"""`gatecast receive`: be a gateway on the terminal."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Annotated

import typer

from gatecast.cli.ending import run_to_its_end
from gatecast.cli.output import JsonFlag, cell, complaints, print_json, screen
from gatecast.client import ClientOptions, GatewayClient, GatewayEvent
from gatecast.client.endpoint import Trust
from gatecast.events import Position
from gatecast.telemetry import configure_logs

_Url = Annotated[str, typer.Option("--url", envvar="GATEWAY_URL", help="Base URL of the gateway listener.")]
_Token = Annotated[
    str, typer.Option("--token", envvar="GATEWAY_TOKEN", help="The gateway's token, from `gatecast token create`.")
]
_Reject = Annotated[str, typer.Option(help="Reject events, with this reason, instead of acknowledging them.")]
_After = Annotated[str, typer.Option(help="Resume after this position, like `epoch:offset`.")]


def receive(
    context: typer.Context,
    *,
    url: _Url = "https://127.0.0.1:9243",
    token: _Token = "",
    replica: Annotated[str, typer.Option(help="Name of this replica; each name has its own position.")] = "",
    after: _After = "",
    limit: Annotated[int, typer.Option(help="Stop after this many events; 0: never.", min=0)] = 0,
    reject: _Reject = "",
    trust: Annotated[str, typer.Option(help="PEM file of the authority that issued the server's certificate.")] = "",
    insecure: Annotated[bool, typer.Option("--insecure", help="Accept any certificate.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Connect as a gateway, print each event, and acknowledge it, until interrupted.

    The position of the gateway moves on: do not use the token of a gateway that is in use.
    """
    if not token:
        raise typer.BadParameter("give the gateway's token, or set GATEWAY_TOKEN", param_hint="--token")
    if context.obj is not None:
        # As a command of its own: log why there is no connection. Inside another program its logging stays as it is.
        configure_logs(format_name="text", pod_id="", level=logging.WARNING)
    client = GatewayClient(
        url,
        token,
        replica=replica or None,
        after=Position.parse(after) if after else None,
        ssl=_trust(trust, insecure=insecure),
        options=ClientOptions(),
    )
    with suppress(KeyboardInterrupt):
        run_to_its_end(_receive(client, limit=limit, reject=reject, as_json=as_json))


def _trust(file: str, *, insecure: bool) -> Trust:
    return False if insecure else (file or True)


async def _receive(client: GatewayClient, *, limit: int, reject: str, as_json: bool) -> None:
    seen = 0
    async with client as gateway:
        async for event in gateway.events(on_resync=_say_resync):
            _show(event, as_json=as_json)
            await (gateway.reject(event, reject) if reject else gateway.acknowledge(event))
            seen += 1
            if seen == limit:
                return


async def _say_resync(reason: str, position: Position) -> None:
    complaints.print(
        f"[yellow]the position cannot be resumed ({reason}); events before {position} are missing[/yellow]"
    )


def _show(event: GatewayEvent, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {"position": str(event.position), "eventId": event.event_id, "type": event.type, "data": event.payload}
        )
    else:
        screen.print(f"[bold]{event.position.offset}[/bold] {cell(event.type)} {cell(event.payload)}")
