"""The installation that `gatecast verify --local` starts itself: three pods, and the faults it may cause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from secrets import token_urlsafe
from tempfile import TemporaryDirectory

from gatecast.cli.sites import NATS_EMBEDDED, NatsSite, nats_site, prepare_site
from gatecast.cli.verify.checks import Installation
from gatecast.cli.verify.faults import (
    Fault,
    crash_of_a_pooler,
    crash_of_a_server,
    crash_of_nats,
    faults_of_a_wire,
    held_file,
)
from gatecast.storage.database_url import Backend, parse
from gatecast.storage.postgres.embedded import embedded_server
from gatecast.testing.pods import Pods, RunningPod
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.deployment import Site
from gatecast.testing.processes.given_server import GivenServer
from gatecast.testing.processes.pgbouncer import PgBouncer
from gatecast.testing.processes.pod_template import shared_template
from gatecast.testing.processes.programs import pgbouncer_program
from gatecast.testing.processes.wrong_clock import serve_with_clock
from gatecast.testing.tcp_proxy import TcpProxy

#: Settings of the pods: all temporary gateways connect at once, and no balancer has to notice that a pod stops.
_SETTINGS = {"connect_rate": "1000000", "drain_time": "4s"}

#: How far the clock of one pod is ahead, if the database has a clock of its own.
_AHEAD = timedelta(hours=1)

#: Connections of PgBouncer to the server: more than one pod has.
_POOLED = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """The databases of the pods."""

    #: The database, reached without any fault.
    direct: str
    #: The database as pods reach it.
    database: str
    #: The database as the second pod reaches it.
    pooled: str
    #: The database of the outbox; empty if there is none.
    outbox: str = ""
    #: Whether the database has a clock of its own.
    has_clock: bool = True
    faults: Sequence[Fault] = ()


@asynccontextmanager
async def local_installation(database: str) -> AsyncIterator[Installation]:
    """Three pods on an empty `sqlite`, `postgresql+embedded` or `nats+embedded`, or on the empty database of a URL.

    Raises:
        SettingInvalid: it is neither of these nor the URL of a database.
        StorageError: the database is not there, or refuses.
    """
    async with AsyncExitStack() as stack:
        ground = await _ground(stack, database)
        await prepare_site(Site(database=ground.direct, outbox=ground.outbox))
        token = token_urlsafe(24)
        # Forks of one process, which imports everything once; in another thread, so that signals are handled meanwhile.
        command = await asyncio.to_thread(shared_template)
        pods = Pods(ground.database, outbox=ground.outbox, admin_token=token, command=command, **_SETTINGS)
        await stack.enter_async_context(pods)
        wrong_clock = serve_with_clock(_AHEAD) if ground.has_clock else None
        async with asyncio.TaskGroup() as starts:
            started = [
                starts.create_task(pods.start("pod-a", command=wrong_clock)),
                starts.create_task(pods.start("pod-b", database=ground.pooled)),
                starts.create_task(pods.start("pod-c")),
            ]
        first, second, third = [each.result() for each in started]
        yield Installation(
            apis=[pod.api for pod in (first, second, third)],
            gateways=[pod.gateways for pod in (first, second, third)],
            token=token,
            kill=third.kill,
            end=lambda: _end(second),
            faults=ground.faults,
            clocks="the clock of a pod is an hour ahead" if wrong_clock else "",
        )


async def _end(pod: RunningPod) -> int:
    pod.terminate()
    return await pod.ended()


async def _ground(stack: AsyncExitStack, database: str) -> _Ground:
    if database == "sqlite":
        folder = stack.enter_context(TemporaryDirectory(prefix="gatecast-", ignore_cleanup_errors=True))
        database = f"sqlite:///{folder}/gatecast.db"
    if database == "postgresql+embedded":
        return await _own_server(stack)
    if database == NATS_EMBEDDED:
        # Servers are started in another thread, as that takes seconds.
        return _streams(await asyncio.to_thread(stack.enter_context, nats_site()))
    named = parse(database)
    if named.path is None:
        return await _given_server(stack, named.url)
    if named.backend is Backend.SQLITE:
        faults = [held_file(named.path)]
        return _Ground(direct=database, database=database, pooled=database, has_clock=False, faults=faults)
    return await _given_server(stack, await stack.enter_async_context(embedded_server(named.path)))


def _streams(found: NatsSite) -> _Ground:
    """Servers that may crash, and a file that may be held."""
    one, two, _ = found.servers
    faults = [crash_of_nats([one]), crash_of_nats([one, two]), held_file(found.file)]
    database, outbox = found.site.database, found.site.outbox
    # The file of the outbox has no clock of its own.
    return _Ground(direct=database, database=database, pooled=database, outbox=outbox, has_clock=False, faults=faults)


async def _own_server(stack: AsyncExitStack) -> _Ground:
    """A server that may crash, with a pooler before it if one is installed."""
    server = PostgresServer()
    # In another thread, because creating the server's folder takes seconds.
    await asyncio.to_thread(server.__enter__)
    stack.push(server)
    wire = await stack.enter_async_context(TcpProxy(server.socket))
    direct, database = server.url(), server.url(address=wire.address)
    faults = [*faults_of_a_wire(wire), crash_of_a_server(server)]
    if pgbouncer_program() is None:
        return _Ground(direct=direct, database=database, pooled=database, faults=faults)
    pooler = await stack.enter_async_context(PgBouncer(server, mode="session", size=_POOLED))
    pooled = server.url(address=f"127.0.0.1:{pooler.port}")
    return _Ground(direct=direct, database=database, pooled=pooled, faults=[*faults, crash_of_a_pooler(pooler)])


async def _given_server(stack: AsyncExitStack, url: str) -> _Ground:
    """A server that others use: only the connection to it may be broken, if it can go through a proxy."""
    if "," in url or "verify-full" in url:
        return _Ground(direct=url, database=url, pooled=url)
    server = stack.enter_context(GivenServer(url))
    wire = await stack.enter_async_context(TcpProxy(server.socket))
    database = server.url(address=wire.address)
    return _Ground(direct=url, database=database, pooled=database, faults=faults_of_a_wire(wire))
