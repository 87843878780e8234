"""PgBouncer of the operating system, in front of a PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from gatecast.testing.eventually import eventually
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes import lifeline
from gatecast.testing.processes.programs import pgbouncer_program

_CONFIGURATION = """
[databases]
* = {target}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 200
logfile = {folder}/pgbouncer.log
"""


class PgBouncer:
    """A pooler with few connections to the server; opened with `async with`. `mode` is `session` or `transaction`."""

    def __init__(self, server: PostgresServer, *, mode: str, size: int) -> None:
        self._server = server
        self._mode = mode
        self._size = size
        self._folder = TemporaryDirectory(prefix="gatecast-pgbouncer-", ignore_cleanup_errors=True)
        self._process: Process | None = None
        #: Where it listens, on 127.0.0.1.
        self.port = 0

    async def __aenter__(self) -> Self:
        self.port = free_port()
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.kill()
        self._folder.cleanup()

    async def start(self) -> None:
        """Start it, on the same port each time, and return when it listens."""
        configuration = self._configure()
        self._process = await asyncio.create_subprocess_exec(
            pgbouncer_program() or "pgbouncer",
            "-q",
            configuration,
            stdin=DEVNULL,
            stderr=DEVNULL,
            user=self._server.system_user if os.geteuid() == 0 else None,
        )
        lifeline.has_started(self._process.pid)
        await eventually(self._listens)

    async def kill(self) -> None:
        """End it at once, with every connection through it (SIGKILL)."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        lifeline.has_ended(self._process.pid)

    def _configure(self) -> str:
        folder = Path(self._folder.name)
        # It refuses to run as root, and must find its files as another user.
        folder.chmod(0o777)
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(
                target=self._target(), port=self.port, mode=self._mode, size=self._size, folder=folder
            )
        )
        return str(configuration)

    def _target(self) -> str:
        address = self._server.socket
        if isinstance(address, Path):
            return f"host={address.parent} port={address.suffix[1:]} user=postgres"
        return f"host={address[0]} port={address[1]}"

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
