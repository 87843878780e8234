"""The process that pods are copies of: it imports everything that a pod needs, and copies itself when it is asked to.

`pod_template` starts it and asks it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import cast

from gatecast.server.admin_api import AdminContext
from gatecast.server.admin_api.app import build_routes
from gatecast.server.pod import api_app
from gatecast.server.tls import make_certificate


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
    take_environment(ordered["environment"])
    resource.setrlimit(resource.RLIMIT_NOFILE, ordered["open_files"])
    sys.argv = ["gatecast", "serve", "--json"]
    import_module("gatecast.cli.main").run()


def take_environment(variables: Mapping[str, str]) -> None:
    """Have these variables and no others, and be in the time zone that they name."""
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()


def import_everything() -> None:
    """Import what a pod needs before it is ready, on each engine that is installed."""
    for module in _EVERYTHING:
        import_module(module)
    if find_spec("nats") is not None:
        import_module("gatecast.storage.jetstream")


def _main(control: int) -> None:
    import_everything()
    asyncio.run(build_routes(api_app(cast("AdminContext", None))))
    make_certificate("127.0.0.1")  # its library is loaded when it is first used
    # What is there already is never looked at by the garbage collector of a copy, which would copy its pages.
    gc.freeze()
    with socket.socket(fileno=control) as connection:
        connection.sendall(b"!")
        order = _Template(connection).run()
    if order is not None:
        _serve(order)


#: What a pod imports before it is ready, on SQLite and PostgreSQL, besides what is imported here.
_EVERYTHING = (
    "gatecast.cli.main",
    "gatecast.cli.serve",
    "gatecast.outbox.migrations",
    "gatecast.storage.postgres.migrations",
    "gatecast.storage.sqlite.migrations",
    "uvicorn.lifespan.off",
    "uvloop",
)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
