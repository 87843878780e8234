"""A row that cannot be read or sent concerns only its own gateway, for every reader (promise P11)."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from gatecast.errors import EventUndeliverable
from gatecast.hub import HubSubscription
from gatecast.server.admin_api.stream_position import StreamPosition
from gatecast.server.pod import Pod
from gatecast.settings import Settings
from gatecast.testing.doubles.raw_connection import RawConnection
from gatecast.testing.doubles.recording_gateway import RecordingGateway
from gatecast.testing.eventually import PATIENCE, eventually

_TOKEN = "an-admin-token-for-tests"

#: What stands in a column that no release would write: the column and the new value, in SQL of either database.
_DAMAGES = {
    "an action that does not exist": ("action", "'EXPLODE'"),
    "no JSON": ("payload", "'{'"),
    "no object": ("payload", "'[]'"),
    "a number of 5,000 digits": ("payload", '\'{"n": ' + "9" * 5_000 + "}'"),
    "2,000 levels": ("payload", "'" + '{"a":' * 2_000 + "1" + "}" * 2_000 + "'"),
    "a lone surrogate": ("payload", '\'{"s": "\\ud800"}\''),
}
_POSTGRES_DAMAGES = _DAMAGES | {
    "the year 20000": ("originated_at", "'20000-01-01'"),
    "before the year 1": ("originated_at", "'0044-03-15 BC'"),
    "the beginning of time": ("originated_at", "'-infinity'"),
    "the end of time": ("originated_at", "'infinity'"),
    "year 0 in UTC": ("originated_at", "'0001-01-01 00:00:00+14'"),
    "year 10000 in UTC": ("originated_at", "'9999-12-31 23:59:59-14'"),
    "recorded at the end of time": ("recorded_at", "'infinity'"),
}
_SQLITE_DAMAGES = _DAMAGES | {
    "the year 20000": ("originated_at", "'20000-01-01 00:00:00.000000+00:00'"),
    "year 0 in UTC": ("originated_at", "'0001-01-01 00:00:00.000000+14:00'"),
    "no time zone": ("originated_at", "'2026-01-01 00:00:00.000000'"),
    "an event id that is none": ("event_id", "'not a uuid'"),
    "bytes for a text": ("payload", "X'7b7d'"),
    "text that is not UTF-8": ("type", "CAST(X'ff80' AS text)"),
    "recorded at no time": ("recorded_at", "'yesterday'"),
}
_EVERY_DAMAGE = [("postgres", name) for name in _POSTGRES_DAMAGES] + [("sqlite", name) for name in _SQLITE_DAMAGES]
_BOTH = ["postgres", "sqlite"]


@dataclass(kw_only=True)
class _Scene:
    """One pod, its administrator, and gateways of two organizations."""

    pod: Pod
    api: httpx.AsyncClient
    execute: Callable[[str], Awaitable[None]]
    #: What stands in front of the names of tables.
    schema: str
    damages: dict[str, tuple[str, str]]

    async def new_gateway(self, name: str) -> tuple[str, str]:
        """Id and token."""
        created = (await self.api.post("/api/v1/gateways", json={"name": name})).json()
        token = (await self.api.post(f"/api/v1/gateways/{created['id']}/tokens")).json()
        return created["id"], token["token"]

    async def publish(self, gateway_id: str, *entities: str) -> list[UUID]:
        """One event of each of these entities; their ids."""
        ids = []
        for entity in entities:
            body = {"type": "route.changed", "action": "UPDATE", "entityType": "Route", "entityId": entity, "data": {}}
            answer = await self.api.post(f"/api/v1/gateways/{gateway_id}/events", json=body)
            assert answer.status_code == 201, answer.text
            ids.append(UUID(answer.json()["eventId"]))
        return ids

    async def damage(self, gateway_id: str, offset: int, name: str) -> None:
        """Write into the row what no door lets in, as a release did that had no rules in the table."""
        column, value = self.damages[name]
        if self.schema == "gatecast.":
            await self.execute(
                "ALTER TABLE gatecast.events DROP CONSTRAINT IF EXISTS events_action, "
                "DROP CONSTRAINT IF EXISTS events_originated_at, DROP CONSTRAINT IF EXISTS events_identifiers"
            )
        await self.execute(
            f'UPDATE {self.schema}events SET {column} = {value} WHERE "offset" = {offset} AND log_id = '
            f"(SELECT log_id FROM {self.schema}gateway_streams WHERE gateway_id = '{gateway_id}')"
        )

    async def repair(self, gateway_id: str, offset: int) -> None:
        """Make everything readable again."""
        moment = "'2026-01-01 00:00:00.000000+00:00'"
        await self.execute(
            f"UPDATE {self.schema}events SET action = 'UPDATE', payload = '{{}}', type = 'route.changed', "
            f'originated_at = {moment}, recorded_at = {moment} WHERE "offset" = {offset} AND log_id = '
            f"(SELECT log_id FROM {self.schema}gateway_streams WHERE gateway_id = '{gateway_id}')"
        )

    async def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """The answer, which must be one."""
        answer = await self.api.get(f"/api/v1/gateways{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def events(self, gateway_id: str) -> list[dict[str, Any]]:
        """Every event of the log, page by page."""
        page = await self.get(f"/{gateway_id}/events")
        found: list[dict[str, Any]] = page["items"]
        while page["next"] is not None:
            page = await self.get(f"/{gateway_id}/events?after={page['next']}")
            found += page["items"]
        return found

    async def why(self, gateway_id: str, code: str) -> str:
        """The cause, once it has this code."""

        async def found() -> str | None:
            view = await self.get(f"/{gateway_id}/why")
            return str(view["cause"]) if view["code"] == code else None

        cause = await eventually(found)
        assert cause is not None
        return cause

    async def decide(self, gateway_id: str, decision: str, entity: str) -> None:
        body = {"entityType": "Route", "entityId": entity}
        answer = await self.api.post(f"/api/v1/gateways/{gateway_id}/parked/{decision}", json=body)
        assert answer.status_code == 204, answer.text

    async def state(self, gateway_id: str, offset: int) -> str | None:
        """What is shown of an event."""
        [event] = (await self.get(f"/{gateway_id}/events?after={offset - 1}&limit=1"))["items"]
        return None if event["outcome"] is None else str(event["outcome"]["kind"])

    def library(self, gateway_id: str) -> HubSubscription:
        """A subscriber of the library, with a position of its own."""
        return self.pod.hub.subscribe(gateway_id, replica="library")


@pytest.fixture(params=_BOTH)
def backend(request: pytest.FixtureRequest) -> str:
    """The database of the test; other parametrizations may name it."""
    return str(request.param)


@pytest.fixture
def url(backend: str, request: pytest.FixtureRequest) -> str:
    """A database of the test's own."""
    return str(request.getfixturevalue(f"{backend}_url"))


@asynccontextmanager
async def _scene(url: str) -> AsyncIterator[_Scene]:
    is_postgres = url.startswith("postgres")
    settings = Settings(
        database=url,
        api_listen="127.0.0.1:0",
        gateway_listen="127.0.0.1:0",
        gateway_tls="off",
        admin_token=_TOKEN,
        secret_key=b64encode(bytes(32)).decode(),
        migrate="always",
        drain_time=timedelta(seconds=1),
        poll_interval=timedelta(milliseconds=50),
    )

    async def on_postgres(statement: str) -> None:
        connection = await asyncpg.connect(url)
        try:
            # What older releases let in is there, whatever is refused now.
            for row in await connection.fetch(
                "SELECT conname FROM pg_constraint WHERE conrelid = 'gatecast.events'::regclass AND contype = 'c'"
            ):
                await connection.execute(f'ALTER TABLE gatecast.events DROP CONSTRAINT "{row["conname"]}"')
            await connection.execute(statement)
        finally:
            await connection.close()

    async def on_sqlite(statement: str) -> None:
        # In a thread: the pod may be within a transaction, which ends in this one.
        await asyncio.to_thread(in_thread, statement)

    def in_thread(statement: str) -> None:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)) as connection, connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute(statement)

    async with AsyncExitStack() as stack:
        pod = await stack.enter_async_context(Pod.open(settings))
        headers = {"Authorization": f"Bearer {_TOKEN}"}
        api = await stack.enter_async_context(httpx.AsyncClient(base_url=pod.api_url, headers=headers, timeout=30))
        yield _Scene(
            pod=pod,
            api=api,
            execute=on_postgres if is_postgres else on_sqlite,
            schema="gatecast." if is_postgres else "gatecast_",
            damages=_POSTGRES_DAMAGES if is_postgres else _SQLITE_DAMAGES,
        )
        assert pod.hub.delivery.failure is None


@pytest.mark.parametrize(("backend", "damage"), _EVERY_DAMAGE, indirect=["backend"])
async def test_a_damaged_row_concerns_its_own_gateway_whoever_reads_it(url: str, damage: str) -> None:
    """Culprit and innocents are read in one batch: by sockets, the library, a page and a stream."""
    async with _scene(url) as scene, AsyncExitStack() as stack:
        culprit, culprits_token = await scene.new_gateway("culprit")
        innocent, innocents_token = await scene.new_gateway("innocent")
        for gateway_id in (culprit, innocent):
            await scene.publish(gateway_id, "a", "b", "a", "c")
        await scene.damage(culprit, 2, damage)
        gateways = [
            await stack.enter_async_context(RecordingGateway(scene.pod.gateway_url, token))
            for token in (culprits_token, innocents_token)
        ]
        await asyncio.gather(*(gateway.until(4) for gateway in gateways))
        assert [[offset for offset, _ in gateway.received] for gateway in gateways] == [[1, 3, 4], [1, 2, 3, 4]]
        page = await scene.events(culprit)
        assert [event["offset"] for event in page if event["undeliverable"]] == [2]
        assert len(page) == 4
        assert len((await scene.get(""))["items"]) == 2
        shown = await _streamed(scene, {culprit: 4, innocent: 4})
        assert shown[culprit] == [1, 2, 3, 4]
        reader = await scene.library(innocent)
        assert [(await anext(reader)).offset for _ in range(4)] == [1, 2, 3, 4]
        await scene.publish(innocent, "d")
        await gateways[1].until(5)
        assert (await scene.api.get("/readyz")).status_code == 200


async def _streamed(scene: _Scene, heads: dict[str, int]) -> dict[str, list[int]]:
    """The offsets that a stream shows of each gateway, from the beginning of every log to these heads."""
    shown: dict[str, list[int]] = {name: [] for name in heads}
    async with scene.api.stream("GET", "/api/v1/events/stream") as answer:
        now = await anext(line async for line in answer.aiter_lines() if line.startswith("id: "))
    parsed = StreamPosition.parse(now.removeprefix("id: "))
    assert parsed is not None
    position = str(replace(parsed, since=0, until=0))
    async with (
        asyncio.timeout(PATIENCE),
        scene.api.stream("GET", "/api/v1/events/stream", headers={"Last-Event-ID": position}) as answer,
    ):
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                if "offset" not in event:
                    continue
                shown[event["gatewayId"]].append(event["offset"])
            if all(head in shown[name] for name, head in heads.items()):
                break
    return shown


async def test_a_v2_client_has_its_entity_parked_and_gets_the_rest(url: str) -> None:
    """Retry brings a repaired row and what is held behind it; a row that is still damaged parks its entity again."""
    async with _scene(url) as scene:
        gateway_id, token = await scene.new_gateway("gateway")
        ids = await scene.publish(gateway_id, "a", "b", "a", "b")
        await scene.damage(gateway_id, 1, "the year 20000")
        async with RecordingGateway(scene.pod.gateway_url, token) as gateway:
            await gateway.until(4)
            assert [offset for offset, _ in gateway.received] == [2, 4]
            assert str(ids[0]) in await scene.why(gateway_id, "undeliverable")
            [parked] = (await scene.get(f"/{gateway_id}/parked"))["items"]
            assert (parked["entityId"], parked["offset"], parked["held"], parked["undeliverable"]) == ("a", 1, 1, True)
            assert (await scene.state(gateway_id, 1), await scene.state(gateway_id, 3)) == ("undeliverable", "held")
            await scene.decide(gateway_id, "retry", "a")
            assert str(ids[0]) in await scene.why(gateway_id, "undeliverable")
            await scene.repair(gateway_id, 1)
            await scene.decide(gateway_id, "retry", "a")
            await gateway.until(6)
            await scene.why(gateway_id, "current")
        assert [offset for offset, _ in gateway.received] == [2, 4, 5, 6]
        assert [event["entityId"] for event in (await scene.get(f"/{gateway_id}/events?after=4"))["items"]] == ["a"] * 2


async def test_a_v2_client_gets_what_is_held_once_the_damaged_row_is_skipped(url: str) -> None:
    async with _scene(url) as scene:
        gateway_id, token = await scene.new_gateway("gateway")
        await scene.publish(gateway_id, "a", "b", "a", "b")
        await scene.damage(gateway_id, 1, "no JSON")
        async with RecordingGateway(scene.pod.gateway_url, token) as gateway:
            await gateway.until(4)
            await scene.why(gateway_id, "undeliverable")
            await scene.decide(gateway_id, "skip", "a")
            await gateway.until(5)
            await scene.why(gateway_id, "current")
        assert [offset for offset, _ in gateway.received] == [2, 4, 5]
        assert (await scene.get(f"/{gateway_id}/parked"))["items"] == []


class _Unmodified:
    """A gateway that answers Pings, and dials again when it is sent away."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self.received: list[int] = []

    async def run(self) -> None:
        """Receive until cancelled."""
        while True:
            async with RawConnection.open(self._url, self._token) as connection:
                await self._receive(connection)

    async def _receive(self, connection: RawConnection) -> None:
        while (frame := await connection.frame()).type.name in ("TEXT", "PING"):
            if frame.type.name == "PING":
                await connection.socket.pong(bytes(frame.data))
                continue
            message = json.loads(frame.data)
            if "position" in message:
                self.received.append(int(message["position"].partition(":")[2]))


@asynccontextmanager
async def _unmodified(scene: _Scene, token: str) -> AsyncIterator[_Unmodified]:
    gateway = _Unmodified(scene.pod.gateway_url, token)
    running = asyncio.create_task(gateway.run())
    try:
        yield gateway
    finally:
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.parametrize("decision", ["skip", "retry"])
async def test_the_log_of_an_unmodified_gateway_waits_until_somebody_decides(url: str, decision: str) -> None:
    """It cannot reject, so it is sent nothing past the damaged row; in order it goes on from there."""
    async with _scene(url) as scene:
        gateway_id, token = await scene.new_gateway("gateway")
        ids = await scene.publish(gateway_id, "a", "b", "a", "b")
        await scene.damage(gateway_id, 2, "the year 20000")
        async with _unmodified(scene, token) as gateway:
            assert str(ids[1]) in await scene.why(gateway_id, "undeliverable")
            assert gateway.received == [1]
            [parked] = (await scene.get(f"/{gateway_id}/parked"))["items"]
            assert (parked["entityId"], parked["offset"], parked["undeliverable"]) == ("b", 2, True)
            if decision == "retry":
                await scene.decide(gateway_id, "retry", "b")
                assert str(ids[1]) in await scene.why(gateway_id, "undeliverable")
                await scene.repair(gateway_id, 2)
            await scene.decide(gateway_id, decision, "b")
            await scene.why(gateway_id, "current")
        assert gateway.received == ([1, 3, 4] if decision == "skip" else [1, 2, 3, 4])
        assert (await scene.get(f"/{gateway_id}/parked"))["items"] == []


async def test_a_cap_that_removes_the_damaged_row_is_told_to_the_gateway(url: str) -> None:
    """Promise P6: what it misses is brought back from the desired state, and it is never taken for current."""
    async with _scene(url) as scene:
        gateway_id, token = await scene.new_gateway("gateway")
        await scene.publish(gateway_id, *["a"] * 6)
        await scene.damage(gateway_id, 2, "an action that does not exist")
        async with _unmodified(scene, token) as gateway:
            await scene.why(gateway_id, "undeliverable")
            policy = replace(scene.pod.hub._policy, max_events=2)
            assert await scene.pod.hub.storage.log.trim(policy) == 4
            await scene.why(gateway_id, "resync-needed")

            async def arrived() -> bool:
                return gateway.received[-2:] == [5, 6]

            await eventually(arrived)


async def test_a_subscriber_of_the_library_is_told_and_may_do_without_the_event(url: str) -> None:
    """Or an operator leaves it out."""
    async with _scene(url) as scene:
        gateway_id, _ = await scene.new_gateway("gateway")
        ids = await scene.publish(gateway_id, "a", "b", "a", "b")
        await scene.damage(gateway_id, 2, "the year 20000")
        await scene.damage(gateway_id, 4, "no JSON")
        async with scene.library(gateway_id) as events:
            events.acknowledge(await anext(events))
            for _ in range(2):
                with pytest.raises(EventUndeliverable, match=str(ids[1])) as told:
                    await anext(events)
            events.acknowledge(told.value.position)
            assert (await anext(events)).offset == 3
            with pytest.raises(EventUndeliverable, match=str(ids[3])):
                await anext(events)

        async def left_out() -> bool:
            return await scene.pod.hub.delivery.resolve(gateway_id, "library", ("Route", "b"), retry=False)

        await eventually(left_out)
        await scene.publish(gateway_id, "c")
        async with scene.library(gateway_id) as events:
            assert [(await anext(events)).offset for _ in range(2)] == [3, 5]
