"""The fast path for the most frequent request: publishing one event, without waiting for its gateway.

It gives the same answers as the route, in a third of its time. A request that it does not understand, or finds fault
with before anything was stored, goes to the route unchanged.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatecast.errors import InvalidValue
from gatecast.events import Event
from gatecast.server.admin_api.auditing import require_admin
from gatecast.server.admin_api.context import AdminContext, known_caller
from gatecast.server.admin_api.counting import ShortWay
from gatecast.server.admin_api.events import answer_for, place_of, publish_to, status_for
from gatecast.server.admin_api.json_bodies import read_json
from gatecast.server.admin_api.paths import location_of
from gatecast.server.admin_api.problems import answer_error
from gatecast.server.admin_api.waits import Known

#: A path that names the gateway by its id.
_PATH = re.compile(r"/api/v1/gateways/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/events")

_ROUTE = ShortWay("/api/v1/gateways/{gateway_id}/events")


class PublishShortcut:
    """Answers such requests, and lets everything else pass."""

    def __init__(self, app: ASGIApp, *, context: AdminContext, most_bytes: int) -> None:
        self._app = app
        self._context = context
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass it on."""
        if (asked := _asked(scope)) is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        messages, body = await self._read(receive)
        request = Request(scope)
        try:
            gateway_id, token = asked
            found = None if body is None else _event_in(body, gateway_id)
            answer = None if found is None else await self._publish(request, token, *found)
        except Exception as error:  # noqa: BLE001 - every error has its answer
            answer = await answer_error(request, error)
        if answer is None:
            await self._app(scope, _again(messages, receive), send)
        else:
            await answer(scope, receive, send)

    async def _read(self, receive: Receive) -> tuple[list[Message], bytes | None]:
        """The messages read, and the body in them; None: it is too large, or breaks off."""
        messages: list[Message] = []
        parts: list[bytes] = []
        left = self._most_bytes
        while left >= 0:
            messages.append(message := await receive())
            parts.append(message.get("body", b""))
            left -= len(parts[-1])
            if message["type"] != "http.request":
                break
            if left >= 0 and not message.get("more_body", False):
                return messages, b"".join(parts)
        return messages, None

    async def _publish(self, request: Request, token: str, event: Event, has_id: bool) -> Response:  # noqa: FBT001 - as found
        caller = await known_caller(request, self._context, token)
        require_admin(caller)
        receipt = await publish_to(self._context, caller.organization, event, has_id=has_id)
        has_place = receipt.created and not receipt.pending
        return Response(
            answer_for(receipt, Known()).model_dump_json(by_alias=True),
            status_code=status_for(receipt),
            headers={"Location": location_of(*place_of(receipt))} if has_place else None,
            media_type="application/json",
        )


def _asked(scope: Scope) -> tuple[str, str] | None:
    """The id of the gateway, and the token; None: this is another request, or not said in the plainest way."""
    if scope["type"] != "http" or scope["method"] != "POST" or scope["query_string"]:
        return None
    if (path := _PATH.fullmatch(scope["path"])) is None:
        return None
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    tokens = [value for name, value in scope["headers"] if name == b"authorization"]
    encoded = any(name == b"content-encoding" for name, _ in scope["headers"])
    if kinds != [b"application/json"] or encoded or len(tokens) != 1 or not tokens[0].startswith(b"Bearer "):
        return None
    token = tokens[0][len(b"Bearer ") :]
    return (path[1], token.decode("ascii")) if token.isascii() and token == token.strip() else None


#: The fields of an event as clients send them. Any other body takes the long way.
_FIELDS = {"type": str, "action": str, "entityType": str, "entityId": str, "data": dict, "eventId": str}

#: Other names that the route takes as well.
_ALSO = {"entity_type": "entityType", "entity_id": "entityId", "event_id": "eventId"}

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _event_in(body: bytes, gateway_id: str) -> tuple[Event, bool] | None:
    """The event in the body, and whether the body has its id; None: there is none, and the route reports why."""
    try:
        sent: dict[str, Any] = read_json(body)
        if type(sent) is not dict:
            return None
        said = {_ALSO.get(name, name): value for name, value in sent.items()}
        if len(said) < len(sent) or any(type(value) is not _FIELDS.get(name) for name, value in said.items()):
            return None
        fields = {"data": said.get("data", {})}
        if (event_id := said.get("eventId")) is not None:
            if _UUID.fullmatch(event_id) is None:
                return None
            fields["event_id"] = event_id
        event = Event(
            gateway_id=gateway_id,
            type=said["type"],
            action=said["action"],
            entity_type=said["entityType"],
            entity_id=said["entityId"],
            **fields,
        )
    except (KeyError, InvalidValue):
        return None
    return event, event_id is not None


def _again(messages: list[Message], receive: Receive) -> Receive:
    """Receives what was read already, and then what comes."""
    waiting = list(reversed(messages))

    async def received() -> Message:
        return waiting.pop() if waiting else await receive()

    return received
