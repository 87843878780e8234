"""`gatecast demo`, as a visitor sees it: every command that it prints works as pasted, and it leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import aiohttp
import pytest

from gatecast.testing.eventually import PATIENCE, eventually

pytestmark = pytest.mark.acceptance

_COMMAND = [sys.executable, "-c", "from gatecast.cli.main import run; run()", "demo"]


async def _started() -> tuple[Process, str]:
    """A demo that stays up, and what it has printed."""
    environment = os.environ | {"COLUMNS": "200"}
    process = await asyncio.create_subprocess_exec(*_COMMAND, stdout=PIPE, start_new_session=True, env=environment)
    assert process.stdout is not None
    said = ""
    while "Gateways connect to" not in said:
        line = await process.stdout.readline()
        assert line, said
        said += line.decode()
    return process, said + (await process.stdout.readline()).decode()


def _descendants(pid: int) -> list[int]:
    """The processes that it has started, by any thread, and those that these have."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(each) for file in files for each in file.read_text().split()]
    return [*children, *(each for child in children for each in _descendants(child))]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_visitor_finds_everything_and_any_signal_ends_it_whole(number: signal.Signals) -> None:
    process, said = await _started()
    try:
        started = _descendants(process.pid)
        assert len(started) >= 3, "two pods, and the process that they are copies of"
        link = re.search(r"http://(\S+)/login#token=(\S+)", said)
        assert link is not None
        if number is signal.SIGINT:
            await _look_around(said, f"http://{link[1]}", link[2])
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
        for pid in started:
            assert not Path(f"/proc/{pid}").exists(), "a pod was left behind"
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)


async def _look_around(said: str, url: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(base_url=url, headers=headers) as session:

        async def states() -> dict[str, int]:
            async with session.get("/api/v1/fleet") as answer:
                return dict((await answer.json())["states"])

        async def in_every_state() -> bool:
            found = await states()
            return found["rejected"] == 1 and found["behind"] == 2 and found["current"] >= 1

        await eventually(in_every_state)
    for command in re.findall(r"^   (\S*gatecast (?:why|publish) .*)$", said, re.MULTILINE):
        export = re.search(r"^   export (.*)$", said, re.MULTILINE)
        assert export is not None
        variables = dict(each.split("=", 1) for each in shlex.split(export[1]))
        pasted = await asyncio.create_subprocess_shell(command, env=os.environ | variables, stdout=PIPE)
        await pasted.communicate()
        assert pasted.returncode == 0, command


async def test_it_is_shown_on_three_nats_servers_of_its_own() -> None:
    """With the tables of the pods in a file beside them."""
    command = [*_COMMAND, "--once", "--database", "nats+embedded"]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, start_new_session=True)
    try:
        said, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert (process.returncode, b"exactly as it was published" in said) == (0, True), said
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
