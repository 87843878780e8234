"""`gatecast tail`: watch events as they are recorded."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Annotated, Any

import typer

from gatecast.cli.output import JsonFlag, cell, print_json, screen
from gatecast.cli.remote import DEFAULT_URL, ServerOption, TokenOption, remote


def tail(
    gateway: Annotated[str, typer.Argument(help="Id or name of one gateway; all gateways if left out.")] = "",
    *,
    limit: Annotated[int, typer.Option(help="Stop after this many events; 0: never.")] = 0,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Print events as they are recorded, until interrupted."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_tail(gateway, limit=limit, url=url, token=token, as_json=as_json))


async def _tail(gateway: str, *, limit: int, url: str, token: str, as_json: bool) -> None:
    seen = 0
    async with remote(url, token) as server:
        parameters = {"gateway": (await server.gateway(gateway))["id"]} if gateway else {}
        async with server.stream("/api/v1/events/stream", parameters) as lines:
            async for line in lines:
                text = line.decode().rstrip("\n")
                if text.startswith("data:"):
                    _show(json.loads(text[5:]), as_json=as_json)
                    seen += 1
                    if seen == limit:
                        return


def _show(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(event)
        return
    if "offset" not in event:
        screen.print(f"[yellow]some events are missing here: {cell(event.get('reason'))}[/yellow]")
        return
    screen.print(
        f"[dim]{event.get('recordedAt', '')}[/dim] [cyan]{cell(event.get('gatewayId'))}[/cyan] "
        f"[bold]{event['offset']}[/bold] {cell(event['type'])} {event['action']} "
        f"{cell(event['entityType'])}/{cell(event['entityId'])}"
        + (f" [red]cannot be read: {cell(event['undeliverable'])}[/red]" if event.get("undeliverable") else "")
    )
