"""A PostgreSQL of one's own, that can be killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import asyncpg

from gatecast.storage.postgres.embedded import package_of_servers
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.tcp_proxy import Address

_STOP_TIME_LIMIT = 15.0
_PAUSE = 0.02
_SOCKET = ".s.PGSQL.5432"

#: Ends the server in a folder, and removes the folder, once the process that started this is gone: its standard input
#: ends then.
_WATCH = """
cat >/dev/null
if server=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null); then
    kill -QUIT "$server"
    while kill -0 "$server"; do sleep 0.1; done 2>/dev/null
fi
rm -rf "$1"
"""


def kill_with_children(pid: int) -> None:
    """End a process at once, with the processes that it has started: these could go on, and commit, without it.

    Outside Linux it alone is ended.
    """
    if sys.platform == "linux":
        # While it stands still it starts nobody else, and the numbers of its children stay theirs.
        os.kill(pid, signal.SIGSTOP)
        try:
            _wait_for_state(pid, "TZX")
            children = _children_of(pid)
            for child in children:
                os.kill(child, signal.SIGKILL)
            for child in children:
                _wait_for_state(child, "ZX")
        finally:
            os.kill(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGKILL)


def _children_of(pid: int) -> list[int]:
    children = []
    for process in Path("/proc").glob("[0-9]*"):
        # Others end meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            if _state_and_parent(int(process.name))[1] == str(pid):
                children.append(int(process.name))
    return children


def _state_and_parent(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]


def _wait_for_state(pid: int, states: str) -> None:
    """Return when the process is in one of these states, as Linux calls them: T stopped, Z and X ended."""
    give_up_at = time.monotonic() + PATIENCE
    while _state_and_parent(pid)[0] not in states:
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"process {pid} is not in one of the states {states}")
        time.sleep(_PAUSE / 10)


class PostgresServer:
    """A server in a temporary folder that listens on a unix socket there and nowhere else; needs the extra `embedded`.

    Open it with `with`; it ends with this process, even if that is killed. Unlike the server of
    `postgresql+embedded://` it is this process's own child, so it is dead when `kill` returns. All its methods but the
    coroutines block.

    `version` is one that the package carries; `programs`, the folder of `postgres` and `initdb`, leads to another one
    that is installed. `parameters` are those of PostgreSQL.
    """

    def __init__(
        self,
        *,
        version: int | None = None,
        programs: Path | None = None,
        primary: PostgresServer | None = None,
        **parameters: str,
    ) -> None:
        self._programs = programs
        # Not in pytest's folder: that belongs to one user alone, and PostgreSQL may have to run as another.
        self._temporary = TemporaryDirectory(prefix="gatecast-postgres-", ignore_cleanup_errors=True)
        self._folder = Path(self._temporary.name) / "data"
        self._backup = Path(self._temporary.name) / "backup"
        #: The package's own version, unless told otherwise.
        self._version = {} if version is None else {"postgres_version": version}
        self._primary = primary
        self._follows = True
        self._parameters = parameters
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._package: Any = None

    def standby(self, **parameters: str) -> PostgresServer:
        """One more server, not opened yet, that begins as a copy of this one and then receives what is committed here.

        In `synchronous_standby_names` of this server it is called `standby`.
        """
        return PostgresServer(version=None, programs=None, primary=self, **parameters)

    def back_up(self) -> None:
        """Copy everything as it is now, for `recovered`."""
        self.make_folder(self._backup)
        self._copy_to(self._backup, "--no-sync")

    def recovered(self, **parameters: str) -> PostgresServer:
        """One more server, not opened yet, that begins as the backup and recovers what was committed since.

        `restore_command` says where it finds that, and `recovery_target_name` up to where.
        """
        server = PostgresServer(version=None, programs=None, primary=self, **parameters)
        server._follows = False
        return server

    def __enter__(self) -> Self:
        if self._primary is None:
            with warnings.catch_warnings():
                # It warns where XDG_RUNTIME_DIR is not set, and then does the right thing.
                warnings.simplefilter("ignore")
                package = package_of_servers()
            self._package = package.get_server(self._folder, cleanup_mode=None, start=False, **self._version)
            if self._programs is not None:
                self._package.bin_path = self._programs
            self._package.ensure_pgdata_inited()
        else:
            self._package = self._primary._package  # noqa: SLF001 - one of the same class
            if self._follows:
                self._follow(self._primary)
            else:
                self._recover(self._primary)
        self._watch = subprocess.Popen(  # noqa: S603 - our own words
            ["/bin/sh", "-c", _WATCH, "watch", self._temporary.name], stdin=subprocess.PIPE, start_new_session=True
        )
        self.start()
        return self

    def make_folder(self, folder: Path) -> None:
        """Make a folder that this server may write to, in one that it may enter."""
        folder.parent.chmod(0o755)
        folder.mkdir(mode=0o700)
        self._own(folder)

    def _own(self, path: Path) -> None:
        if self._package.system_user is not None:
            shutil.chown(path, self._package.system_user)

    def _follow(self, primary: PostgresServer) -> None:
        """Begin as a copy of a running server, and follow it."""
        self.make_folder(self._folder)
        primary._copy_to(self._folder, "--write-recovery-conf")

    def _recover(self, primary: PostgresServer) -> None:
        """Begin as its backup, and recover."""
        self._folder.parent.chmod(0o755)
        subprocess.run(["cp", "-a", primary._backup, self._folder], check=True)  # noqa: S603, S607 - keeps the owner
        asked = self._folder / "recovery.signal"
        asked.touch()
        self._own(asked)

    def _copy_to(self, folder: Path, *how: str) -> None:
        source = f"host={self._folder} user=postgres application_name=standby"
        self.run("pg_basebackup", "-D", str(folder), "-d", source, "--checkpoint=fast", *how)
        # This server's socket is in its folder.
        for copied in folder.glob(".s.PGSQL.*"):
            copied.unlink()

    def rewind(self, successor: PostgresServer) -> None:
        """Follow the server that was promoted in its place; this one was killed, and may have more than that.

        Needs `wal_log_hints` or checksums. New connections to the successor wait until this returns.
        """
        # It would be read like a file of the database, where it lies, and its lock taken for this server's own.
        socket, moved = successor.folder / _SOCKET, self._folder.parent / _SOCKET
        socket.rename(moved)
        try:
            source = f"host={moved.parent} user=postgres dbname=postgres application_name=standby"
            self.run("pg_rewind", "-D", str(self._folder), f"--source-server={source}", "--write-recovery-conf")
        finally:
            moved.rename(socket)
        for copied in self._folder.glob(".s.PGSQL.*"):
            copied.unlink()
        conninfo = f"host={successor.folder} user=postgres application_name=standby"
        self._parameters = {**self._parameters, "primary_conninfo": conninfo}
        self.start()

    def run(self, program: str, *arguments: str, text: bytes = b"", folder: Path | None = None) -> bytes:
        """What one of PostgreSQL's own programs prints; raises when it fails. It runs in `folder`, if that matters."""
        done = subprocess.run(  # noqa: S603 - the package's own programs
            [self._package.bin_path / program, *arguments],
            check=True,
            input=text,
            stdout=subprocess.PIPE,
            user=self._package.system_user,
            cwd=folder,
        )
        return done.stdout

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._temporary.cleanup()
        assert self._watch is not None
        self._watch.communicate()

    @property
    def socket(self) -> Address:
        """The unix socket that it listens on: what a proxy leads to."""
        return self._folder / _SOCKET

    @property
    def folder(self) -> Path:
        """Where its data and its socket are: `host` in a URL."""
        return self._folder

    @property
    def programs(self) -> Path:
        """Where `postgres` and what belongs to it are."""
        found: Path = self._package.bin_path
        return found

    @property
    def system_user(self) -> str | None:
        """The user that runs it; None: the user of this process."""
        user: str | None = self._package.system_user
        return user

    def url(self, database: str = "postgres", *, address: str | None = None) -> str:
        """The URL of one of its databases; through a proxy when that listens on `address`, written host:port."""
        if address is not None:
            return f"postgresql://postgres@{address}/{database}"
        return f"postgresql://postgres@/{database}?host={self._folder}"

    async def create_database(self, name: str) -> None:
        """Make an empty database, in place of one that an earlier run left."""
        await self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', f'CREATE DATABASE "{name}"')

    async def execute(self, *statements: str) -> None:
        """Run statements, each by itself."""
        connection = await asyncpg.connect(self.url())
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def configure(self, **parameters: str) -> None:
        """Change parameters that need no restart; every statement that begins from now on has them."""
        loaded = "SELECT pg_conf_load_time()"
        before = await self.fetch_value(loaded)
        changes = [f"ALTER SYSTEM SET {name} = '{value}'" for name, value in parameters.items()]
        await self.execute(*changes, "SELECT pg_reload_conf()")

        # The server reads them before it tells its sessions, and each of these looks before its next statement.
        async def read() -> bool:
            return bool(await self.fetch_value(loaded) != before)

        await eventually(read)

    async def stop_receiving(self) -> None:
        """Lag from now on: what the primary commits does not reach this standby any more."""
        await self.configure(primary_conninfo="")
        await eventually(self._is_alone)

    async def _is_alone(self) -> bool:
        return not await self.fetch_value("SELECT count(*) FROM pg_stat_wal_receiver")

    async def caught_up_with(self, primary: PostgresServer) -> None:
        """Return when this standby has applied everything that is committed there by now."""
        position = await primary.fetch_value("SELECT pg_current_wal_lsn()::text")
        applied = f"SELECT coalesce(pg_last_wal_replay_lsn() >= '{position}', false)"
        await eventually(lambda: self.fetch_value(applied))

    async def fetch_value(self, query: str) -> Any:  # noqa: ANN401 - whatever the query returns
        """The first column of the first row."""
        connection = await asyncpg.connect(self.url())
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    async def promote(self) -> None:
        """Make this standby a primary, on a timeline of its own."""
        await self.execute("SELECT pg_promote()")

    def stop(self) -> None:
        """Shut it down in an orderly way."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_TIME_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as a crash of its machine does: nothing more is written, no client is notified (SIGKILL)."""
        assert self._process is not None
        if self._process.poll() is None:
            kill_with_children(self._process.pid)
        self._process.wait()

    def start(self) -> None:
        """Start it, and return when it has recovered and takes connections.

        Raises:
            TimeoutError: it does not come up.
        """
        give_up_at = time.monotonic() + PATIENCE
        while not self._is_ready():
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"PostgreSQL does not start: {self._log().read_text()[-2000:]}")
            # Right after a crash the old server's children may still hold its memory: then it ends, and is begun again.
            if self._process is None or self._process.poll() is not None:
                self._process = self._launch()
            time.sleep(_PAUSE)

    def _launch(self) -> subprocess.Popen[bytes]:
        parameters = [word for name, value in self._parameters.items() for word in ("-c", f"{name}={value}")]
        with self._log().open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - the package's own server
                [self._package.bin_path / "postgres", "-D", self._folder, "-h", "", "-k", self._folder, *parameters],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # PostgreSQL refuses to run as root, so the package made a user for it.
                user=self._package.system_user,
                start_new_session=True,
            )

    def _log(self) -> Path:
        return self._folder.with_suffix(".log")

    def _is_ready(self) -> bool:
        """What the server says of itself: its process id in the first line, its state in the last."""
        if self._process is None or self._process.poll() is not None:
            return False
        try:
            lines = (self._folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 1 and lines[0] == str(self._process.pid) and lines[-1].strip() == "ready"
