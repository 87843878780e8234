"""Pods in virtual time: the product's own parts on SQLite, with listeners in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast
from unittest.mock import patch

from fastapi import FastAPI

from gatecast import Settings
from gatecast.errors import StorageUnavailable
from gatecast.server.admin_api import AdminContext, create_admin_app
from gatecast.server.connections import Place, Places
from gatecast.server.pod import Pod
from gatecast.storage.sqlite.connection_thread import Work
from gatecast.storage.sqlite.database import SqliteDatabase
from gatecast.storage.sqlite.statements import roll_back
from gatecast.testing.doubles.memory_wires import Network
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


class _MemoryListener:
    """Takes the connections of a network in memory."""

    def __init__(
        self,
        name: str,
        network: Network,
        _listening: object,
        make_protocol: Callable[[Place], asyncio.Protocol] | None,
        *,
        places: Places,
        tls: object = None,
    ) -> None:
        _ = tls
        self._name = name
        self._network = network
        self._make_protocol = make_protocol
        self._places = places

    def begin(self) -> None:
        """Take connections from now on."""
        if self._make_protocol is not None:
            self._network.listen(self._name, self._accept)

    async def _accept(self) -> asyncio.Protocol:
        assert self._make_protocol is not None, "nobody listens otherwise"
        return self._make_protocol(await self._places.take())

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._network.close(self._name)


class _ApiServer:
    """Holds the admin API, which operators call without a listener."""

    #: No connections are taken.
    connection = None

    def __init__(self, app: FastAPI) -> None:
        #: The application.
        self.app = app
        #: Set at once: it always answers.
        self.begun = asyncio.Event()
        self._ended = asyncio.Event()

    def stop(self, *, within: float) -> None:
        """End at once: operators call it one after the other."""
        _ = within
        self._ended.set()

    async def serve(self, sockets: list[object]) -> None:
        """Until told to end."""
        _ = sockets
        self.begun.set()
        await self._ended.wait()


class VirtualPod:
    """One pod and who operates it; `start` and `stop` may follow each other."""

    pod: Pod
    operator: InProcessOperator

    def __init__(self, name: str, file: Path, *, network: Network, bus: InProcessBus) -> None:
        self.name = name
        self._network = network
        self._bus = bus
        self._settings = Settings(
            database=f"sqlite:///{file}",
            api_listen="127.0.0.1:0",
            gateway_listen="127.0.0.1:0",
            gateway_tls="off",
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
        #: It dies before it asks its database so often; None: it does not.
        self.dies_before: int | None = None

    async def start(self) -> None:
        """Begin to serve."""
        self._dead, self.dies_before = False, None
        async with AsyncExitStack() as stack:
            with self._in_memory():
                self.pod = await stack.enter_async_context(Pod.open(self._settings))
            stack.enter_context(self._refusing_when_away())
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        """End in order."""
        await self._stack.aclose()

    async def crash(self) -> None:
        """Die at once: nothing more reaches the database, and its wires break."""
        self._dead = True
        self._network.close(self.name)
        self._network.cut(self.name)
        await self.stop()

    @contextmanager
    def _in_memory(self) -> Iterator[None]:
        """Whatever would go through the operating system goes through memory, for a pod that starts now."""
        with (
            patch("gatecast.server.pod.Listener", partial(_MemoryListener, self.name, self._network)),
            patch("gatecast.server.pod.ApiServer", _ApiServer),
            patch("gatecast.server.pod.api_app", self._application),
            patch("gatecast.hub._wakeup", lambda *_: self._bus.attach()),
        ):
            yield

    def _application(self, context: AdminContext) -> FastAPI:
        """The admin API, without the console."""
        application = create_admin_app(context)
        self.operator = InProcessOperator(application)
        return application

    @contextmanager
    def _refusing_when_away(self) -> Iterator[None]:
        """Refuse whatever is asked of the database while it is away, or its pod dead."""
        database = self.pod.hub.storage.database

        def refusing(ask: Callable[..., T]) -> Callable[..., T]:
            def asked(*arguments: object) -> T:
                if self._is_cut_off():
                    raise StorageUnavailable("it is away")
                return ask(*arguments)

            return asked

        writer = cast("SqliteDatabase", database)._writer  # noqa: SLF001 - between the statements of a transaction
        write = writer.run_to_its_end

        async def written(work: Work[T]) -> T:
            # What a dead pod has begun its database undoes.
            if work is not roll_back and self._is_cut_off():
                raise StorageUnavailable("it is away")
            return await write(work)

        with ExitStack() as stack:
            for entrance in _ENTRANCES:
                stack.enter_context(patch.object(database, entrance, refusing(getattr(database, entrance))))
            stack.enter_context(patch.object(writer, "run_to_its_end", written))
            yield

    def _is_cut_off(self) -> bool:
        """Whether it cannot ask its database now, for which it may have died just before."""
        if self.dies_before is not None:
            self.dies_before -= 1
            self._dead = self._dead or self.dies_before < 0
        return self._dead or not self.has_database

    @property
    def is_dead(self) -> bool:
        """Whether it has died, so that nothing of it reaches the database."""
        return self._dead
