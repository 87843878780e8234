"""`/api/v1/events/stream`: events as they are recorded, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Protocol, TypeAlias

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gatecast.containment import contained
from gatecast.errors import Forbidden, IssuerUnavailable, Overloaded, StorageError, Unauthenticated
from gatecast.server.admin_api.context import MAX_STREAMS, AdminContext, Context, Organization, Token, caller_with
from gatecast.server.admin_api.deployment_watch import DeploymentWatch
from gatecast.server.admin_api.fleet_watch import FleetWatch
from gatecast.server.admin_api.follower import Follower
from gatecast.server.admin_api.outcome_watch import OutcomeWatch
from gatecast.server.admin_api.stream_position import MAX_LENGTH, StreamPosition

router = APIRouter(tags=["events"])

#: A comment is sent after this much silence, in seconds, so that proxies keep the connection open.
HEARTBEAT = 15.0

#: That comment.
STILL_HERE = ": still here\n\n"

#: How often a stream looks for new events, in seconds.
INTERVAL = 0.5

#: How often the stream checks that the caller may still follow it, in seconds.
CHECK_INTERVAL = 30.0

_Check: TypeAlias = Callable[[], Awaitable[bool]]


class _Part(Protocol):
    """A source of a stream's messages. A failure loses nothing: the next look finds it."""

    async def look(self) -> None:
        """Find out what is new."""

    async def next_portion(self) -> str:
        """The next new messages, as text; empty: there are no more now."""


_EXAMPLE = """\
id: 2.4f1c….9b0e….804.804.0.0.
event: recorded
data: {"gatewayId": "9c…", "offset": 7, "eventId": "4b…", "type": "llmprovider.deployed", "action": "CREATE", …}

event: gap
data: {"reason": "retention", "gatewayId": "9c…", "after": 7, "through": 90}

event: unreadable
data: {"gatewayId": "9c…", "reason": "the database refused a statement", …}

event: gateway
data: {"gatewayId": "9c…", "name": "edge", "connected": true, "head": 91, "confirmed": 90, "why": "slow", …}

event: deployment
data: {"gatewayId": "9c…", "kind": "LlmProvider", "handle": "openai", "revision": 2, "state": "DEPLOYED", …}

event: artifact
data: {"artifactId": "7d…", "kind": "LlmProvider", "handle": "openai", "name": "OpenAI", "deleted": true, …}

event: away
data: {"seconds": 2}

event: back
data: {}

: still here
"""


@router.get(
    "/api/v1/events/stream",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "`recorded` for each event, and `outcome` for what gateways say of those that were shown. "
            "`gateway` for each of your gateways at first, and again when it stands otherwise: connections, position, "
            "state, and the code of its `why`. `deployment` when a gateway's state of an artifact changes, as in "
            "`GET /api/v1/deployments`, and `artifact` when one is deleted, whatever gateway is followed; at first for "
            "those of the last minute. `gap` where events may be missing: they were removed (`retention`), the "
            "database has another history now (`epoch`), or it does not know the client's position (`position`). "
            "`unreadable` when one gateway's log alone cannot be read, and why; once it can, `reason` is null. "
            "`reload` where more deployments changed at once than are reported: read that list again. `away` when the "
            "pod cannot read what is new (`seconds`: since when), and `back` when it can: nothing is lost in between.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        }
    },
)
async def stream_events(
    context: Context,
    token: Token,
    organization: Organization,
    gateway: Annotated[str, Query(max_length=255, description="Follow only this gateway.")] = "",
    last_event_id: Annotated[str, Header(max_length=MAX_LENGTH, description="Continue behind it.")] = "",
) -> StreamingResponse:
    """Follow the events of your gateways as they are recorded; send the last `id` to resume after it.

    A stream ends with its pod and with the caller's token: come back with `Last-Event-ID`, as browsers do. Some events
    may come again then, those of each gateway in their order; none is left out without a `gap`.
    """

    async def is_allowed() -> bool:
        return await _is_still(context, token, organization)

    return await follow(context, organization, gateway, last_event_id, is_allowed)


async def follow(
    context: AdminContext, organization: str, gateway: str, last_event_id: str, is_allowed: _Check
) -> StreamingResponse:
    """A stream that ends when `is_allowed` says no."""
    resumed = StreamPosition.parse(last_event_id) if last_event_id else None
    follower = await Follower.begin(context, organization, gateway, resumed, goes_on=bool(last_event_id))
    outcomes = OutcomeWatch(context, follower.shown_lately)
    parts: list[_Part] = [
        follower,
        outcomes,
        FleetWatch(context, organization, gateway=follower.gateway, outcomes=outcomes),
        DeploymentWatch(context, organization, gateway=follower.gateway),
    ]
    return EventStream(context, _stream(context, follower, _Reading(organization, parts), is_allowed))


async def _is_still(context: AdminContext, token: str, organization: str) -> bool:
    """False if the token was revoked or has expired; true while that is unknown."""
    try:
        return (await caller_with(context, token)).organization == organization
    except (Unauthenticated, Forbidden):
        return False
    except (StorageError, IssuerUnavailable):
        return True


class EventStream(StreamingResponse):
    """An endless stream of server-sent events; a pod limits the number of streams."""

    def __init__(self, context: AdminContext, messages: AsyncIterator[str]) -> None:
        super().__init__(messages, media_type="text/event-stream")
        self.headers["Cache-Control"] = "no-store"
        self._room = context.streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, if there is room for one more stream.

        Raises:
            Overloaded: there is none.
        """
        if self._room.locked():
            raise Overloaded("the room for event streams at this pod", MAX_STREAMS)
        async with self._room:
            await super().__call__(scope, receive, send)


class _Reading:
    """The sources of a stream, and whether all of them can be read."""

    def __init__(self, organization: str, parts: Sequence[_Part]) -> None:
        self.parts = parts
        self._organization = organization
        self._failing: set[_Part] = set()
        self._away = False
        self._clock = asyncio.get_running_loop().time
        self._well_at = self._clock()

    @contextmanager
    def of(self, part: _Part) -> Iterator[None]:
        """Note in this block whether a part can be read; nothing that fails in it comes out."""
        self._failing.add(part)
        with contained("stream-could-not-read", part=type(part).__name__, organization=self._organization):
            yield
            self._failing.discard(part)

    def news(self) -> str:
        """`away` once some part cannot be read, and `back` once every part can; empty: that was said."""
        before, self._away = self._away, bool(self._failing)
        seconds = self._clock() - self._well_at
        if not self._away:
            self._well_at = self._clock()
        if self._away == before:
            return ""
        kind, data = ("away", {"seconds": round(seconds, 1)}) if self._away else ("back", {})
        return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


async def _stream(
    context: AdminContext, follower: Follower, reading: _Reading, is_allowed: _Check
) -> AsyncIterator[str]:
    # So a client that leaves before the first event can also resume.
    yield f": following\nid: {follower.position}\n\n"
    clock = asyncio.get_running_loop().time
    checked_at = silent_since = clock()
    while not context.stopping.is_set():
        for part in reading.parts:
            with reading.of(part):
                await part.look()
                while not context.stopping.is_set() and (text := await part.next_portion()):
                    silent_since = clock()
                    yield text
        if text := reading.news():
            silent_since = clock()
            yield text
        if clock() - silent_since > HEARTBEAT:
            silent_since = clock()
            yield STILL_HERE
        if clock() - checked_at > CHECK_INTERVAL:
            checked_at = clock()
            if not await is_allowed():
                return
        await context.pause(INTERVAL)
