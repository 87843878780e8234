"""The faults that `gatecast verify --local` causes at the database of its own pods."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from gatecast.testing.nats_server import NatsServer
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.pgbouncer import PgBouncer
from gatecast.testing.tcp_proxy import TcpProxy


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, from which the installation recovers."""

    #: What breaks, in words.
    name: str
    #: The fault lasts while this block runs.
    lasting: Callable[[], AbstractAsyncContextManager[None]]


def faults_of_a_wire(wire: TcpProxy) -> list[Fault]:
    """Faults between pods and a database that they reach through a proxy."""

    def fault(name: str, begin: Callable[[], None]) -> Fault:
        @asynccontextmanager
        async def lasting() -> AsyncIterator[None]:
            begin()
            try:
                yield
            finally:
                wire.heal()

        return Fault(name, lasting)

    return [
        fault("the connections to the database are cut", wire.cut),
        fault("the database's answers are lost, and nobody knows what it did", wire.lose_answers),
        fault("the database neither hears nor answers", wire.deafen),
    ]


def crash_of_a_server(server: PostgresServer) -> Fault:
    """The database is killed, and recovers."""

    @asynccontextmanager
    async def lasting() -> AsyncIterator[None]:
        await asyncio.to_thread(server.kill)
        try:
            yield
        finally:
            await asyncio.to_thread(server.start)

    return Fault("the database crashes and recovers", lasting)


def crash_of_a_pooler(pooler: PgBouncer) -> Fault:
    """PgBouncer is killed, and started again at the same address."""

    @asynccontextmanager
    async def lasting() -> AsyncIterator[None]:
        await pooler.kill()
        try:
            yield
        finally:
            await pooler.start()

    return Fault("PgBouncer crashes, through which pod-b reaches the database", lasting)


def crash_of_nats(servers: Sequence[NatsServer]) -> Fault:
    """So many of three NATS servers are killed, and started again."""

    @asynccontextmanager
    async def lasting() -> AsyncIterator[None]:
        for server in servers:
            await asyncio.to_thread(server.kill)
        try:
            yield
        finally:
            for server in servers:
                await asyncio.to_thread(server.start)

    return Fault(f"{len(servers)} of 3 NATS servers {'crashes' if len(servers) == 1 else 'crash'}", lasting)


def held_file(path: Path) -> Fault:
    """Another program holds a write transaction on an SQLite database."""

    @asynccontextmanager
    async def lasting() -> AsyncIterator[None]:
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
            await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
            yield

    return Fault("another program holds the database", lasting)
