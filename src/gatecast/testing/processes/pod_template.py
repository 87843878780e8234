"""A process that has imported everything that a pod needs; each pod that tests start is a copy of it.

To import the server takes far more time than to start it, and the tests start hundreds of pods. A copy (`fork`) is a
process like any other: it has its own id, database connections and sockets, and can be killed, frozen and stopped.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import gc
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from tempfile import TemporaryFile
from typing import IO, Self, cast

from gatecast.server.admin_api import AdminContext
from gatecast.server.admin_api.app import build_routes
from gatecast.server.pod import api_app
from gatecast.testing.pods import SERVE

#: Longest line of log; bytes.
_LONGEST_LINE = 1024 * 1024


class ForkedPod:
    """A running copy, with what tests use of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int, stdout: _Pipe, stderr: _Pipe, report: _Pipe) -> None:
        self.pid = pid
        self.stdout = stdout.reader
        self.stderr = stderr.reader
        #: Its exit status; negative: the signal that ended it; None: it runs.
        self.returncode: int | None = None
        self._watching = asyncio.create_task(self._watch(stdout, report), name=f"exit-status-of-{pid}")

    @classmethod
    async def opened(cls, *files: IO[bytes]) -> Self:
        """The copy at the other ends of these pipes: output, log, and what the template reports of it.

        Raises:
            EOFError: the template has ended.
        """
        pipes = [await _Pipe.opened(file) for file in files]
        line = b""
        try:
            line = await pipes[-1].reader.readline()
        finally:
            if not line:
                for pipe in pipes:
                    pipe.transport.close()
        if not line:
            raise EOFError("the template for pods has ended; it says why on standard error")
        return cls(int(line), *pipes)

    async def _watch(self, stdout: _Pipe, report: _Pipe) -> int:
        # A template that dies takes its copies with it and says nothing more.
        self.returncode = int(await report.reader.readline() or -signal.SIGKILL)
        # The log is read to its end. Nobody reads on here, and what is not at its end is closed by nobody else.
        for pipe in (stdout, report):
            pipe.transport.close()
        await asyncio.sleep(0)
        return self.returncode

    async def wait(self) -> int:
        """Its exit status, once it has one."""
        return await asyncio.shield(self._watching)


@dataclass(frozen=True, slots=True)
class _Pipe:
    reader: asyncio.StreamReader
    transport: asyncio.BaseTransport

    @classmethod
    async def opened(cls, file: IO[bytes]) -> Self:
        reader = asyncio.StreamReader(limit=_LONGEST_LINE)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), file
        )
        return cls(reader, transport)


class PodTemplate:
    """Starts copies of one process; ends with the process that made it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    def wait_until_ready(self) -> Self:
        """Return, once it has imported everything."""
        assert self._control.recv(1), "the template for pods has ended; it says why on standard error"
        return self

    async def start(self, environment: Mapping[str, str]) -> ForkedPod:
        """A copy that runs `gatecast serve --json` with this environment, and with this process's limits."""
        order = {"environment": dict(environment), "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)}
        pipes = [os.pipe() for _ in range(3)]
        with TemporaryFile() as written:
            written.write(json.dumps(order).encode())
            written.seek(0)
            socket.send_fds(self._control, [b"."], [written.fileno(), *(theirs for _, theirs in pipes)])
        for _, theirs in pipes:
            os.close(theirs)
        return await ForkedPod.opened(*(os.fdopen(ours, "rb", buffering=0) for ours, _ in pipes))

    def close(self) -> None:
        """End the template and every copy that still runs."""
        atexit.unregister(self.close)
        self._control.close()
        self._process.wait()


@functools.cache
def shared_template() -> PodTemplate | Sequence[str]:
    """The template of this process, ready; where processes cannot be copied safely, the command that starts a pod."""
    return PodTemplate().wait_until_ready() if sys.platform == "linux" else SERVE


# --- in the template's own process ------------------------------------------------------------------------------------


class _Template:
    """Makes copies of this process, and reports how they end."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        #: By process id, where to write that copy's exit status.
        self._reports: dict[int, int] = {}
        self._child_ended, self._wake = os.pipe()
        for each in (self._child_ended, self._wake):
            os.set_blocking(each, False)

    def run(self) -> int | None:
        """Make copies until nobody asks for more, then return None; in a copy, return the file with its order."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake)
        while True:
            ready, _, _ = select.select([self._control.fileno(), self._child_ended], [], [])
            if self._child_ended in ready:
                os.read(self._child_ended, 1024)
                self._report_ended()
            if self._control.fileno() in ready:
                word, files, _, _ = socket.recv_fds(self._control, 1, 4)
                if not word:
                    self._end_all()
                    return None
                if self._copy(*files):
                    return files[0]

    def _copy(self, order: int, stdout: int, stderr: int, report: int) -> bool:
        """Make one; return True in the copy."""
        pid = os.fork()
        if pid:
            _tell(report, pid)
            self._reports[pid] = report
            for each in (order, stdout, stderr):
                os.close(each)
            return False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        self._control.close()
        for each in (stdout, stderr, report, *self._reports.values(), self._child_ended, self._wake):
            os.close(each)
        return True

    def _report_ended(self) -> None:
        """Several may have ended at one signal."""
        while self._reports:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            report = self._reports.pop(pid)
            _tell(report, os.waitstatus_to_exitcode(status))
            os.close(report)

    def _end_all(self) -> None:
        for pid in self._reports:
            os.kill(pid, signal.SIGKILL)  # it is there until it is waited for
            os.waitpid(pid, 0)


def _tell(report: int, number: int) -> None:
    # Nobody may listen any more.
    with suppress(BrokenPipeError):
        os.write(report, f"{number}\n".encode())


def _serve(order: int) -> None:
    """Be a pod, in this copy."""
    with os.fdopen(order) as file:
        ordered = json.load(file)
    os.environ.clear()
    os.environ.update(ordered["environment"])
    resource.setrlimit(resource.RLIMIT_NOFILE, ordered["open_files"])
    sys.argv = ["gatecast", "serve", "--json"]
    import_module("gatecast.cli.main").run()


def _main(control: int) -> None:
    for module in _EVERYTHING:
        import_module(module)
    asyncio.run(build_routes(api_app(cast("AdminContext", None))))
    # What is there already is never looked at by the garbage collector of a copy, which would copy its pages.
    gc.freeze()
    with socket.socket(fileno=control) as connection:
        connection.sendall(b"!")
        order = _Template(connection).run()
    if order is not None:
        _serve(order)


#: What a pod imports before it is ready, besides what is imported here.
_EVERYTHING = ("gatecast.cli.main", "gatecast.cli.serve", "uvloop")


if __name__ == "__main__":
    _main(int(sys.argv[1]))
