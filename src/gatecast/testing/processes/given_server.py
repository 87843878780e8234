"""Servers that the tests find: one that a variable names, and those that the operating system has."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from gatecast.storage.postgres.dialing import OLDEST_VERSION
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.programs import postgres_programs
from gatecast.testing.tcp_proxy import Address

_PORT = 5432


class GivenServer(PostgresServer):
    """A server that runs already and serves nothing else, by the URL of a superuser's database; left as it is."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._parts = urlsplit(url)
        self._options = dict(parse_qsl(self._parts.query))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._temporary.cleanup()

    @property
    def socket(self) -> Address:
        """Where it listens."""
        host = self._options.get("host", self._parts.hostname or "127.0.0.1")
        port = int(self._options.get("port", self._parts.port or _PORT))
        return Path(host) / f".s.PGSQL.{port}" if host.startswith("/") else (host, port)

    @property
    def system_user(self) -> str | None:
        """Anybody may run what connects to it."""
        return "nobody" if os.geteuid() == 0 else None

    def url(self, database: str = "", *, address: str | None = None) -> str:
        """The URL of one of its databases; through a proxy when that listens on `address`."""
        parts = self._parts._replace(path=f"/{database}" if database else self._parts.path)
        if address is not None:
            user, at, _ = parts.netloc.rpartition("@")
            options = {name: value for name, value in self._options.items() if name not in {"host", "port"}}
            parts = parts._replace(netloc=f"{user}{at}{address}", query=urlencode(options))
        return urlunsplit(parts)

    def run(self, program: str, *arguments: str, text: bytes = b"", folder: Path | None = None) -> bytes:
        """What a program of the system says, which must be as new as the server."""
        command = [program, *arguments]
        return subprocess.run(command, input=text, capture_output=True, check=True, cwd=folder).stdout  # noqa: S603 - named by tests

    def kill(self) -> None:
        """Not allowed: the server belongs to others."""
        raise NotImplementedError

    def start(self) -> None:
        """It runs already."""


def server_for_tests() -> PostgresServer:
    """The server that GATECAST_TEST_POSTGRES names, or one of our own; opened with `with`.

    It is not asked to survive a power cut, nor to tidy up by itself: statistics are there only when a test makes them.
    It has room for 64 callers beside the pools of a benchmark.
    """
    if given := os.environ.get("GATECAST_TEST_POSTGRES", "").strip():
        return GivenServer(given)
    return PostgresServer(fsync="off", full_page_writes="off", autovacuum="off", max_connections="200")


def installed_servers() -> dict[int, Path]:
    """The programs of each version that the operating system has: 14 and newer."""
    return {version: folder for version, folder in postgres_programs().items() if version >= OLDEST_VERSION}
