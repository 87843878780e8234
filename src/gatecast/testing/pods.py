"""Pods as processes of the operating system: started, watched, killed, and always ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from gatecast.testing.eventually import PATIENCE
from gatecast.testing.processes import lifeline

#: The command that runs one pod and prints one line of JSON when it is ready.
SERVE = (sys.executable, "-m", "gatecast.cli.main", "serve", "--json")

#: The C library has read its variables by the time a copy gets them; it looks again for the time zone.
_READ_AGAIN = {"TZ"}

#: Most lines of log that are kept for one pod, and the longest line.
_KEPT_LINES = 10_000
_LONGEST_LINE = 1024 * 1024


class PodFailed(Exception):
    """A pod ended before it was ready."""

    def __init__(self, name: str, status: int | None, log: str) -> None:
        super().__init__(name, status, log)
        #: The pod.
        self.name = name
        #: Its exit status; None: it did not become ready in time.
        self.status = status
        #: What it wrote.
        self.log = log

    def __str__(self) -> str:
        return f"{self.name} did not become ready (exit status {self.status}):\n{self.log}"


class PodProcess(Protocol):
    """The interface of a pod's process: `asyncio.subprocess.Process`, or a fork of a template."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        """What it prints."""

    @property
    def stderr(self) -> asyncio.StreamReader | None:
        """What it logs."""

    @property
    def returncode(self) -> int | None:
        """Its exit status; None: it runs."""

    async def wait(self) -> int:
        """Its exit status, once it has one."""


class PodTemplate(Protocol):
    """Starts pods faster than their command does."""

    async def start(self, environment: Mapping[str, str]) -> PodProcess:
        """A process that runs `gatecast serve --json` with this environment."""


class RunningPod:
    """One pod's process."""

    def __init__(self, name: str, process: PodProcess) -> None:
        #: Its `pod_id`.
        self.name = name
        #: Base URL of its admin API.
        self.api = ""
        #: Base URL that gateways connect to.
        self.gateways = ""
        #: Its lines on standard error, newest last.
        self.log: deque[str] = deque(maxlen=_KEPT_LINES)
        self._process = process
        self._reading = asyncio.create_task(self._read_log(), name=f"log-of-{name}")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def gateway_host(self) -> str:
        """Where gateways connect to, written host:port."""
        return urlsplit(self.gateways).netloc

    @property
    def running(self) -> bool:
        """False once it has ended."""
        return self._process.returncode is None

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of its JSON log that tell of this event."""
        lines = (_decoded(line) for line in self.log)
        return [line for line in lines if line.get("event") == event]

    def kill(self) -> None:
        """End it at once and without any goodbye, as a crash does (SIGKILL)."""
        self._send(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to stop in order (SIGTERM)."""
        self._send(signal.SIGTERM)

    def renew(self) -> None:
        """Tell it that its certificate's files were renewed (SIGHUP)."""
        self._send(signal.SIGHUP)

    def freeze(self) -> None:
        """Let it stand still: its sockets stay open, and nothing answers (SIGSTOP)."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run on (SIGCONT)."""
        self._send(signal.SIGCONT)

    async def ended(self) -> int:
        """Its exit status, once it has one; negative: the signal that ended it."""
        status = await self._process.wait()
        await self._reading
        lifeline.has_ended(self.pid)
        return status

    def _send(self, number: signal.Signals) -> None:
        # Not through the process object: it would look for the exit status, and take it from who waits for it.
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def announced(self) -> None:
        """Return when it is ready.

        Raises:
            PodFailed: it ended before, or took too long.
        """
        assert self._process.stdout is not None
        line = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                line = await self._process.stdout.readline()
        if not line:
            self.kill()
            status = await self.ended()
            raise PodFailed(self.name, status, "\n".join(self.log))
        words = json.loads(line)
        self.api, self.gateways = words["api"], words["gateways"]

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            self.log.append(line.decode(errors="replace").rstrip())


class Pods:
    """Starts pods on one database, and ends whatever it started when its block ends.

    `settings` hold for every pod, written as in `Settings`: `poll_interval="1s"`. Given a template instead of a
    command, pods are copies of it, but for those with a command or environment variables of their own; with a time zone
    (`TZ`) of their own they are copies, too.
    """

    def __init__(
        self,
        database: str,
        *,
        admin_token: str,
        command: Sequence[str] | PodTemplate = SERVE,
        **settings: str,
    ) -> None:
        self._command = command
        self._settings = {
            "database": database,
            "admin_token": admin_token,
            "api_listen": "127.0.0.1:0",
            "gateway_listen": "127.0.0.1:0",
            "log_format": "json",
            **settings,
        }
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def start(
        self,
        name: str,
        *,
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        **settings: str,
    ) -> RunningPod:
        """One more pod, ready; with a command, settings and other environment variables of its own.

        Raises:
            PodFailed: it did not become ready.
        """
        variables = _environment({**self._settings, "pod_id": name, **settings})
        starts: Sequence[str] | PodTemplate = command or self._command
        others = dict(environment or {})
        if not (others.keys() <= _READ_AGAIN or isinstance(starts, Sequence)):
            starts = SERVE
        pod = RunningPod(name, await _run(starts, variables | others))
        self._stack.push_async_callback(_end, pod)
        await pod.announced()
        return pod

    async def start_all(self, *names: str) -> list[RunningPod]:
        """Pods that start at the same time."""
        async with asyncio.TaskGroup() as starts:
            tasks = [starts.create_task(self.start(name)) for name in names]
        return [task.result() for task in tasks]


async def _run(command: Sequence[str] | PodTemplate, variables: Mapping[str, str]) -> PodProcess:
    if isinstance(command, Sequence):
        process = await asyncio.create_subprocess_exec(
            *command, stdout=PIPE, stderr=PIPE, limit=_LONGEST_LINE, env=variables
        )
        lifeline.has_started(process.pid)
        return process
    return await command.start(variables)


async def _end(pod: RunningPod) -> None:
    """A process that was stopped by a signal is killed all the same."""
    pod.kill()
    await pod.ended()


def _environment(settings: dict[str, str]) -> dict[str, str]:
    """This process's environment with these settings in place of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATECAST_")}
    return inherited | {f"GATECAST_{name.upper()}": value for name, value in settings.items()}


def _decoded(line: str) -> dict[str, Any]:
    try:
        decoded = json.loads(line)
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}
