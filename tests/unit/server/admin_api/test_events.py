"""`/api/v1/gateways/{id}/events`: publishing, and reading the log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from gatecast.errors import Overloaded, StorageUnavailable
from gatecast.server.admin_api import AdminContext, create_admin_app
from gatecast.server.admin_api.app import MAX_BODY_BYTES
from gatecast.storage.contract import Outcome, OutcomeKind
from gatecast.testing.captured_logs import captured_logs
from gatecast.testing.eventually import PATIENCE

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]
Confirm = Callable[[AdminContext, str, int], Awaitable[None]]

_EVENT = {
    "type": "api.deployed",
    "action": "CREATE",
    "entityType": "Api",
    "entityId": "a-1",
    "data": {"text": "ü\n", "deep": [{"x": 1}]},
}


def _path(gateway_id: str) -> str:
    return f"/api/v1/gateways/{gateway_id}/events"


# --- publishing -------------------------------------------------------------------------------------------------------


async def test_an_event_is_published_and_listed_as_it_was(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        path = _path(await new_gateway(client))
        published = await client.post(path, json=_EVENT)
        assert published.status_code == 201
        answer = published.json()
        assert (answer["offset"], answer["state"]) == (1, "stored")
        assert answer["position"].endswith(":1")
        listed = (await client.get(path)).json()
    [item] = listed["items"]
    assert {name: item[name] for name in _EVENT} == _EVENT
    assert (item["eventId"], item["offset"], item["outcome"]) == (answer["eventId"], 1, None)
    assert listed["next"] is None


async def test_s15_the_same_id_twice_is_one_event(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """The second answer is 200 with the first position; the same id to another gateway is another event."""
    async with open_api() as (client, _):
        one, two = [_path(await new_gateway(client, name)) for name in ("one", "two")]
        event = _EVENT | {"eventId": str(uuid4())}
        first = await client.post(one, json=event)
        await client.post(one, json=_EVENT)
        again = await client.post(one, json=event)
        other = await client.post(two, json=event)
        assert [answer.status_code for answer in (first, again, other)] == [201, 200, 201]
        assert again.json()["position"] == first.json()["position"]
        assert other.json()["offset"] == 1
        assert len((await client.get(one)).json()["items"]) == 2


async def test_s15_the_same_id_many_times_at_once_is_one_event(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        path = _path(await new_gateway(client))
        event = _EVENT | {"eventId": str(uuid4())}
        answers = await asyncio.gather(*(client.post(path, json=event) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    assert {answer.json()["offset"] for answer in answers} == {1}


async def test_s17_an_unknown_gateway_is_refused(open_api: OpenApi) -> None:
    async with open_api() as (client, context):
        answer = await client.post(_path(str(uuid4())), json=_EVENT)
        assert answer.status_code == 404
        assert (await context.hub.storage.log.changed_since(0)).heads == {}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"type": " "}, "type"),
        ({"entityType": "\n"}, "entityType"),
        ({"entityId": "x" * 256}, "entityId"),
        ({"entityId": "nul\x00"}, "entityId"),
        ({"action": "EXPLODE"}, "action"),
        ({"eventId": "not-a-uuid"}, "eventId"),
        ({"data": [1]}, "data"),
        ({"data": {"x": float("nan")}}, "data"),
        ({"data": {"x": "\ud800"}}, "data"),
        ({"organizationId": "other"}, "organizationId"),
        ({"gatewayId": "another"}, "gatewayId"),
    ],
)
async def test_an_event_that_breaks_a_rule_is_refused_at_its_field(
    open_api: OpenApi, new_gateway: NewGateway, change: dict[str, Any], field: str
) -> None:
    async with open_api() as (client, _):
        path = _path(await new_gateway(client))
        headers = {"Content-Type": "application/json"}
        answer = await client.post(path, content=json.dumps(_EVENT | change), headers=headers)
        assert answer.status_code == 422, answer.text
        assert answer.json()["field"] == field
        assert (await client.get(path)).json()["items"] == []


async def test_s39_a_refused_value_that_may_be_a_secret_is_not_shown_again(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    """Data, and fields that do not exist: they may hold a key."""
    async with open_api() as (client, _):
        path = _path(await new_gateway(client))
        for change in ({"data": "hunter2"}, {"data": ["hunter2"]}, {"apiKey": "hunter2"}, {"type": {"key": "hunter2"}}):
            answer = await client.post(path, json=_EVENT | change)
            assert answer.status_code == 422
            assert "hunter2" not in answer.text


@pytest.mark.parametrize("body", ["{", "[" * 100_000, "\xff", '{"type": ', "NaN"])
async def test_a_body_that_is_no_json_is_refused(open_api: OpenApi, new_gateway: NewGateway, body: str) -> None:
    async with open_api() as (client, _):
        headers = {"Content-Type": "application/json"}
        path = _path(await new_gateway(client))
        answer = await client.post(path, content=body.encode("latin-1"), headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


# --- sizes ------------------------------------------------------------------------------------------------------------


async def test_s40_data_over_one_mebibyte_is_refused_with_size_and_limit(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    """And one byte less is stored."""
    overhead = len('{"x":""}')
    async with open_api() as (client, _):
        path = _path(await new_gateway(client))
        refused = await client.post(path, json=_EVENT | {"data": {"x": "y" * (1024 * 1024 - overhead + 1)}})
        fitting = await client.post(path, json=_EVENT | {"data": {"x": "y" * (1024 * 1024 - overhead)}})
    assert refused.status_code == 413
    problem = refused.json()
    assert (problem["size"], problem["limit"], problem["field"]) == (1024 * 1024 + 1, 1024 * 1024, "data")
    assert fitting.status_code == 201
    assert fitting.json()["offset"] == 1


async def test_s40_a_body_without_end_is_not_read_to_its_end(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Reading stops at the limit, whatever length was announced."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b" " * 65_536

    async with open_api() as (client, _):
        path = _path(await new_gateway(client))
        headers = {"Content-Type": "application/json"}
        answer = await client.post(path, content=endless(), headers=headers)
    assert answer.status_code == 413
    assert answer.json()["limit"] == MAX_BODY_BYTES
    assert sent <= MAX_BODY_BYTES + 2 * 65_536


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_the_log_is_read_in_pages(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        path = _path(await new_gateway(client))
        for _ in range(5):
            await client.post(path, json=_EVENT)
        first = (await client.get(path, params={"limit": 3})).json()
        second = (await client.get(path, params={"limit": 3, "after": first["next"]})).json()
        behind = (await client.get(path, params={"after": 2**63 - 1})).json()
    assert [item["offset"] for item in first["items"]] == [1, 2, 3]
    assert [item["offset"] for item in second["items"]] == [4, 5]
    assert (second["next"], behind) == (None, {"items": [], "next": None})


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "after=-1", f"after={2**63}", "after=x"])
async def test_a_query_that_breaks_a_rule_is_refused(open_api: OpenApi, new_gateway: NewGateway, query: str) -> None:
    async with open_api() as (client, _):
        answer = await client.get(f"{_path(await new_gateway(client))}?{query}")
    assert answer.status_code == 422
    assert answer.json()["field"] == query.partition("=")[0]


async def test_what_a_gateway_said_of_an_event_is_shown(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Of the words of several replicas, a rejection counts more."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        path = _path(gateway_id)
        for _ in range(2):
            await client.post(path, json=_EVENT)
        await context.hub.storage.outcomes.record(
            [
                _outcome(gateway_id, 1, OutcomeKind.APPLIED, "a"),
                _outcome(gateway_id, 1, OutcomeKind.REJECTED, "b"),
                _outcome(gateway_id, 2, OutcomeKind.APPLIED, "a"),
            ]
        )
        first, second = (await client.get(path)).json()["items"]
    assert (first["outcome"]["kind"], first["outcome"]["reason"]) == ("rejected", "because")
    assert second["outcome"]["kind"] == "applied"
    assert (first["state"], second["state"]) == ("rejected", "applied")


async def test_the_state_of_each_event_is_shown(open_api: OpenApi, new_gateway: NewGateway, confirm: Confirm) -> None:
    """Stored, then confirmed, which is the final word on what nobody acknowledges; what was said of it counts more."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        for _ in range(4):
            await client.post(_path(gateway_id), json=_EVENT)

        async def states() -> list[str]:
            return [item["state"] for item in (await client.get(_path(gateway_id))).json()["items"]]

        assert await states() == ["stored"] * 4
        await confirm(context, gateway_id, 3)
        said = [_outcome(gateway_id, 2, OutcomeKind.PARKED), _outcome(gateway_id, 3, OutcomeKind.HELD)]
        await context.hub.storage.outcomes.record(said)
        assert await states() == ["confirmed", "rejected", "stored", "stored"]


def _outcome(gateway_id: str, offset: int, kind: OutcomeKind, replica: str = "") -> Outcome:
    reason = "because" if kind is OutcomeKind.REJECTED else ""
    return Outcome(gateway_id=gateway_id, replica=replica, offset=offset, kind=kind, reason=reason)


# --- waiting ----------------------------------------------------------------------------------------------------------


async def _stored(context: AdminContext, gateway_id: str) -> None:
    """Return when the gateway has an event."""
    while not (await context.hub.storage.presence.status([gateway_id]))[gateway_id].head:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", [None, OutcomeKind.APPLIED, OutcomeKind.REJECTED])
async def test_a_publisher_waits_until_the_gateway_has_said_something(
    open_api: OpenApi, new_gateway: NewGateway, confirm: Confirm, kind: OutcomeKind | None
) -> None:
    """Confirmed, applied, or rejected with the reason: whichever comes."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        wait = "confirmed" if kind is None else "applied"
        publishing = asyncio.create_task(
            client.post(_path(gateway_id), json=_EVENT, params={"wait": wait, "timeout": 30})
        )
        await _stored(context, gateway_id)
        if kind is None:
            await confirm(context, gateway_id, 1)
        else:
            await context.hub.storage.outcomes.record([_outcome(gateway_id, 1, kind)])
        answer = await publishing
    assert answer.status_code == 201
    assert answer.json()["state"] == (kind or "confirmed")
    assert answer.json()["reason"] == ("because" if kind is OutcomeKind.REJECTED else "")


async def test_a_wait_that_ends_first_is_answered_with_what_is_known(
    open_api: OpenApi, new_gateway: NewGateway, confirm: Confirm
) -> None:
    """202: stored, or confirmed where it should be applied. A repeated id learns at once what became of it."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        event = _EVENT | {"eventId": str(uuid4())}

        async def publish(wait: str) -> tuple[int, str]:
            answer = await client.post(_path(gateway_id), json=event, params={"wait": wait, "timeout": 0})
            return answer.status_code, answer.json()["state"]

        assert await publish("confirmed") == (202, "stored")
        await confirm(context, gateway_id, 1)
        assert await publish("applied") == (202, "confirmed")
        assert await publish("confirmed") == (200, "confirmed")


async def test_a_wait_has_a_longest_time(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        path = _path(await new_gateway(client))
        for timeout in ("61", "-1", "nan"):
            answer = await client.post(path, json=_EVENT, params={"wait": "confirmed", "timeout": timeout})
            assert answer.json()["field"] == "timeout"


async def test_s16_trouble_after_the_commit_is_no_failure(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is durable, so a database that goes away while the publisher waits ends only the wait."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)

        async def away(*_: object) -> None:
            raise StorageUnavailable("gone")

        monkeypatch.setattr(context.hub.storage.outcomes, "of_events", away)
        params = {"wait": "confirmed", "timeout": "0.05"}
        answer = await client.post(_path(gateway_id), json=_EVENT, params=params)
    assert (answer.status_code, answer.json()["offset"], answer.json()["state"]) == (202, 1, "stored")


async def test_s29_a_stopping_pod_ends_the_waits(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """With 202, long before their time: the event is stored."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        params = {"wait": "applied", "timeout": "60"}
        publishing = asyncio.create_task(client.post(_path(gateway_id), json=_EVENT, params=params))
        await _stored(context, gateway_id)
        context.stopping.set()
        async with asyncio.timeout(PATIENCE):
            answer = await publishing
    assert (answer.status_code, answer.json()["state"]) == (202, "stored")


async def test_only_so_many_wait_at_once(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Any further caller is answered at once with what is known."""
    async with open_api(waits=asyncio.Semaphore(0)) as (client, _):
        path = _path(await new_gateway(client))
        answer = await client.post(path, json=_EVENT, params={"wait": "applied", "timeout": "60"})
    assert (answer.status_code, answer.json()["state"]) == (202, "stored")


async def test_nobody_waits_for_a_client_that_has_gone(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """The request ends although its time is not over, and the event is stored."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        await messages.put({"type": "http.request", "body": json.dumps(_EVENT).encode(), "more_body": False})

        async def send(_: object) -> None:
            """Nobody listens."""

        scope = _scope("POST", _path(gateway_id), "wait=applied&timeout=60")
        serving = asyncio.create_task(create_admin_app(context)(scope, messages.get, send))
        await _stored(context, gateway_id)
        await messages.put({"type": "http.disconnect"})
        async with asyncio.timeout(PATIENCE):
            await serving


def _scope(method: str, path: str, query: str) -> dict[str, Any]:
    headers = {"authorization": "Bearer default-admin-token", "content-type": "application/json"}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "server": ("pod", 80),
        "client": ("127.0.0.1", 5000),
    }


async def test_a_full_queue_is_503_with_a_time_to_come_back(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_api() as (client, context):

        async def full(*_: object) -> None:
            raise Overloaded("the queue of events to publish", 50_000)

        path = _path(await new_gateway(client))
        monkeypatch.setattr(context.hub, "append", full)
        answer = await client.post(path, json=_EVENT)
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:gatecast:problem:overloaded"
    assert int(answer.headers["retry-after"]) > 0


async def test_s39_a_mistake_of_ours_says_nothing_of_itself(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_api() as (client, context):

        async def broken(*_: object) -> None:
            raise RuntimeError("password=hunter2")

        path = _path(await new_gateway(client))
        monkeypatch.setattr(context.hub, "append", broken)
        with captured_logs() as logs:
            answer = await client.post(path, json=_EVENT)
    # Other parts of a busy pod may have something to say, too.
    assert [(line["event"], line["path"]) for line in logs if "path" in line] == [("request-failed", path)]
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:gatecast:problem:internal"
    assert "hunter2" not in answer.text


async def test_an_event_gets_an_id_when_it_brings_none(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        path = _path(await new_gateway(client))
        ids = {UUID((await client.post(path, json=_EVENT)).json()["eventId"]) for _ in range(2)}
    assert len(ids) == 2
