"""Publishing over HTTP, for programs that do not embed the hub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from io import BytesIO
from typing import Any, Literal, NotRequired, Required, Self, TypeAlias, TypedDict, Unpack
from urllib.parse import quote
from uuid import UUID

import aiohttp
from yarl import URL

from gatecast.client.endpoint import Trust, server_url, trust
from gatecast.client.problems import error_from
from gatecast.client.reconnecting import parse_retry_after
from gatecast.client.socket import open_session
from gatecast.errors import ProtocolViolation, ServerUnavailable
from gatecast.events import Action, Event, PendingPosition, Position
from gatecast.waiting import Backoff

#: How long one attempt may take, beyond what `wait` adds; in seconds.
ATTEMPT_TIME_LIMIT = 15.0

#: Most attempts for one event.
MAX_ATTEMPTS = 5

#: The longest `Retry-After` that the client waits for; in seconds.
LONGEST_RETRY_AFTER = 10.0

_SUCCESSES = frozenset({HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED})

_NO_ANSWER = 0

#: "Not now", "something went wrong", and no answer at all: it is not known whether the event was stored.
_REPEATABLE = frozenset({_NO_ANSWER, 429, 500, 502, 503, 504})

#: What to wait for: that the gateway has confirmed the event, or that it has applied it.
Wait: TypeAlias = Literal["confirmed", "applied"]


class EventFields(TypedDict, total=False):
    """The fields of an event, with the rules of `gatecast.Event`."""

    type: Required[str]
    action: Required[Action | str]
    entity_type: Required[str]
    entity_id: Required[str]
    data: NotRequired[Mapping[str, Any]]
    event_id: NotRequired[UUID | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Proof that one event is durable."""

    #: The event's id.
    event_id: UUID
    #: Its place in the gateway's log. `position.pending`: it is in the server's outbox, and not in the log yet.
    position: Position
    #: True when this event id was in the log already: `position` is where it was first recorded.
    repeated: bool
    #: Whether the gateway did what `wait` asked for; true without `wait`.
    done: bool
    #: The server's whole answer.
    answer: Mapping[str, Any] = field(repr=False)


class EventPublisher:
    """Publishes through a server's admin API.

    ::

        async with EventPublisher("http://control-plane:8080", admin_token) as publisher:
            await publisher.publish("gw-1", type="route.changed", action="UPDATE", entity_type="route", entity_id="r-1")

    `url` is the URL of the API listener. `ssl` says which certificates are accepted: see `Trust`.

    Raises:
        InvalidValue: an argument breaks its rule.
    """

    def __init__(self, url: str, admin_token: str, *, ssl: Trust = True, backoff: Backoff | None = None) -> None:
        self._url = server_url(url)
        self._headers = {"Authorization": f"Bearer {admin_token}"}
        self._trust = trust(ssl)
        self._backoff = backoff or Backoff(first=0.2, longest=5.0)
        self._session: aiohttp.ClientSession | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        session = open_session(ssl=self._trust, headers=self._headers, time_limit=ATTEMPT_TIME_LIMIT)
        self._session = await self._stack.enter_async_context(session)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def publish(
        self,
        gateway_id: str,
        *,
        wait: Wait | None = None,
        timeout: float = 10.0,  # noqa: ASYNC109 - the server's time limit, not ours
        **fields: Unpack[EventFields],
    ) -> Published:
        """Append one event to a gateway's log.

        With `wait`, return when the gateway has confirmed or applied the event, or after `timeout` seconds with `done`
        false. If the server does not answer or answers "not now", the publisher tries again. The event gets its id
        before the first attempt, so all attempts together store it once (scenario S16).

        Raises:
            InvalidValue: a field breaks its rule.
            PayloadTooLarge: `data` is larger than 1 MiB once encoded.
            UnknownGateway: the gateway is not registered, or was deleted.
            Unauthenticated, Forbidden: the admin token is not valid, or does not allow publishing.
            ServerUnavailable: no attempt succeeded; repeat the publish with the error's `event_id`.
        """
        if fields.get("event_id") is None:
            fields.pop("event_id", None)
        event = Event(gateway_id=gateway_id, **fields)  # type: ignore[arg-type] # it takes text, and checks it
        # A slash within an id must not become part of the path.
        path = f"/api/v1/gateways/{quote(event.gateway_id, safe='')}/events"
        url = URL(f"{self._url}{path}", encoded=True)
        if wait is not None:
            url = url.with_query({"wait": wait, "timeout": str(timeout)})
        limit = ATTEMPT_TIME_LIMIT + (timeout if wait else 0.0)
        return _published(await self._answer(url, event, limit=limit), event, waited=wait is not None)

    async def _answer(self, url: URL, event: Event, *, limit: float) -> _Reply:
        """The first answer that is not "not now"."""
        attempt = 1
        while True:
            reply = await self._post(url, _body(event), limit=limit)
            if reply.status not in _REPEATABLE:
                return reply
            if attempt == MAX_ATTEMPTS:
                raise ServerUnavailable(reply.problem or f"HTTP {reply.status}", event_id=event.event_id)
            await asyncio.sleep(max(self._backoff.pause(attempt), min(reply.retry_after, LONGEST_RETRY_AFTER)))
            attempt += 1

    async def _post(self, url: URL, body: bytes, *, limit: float) -> _Reply:
        if self._session is None:
            raise RuntimeError("open it first: `async with EventPublisher(…) as publisher`")
        request = self._session.post(
            url,
            # As a stream: aiohttp warns of larger bodies in one piece.
            data=BytesIO(body),
            headers={"Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=limit),
            allow_redirects=False,
        )
        try:
            async with request as answer:
                retry_after = parse_retry_after(answer.headers.get("Retry-After"))
                return _Reply(status=answer.status, body=await answer.read(), retry_after=retry_after or 0.0)
        except (aiohttp.ClientError, OSError, TimeoutError) as problem:
            return _Reply(status=_NO_ANSWER, problem=repr(problem))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """What came of one attempt."""

    status: int
    body: bytes = b""
    retry_after: float = 0.0
    #: Why there was no answer.
    problem: str = ""


def _body(event: Event) -> bytes:
    """The request; `data` goes in as it was encoded when the event was made."""
    fields = {
        "type": event.type,
        "action": event.action,
        "entityType": event.entity_type,
        "entityId": event.entity_id,
        "eventId": str(event.event_id),
    }
    return f'{json.dumps(fields)[:-1]}, "data": {event.payload}}}'.encode()


def _published(reply: _Reply, event: Event, *, waited: bool) -> Published:
    if reply.status not in _SUCCESSES:
        raise error_from(reply.status, reply.body, gateway_id=event.gateway_id)
    try:
        answer = json.loads(reply.body)
        event_id, place = UUID(answer["eventId"]), answer["position"]
        return Published(
            event_id=event_id,
            position=PendingPosition(event.gateway_id, event_id) if place is None else Position.parse(place),
            repeated=reply.status == HTTPStatus.OK,
            done=reply.status != HTTPStatus.ACCEPTED or not waited,
            answer=answer,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise ProtocolViolation("the answer to a publish is not what it should be") from problem
