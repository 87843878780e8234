"""Copies of a template are pods like any other."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatecast.testing.pods import SERVE, Pods
from gatecast.testing.processes import copied_process
from gatecast.testing.processes.pod_template import PodTemplate

pytestmark = pytest.mark.slow


def _pods(folder: Path, template: PodTemplate) -> Pods:
    return Pods(
        f"sqlite:///{folder / 'gatecast.db'}",
        admin_token="an-admin-token-for-tests",
        command=template,
        drain_time="1s",
    )


async def test_copies_have_settings_limits_and_exit_statuses_of_their_own(
    tmp_path: Path, pod_template: PodTemplate
) -> None:
    """One is asked to stop and the second is killed; each has its own environment and this process's limits."""
    async with _pods(tmp_path, pod_template) as pods:
        one, two = await pods.start_all("one", "two")
        assert one.api != two.api
        environment = dict(
            each.split("=", 1) for each in Path(f"/proc/{one.pid}/environ").read_text().split("\0") if "=" in each
        )
        assert "GATECAST_POD_ID" not in environment, "it is a copy, and no new program"
        assert _open_files(one.pid) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        one.terminate()
        two.kill()
        assert (await one.ended(), await two.ended()) == (0, -signal.SIGKILL)
        assert [line["pod"] for line in one.logged("draining")] == ["one"]


async def test_with_a_time_zone_of_its_own_a_pod_is_a_copy_and_with_other_variables_a_program(
    tmp_path: Path, pod_template: PodTemplate
) -> None:
    """The C library looks again for the zone, and not for what else it has read."""
    async with _pods(tmp_path, pod_template) as pods:
        far = await pods.start("far", environment={"TZ": "Pacific/Kiritimati"})
        other = await pods.start("other", environment={"TZ": "UTC", "MALLOC_ARENA_MAX": "1"})
        assert _program(far.pid)[1:] == ["-m", copied_process.__name__]
        assert _program(other.pid) == list(SERVE[:3])


def test_the_template_needs_no_driver_that_is_an_extra_of_its_own() -> None:
    """`gatecast demo` on SQLite runs where NATS is not installed."""
    without = "import sys; sys.modules['nats'] = None"
    load = f"from {copied_process.__name__} import import_everything; import_everything()"
    subprocess.run([sys.executable, "-c", f"{without}; {load}"], check=True)


def test_a_copy_is_in_the_zone_that_its_variables_name() -> None:
    """It is noticed at once, and so is another one."""
    variables = dict(os.environ)
    try:
        for zone, hours in (("Pacific/Kiritimati", 14), ("Etc/GMT+12", -12)):
            copied_process.take_environment({**variables, "TZ": zone})
            assert time.localtime().tm_gmtoff == hours * 3600
    finally:
        copied_process.take_environment(variables)


def _program(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:3]


def _open_files(pid: int) -> int:
    [line] = [
        each for each in Path(f"/proc/{pid}/limits").read_text().splitlines() if each.startswith("Max open files")
    ]
    return int(line.split()[3])


@pytest.fixture
def another_template() -> Iterator[PodTemplate]:
    """One that the test may end."""
    template = PodTemplate().wait_until_ready()
    yield template
    template.close()


async def test_copies_end_with_their_template(tmp_path: Path, another_template: PodTemplate) -> None:
    """So that nothing is left behind by tests that were killed; a template that has ended starts nothing."""
    template = another_template
    async with _pods(tmp_path, template) as pods:
        pod = await pods.start("one")
        await asyncio.to_thread(template.close)
        assert await pod.ended() == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            os.kill(pod.pid, 0)
        with pytest.raises(OSError, match="descriptor"):
            await pods.start("two")
