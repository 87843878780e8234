"""`gatecast verify` finds that the promises hold, with a pod killed in the middle, and cleans up after itself."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from gatecast.testing.eventually import PATIENCE
from gatecast.testing.processes.deployment import Deployment
from gatecast.testing.processes.programs import pgbouncer_program


async def _verify(*arguments: str) -> tuple[int | None, str]:
    command = (sys.executable, "-m", "gatecast.cli.main", "verify", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    try:
        # Several faults, one after the other.
        async with asyncio.timeout(2 * PATIENCE):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            # Not killed: it ends its pods and its database first.
            process.terminate()
            await process.wait()
    return process.returncode, output.decode()


async def test_a_local_installation_on_sqlite_keeps_its_promises(tmp_path: Path) -> None:
    """Also while another program holds the database; the report is also a page with a timeline."""
    page = tmp_path / "report.html"
    status, output = await _verify("--local", "--gateways", "4", "--events", "20", "--html", str(page))
    assert status == 0, output
    assert "promises held" in output
    assert "another program holds the database" in output
    assert "Every promise held" in page.read_text()


async def test_a_local_installation_on_postgresql_keeps_its_promises() -> None:
    """Also while its database crashes, or the way to it breaks, with a clock that is wrong; machines get JSON."""
    status, output = await _verify(
        *("--local", "--database", "postgresql+embedded", "--gateways", "4", "--events", "20", "--json")
    )
    report = json.loads(output)
    assert status == 0, output
    assert report["held"] is True
    assert all(finding["held"] for finding in report["findings"])
    promises = "\n".join(finding["promise"] for finding in report["findings"])
    assert all(fault in promises for fault in ("cut", "lost", "neither hears", "database crashes"))
    assert ("PgBouncer" in promises) == (pgbouncer_program() is not None)
    assert "a pod is an hour ahead" in "".join(finding["detail"] for finding in report["findings"])


async def test_a_local_installation_on_jetstream_keeps_its_promises() -> None:
    """Also while one server of three is down, or two, and while another program holds the outbox."""
    status, output = await _verify("--local", "--database", "nats+embedded", "--gateways", "4", "--events", "20")
    assert status == 0, output
    assert all(fault in output for fault in ("1 of 3 NATS servers", "2 of 3 NATS servers", "another program holds"))


async def test_a_running_installation_is_left_as_it_was(sqlite_url: str) -> None:
    """Against pods that it did not start, nothing is killed, and every temporary gateway is deleted again."""
    async with Deployment(sqlite_url) as deployment:
        one, two = await deployment.start("one", "two")
        operator = await deployment.operator(one)
        status, output = await _verify(
            *("--url", one.api, "--gateway-url", one.gateways, "--url", two.api, "--gateway-url", two.gateways),
            *("--token", "an-admin-token-for-tests", "--gateways", "3", "--events", "20"),
        )
        assert status == 0, output
        assert (await operator.ask("GET", "/gateways"))["items"] == []


async def test_an_installation_that_cannot_be_reached_is_an_error() -> None:
    """Exit status 1, and one line that says what is wrong."""
    status, output = await _verify("--url", "http://127.0.0.1:1", "--token", "any")
    assert (status, output) == (1, "")
