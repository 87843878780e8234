"""Two PostgreSQL servers that Patroni watches over, with etcd of the operating system; needs the extra `embedded`."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, Process
from base64 import b64encode
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Self

import aiohttp
import asyncpg
import yaml

from gatecast.testing.eventually import eventually
from gatecast.testing.postgres_server import PostgresServer, kill_with_children
from gatecast.testing.processes import lifeline
from gatecast.testing.processes.pgbouncer import free_port
from gatecast.testing.processes.programs import etcd_program

#: The shortest that Patroni takes, in seconds.
_TIMES = {"ttl": 20, "loop_wait": 1, "retry_timeout": 3}

_SYNCHRONOUS = {"synchronous_mode": True, "synchronous_mode_strict": True, "synchronous_node_count": 1}


class PatroniNode:
    """One server and its Patroni, with the ports that they listen on, on 127.0.0.1."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        #: Where its data, its settings and its log are.
        self.folder = folder / name
        self.postgres, self.api = free_port(), free_port()
        #: Runs while the cluster is open.
        self.process: Process | None = None

    @property
    def url(self) -> str:
        """The URL of this server alone."""
        return f"postgresql://postgres@127.0.0.1:{self.postgres}/postgres"

    async def fetch_value(self, query: str) -> Any:  # noqa: ANN401 - whatever the query returns
        """The first column of the first row; None when it does not answer."""
        with suppress(OSError, asyncpg.PostgresError):
            connection = await asyncpg.connect(self.url, timeout=5)
            try:
                return await connection.fetchval(query)
            finally:
                await connection.close()
        return None

    async def answers(self, role: str) -> bool:
        """Whether Patroni says that it has this role."""
        with suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.api}/{role}") as answer:
                return answer.status == HTTPStatus.OK
        return False

    async def crash(self) -> None:
        """Its machine dies: server and Patroni are killed (SIGKILL)."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()
        running = self.folder / "data/postmaster.pid"
        kill_with_children(int(running.read_text().splitlines()[0]))
        # After a reboot no process has this number. Here it stays known until the adopting process looks.
        running.unlink()

    def settings(self, etcd: int, programs: Path) -> dict[str, Any]:
        """What Patroni reads."""
        return {
            "scope": "gatecast",
            "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.api}", "connect_address": f"127.0.0.1:{self.api}"},
            "etcd3": {"hosts": [f"127.0.0.1:{etcd}"]},
            "bootstrap": {
                "dcs": {
                    **_TIMES,
                    **_SYNCHRONOUS,
                    "postgresql": {"use_pg_rewind": True, "parameters": {"wal_log_hints": "on", "fsync": "off"}},
                },
                "initdb": [{"encoding": "UTF8"}, "no-sync", {"auth": "trust"}],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.postgres}",
                "connect_address": f"127.0.0.1:{self.postgres}",
                "data_dir": str(self.folder / "data"),
                "bin_dir": str(programs),
                "pgpass": str(self.folder / "pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres"},
                    "replication": {"username": "postgres"},
                },
                "pg_hba": [
                    "local all all trust",
                    "host all all 127.0.0.1/32 trust",
                    "host replication all 127.0.0.1/32 trust",
                ],
                "parameters": {"unix_socket_directories": str(self.folder)},
            },
        }


class PatroniCluster:
    """A primary, and a standby that commits wait for; opened with `async with`."""

    def __init__(self, server: PostgresServer) -> None:
        #: Whose programs and user the nodes have.
        self._server = server
        self._temporary = TemporaryDirectory(prefix="gatecast-patroni-", ignore_cleanup_errors=True)
        self._folder = Path(self._temporary.name)
        self._etcd: Process | None = None
        #: Of etcd.
        self._port = free_port()
        self._logs: list[IO[bytes]] = []
        self.nodes = [PatroniNode(name, self._folder) for name in ("one", "two")]

    @property
    def url(self) -> str:
        """The URL that names both servers, and asks for the one that takes writes."""
        hosts = ",".join(f"127.0.0.1:{node.postgres}" for node in self.nodes)
        return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"

    async def __aenter__(self) -> Self:
        self._folder.chmod(0o755)
        await self._start_etcd()
        for node in self.nodes:
            self._server.make_folder(node.folder)
            settings = node.folder / "patroni.yml"
            settings.write_text(yaml.safe_dump(node.settings(self._port, self._server.programs)))
            await self.start(node)
        await eventually(self.primary)
        await eventually(self.commits_wait_for_a_standby)
        return self

    async def __aexit__(self, *exception: object) -> None:
        for process in (*(node.process for node in self.nodes), self._etcd):
            await _end(process)
        for log in self._logs:
            log.close()
        self._temporary.cleanup()

    async def start(self, node: PatroniNode) -> None:
        """Start it for the first time, or after it has crashed: then it follows the one that took over."""
        await _end(node.process)
        command = (sys.executable, "-m", "patroni", str(node.folder / "patroni.yml"))
        node.process = await self._run(node.folder, *self._as_the_servers_user(), *command)

    async def forget_leader(self) -> None:
        """What happens by itself when a leader has not been heard of for its `ttl`, which is 20 s at least."""
        key = b64encode(b"/service/gatecast/leader").decode()
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{self._port}/v3/kv/deleterange", json={"key": key}) as answer,
        ):
            assert (await answer.json()).get("deleted") == "1"

    async def primary(self) -> PatroniNode | None:
        """The one that takes writes now."""
        for node in self.nodes:
            if await node.fetch_value("SELECT NOT pg_is_in_recovery()"):
                return node
        return None

    async def commits_wait_for_a_standby(self) -> bool:
        """Whether there is a standby that commits wait for, and that Patroni would promote."""
        return any([await node.answers("synchronous") for node in self.nodes])

    async def _start_etcd(self) -> None:
        folder = self._folder / "etcd"
        folder.mkdir()
        clients, peers = f"http://127.0.0.1:{self._port}", f"http://127.0.0.1:{free_port()}"
        self._etcd = await self._run(
            folder,
            etcd_program() or "etcd",
            *("--data-dir", str(folder / "data"), "--unsafe-no-fsync"),
            *("--listen-client-urls", clients, "--advertise-client-urls", clients),
            *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
            *("--initial-cluster", f"default={peers}"),
        )

    async def _run(self, folder: Path, *command: str) -> Process:
        log = (folder / "log").open("ab")
        self._logs.append(log)
        process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=log, stderr=log, cwd=folder)
        lifeline.has_started(process.pid)
        return process

    def _as_the_servers_user(self) -> list[str]:
        """PostgreSQL refuses to run as root; its user must be able to read Python where root has installed it."""
        user = self._server.system_user
        if user is None:
            return []
        rights = ("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override")
        return ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", *rights]


async def _end(process: Process | None) -> None:
    """Let it stop what it has started; then it goes anyway."""
    if process is None:
        return
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
    lifeline.has_ended(process.pid)
