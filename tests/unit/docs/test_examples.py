"""The examples in the public text run, and print what the text says that they print.

A fence that begins with "python" is a whole program; the next fence, if it is "output", is what it prints. One that
says "python postgresql" finds its database in DATABASE_URL; one that says "python server" finds a pod, and a gateway
with one event, in GATEWAY_URL, GATEWAY_TOKEN, GATEWAY_ID, API_URL and ADMIN_TOKEN.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from gatecast.testing.operator import Operator
from gatecast.testing.pods import Pods
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.pod_template import PodTemplate

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[3]
_FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class _Example:
    name: str
    kind: str
    program: str
    output: str | None


def _examples(path: Path) -> list[_Example]:
    fences = [
        (each["kind"].strip(), textwrap.dedent(each["text"])) for each in _FENCE.finditer(path.read_text("utf-8"))
    ]
    found: list[_Example] = []
    for number, (kind, text) in enumerate(fences):
        if kind.startswith("python"):
            following = fences[number + 1] if number + 1 < len(fences) else ("", "")
            output = following[1] if following[0] == "output" else None
            found.append(_Example(f"{path.relative_to(_ROOT)}-{len(found) + 1}", kind, text, output))
    return found


_EXAMPLES = [each for path in (_ROOT / "README.md", *sorted(_ROOT.glob("docs/**/*.md"))) for each in _examples(path)]


def _run(example: _Example, folder: Path, **environment: str) -> str:
    """Run it as a reader would: as a program of its own, in an empty folder."""
    program = folder / "example.py"
    program.write_text(example.program, "utf-8")
    ran = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if not key.startswith("GATECAST_")} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def _of_kind(kind: str) -> pytest.MarkDecorator:
    chosen = [each for each in _EXAMPLES if each.kind == kind]
    return pytest.mark.parametrize("example", chosen, ids=[each.name for each in chosen])


@_of_kind("python")
def test_an_example_runs_and_prints_what_it_says(example: _Example, tmp_path: Path) -> None:
    printed = _run(example, tmp_path)
    assert example.output is None or printed == example.output


@_of_kind("python postgresql")
async def test_an_example_on_postgresql_runs_and_prints_what_it_says(
    example: _Example, tmp_path: Path, postgres: PostgresServer
) -> None:
    name = re.sub(r"\W+", "_", example.name.lower())
    await postgres.create_database(name)
    printed = _run(example, tmp_path, DATABASE_URL=postgres.url(name))
    assert example.output is None or printed == example.output


@_of_kind("python server")
async def test_an_example_with_a_server_runs_and_prints_what_it_says(
    example: _Example, tmp_path: Path, pod_template: PodTemplate
) -> None:
    token = "admin-token-of-the-examples"
    async with Pods(f"sqlite:///{tmp_path / 'pod.db'}", admin_token=token, command=pod_template) as pods:
        pod = await pods.start("pod-1")
        async with Operator(pod.api, token) as operator:
            gateway = await operator.create_gateway("gateway-1")
            event = {"type": "route.changed", "action": "UPDATE", "entityType": "Route", "entityId": "route-7"}
            await operator.ask("POST", f"/gateways/{gateway.id}/events", event | {"data": {"path": "/orders"}})
        environment = {
            "GATEWAY_URL": pod.gateways,
            "GATEWAY_TOKEN": gateway.token,
            "GATEWAY_ID": gateway.id,
            "API_URL": pod.api,
            "ADMIN_TOKEN": token,
        }
        printed = await asyncio.to_thread(_run, example, tmp_path, **environment)
    assert example.output is None or printed == example.output


def test_every_example_is_of_a_kind_that_is_run() -> None:
    assert {each.kind for each in _EXAMPLES} == {"python", "python postgresql", "python server"}
