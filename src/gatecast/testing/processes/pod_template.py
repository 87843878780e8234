"""A process that has imported everything that a pod needs; each pod that tests start is a copy of it.

To import the server takes far more time than to start it, and the tests start hundreds of pods. A copy (`fork`) is a
process like any other: it has its own id, database connections and sockets, and can be killed, frozen and stopped.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Self

from gatecast.testing.pods import SERVE

#: What the template itself runs; this process need not import a server for it.
_TEMPLATE = "gatecast.testing.processes.copied_process"

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
                [sys.executable, "-m", _TEMPLATE, str(theirs.fileno())],
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
