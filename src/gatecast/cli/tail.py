"""`gatecast tail`: watch events as they are recorded."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any

import typer

from gatecast.cli.output import JsonFlag, cell, complaints, print_json, screen
from gatecast.cli.remote import DEFAULT_URL, Remote, RequestRefused, ServerOption, TokenOption, gateway_path
from gatecast.waiting import Backoff

#: Pause before reconnecting when a stream ends because its pod was replaced.
_COMING_BACK = Backoff(first=0.2, longest=5.0)

#: Attempts without an answer before the command gives up.
_MOST_ATTEMPTS = 10

#: No answer, or one from the load balancer while a pod is replaced.
_COMES_BACK = frozenset({0, 502, 503, 504})

#: What the command prints about the state of the pod.
_CONDITIONS = {
    "away": "the database is away: nothing new can be shown until it is back",
    "back": "the database is back: events recorded meanwhile follow",
}

_State = Annotated[bool, typer.Option("--state", help="Print also the state of gateways, and each change of it.")]


def tail(
    gateway: Annotated[str, typer.Argument(help="Id or name of one gateway; all gateways if left out.")] = "",
    *,
    event_type: Annotated[str, typer.Option("--type", help="Only events whose type contains this.")] = "",
    action: Annotated[str, typer.Option(help="Only events with this action.")] = "",
    entity: Annotated[str, typer.Option(help="Only events whose entity type or id contains this.")] = "",
    with_state: _State = False,
    limit: Annotated[int, typer.Option(help="Stop after this many events; 0: never.")] = 0,
    url: ServerOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Print events as they are recorded, until interrupted; continues on another pod when its own ends."""
    wanted = {"type": event_type, "action": action, "entity": entity}
    with suppress(KeyboardInterrupt):
        _tail(gateway, wanted, Remote(url, token), limit=limit, with_state=with_state, as_json=as_json)


def _tail(
    gateway: str, wanted: Mapping[str, str], server: Remote, *, limit: int, with_state: bool, as_json: bool
) -> None:
    seen = 0
    parameters = {"gateway": server.request("GET", gateway_path(gateway))["id"]} if gateway else {}
    for kind, data in _messages(server, parameters):
        if kind in _CONDITIONS:
            complaints.print(f"[yellow]{_CONDITIONS[kind]}[/yellow]")
        elif kind == "unreadable":
            complaints.print(f"[yellow]{_readability(data)}[/yellow]")
        elif kind == "gateway":
            if with_state:
                _show_gateway(data, as_json=as_json)
        elif kind == "gap" or (kind == "recorded" and _fits(data, wanted)):
            _show(data, as_json=as_json)
            seen += 1
            if seen == limit:
                return


def _messages(server: Remote, parameters: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Kind and data of each message, over any number of streams: each continues where the previous one ended."""
    last_id, attempts = "", 0
    #: Newest offset by gateway: a stream that continues repeats some events.
    newest: dict[str, int] = {}
    while True:
        try:
            kind = ""
            for line in server.stream("/api/v1/events/stream", parameters, last_event_id=last_id):
                attempts = 0
                name, _, value = line.partition(": ")
                last_id = value if name == "id" else last_id
                kind = value if name == "event" else kind
                if name == "data" and _is_news(kind, data := json.loads(value), newest):
                    yield kind, data
        except RequestRefused as refusal:
            if refusal.status not in _COMES_BACK or attempts >= _MOST_ATTEMPTS:
                raise
        attempts += 1
        time.sleep(_COMING_BACK.pause(attempts))


def _is_news(kind: str, data: Mapping[str, Any], newest: dict[str, int]) -> bool:
    if kind == "gap":
        newest.clear()
    if kind != "recorded":
        return True
    before = newest.get(data["gatewayId"], 0)
    newest[data["gatewayId"]] = max(before, data["offset"])
    return bool(data["offset"] > before)


def _fits(event: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    texts = {
        "type": event["type"],
        "action": event["action"],
        "entity": f"{event['entityType']} {event['entityId']}",
    }
    return all(text.casefold() in texts[name].casefold() for name, text in wanted.items())


def _readability(data: Mapping[str, Any]) -> str:
    name, reason = cell(data["gatewayId"]), data.get("reason")
    if reason is None:
        return f"the log of {name} can be read again: its events follow"
    return f"the log of {name} cannot be read now: {cell(reason)}; its events come once it can"


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


def _show_gateway(state: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(state)
        return
    if state.get("deleted"):
        screen.print(f"[cyan]{cell(state['gatewayId'])}[/cyan] deleted")
        return
    connected = "connected" if state["connected"] else "offline"
    screen.print(
        f"[cyan]{cell(state['name'])}[/cyan] {connected}, {cell(state['why'])}: "
        f"{state['confirmed']} of {state['head']} confirmed"
    )
