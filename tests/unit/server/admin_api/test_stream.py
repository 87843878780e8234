"""`/api/v1/events/stream`: events as they are recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gatecast.errors import InvalidValue, StorageUnavailable
from gatecast.events import Action, Event
from gatecast.server.admin_api import AdminContext, create_admin_app, follower, stream
from gatecast.server.admin_api.context import MAX_STREAMS
from gatecast.server.admin_api.follower import Follower
from gatecast.server.admin_api.stream_position import StreamPosition
from gatecast.storage.contract import TrimPolicy

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_PATH = "/api/v1/events/stream"


async def _publish(context: AdminContext, gateway_id: str, count: int = 1) -> None:
    await context.hub.publish(
        [
            Event(
                gateway_id=gateway_id,
                type="api.deployed",
                action=Action.CREATE,
                entity_type="Api",
                entity_id="a",
                data={"line": "one\ntwo\r\n\u2028"},
            )
            for _ in range(count)
        ]
    )


def _messages(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Kind and data of each message."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def _shown(text: str) -> list[tuple[str, int]]:
    return [(data["gatewayId"], data["offset"]) for kind, data in _messages(text) if kind == "recorded"]


def _last_id(text: str) -> StreamPosition:
    ids = [line.removeprefix("id: ") for line in text.split("\n") if line.startswith("id: ")]
    return StreamPosition.parse(ids[-1])


async def _news(one: Follower) -> str:
    """Everything that it finds now."""
    await one.look()
    portions = []
    while portion := await one.next_portion():
        portions.append(portion)
    return "".join(portions)


async def _follow(context: AdminContext, gateway: str = "", resumed: StreamPosition | None = None) -> Follower:
    return await Follower.begin(context, "default", gateway, resumed)


# --- what is shown ----------------------------------------------------------------------------------------------------


async def test_what_comes_from_now_on_is_shown_in_order(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        one, two = [await new_gateway(client, name) for name in ("one", "two")]
        await _publish(context, one)
        following = await _follow(context)
        assert await _news(following) == ""
        await _publish(context, one, 250)
        await _publish(context, two, 2)
        shown = _shown(await _news(following))
        assert [offset for name, offset in shown if name == one] == list(range(2, 252))
        assert [offset for name, offset in shown if name == two] == [1, 2]
        assert await _news(following) == ""


async def test_an_event_is_shown_whole(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """In one line, whatever its data holds."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        following = await _follow(context)
        await _publish(context, gateway_id)
        [(kind, data)] = _messages(await _news(following))
    assert kind == "recorded"
    assert data["data"] == {"line": "one\ntwo\r\n\u2028"}
    assert (data["type"], data["action"], data["entityType"], data["entityId"]) == (
        "api.deployed",
        "CREATE",
        "Api",
        "a",
    )


async def test_the_last_id_continues_without_gap_or_repetition(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Also for a gateway that was created in between."""
    async with open_api() as (client, context):
        one = await new_gateway(client, "one")
        following = await _follow(context)
        await _publish(context, one)
        position = _last_id(await _news(following))
        await _publish(context, one)
        two = await new_gateway(client, "two")
        await _publish(context, two)
        resumed = await _follow(context, resumed=position)
        assert sorted(_shown(await _news(resumed))) == sorted([(one, 2), (two, 1)])


async def test_a_gateway_that_is_created_meanwhile_is_followed(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """From its first event on; one that is deleted is forgotten."""
    async with open_api() as (client, context):
        old = await new_gateway(client, "old")
        following = await _follow(context)
        new = await new_gateway(client, "new")
        await _publish(context, new, 2)
        first, second = await _news(following), await _news(following)
        assert _shown(first + second) == [(new, 1), (new, 2)]
        await _publish(context, old)
        await following.look()
        await client.delete(f"/api/v1/gateways/{old}")
        assert await _news(following) == ""
        await _publish(context, new)
        assert list(_last_id(await _news(following)).offsets) == [new]


async def test_s31_another_organizations_events_are_not_shown(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Not as they come, not by a forged position, not by naming the gateway."""
    async with open_api() as (client, context):
        own = await new_gateway(client)
        foreign = await new_gateway(client, headers={"Authorization": "Bearer other-token"})
        following = await _follow(context)
        await _publish(context, foreign)
        await _publish(context, own)
        assert _shown(await _news(following) + await _news(following)) == [(own, 1)]
        epoch = (await context.hub.storage.log.changed_since(0)).epoch
        forged = await _follow(context, resumed=StreamPosition(epoch, {foreign: 0, own: 0}))
        assert _shown(await _news(forged) + await _news(forged)) == [(own, 1)]
        named = await client.get(_PATH, params={"gateway": foreign})
        assert named.status_code == 404


async def test_one_gateway_can_be_followed_alone(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        one, two = [await new_gateway(client, name) for name in ("one", "two")]
        following = await _follow(context, f" {one} ")
        await _publish(context, two)
        await _publish(context, one)
        assert _shown(await _news(following) + await _news(following)) == [(one, 1)]


# --- what cannot be shown ---------------------------------------------------------------------------------------------


async def test_what_retention_has_removed_is_told(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        position = StreamPosition((await context.hub.storage.log.changed_since(0)).epoch, {gateway_id: 0})
        await _publish(context, gateway_id, 5)
        policy = TrimPolicy(keep_confirmed=timedelta(0), keep_at_most=timedelta(days=1), max_events=2)
        while await context.hub.storage.log.trim(policy):
            pass
        following = await _follow(context, resumed=position)
        (kind, gap), *others = _messages(await _news(following))
    assert kind == "gap"
    assert gap == {"reason": "retention", "gatewayId": gateway_id, "after": 0, "through": 3}
    assert [data["offset"] for _, data in others] == [4, 5]


async def test_s20_another_history_is_told_and_followed(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Whether it begins under an open stream or between two."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        following = await _follow(context)
        await _publish(context, gateway_id)
        position = _last_id(await _news(following))
        await context.hub.storage.log.renew_epoch(position.epoch)
        resumed = await _follow(context, resumed=position)
        for one in (following, resumed):
            text = await _news(one)
            assert _messages(text) == [("gap", {"reason": "epoch"})]
            assert _last_id(text).epoch != position.epoch
        await _publish(context, gateway_id)
        assert _shown(await _news(following)) == _shown(await _news(resumed)) == [(gateway_id, 2)]


async def test_nothing_is_lost_while_the_database_is_away(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found and could not be read comes when it can."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        following = await _follow(context)
        await _publish(context, gateway_id)

        async def away(*_: object) -> None:
            raise StorageUnavailable("gone")

        for name in ("changed_since", "read"):
            with monkeypatch.context() as patch:
                patch.setattr(context.hub.storage.log, name, away)
                assert await _news(following) == ""
        assert _shown(await _news(following)) == [(gateway_id, 1)]


async def test_more_gateways_than_a_stream_can_follow_must_be_named(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its beginning it is an error; later it ends the stream, so that none is left out in silence."""
    monkeypatch.setattr(follower, "MAX_GATEWAYS", 1)
    async with open_api() as (client, context):
        one = await new_gateway(client, "one")
        following = await _follow(context)
        await _publish(context, await new_gateway(client, "two"))
        await _news(following)
        await _news(following)
        assert following.is_over
        with pytest.raises(InvalidValue):
            await _follow(context)
        await _follow(context, one)


# --- over HTTP --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _streaming(context: AdminContext, query: str = "", **headers: str) -> AsyncIterator[asyncio.Queue[str]]:
    """What the stream sends, as it comes; an empty text is its end. The client leaves with the block."""
    received: asyncio.Queue[str] = asyncio.Queue()
    leave: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    await leave.put({"type": "http.request", "body": b"", "more_body": False})

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await received.put(str(message["status"]))
        else:
            await received.put(message.get("body", b"").decode())

    named = {"authorization": "Bearer default-admin-token", **headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": _PATH,
        "raw_path": _PATH.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()],
        "server": ("pod", 80),
        "client": ("127.0.0.1", 5000),
    }
    serving = asyncio.create_task(create_admin_app(context)(scope, leave.get, send))  # type: ignore[arg-type] # plain dicts
    try:
        yield received
    finally:
        await leave.put({"type": "http.disconnect"})
        async with asyncio.timeout(10):
            await serving


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "INTERVAL", 0.01)


async def test_a_client_gets_what_comes_and_may_leave(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Its place is free as soon as it has gone."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        async with _streaming(context) as received:
            assert [await received.get() for _ in range(2)] == ["200", ": following\n\n"]
            await _publish(context, gateway_id)
            text = await received.get()
            assert _shown(text) == [(gateway_id, 1)]
            assert context.streams._value == MAX_STREAMS - 1
        assert context.streams._value == MAX_STREAMS
        await _publish(context, gateway_id)
        async with _streaming(context, last_event_id=str(_last_id(text))) as received:
            assert _shown([await received.get() for _ in range(3)][-1]) == [(gateway_id, 2)]


async def test_a_silent_stream_says_that_it_is_there(open_api: OpenApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT", 0.0)
    async with open_api() as (_, context), _streaming(context) as received:
        assert [await received.get() for _ in range(3)][-1] == ": still here\n\n"


async def test_s29_a_stopping_pod_ends_its_streams(open_api: OpenApi) -> None:
    async with open_api() as (_, context), _streaming(context) as received:
        assert await received.get() == "200"
        context.stopping.set()
        assert [await received.get() for _ in range(2)] == [": following\n\n", ""]


async def test_s26_a_stream_ends_with_the_callers_token(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not because the database cannot tell whether the token is still good."""
    monkeypatch.setattr(stream, "CHECK_INTERVAL", 0.0)
    async with open_api() as (client, context), _streaming(context) as received:
        gateway_id = await new_gateway(client)
        assert [await received.get() for _ in range(2)][-1] == ": following\n\n"

        async def away(_: str) -> str:
            raise StorageUnavailable("gone")

        with monkeypatch.context() as patch:
            patch.setattr(context.admin_tokens, "caller_with", away)
            await _publish(context, gateway_id)
            while not _shown(await received.get()):
                pass
        await context.admin_tokens.prepare("another-admin-token")
        while await received.get():
            pass


async def test_a_pod_serves_only_so_many_streams(open_api: OpenApi) -> None:
    """One more is 503: another pod may have room."""
    async with open_api(streams=asyncio.Semaphore(0)) as (client, _):
        answer = await client.get(_PATH)
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:gatecast:problem:overloaded"
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("text", ["x", "e30=", "x" * 40_000])
async def test_an_id_that_was_never_given_is_refused(open_api: OpenApi, text: str) -> None:
    async with open_api() as (client, _):
        answer = await client.get(_PATH, headers={"Last-Event-ID": text})
    assert answer.status_code == 422
    assert answer.json()["field"].lower() == "last-event-id"


async def test_an_unknown_gateway_cannot_be_followed(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        answer = await client.get(_PATH, params={"gateway": str(uuid4())})
    assert answer.status_code == 404
