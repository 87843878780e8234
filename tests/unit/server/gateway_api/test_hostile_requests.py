"""Whatever is sent to the gateway listener, it answers, and never with a mistake of ours (scenario S28).

Statuses that end a gateway's process (401, 403, 404, 409, 422 on the upgrade and the manifest) go only to those whom
they are meant for.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from yarl import URL

from gatecast import EventHub, Settings
from gatecast.controlplane.access.gateway_tokens import GatewayTokens
from gatecast.controlplane.access.gateways import GatewayFields, Gateways
from gatecast.controlplane.control_plane import ControlPlane
from gatecast.controlplane.encryption import Encryption
from gatecast.events import Action, Event
from gatecast.protocol.codec import SEPARATOR
from gatecast.server.admission import Admission
from gatecast.server.gateway_api.app import BASE_PATH, GatewayContext, create_gateway_app
from gatecast.server.gateway_api.holding import Holding
from gatecast.server.gateway_api.rest import GatewayRest
from gatecast.testing.eventually import PATIENCE
from gatecast.testing.postgres_server import PostgresServer

pytestmark = pytest.mark.slow

_FATAL = {401, 403, 404, 409, 422}

_LIMITS = settings(
    max_examples=min(60, settings().max_examples), derandomize=True, suppress_health_check=list(HealthCheck)
)

_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=20,
)

_FIELDS = st.fixed_dictionaries(
    {}, optional={"deploymentIds": _JSON, "artifactIds": _JSON, "policies": _JSON, "version": _JSON}
)

#: Text that a client can put into a header.
_HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)

_DEEP = b"[" * 100_000


@dataclass
class _Listener:
    """A listener in this process with an event loop of its own, and a gateway that is known to it."""

    runner: asyncio.Runner
    stack: AsyncExitStack
    client: TestClient[Any, Any]
    context: GatewayContext
    gateway_id: str
    token: str

    @classmethod
    async def open(cls, runner: asyncio.Runner, database: str) -> Self:
        """Start it on an empty database."""
        options = Settings(
            database=database, migrate="always", poll_interval=timedelta(hours=1), connect_rate=1_000_000_000
        )
        stack = AsyncExitStack()
        hub = await stack.enter_async_context(
            EventHub.open(settings=options, migrations=("gatecast.controlplane.migrations",))
        )
        context = GatewayContext(
            hub=hub,
            settings=options,
            gateways=Gateways(hub),
            tokens=GatewayTokens(hub),
            admission=Admission(options, clock=lambda: 0.0),
            control_plane=ControlPlane.on(hub, Encryption([bytes(32)])),
        )
        gateway = (await context.gateways.create("default", GatewayFields(name="edge"))).gateway
        token = (await context.tokens.issue("default", gateway.id)).token
        client = await stack.enter_async_context(TestClient(TestServer(create_gateway_app(context))))
        return cls(runner, stack, client, context, gateway.id, token)

    def ask(self, method: str, path: str, **sent: Any) -> int:  # noqa: ANN401 - whatever a request takes
        """The status of the answer; the path goes out as it is."""
        return self.runner.run(self._ask(method, path, sent))

    async def _ask(self, method: str, path: str, sent: dict[str, Any]) -> int:
        headers = {"api-key": self.token} | sent.pop("headers", {})
        url = URL(path, encoded=True)
        async with self.client.request(method, url, headers=headers, **sent) as answer:
            await answer.read()
            return answer.status

    def upgrade(self, query: dict[str, str], headers: dict[str, str]) -> int:
        """The status of a WebSocket's upgrade."""
        return self.runner.run(self._upgrade(query, headers))

    async def _upgrade(self, query: dict[str, str], headers: dict[str, str]) -> int:
        path = f"{BASE_PATH}/ws/gateways/connect"
        try:
            async with self.client.ws_connect(path, params=query, headers=headers, max_msg_size=1 << 20):
                return 101
        except aiohttp.WSServerHandshakeError as refused:
            return refused.status

    def backlog(self, count: int, query: dict[str, str], protocol: str) -> list[str]:
        """The frames in which a gateway, known from now on, gets so many events that wait for it."""
        return self.runner.run(self._backlog(count, query, protocol))

    async def _backlog(self, count: int, query: dict[str, str], protocol: str) -> list[str]:
        gateway = (await self.context.gateways.create("default", GatewayFields(name=f"gw-{uuid4()}"))).gateway
        headers = {"api-key": (await self.context.tokens.issue("default", gateway.id)).token}
        event = Event(gateway_id=gateway.id, type="x", action=Action.UPDATE, entity_type="x", entity_id="x")
        await self.context.hub.publish([replace(event, event_id=uuid4()) for _ in range(count)])
        path = f"{BASE_PATH}/ws/gateways/connect"
        frames: list[str] = []
        async with (
            asyncio.timeout(PATIENCE),
            self.client.ws_connect(path, params=query, headers=headers, protocols=[protocol]) as socket,
        ):
            assert (await socket.receive_json())["type"] == "connection.ack"
            while sum(len(frame.split(SEPARATOR)) for frame in frames) < count:
                frames.append(await socket.receive_str())
        return frames

    def send(self, request: bytes) -> bytes:
        """The answer to bytes that may be no request at all."""
        return self.runner.run(self._send(request))

    async def _send(self, request: bytes) -> bytes:
        port = self.client.port
        assert port is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            writer.write_eof()
            return await asyncio.wait_for(reader.read(1 << 20), PATIENCE)
        except ConnectionError:
            return b""
        finally:
            writer.close()


@pytest.fixture(scope="module")
def listener(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Listener]:
    """One for all requests: what one of them breaks, the next one meets. On SQLite unless a test says otherwise."""
    with asyncio.Runner() as runner:
        if getattr(request, "param", "sqlite") == "sqlite":
            folder: Path = tmp_path_factory.mktemp("listener")
            database = f"sqlite:///{folder / 'gatecast.db'}"
        else:
            server: PostgresServer = request.getfixturevalue("postgres")
            runner.run(server.create_database("hostile_requests"))
            database = server.url("hostile_requests")
        opened = runner.run(_Listener.open(runner, database))
        yield opened
        runner.run(opened.stack.aclose())


def _routes() -> list[tuple[str, str]]:
    control_plane = ControlPlane.on(_NO_HUB, Encryption([]))
    return [(method, path) for method, path, _ in GatewayRest(control_plane, cast("Holding", None)).routes()]


class _Nothing:
    """Stands for a hub where only the list of routes is asked for."""

    storage: Any = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return self


_NO_HUB: Any = _Nothing()
_NO_HUB.storage = _NO_HUB


@pytest.mark.parametrize(("method", "path"), _routes())
def test_whatever_a_gateway_asks_it_is_answered(listener: _Listener, method: str, path: str) -> None:
    """With bodies that are JSON, multipart or neither, and ids that nothing has."""
    segment = st.text(st.characters(min_codepoint=33, max_codepoint=0x10FFFF, exclude_categories=["Cs"]), min_size=1)

    @_LIMITS
    @given(
        name=segment,
        query=st.dictionaries(_HEADER, _HEADER, max_size=2),
        body=st.one_of(_FIELDS.map(_as_json), _JSON.map(_as_json), st.binary(max_size=200)),
        content_type=st.sampled_from(
            ["application/json", "multipart/form-data", "multipart/form-data; boundary=x", "text/plain; charset=nope"]
        ),
    )
    @example(name="x", query={}, body=_DEEP, content_type="application/json")
    @example(name="%00", query={"includeValues": "true"}, body=b"\xff", content_type="multipart/form-data; boundary=")
    def explore(name: str, query: dict[str, str], body: bytes, content_type: str) -> None:
        filled = re.sub(r"{\w+}", quote(name, safe="").replace("\\", ""), path)
        address = str(URL(BASE_PATH + filled, encoded=True).with_query(query))
        headers = {"Content-Type": content_type}
        status = listener.ask(method, address, data=body, headers=headers)
        assert status < 500, (status, address, body)

    explore()


def _as_json(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("listener", ["sqlite", "postgresql"], indirect=True)
@_LIMITS
@given(body=_FIELDS.map(_as_json) | _JSON.map(_as_json) | st.binary(max_size=300))
@example(body=_DEEP)
@example(body=b'{"version": "\\ud800"}')
@example(body=b'{"version": "\\u0000"}')
def test_no_manifest_ends_the_gateway_that_sends_it(listener: _Listener, body: bytes) -> None:
    path = f"{BASE_PATH}/gateways/{listener.gateway_id}/manifest"
    assert listener.ask("POST", path, data=body, headers={"Content-Type": "application/json"}) == 204


@_LIMITS
@given(
    query=st.dictionaries(st.sampled_from(["replica", "after", "batch", "x"]), _HEADER, max_size=3),
    protocols=st.sampled_from(["", "chat", "gatecast.v3, chat"]) | _HEADER,
)
def test_no_query_ends_a_known_gateway(listener: _Listener, query: dict[str, str], protocols: str) -> None:
    status = listener.upgrade(query, {"api-key": listener.token, "Sec-WebSocket-Protocol": protocols})
    assert status == 101


@_LIMITS
@given(query=st.dictionaries(st.sampled_from(["replica", "after", "batch"]), st.text(max_size=300), max_size=2))
def test_what_a_v2_client_names_wrongly_is_400(listener: _Listener, query: dict[str, str]) -> None:
    status = listener.upgrade(query, {"api-key": listener.token, "Sec-WebSocket-Protocol": "gatecast.v2"})
    assert status in (101, 400)


@pytest.mark.parametrize(
    ("batch", "status"),
    [
        ("0", 101),
        ("1", 101),
        ("999999999", 101),
        ("1000000000", 400),
        ("-1", 400),
        ("64k", 400),
        ("٣", 400),
        ("1.5", 400),
    ],
)
def test_a_batch_is_a_number_of_bytes(listener: _Listener, batch: str, status: int) -> None:
    headers = {"api-key": listener.token, "Sec-WebSocket-Protocol": "gatecast.v2"}
    assert listener.upgrade({"batch": batch}, headers) == status


@pytest.mark.parametrize(
    ("query", "protocol", "sizes"),
    [
        ({"batch": "65536"}, "gatecast.v2", [5]),
        ({"batch": "600"}, "gatecast.v2", [2, 2, 1]),
        ({}, "gatecast.v2", [1] * 5),
        ({"batch": "65536"}, "chat", [1] * 5),
    ],
)
def test_only_a_client_that_asks_for_batches_gets_them(
    listener: _Listener, query: dict[str, str], protocol: str, sizes: list[int]
) -> None:
    """A client of an earlier release, or an unmodified gateway, gets one event in each frame, as ever."""
    frames = [frame.split(SEPARATOR) for frame in listener.backlog(5, query, protocol)]
    assert [len(frame) for frame in frames] == sizes
    positions = [json.loads(message)["position"].rpartition(":")[2] for frame in frames for message in frame]
    assert positions == ["1", "2", "3", "4", "5"]


@_LIMITS
@given(token=_HEADER)
def test_who_is_not_known_is_401(listener: _Listener, token: str) -> None:
    assert listener.upgrade({}, {"api-key": token}) == 401
    assert listener.ask("GET", f"{BASE_PATH}/deployments", headers={"api-key": token}) == 401


@_LIMITS
@given(
    request=st.binary(max_size=500)
    | st.binary(max_size=200).map(lambda line: b"GET /" + line + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    | st.binary(max_size=200).map(lambda head: b"GET /x HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
)
@example(request=b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n")
@example(request=b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n")
@example(request=b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n")
def test_bytes_that_are_no_request_end_one_connection_at_most(listener: _Listener, request: bytes) -> None:
    answer = listener.send(request)
    assert not answer.startswith((b"HTTP/1.1 5", b"HTTP/1.0 5")), answer[:200]
    assert listener.context.admission.connections == 0
