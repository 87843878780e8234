"""A small installation in this process: real pods on one database, simulated gateways, and an operator."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, Self
from unittest.mock import patch
from urllib.parse import urlsplit

import asyncpg

from gatecast.errors import StorageUnavailable
from gatecast.server.pod import Pod
from gatecast.storage.connect import open_engine
from gatecast.storage.sqlite.database import SqliteDatabase
from gatecast.testing.desired_state import differences
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.operator import Operator
from gatecast.testing.processes.deployment import Site, address_of
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.testing.unmodified_gateway import GatewayOptions, UnmodifiedGateway

_ADMIN_TOKEN = "an-admin-token-for-tests"  # noqa: S105 - opens nothing but what a test starts

_SECRET_KEY = "c2VjcmV0LWtleS1mb3ItdGVzdHMtb25seS0zMi1ieXQ="  # noqa: S105 - as above

_EAGER = GatewayOptions(reconnect_initial=0.02, reconnect_max=0.1)


class Replica:
    """One pod, and who operates it; opened with `async with`."""

    pod: Pod
    operator: Operator

    def __init__(self, site: str | Site, number: int) -> None:
        self._settings = Site.of(site).settings(
            api_listen="127.0.0.1:0",
            gateway_listen="127.0.0.1:0",
            admin_token=_ADMIN_TOKEN,
            secret_key=_SECRET_KEY,
            pod_id=f"pod-{number}",
            connect_rate=1_000_000,
            drain_time=timedelta(seconds=1),
        )
        self._stack = AsyncExitStack()

    @property
    def gateways(self) -> tuple[str, int]:
        """Where its gateway listener is."""
        return address_of(self.pod.gateway_url)

    async def restart(self) -> None:
        """End it in order, and start another one of its name."""
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        """End it in order, without the time that balancers need to notice."""
        self.pod.hurried.set()
        await self._stack.aclose()

    async def start(self) -> None:
        """Start one of this name."""
        self.pod = await self._stack.enter_async_context(Pod.open(self._settings))
        self.operator = await self._stack.enter_async_context(Operator(self.pod.api_url, _ADMIN_TOKEN))

    @contextmanager
    def without_database(self) -> Iterator[None]:
        """Whatever the pod asks of its database is refused at once, as while that cannot be reached."""

        def refuse(*_arguments: object, **_names: object) -> NoReturn:
            raise StorageUnavailable("it is away")

        database = self.pod.hub.database
        entrances = ("_writing_turn", "read", "fetch", "ping") if isinstance(database, SqliteDatabase) else _POSTGRES
        with ExitStack() as stack:
            for entrance in entrances:
                stack.enter_context(patch.object(database, entrance, refuse))
            yield

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()


#: How PostgreSQL is asked, whatever for.
_POSTGRES = ("connection",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One gateway, and the way that it takes to a pod."""

    id: str
    gateway: UnmodifiedGateway
    way: TcpProxy


@dataclass(frozen=True, slots=True)
class Installation:
    """Pods, gateways, and an operator at the first pod."""

    replicas: list[Replica]
    edges: list[Edge] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def open(cls, site: str | Site, *, pods: int = 1, gateways: int = 1) -> AsyncIterator[Self]:
        """Start it; gateway n begins at pod n, and has gone through its first synchronization."""
        async with AsyncExitStack() as stack:
            replicas = [await stack.enter_async_context(Replica(site, number)) for number in range(pods)]
            installation = cls(replicas)
            for number in range(gateways):
                access = await installation.operator.create_gateway(f"gateway-{number}")
                way = await stack.enter_async_context(TcpProxy(replicas[number % pods].gateways))
                gateway = UnmodifiedGateway(way.address, access.token, follow_artifacts=True, options=_EAGER)
                await stack.enter_async_context(gateway)
                installation.edges.append(Edge(id=access.id, gateway=gateway, way=way))
                await synchronized(gateway, 1)
            yield installation

    @property
    def operator(self) -> Operator:
        """The operator who talks to the first pod."""
        return self.replicas[0].operator

    @property
    def edge(self) -> Edge:
        """The first gateway."""
        return self.edges[0]

    async def create(self, collection: str, body: dict[str, Any]) -> str:
        """The path of an artifact that was made on the first gateway, and that it runs."""
        made = await self.operator.ask("POST", f"/{collection}", {**body, "gateways": [self.edge.id]})
        path = f"/{collection}/{made['id']}"
        await self.reaches(path, "DEPLOYED")
        return path

    async def state(self, path: str) -> str:
        """What is shown of an artifact on the first gateway."""
        shown = await self.operator.ask("GET", path)
        return next((str(each["state"]) for each in shown["deployments"] if each["gatewayId"] == self.edge.id), "")

    async def reaches(self, path: str, state: str, *, within: float = PATIENCE) -> None:
        """Return when this is shown of an artifact on the first gateway."""

        async def reached() -> bool:
            return await self.state(path) == state

        try:
            await eventually(reached, within=within)
        except TimeoutError:
            raise AssertionError(f"{path} is {await self.state(path)}; {self.edge.gateway.describe()}") from None

    async def why(self) -> str:
        """The code of `why` for the first gateway."""
        return str((await self.operator.ask("GET", f"/gateways/{self.edge.id}/why"))["code"])

    async def is_true(self, *, within: float = PATIENCE) -> None:
        """Return when everything is shown as current and deployed, and the first gateway is in the desired state.

        Raises:
            AssertionError: that is not so after `within` seconds; says in what.
        """
        last: list[str] = []

        async def reached() -> bool:
            # Looked at last: it takes calls with the gateway's token, which look as if the gateway synchronized again.
            code = await self.why()
            last[:] = [] if code == "current" else [f"it is {code}"]
            if not last:
                last[:] = await differences(self.operator, self.edge.id, self.edge.gateway, as_written=False)
            return not last

        try:
            await eventually(reached, within=within)
        except TimeoutError:
            raise AssertionError(f"{last}; {self.edge.gateway.describe()}") from None

    async def has_delivered(self, *, within: float = PATIENCE) -> None:
        """Return when it is known that the lists which the first gateway has just read have brought it everything.

        Before that nobody else may call with its token: what it looks like is that the gateway begins once more.
        """
        query = "SELECT 1 AS found FROM gatecast_synchronizations WHERE gateway_id = $1 AND delivered = number"
        database = self.replicas[0].pod.hub.database

        async def noted() -> bool:
            return bool(await database.fetch(query, self.edge.id))

        await eventually(noted, within=within)

    async def undisturbed(self) -> None:
        """Return when the gateway has handled what the control plane had for it, and has nothing to ask any more."""
        await self.operator.confirmed(self.edge.id, (await self.operator.gateway(self.edge.id))["position"]["head"])


async def synchronized(gateway: UnmodifiedGateway, times: int) -> None:
    """Return when the gateway has gone through its start-up synchronization so often."""
    await gateway.wait_until(lambda: gateway.records.reconciliations >= times)


@asynccontextmanager
async def restored_afterwards(installation: Installation, site: Site) -> AsyncIterator[None]:
    """What the block changes is lost: the database is then as it was before, and its history has another name.

    As the instructions say: pods are stopped for the backup and for the restore, and the epoch is renewed before they
    start. A stream goes on with what it has. Gateways go on running, and find the pods where they were.
    """
    await _stop(installation)
    restore = await _backup(site.tables)
    await _start(installation)
    yield
    await _stop(installation)
    await restore()
    async with open_engine(site.database) as opened:
        log = opened.engine.log
        await log.renew_epoch((await log.changed_since(0)).epoch)
    await _start(installation)


async def declare_resynchronized(installation: Installation, site: Site) -> None:
    """After a restore, as the operator does where the log went on: nobody else knows what the lost events were."""
    if not site.outbox:
        return

    async def told() -> bool:
        return await installation.why() == "resync-needed"

    await eventually(told)
    await installation.operator.ask("POST", f"/gateways/{installation.edge.id}/resynchronized")


async def _stop(installation: Installation) -> None:
    for replica in installation.replicas:
        await replica.stop()


async def _start(installation: Installation) -> None:
    for replica in installation.replicas:
        await replica.start()
    for number, edge in enumerate(installation.edges):
        edge.way.retarget(installation.replicas[number % len(installation.replicas)].gateways)


async def _backup(database: str) -> Callable[[], Awaitable[None]]:
    parts = urlsplit(database)
    if parts.scheme == "sqlite":
        file = Path(database.removeprefix("sqlite:///"))
        kept = file.with_suffix(".backup")
        shutil.copy(file, kept)

        async def copy_back() -> None:
            shutil.copy(kept, file)

        return copy_back
    name, server = parts.path[1:], database.replace(f"/{parts.path[1:]}", "/postgres", 1)
    await _execute(server, f'CREATE DATABASE "{name}_backup" TEMPLATE "{name}"')

    async def rename_back() -> None:
        await _execute(server, f'DROP DATABASE "{name}"', f'ALTER DATABASE "{name}_backup" RENAME TO "{name}"')

    return rename_back


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
