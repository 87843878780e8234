"""Nothing that tests start outlives them."""

from __future__ import annotations

import os
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from pathlib import Path

import pytest

from gatecast.testing.eventually import eventually

pytestmark = pytest.mark.slow

_START = """
import os, signal, subprocess, sys, time
from gatecast.testing.processes import lifeline

started = [subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL) for _ in range(4)]
for each in started:
    lifeline.has_started(each.pid)
lifeline.has_ended(started[1].pid)
os.kill(started[2].pid, signal.SIGSTOP)
print(*(each.pid for each in started), flush=True)
sys.stdin.readline()
"""

_SERVE = """
import asyncio, sys, tempfile
from pathlib import Path
from gatecast.testing.nats_server import nats_server
from gatecast.testing.pods import Pods

async def main():
    with tempfile.TemporaryDirectory() as folder, nats_server(Path(folder) / "nats") as nats:
        async with Pods.open(f"sqlite:///{folder}/pods.db") as pods:
            pod = await pods.start("a")
            print(nats._process.pid, pod.pid, flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


async def _started(script: str) -> tuple[Process, list[int]]:
    """A process that runs this, and the processes that it has started."""
    process = await create_subprocess_exec(sys.executable, "-c", script, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    return process, [int(word) for word in (await process.stdout.readline()).split()]


def _runs(process: int) -> bool:
    """Whether it has not ended; who inherits it may be slow to notice that it has."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


@pytest.mark.parametrize("ending", ["killed", "in order"])
async def test_what_has_started_and_not_ended_ends_with_who_started_it(ending: str) -> None:
    """Also what stands still, and nothing else: a number may belong to another process by then."""
    process, [first, forgotten, still, last] = await _started(_START)
    try:
        if ending == "killed":
            process.kill()
        await process.communicate(b"")

        async def ended() -> bool:
            return not any(map(_runs, [first, still, last]))

        await eventually(ended)
        assert _runs(forgotten)
    finally:
        os.kill(forgotten, signal.SIGKILL)


async def test_servers_and_pods_of_tests_that_are_killed_end() -> None:
    process, servers = await _started(_SERVE)
    process.kill()
    await process.wait()

    async def ended() -> bool:
        return not any(map(_runs, servers))

    await eventually(ended)
