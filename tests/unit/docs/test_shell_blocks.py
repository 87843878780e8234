"""What the public text tells people to type into a shell works as pasted, or at least exists.

A fence that says "sh server" is run against a pod, all those of a page one after the other in one shell; what the
reader fills in is filled in. Of every other one, commands of Gatecast, their options and settings are looked up.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest
import typer

from gatecast.cli.main import app
from gatecast.client import GatewayClient, GatewayEvent, Reject
from gatecast.controlplane.access.admin_tokens import AdminTokens
from gatecast.settings import descriptions
from gatecast.storage.connect import open_storage
from gatecast.testing.doubles.recording_gateway import EAGER
from gatecast.testing.eventually import eventually
from gatecast.testing.operator import GatewayAccess, Operator
from gatecast.testing.pods import Pods, RunningPod
from gatecast.testing.processes.pod_template import PodTemplate

_ROOT = Path(__file__).parents[3]
_FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


def _blocks(path: Path, kind: str) -> list[str]:
    return [
        textwrap.dedent(each["text"])
        for each in _FENCE.finditer(path.read_text("utf-8"))
        if each["kind"].strip() == kind
    ]


_PAGES = {str(path.relative_to(_ROOT)): path for path in (_ROOT / "README.md", *sorted(_ROOT.glob("docs/**/*.md")))}
_RUN = {name: blocks for name, path in _PAGES.items() if (blocks := _blocks(path, "sh server"))}


@pytest.mark.slow
async def test_what_a_page_says_runs_as_pasted(tmp_path: Path, pod_template: PodTemplate) -> None:
    """One pod for all pages, each of which has an organization of its own."""
    database = f"sqlite:///{tmp_path / 'pod.db'}"
    said: dict[str, str] = {}
    async with Pods(database, admin_token="an-admin-token-for-tests", command=pod_template) as pods:
        pod = await pods.start("pod-1")
        for number, (name, blocks) in enumerate(_RUN.items()):
            async with open_storage(database) as opened:
                _, token = await AdminTokens(opened.storage).issue(f"organization-{number}")
            async with _prepared(pod, token, "\n".join(blocks)) as script:
                said[name] = await asyncio.to_thread(_pasted, name, script, pod, token, database)
    assert len(said) >= 5
    tutorial = said["docs/tutorial.md"]
    assert tutorial.index("offline") < tutorial.index("1 route.changed") < tutorial.index("confirmed every event")


@asynccontextmanager
async def _prepared(pod: RunningPod, token: str, script: str) -> AsyncIterator[str]:
    """The script with what the reader fills in, while there is what its page presupposes."""
    script = script.replace("http://127.0.0.1:8080", pod.api)
    async with Operator(pod.api, token) as operator:
        if "gateway create gateway-1" in script:
            yield script
            return
        gateway = await operator.create_gateway("gateway-1")
        [first] = (await operator.ask("GET", f"/gateways/{gateway.id}/tokens"))["items"]
        script = script.replace("TOKEN_ID", first["id"])
        async with _rejecting(pod, operator, gateway) if "parked" in script else _nothing():
            yield script


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def _rejecting(pod: RunningPod, operator: Operator, gateway: GatewayAccess) -> AsyncIterator[None]:
    """The gateway has rejected an event of the route that pages speak of."""

    async def reject(_: GatewayEvent) -> None:
        raise Reject("the upstream cannot be resolved")

    async def parked() -> bool:
        return bool((await operator.ask("GET", f"/gateways/{gateway.id}/parked"))["items"])

    event = {"type": "route.changed", "action": "UPDATE", "entityType": "Route", "entityId": "route-7", "data": {}}
    async with GatewayClient(pod.gateways, gateway.token, ssl=False, options=EAGER) as client:
        running = asyncio.create_task(client.run(reject))
        await operator.ask("POST", f"/gateways/{gateway.id}/events", event)
        await eventually(parked, within=30)
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


def _pasted(name: str, script: str, pod: RunningPod, token: str, database: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GATE")} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GATECAST_URL": pod.api,
        "GATECAST_TOKEN": token,
        "GATECAST_DATABASE": database,
        "GATEWAY_URL": pod.gateways,
        "COLUMNS": "200",
    }
    script = script.replace("GATECAST_TOKEN=…", f"GATECAST_TOKEN={token}")
    assert "=…" not in script, name
    ran = subprocess.run(
        ["/bin/sh", "-eu"], input=script, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, f"{name}: {ran.stdout}{ran.stderr}"
    return ran.stdout


# --- what cannot be run here ------------------------------------------------------------------------------------------

_SETTINGS = {each.variable for each in descriptions()} | {"GATECAST_TOKEN", "GATECAST_URL"}


def _commands(text: str) -> list[list[str]]:
    """The words of each command of Gatecast."""
    lines = text.replace("\\\n", " ").splitlines()
    found = [shlex.split(part, comments=True) for line in lines for part in re.split(r" \| | && ", line)]
    after = [list(dropwhile(lambda word: re.match(r"[A-Z_]+=", word), words)) for words in found]
    return [words[1:] for words in after if words[:1] == ["gatecast"]]


def _check(words: list[str]) -> None:
    """See that there is such a command with such options, and that it gets no more arguments than it takes."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "get_command") and rest:
        named = command.get_command(None, rest.pop(0))
        assert named is not None, words
        command = named
    options = {option: each for each in command.params for option in (*each.opts, *each.secondary_opts)}
    arguments = 0
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            arguments += 1
            continue
        assert word in options, words
        if not options[word].is_flag:
            rest.pop(0)
    assert arguments <= sum(each.param_type_name == "argument" for each in command.params), words


@pytest.mark.parametrize("name", [name for name, path in _PAGES.items() if _blocks(path, "sh")])
def test_what_is_not_run_names_commands_options_and_settings_that_exist(name: str) -> None:
    for block in _blocks(_PAGES[name], "sh"):
        assert set(re.findall(r"\bGATECAST_[A-Z_]+\b", block)) <= _SETTINGS
        for words in _commands(block):
            _check(words)


def test_the_check_finds_what_does_not_exist() -> None:
    [words] = _commands("GATECAST_DATABASE=x gatecast publish gateway-1 --type a \\\n --nonsense b  # of course")
    with pytest.raises(AssertionError):
        _check(words)
    with pytest.raises(AssertionError):
        _check(["no-such-command"])
    _check(["publish", "gateway-1", "--type", "a"])


def test_every_block_for_a_shell_says_so_in_the_same_way() -> None:
    kinds = {each["kind"].strip() for path in _PAGES.values() for each in _FENCE.finditer(path.read_text("utf-8"))}
    assert kinds & {"bash", "shell", "console", "zsh"} <= {"console"}
