"""The steps of the Dockerfile, run in clean environments here: they make a pod that starts and says that it lives."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from gatecast.testing.pods import Pods
from gatecast.version import __version__

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

_ROOT = Path(__file__).parents[2]
_TEXT = (_ROOT / "deploy/docker/Dockerfile").read_text("utf-8").replace("\\\n", " ")
_BUILD, _LAST = _TEXT.split("\nFROM ")[1:]


@dataclass(frozen=True)
class _Image:
    """What the first stage leaves to the last one."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name.lstrip("/")


def _run_step(command: str, image: _Image, environment: dict[str, str]) -> None:
    """A RUN of the first stage, with this machine's Python and folders of its own in place of the container's."""
    local = re.sub(r"(?<![\w.])/opt/", f"{image.folder}/opt/", command)
    local = re.sub(r"^python ", f"{sys.executable} ", local)
    subprocess.run(["/bin/sh", "-c", local], cwd=image.path("/source"), env=environment, check=True, timeout=300)


def _copied(image: _Image) -> None:
    image.path("/source").mkdir(parents=True)
    for line in re.findall(r"^COPY (.+) \S+$", _BUILD, re.MULTILINE):
        for name in line.split():
            source, target = _ROOT / name, image.path("/source") / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> _Image:
    """The folders that the first stage makes."""
    image = _Image(tmp_path_factory.mktemp("image"))
    _copied(image)
    variables = dict(re.findall(r"(UV_\w+)=(\S+)", _BUILD))
    # Downloads of another run do no harm here, and compiling everything takes most of the time.
    variables.pop("UV_NO_CACHE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GATECAST"))}
    for command in _steps():
        _run_step(command.replace(" --compile-bytecode", ""), image, environment | variables)
    return image


def _steps() -> list[str]:
    """What the first stage runs, once it has the tool that the tests have already."""
    first, *steps = re.findall(r"^RUN (.+)$", _BUILD, re.MULTILINE)
    assert first.endswith(f"uv=={version('uv')}")
    return steps


def test_the_command_is_there_with_nothing_of_the_tests(image: _Image) -> None:
    gatecast = image.path("/opt/gatecast/bin/gatecast")
    ran = subprocess.run([gatecast, "--version"], capture_output=True, text=True, check=True, cwd="/")
    assert ran.stdout.strip() == __version__
    assert not list(image.path("/opt/gatecast").glob("lib/*/site-packages/pytest"))


def test_the_list_of_parts_names_what_is_installed(image: _Image) -> None:
    parts = json.loads(image.path("/opt/gatecast/sbom.cdx.json").read_text("utf-8"))
    assert {"gatecast", "aiohttp", "asyncpg"} <= {each["name"] for each in parts["components"]}


async def test_a_pod_of_it_starts_with_the_variables_of_the_image_and_passes_its_health_check(
    image: _Image, tmp_path: Path
) -> None:
    variables = dict(re.findall(r"(GATECAST_\w+)=(\S+)", _LAST))
    assert variables["GATECAST_LOG_FORMAT"] == "json"
    (check,) = re.findall(r"^HEALTHCHECK .+ CMD (\[.+\])$", _LAST, re.MULTILINE)
    python = image.path("/opt/gatecast/bin/python")
    serve = (str(image.path("/opt/gatecast/bin/gatecast")), "serve", "--json")
    database = f"sqlite:///{tmp_path}/gatecast.db"
    async with Pods(database, admin_token="admin-token-of-the-image", command=serve) as pods:
        pod = await pods.start("pod", environment={"PYTHONPATH": ""})
        command = [word.replace("http://127.0.0.1:8080", pod.api) for word in json.loads(check)]
        command[-1] = command[-1].replace("timeout=2", "timeout=30")
        assert await _status(python, *command[1:]) == 0
        pod.kill()
        await pod.ended()
        assert await _status(python, *command[1:]) != 0


async def _status(program: Path, *arguments: str) -> int:
    process = await asyncio.create_subprocess_exec(program, *arguments, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait()


def test_what_the_container_starts_is_a_command(image: _Image) -> None:
    (entry,) = re.findall(r"^ENTRYPOINT (\[.+\])$", _LAST, re.MULTILINE)
    (default,) = re.findall(r"^CMD (\[.+\])$", _LAST, re.MULTILINE)
    words = json.loads(entry) + json.loads(default)
    assert shlex.join(words) == "gatecast serve"
    assert image.path(f"/opt/gatecast/bin/{words[0]}").exists()
