"""Pods in virtual time: the product's own parts on SQLite, with listeners in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from fastapi import FastAPI

from gatecast import EventHub, Settings
from gatecast.controlplane.resources import open_resources
from gatecast.errors import StorageUnavailable
from gatecast.hub import prepare_schema
from gatecast.server.admin_api import AdminContext, create_admin_app
from gatecast.server.gateway_api import GatewayContext, gateway_runner
from gatecast.server.pod import MIGRATIONS, Pod
from gatecast.storage.connect import Backend, OpenStorage
from gatecast.storage.sqlite.storage import MIGRATIONS as SQLITE_MIGRATIONS
from gatecast.storage.sqlite.storage import SqliteStorage
from gatecast.testing.histories.repeatable import LoopClock
from gatecast.testing.histories.wires import Network
from gatecast.testing.operator import Operator, Refused
from gatecast.wakeup.in_process import InProcessBus

_ADMIN_TOKEN = "an-admin-token-for-tests"  # noqa: S105 - opens nothing but what a test starts

_SECRET_KEY = "c2VjcmV0LWtleS1mb3ItdGVzdHMtb25seS0zMi1ieXQ="  # noqa: S105 - as above

T = TypeVar("T")

#: How a SQLite database is asked, whatever for.
_ENTRANCES = ("_writing_turn", "read", "fetch", "ping")


class InProcessOperator(Operator):
    """Talks to the admin API of a pod without a listener."""

    def __init__(self, application: Any) -> None:  # noqa: ANN401 - an ASGI application
        self._application = application

    async def __aexit__(self, *exception: object) -> None:
        """Nothing is open."""

    async def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """The decoded answer of the admin API; `path` stands below `/api/v1`."""
        path, _, query = path.partition("?")
        request = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": f"/api/v1{path}",
            "raw_path": f"/api/v1{path}".encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [
                (b"host", b"pod"),
                (b"authorization", f"Bearer {_ADMIN_TOKEN}".encode()),
                (b"content-type", b"application/json"),
            ],
            "client": ("operator", 1),
            "server": ("pod", 80),
        }
        status, text = await _answer(self._application, request, b"" if body is None else json.dumps(body).encode())
        if status >= 400:
            raise Refused(status, text)
        return json.loads(text) if text else None


async def _answer(application: Any, request: dict[str, Any], body: bytes) -> tuple[int, str]:  # noqa: ANN401 - as above
    sent: list[dict[str, Any]] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await application(request, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode()


def _application(pod: str, context: AdminContext) -> FastAPI:
    """The admin API of a pod; made once, because that takes longer than a short history."""
    if pod not in _APPLICATIONS:
        _APPLICATIONS[pod] = create_admin_app(context)
    _APPLICATIONS[pod].state.context = context
    return _APPLICATIONS[pod]


_APPLICATIONS: dict[str, FastAPI] = {}


class VirtualPod:
    """One pod and who operates it; `start` and `stop` may follow each other."""

    pod: Pod
    operator: InProcessOperator

    def __init__(self, name: str, file: Path, *, network: Network, bus: InProcessBus, writing: asyncio.Lock) -> None:
        self.name = name
        self._file = file
        self._network = network
        self._bus = bus
        # Pods of one process must not wait for each other inside SQLite: nothing else could go on meanwhile.
        self._writing = writing
        self._settings = Settings(
            database=f"sqlite:///{file}",
            admin_token=_ADMIN_TOKEN,
            secret_key=_SECRET_KEY,
            pod_id=name,
            connect_rate=1_000_000,
            drain_time=timedelta(seconds=1),
            poll_interval=timedelta(seconds=1),
        )
        self._stack = AsyncExitStack()
        self._dead = False
        #: Whether its database can be reached.
        self.has_database = True

    async def start(self) -> None:
        """Begin to serve."""
        self._dead = False
        async with AsyncExitStack() as stack:
            hub = await stack.enter_async_context(self._open_hub())
            self.pod = Pod(self._settings, hub, await open_resources(hub, self._settings, None))
            await self.pod.admin_tokens.prepare(_ADMIN_TOKEN)
            await stack.enter_async_context(self.pod._storing_acknowledgements())  # noqa: SLF001 - as `Pod.open` does
            await stack.enter_async_context(self._listening())
            self.operator = InProcessOperator(_application(self.name, self._admin_context()))
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        """End in order."""
        if not self._dead:
            await self.pod._send_gateways_away()  # noqa: SLF001 - as `Pod.open` does
        await self._stack.aclose()

    async def crash(self) -> None:
        """Die at once: nothing more reaches the database, and its wires break."""
        self._dead = True
        self._network.close(self.name)
        self._network.cut(self.name)
        await self.stop()

    @asynccontextmanager
    async def _open_hub(self) -> AsyncIterator[EventHub]:
        clock = LoopClock().now
        migrations = (SQLITE_MIGRATIONS, *MIGRATIONS)
        async with SqliteStorage.open(self._file, migrations=migrations, clock=clock) as storage:
            storage.database._lock = self._writing  # noqa: SLF001 - see above
            await prepare_schema(storage, self._settings.migrate)
            with self._unless_away(storage):
                async with self._bus.attach() as wakeup:
                    hub = EventHub(OpenStorage(storage, Backend.SQLITE, str(self._file)), wakeup, self._settings)
                    async with hub.delivery:
                        try:
                            yield hub
                        finally:
                            await hub.close()

    @contextmanager
    def _unless_away(self, storage: SqliteStorage) -> Iterator[None]:
        """Refuse whatever is asked of the database while it is away, or its pod dead."""
        database = storage.database

        def refusing(ask: Callable[..., T]) -> Callable[..., T]:
            def asked(*arguments: object) -> T:
                if self._dead or not self.has_database:
                    raise StorageUnavailable("it is away")
                return ask(*arguments)

            return asked

        with ExitStack() as stack:
            for entrance in _ENTRANCES:
                stack.enter_context(patch.object(database, entrance, refusing(getattr(database, entrance))))
            yield

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        pod = self.pod
        context = GatewayContext(
            hub=pod.hub,
            settings=self._settings,
            gateways=pod.gateways,
            tokens=pod.gateway_tokens,
            admission=pod.admission,
            resources=pod.resources,
        )
        runner = gateway_runner(context)
        await runner.setup()
        assert runner.server is not None, "it was set up just now"
        self._network.listen(self.name, runner.server)
        try:
            yield
        finally:
            self._network.close(self.name)
            await runner.cleanup()

    def _admin_context(self) -> AdminContext:
        pod = self.pod
        return AdminContext(
            hub=pod.hub,
            settings=self._settings,
            gateways=pod.gateways,
            tokens=pod.gateway_tokens,
            admin_tokens=pod.admin_tokens,
            resources=pod.resources,
            problems=pod.problems,
        )
