"""Every door lets in the same values, and what one lets in every reader reads back equal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gatecast import Action, Event, EventHub, Settings
from gatecast.client import GatewayClient
from gatecast.client.gateway_client import GatewayEvent
from gatecast.client.publisher import _body as body_of_client
from gatecast.controlplane.access.admin_tokens import AdminTokens
from gatecast.controlplane.access.audit import AuditLog
from gatecast.controlplane.access.gateway_tokens import GatewayTokens
from gatecast.controlplane.access.gateways import GatewayFields, Gateways
from gatecast.controlplane.access.log_outs import LogOuts
from gatecast.controlplane.control_plane import ControlPlane
from gatecast.controlplane.encryption import Encryption
from gatecast.errors import InvalidValue
from gatecast.events import RecordedEvent
from gatecast.events.json_values import decode
from gatecast.protocol.codec import decode_from_server, encode_event
from gatecast.protocol.messages import EventMessage
from gatecast.server.admin_api import AdminContext, create_admin_app
from gatecast.server.admin_api.fleet import Fleets
from gatecast.server.admin_api.follower import _event as shown_on_stream
from gatecast.server.pod import Pod
from gatecast.storage.contract import ReadRequest
from gatecast.testing.eventually import PATIENCE
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.unmodified_gateway.messages import Envelope

_LIMITS = settings(max_examples=80, derandomize=True, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """What a publisher wants to say; the data as JSON text."""

    type: str = "api.deployed"
    entity_type: str = "Api"
    entity_id: str = "api-1"
    data: str = "{}"

    def event(self, gateway_id: str) -> Event:
        """As the library makes it."""
        return Event(
            gateway_id=gateway_id,
            type=self.type,
            action=Action.UPDATE,
            entity_type=self.entity_type,
            entity_id=self.entity_id,
            data=decode("data", self.data),
        )


@dataclass
class _Site:
    """One database with all its doors, and an event loop of its own."""

    runner: asyncio.Runner
    stack: AsyncExitStack
    hub: EventHub
    client: httpx.AsyncClient
    gateway_id: str
    #: None on SQLite, where the library is the only door to the file.
    connection: asyncpg.Connection[Any] | None

    @classmethod
    async def open(cls, runner: asyncio.Runner, url: str) -> Self:
        """On an empty database."""
        options = Settings(database=url, migrate="always", poll_interval=timedelta(hours=1), notifications=False)
        stack = AsyncExitStack()
        migrations = ("gatecast.controlplane.migrations",)
        hub = await stack.enter_async_context(EventHub.open(settings=options, migrations=migrations))
        gateways = Gateways(hub)
        context = AdminContext(
            hub=hub,
            settings=options,
            gateways=gateways,
            tokens=GatewayTokens(hub),
            admin_tokens=AdminTokens(hub.storage),
            audit=AuditLog(hub.storage.database),
            log_outs=LogOuts(hub.storage.database),
            fleets=Fleets(hub, gateways),
            control_plane=ControlPlane.on(hub, Encryption([bytes(32)])),
            problems=_no_problems,
        )
        await context.admin_tokens.prepare("default-admin-token")
        gateway = (await context.gateways.create("default", GatewayFields(name="edge"))).gateway
        transport = httpx.ASGITransport(create_admin_app(context), raise_app_exceptions=False)
        headers = {"Authorization": "Bearer default-admin-token", "Content-Type": "application/json"}
        client = httpx.AsyncClient(transport=transport, base_url="http://pod", headers=headers)
        await stack.enter_async_context(client)
        connection = None
        if url.startswith("postgresql"):
            connection = await asyncpg.connect(url)
            stack.push_async_callback(connection.close)
        return cls(runner, stack, hub, client, gateway.id, connection)

    # --- doors --------------------------------------------------------------------------------------------------

    async def offsets(self, draft: _Draft) -> dict[str, int | None]:
        """Where each door has stored it; None where it was refused."""
        endpoints = {"library": self._library, "client": self._client, "rest": self._rest}
        if self.connection is not None:
            endpoints["sql"] = self._sql
        return {name: await endpoint(draft) for name, endpoint in endpoints.items()}

    async def _library(self, draft: _Draft) -> int | None:
        try:
            return (await self.hub.publish(draft.event(self.gateway_id))).offset
        except InvalidValue:
            return None

    async def _client(self, draft: _Draft) -> int | None:
        try:
            return await self._post(body_of_client(draft.event(self.gateway_id)))
        except InvalidValue:
            return None

    async def _rest(self, draft: _Draft) -> int | None:
        fields = {"type": draft.type, "action": "UPDATE", "entityType": draft.entity_type, "entityId": draft.entity_id}
        return await self._post(f'{json.dumps(fields)[:-1]}, "data": {draft.data}}}'.encode(errors="surrogatepass"))

    async def _post(self, body: bytes) -> int | None:
        answer = await self.client.post(f"/api/v1/gateways/{self.gateway_id}/events", content=body)
        assert answer.status_code in (201, 422), answer.text
        return int(answer.json()["offset"]) if answer.status_code == 201 else None

    async def _sql(self, draft: _Draft) -> int | None:
        assert self.connection is not None
        query = "SELECT gatecast.publish($1, $2, 'UPDATE', $3, $4, $5)"
        values = (self.gateway_id, draft.type, draft.entity_type, draft.entity_id, draft.data)
        try:
            offset: int = await self.connection.fetchval(query, *values)
        except (asyncpg.CheckViolationError, asyncpg.DataError):
            return None
        return offset

    # --- readers ------------------------------------------------------------------------------------------------

    async def head(self) -> int:
        """How many events there are."""
        return (await self.hub.storage.log.changed_since(0)).heads[self.gateway_id]

    async def check_readers(self, draft: _Draft, offset: int) -> None:
        """The library, a page, the stream, a client of `gatecast.v2` and an unmodified gateway read what was said."""
        said = draft.event(self.gateway_id)
        value = decode("data", draft.data)
        request = ReadRequest(gateway_id=self.gateway_id, after=offset - 1, max_events=1, max_bytes=1)
        [result] = await self.hub.storage.log.read([request])
        assert result is not None
        [event] = result.events
        assert (event.type, event.entity_type, event.entity_id) == (said.type, said.entity_type, said.entity_id)
        assert event.data == value
        _check_wire(event, said, value)
        page = await self.client.get(
            f"/api/v1/gateways/{self.gateway_id}/events", params={"after": offset - 1, "limit": 1}
        )
        assert page.status_code == 200, page.text
        for shown in (page.json()["items"][0], json.loads(shown_on_stream(event).encode())):
            assert (shown["type"], shown["entityType"], shown["entityId"]) == (
                said.type,
                said.entity_type,
                said.entity_id,
            )
            assert (shown["data"], shown.get("undeliverable")) == (value, None)


def _check_wire(event: RecordedEvent, said: Event, value: object) -> None:
    text = encode_event(event, uuid4())
    assert text.encode().decode() == text
    message = decode_from_server(text)
    assert isinstance(message, EventMessage)
    assert (message.type, message.payload) == (said.type, value)
    envelope = Envelope.parse(text)
    assert envelope is not None
    assert (envelope.type, envelope.body["payload"]) == (said.type, value)


async def _no_problems() -> list[str]:
    return []


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Site]:
    """One for all drafts: what one of them breaks, the next one meets."""
    with asyncio.Runner() as runner:
        if request.param == "sqlite":
            folder: Path = tmp_path_factory.mktemp("doors")
            url = f"sqlite:///{folder / 'gatecast.db'}"
        else:
            server: PostgresServer = request.getfixturevalue("postgres")
            runner.run(server.create_database("doors"))
            url = server.url("doors")
        opened = runner.run(_Site.open(runner, url))
        yield opened
        runner.run(opened.stack.aclose())


# --- drafts -----------------------------------------------------------------------------------------------------------

_NUMBERS = st.sampled_from(
    [
        *("0", "-0", "1.5", "1e3", "1E+2", "0e-400", "0.1000", "1e308", "5e-324", "123456789012345678901234567890.5"),
        *("9223372036854775807", "-9223372036854775808", "9223372036854775808", "-9223372036854775809"),
        *(
            "1.8e308",
            "1e400",
            "-1e400",
            "1e-400",
            "0." + "0" * 400 + "1",
            "9" * 5_000,
            "9" * 400 + ".5",
            "1e" + "9" * 99,
        ),
        *("NaN", "-Infinity", "01", "1.", ".5", "+1"),
    ]
)

_TEXTS = st.sampled_from(
    [
        *('""', '"a"', '"ü"', '"\\ud83d\\ude00"', '"\\\\u0000"', '"\\"[{:"', '"12345678901234567890123"', '"1e400"'),
        *('"\\u0000"', '"\\ud800"', '"a\\udc00"', '"\\udc00\\ud800"', '"\n"', '"\\x"', '"', "'a'"),
    ]
) | st.text(max_size=5).map(json.dumps)

_BLANK = st.sampled_from(["", " ", "\n\t"])
_VALUES = st.recursive(
    st.sampled_from(["null", "true", "false"]) | _NUMBERS | _TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(_TEXTS, _BLANK, inner), max_size=3).map(
            lambda fields: "{" + ",".join(f"{key}{blank}:{value}" for key, blank, value in fields) + "}"
        )
    ),
    max_leaves=6,
)


def _nested(value: str, depth: int) -> str:
    """In so many arrays, within the object that data is."""
    return '{"a":' + "[" * depth + value + "]" * depth + "}"


_DATA = st.builds(_nested, _VALUES, st.integers(0, 3) | st.integers(28, 34)) | _VALUES

_CHARACTERS = st.sampled_from(
    "aZ9ü漢😀 -\u00a0\u2003\u3000\t\n\r\x1c\x00\x7f\x85\u00ad\u200b\u200d\u202e\u2066\ufeff\ufffd\ue000\ud800"
)
_IDENTIFIERS = (
    st.text(_CHARACTERS, max_size=4)
    | st.text(max_size=3)
    | st.integers(253, 258).map(lambda length: f" {'ü' * length}\u2003")
)


@_LIMITS
@given(data=_DATA)
@example(data=_nested("9" * 5_000, 0))
@example(data='{"a":' * 2_000 + "1" + "}" * 2_000)
@example(data='{"a":' * 256 + "1" + "}" * 256)
@example(data='{"a": "\\ud800"}')
@example(data='{"a": 1, "\\u0061": 2}')
def test_the_doors_agree_on_data_and_the_readers_read_it(site: _Site, data: str) -> None:
    site.runner.run(_check(site, _Draft(data=data)))


@_LIMITS
@given(type_=_IDENTIFIERS, entity_type=_IDENTIFIERS, entity_id=_IDENTIFIERS)
def test_the_doors_agree_on_identifiers_and_the_readers_read_them(
    site: _Site, type_: str, entity_type: str, entity_id: str
) -> None:
    for draft in (_Draft(type=type_), _Draft(entity_type=entity_type), _Draft(entity_id=entity_id)):
        site.runner.run(_check(site, draft))


async def _check(site: _Site, draft: _Draft) -> None:
    before = await site.head()
    offsets = await site.offsets(draft)
    taken = [offset for offset in offsets.values() if offset is not None]
    assert len(taken) in (0, len(offsets)), offsets
    assert await site.head() == before + len(taken)
    for offset in taken:
        await site.check_readers(draft, offset)


_INSTANTS = st.sampled_from(
    [
        *("0001-01-01 00:00:00+00:00", "0001-01-01 00:00:00+00:01", "0001-01-01 00:00:00-00:01"),
        *("9999-12-31 23:59:59.999999+00:00", "9999-12-31 23:59:59+00:01", "9999-12-31 23:59:59.999999-00:01"),
        *("20000-01-01 00:00:00+00:00", "0044-03-15 00:00:00+00:00 BC", "infinity", "-infinity"),
    ]
) | st.datetimes(timezones=st.just(UTC)).map(str)


@_LIMITS
@given(text=_INSTANTS)
def test_the_library_and_sql_agree_on_instants(site: _Site, text: str) -> None:
    """The other doors take none: there it is now."""
    site.runner.run(_check_instant(site, text))


async def _check_instant(site: _Site, text: str) -> None:
    before = await site.head()
    moment = _moment(text)
    library = None if moment is None else await _published_at(site, moment)
    taken = [library is not None]
    if site.connection is not None:
        query = "SELECT gatecast.publish($1, 't', 'UPDATE', 'T', 'e', originated_at => $2::text::timestamptz)"
        try:
            taken.append(bool(await site.connection.fetchval(query, site.gateway_id, text)))
        except (asyncpg.CheckViolationError, asyncpg.DataError):
            taken.append(False)
    assert len(set(taken)) == 1, taken
    request = ReadRequest(gateway_id=site.gateway_id, after=before, max_events=9, max_bytes=9_999)
    [result] = await site.hub.storage.log.read([request])
    assert result is not None
    assert [event.originated_at for event in result.events] == [moment for each in taken if each]


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


async def _published_at(site: _Site, moment: datetime) -> int | None:
    fields: dict[str, Any] = {"gateway_id": site.gateway_id, "type": "t", "entity_type": "T", "entity_id": "e"}
    try:
        return (await site.hub.publish(Event(**fields, action=Action.UPDATE, originated_at=moment))).offset
    except InvalidValue:
        return None


# --- the same, over sockets -------------------------------------------------------------------------------------------


class _Pod:
    """A pod, and its readers over sockets: a client of `gatecast.v2`, and a follower of the stream."""

    def __init__(self, pod: Pod, api: httpx.AsyncClient, gateway_id: str) -> None:
        self.pod = pod
        self.api = api
        self.gateway_id = gateway_id
        #: Type and data of what arrived, at each of them.
        self.delivered: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
        self.followed: asyncio.Queue[tuple[str, object]] = asyncio.Queue()

    async def take(self, events: AsyncIterator[GatewayEvent], client: GatewayClient) -> None:
        """Pass on what the client gets."""
        async for event in events:
            self.delivered.put_nowait((event.type, event.payload))
            await client.acknowledge(event)

    async def follow(self, lines: AsyncIterator[str]) -> None:
        """Pass on what the stream tells of events."""
        kind = ""
        async for line in lines:
            kind = line.removeprefix("event: ") if line.startswith("event: ") else kind
            if kind == "recorded" and line.startswith("data: {"):
                event = json.loads(line.removeprefix("data: "))
                self.followed.put_nowait((event["type"], event["data"]))

    async def check(self, draft: _Draft) -> None:
        """Publish it; what is accepted arrives as it was said, and what is refused does not."""
        fields = {"type": draft.type, "action": "UPDATE", "entityType": draft.entity_type, "entityId": draft.entity_id}
        body = f'{json.dumps(fields)[:-1]}, "data": {draft.data}}}'.encode(errors="surrogatepass")
        answer = await self.api.post(f"/api/v1/gateways/{self.gateway_id}/events", content=body)
        assert answer.status_code in (201, 422), answer.text
        if answer.status_code == httpx.codes.CREATED:
            said = (draft.event(self.gateway_id).type, decode("data", draft.data))
            async with asyncio.timeout(PATIENCE):
                assert await self.delivered.get() == said
                assert await self.followed.get() == said


async def _serve(url: str, opened: asyncio.Future[_Pod], ended: asyncio.Event) -> None:
    options = Settings(
        database=url, api_listen="127.0.0.1:0", gateway_listen="127.0.0.1:0", gateway_tls="off", admin_token="x" * 16
    )
    headers = {"Authorization": f"Bearer {'x' * 16}", "Content-Type": "application/json"}
    async with (
        Pod.open(options) as pod,
        httpx.AsyncClient(base_url=pod.api_url, headers=headers, timeout=30) as api,
        asyncio.TaskGroup() as reading,
    ):
        gateway = (await api.post("/api/v1/gateways", json={"name": "edge"})).json()
        token = (await api.post(f"/api/v1/gateways/{gateway['id']}/tokens")).json()["token"]
        serving = _Pod(pod, api, gateway["id"])
        async with (
            GatewayClient(pod.gateway_url, token) as client,
            api.stream("GET", "/api/v1/events/stream") as stream,
        ):
            tasks = [
                reading.create_task(serving.take(client.events(), client)),
                reading.create_task(serving.follow(stream.aiter_lines())),
            ]
            opened.set_result(serving)
            await ended.wait()
            pod.hurried.set()  # no balancer has to notice that it stops
            for task in tasks:
                task.cancel()


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, _Pod]]:
    """One for all drafts."""
    with asyncio.Runner() as runner, pytest.MonkeyPatch.context() as patch:
        # Hundreds of events, one after the other: a stream that rests after each would be most of the time.
        patch.setattr("gatecast.server.admin_api.stream.INTERVAL", 0.01)

        async def start() -> tuple[_Pod, asyncio.Event, asyncio.Task[None]]:
            opened, ended = asyncio.get_running_loop().create_future(), asyncio.Event()
            url = f"sqlite:///{tmp_path_factory.mktemp('sockets') / 'gatecast.db'}"
            task = asyncio.create_task(_serve(url, opened, ended))
            await asyncio.wait([opened, task], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
            return await opened, ended, task

        async def stop(ended: asyncio.Event, task: asyncio.Task[None]) -> None:
            ended.set()
            await task

        serving, ended, task = runner.run(start())
        yield runner, serving
        runner.run(stop(ended, task))


@_LIMITS
@given(data=_DATA)
def test_what_is_let_in_is_read_over_sockets(pod: tuple[asyncio.Runner, _Pod], data: str) -> None:
    """By a client of `gatecast.v2`, and on the stream."""
    runner, serving = pod
    runner.run(serving.check(_Draft(data=data)))


@_LIMITS
@given(type_=_IDENTIFIERS, entity_type=_IDENTIFIERS, entity_id=_IDENTIFIERS)
def test_whatever_an_event_is_called_it_is_read_over_sockets(
    pod: tuple[asyncio.Runner, _Pod], type_: str, entity_type: str, entity_id: str
) -> None:
    runner, serving = pod
    for draft in (_Draft(type=type_), _Draft(entity_type=entity_type), _Draft(entity_id=entity_id)):
        runner.run(serving.check(draft))
