"""`gatecast publish`: send an event to a gateway."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gatecast.cli.gateway import GatewayArgument, json_object
from gatecast.cli.output import JsonFlag, complaints, print_json, screen
from gatecast.cli.remote import DEFAULT_URL, ServerOption, TokenOption, ask, complete_actions, gateway_path
from gatecast.protocol.deployments import is_acknowledged

ActionOption = Annotated[
    str, typer.Option(help="CREATE, UPDATE, DELETE, PROVISION or REVOKE.", autocompletion=complete_actions)
]


def publish(
    gateway: GatewayArgument,
    event_type: Annotated[str, typer.Option("--type", help="What happened, like route.changed.")],
    entity_id: Annotated[str, typer.Option("--entity-id", help="The changed entity.")],
    *,
    entity_type: Annotated[str, typer.Option(help="Kind of the entity.")] = "entity",
    action: ActionOption = "UPDATE",
    data: Annotated[str, typer.Option(help="A JSON object, or - to read it from standard input.")] = "{}",
    event_id: Annotated[str, typer.Option(help="A uuid; publishing it again stores nothing new.")] = "",
    wait: Annotated[str, typer.Option(help="confirmed or applied: return when the gateway has it.")] = "",
    timeout: Annotated[float, typer.Option(help="How long to wait, in seconds.")] = 10.0,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Publish an event; return when it is durable, or with --wait when the gateway has confirmed or applied it.

    If that does not happen within the timeout, the exit status is 1. The event is durable nevertheless. It is
    pending while it waits in the server's outbox; it gets its offset when it is forwarded.
    """
    body = {
        "type": event_type,
        "action": action,
        "entityType": entity_type,
        "entityId": entity_id,
        "data": json_object("--data", sys.stdin.read() if data == "-" else data),
        **({"eventId": event_id} if event_id else {}),
    }
    parameters = {"wait": wait, "timeout": str(timeout)} if wait else {}

    path = gateway_path(gateway, "events")
    answer = ask(url, token, "POST", path, body, parameters=parameters, extra=timeout)
    if as_json:
        print_json(answer)
    else:
        place = "and pending" if answer["offset"] is None else f"at offset [bold]{answer['offset']}[/bold]"
        screen.print(f"published {place}  event {answer['eventId']}")
    if wait and not _has_happened(event_type, wait, answer["state"]):
        complaints.print(f"the event is durable, but not {wait}: {answer['reason'] or answer['state']}", style="red")
        raise typer.Exit(1)


def _has_happened(event_type: str, wait: str, state: str) -> bool:
    """Whether the gateway did what was waited for; types that are never acknowledged can only be confirmed."""
    awaited = wait if is_acknowledged(event_type) else "confirmed"
    return state in (awaited, "applied")
