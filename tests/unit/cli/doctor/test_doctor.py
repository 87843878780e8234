"""What the doctor finds, and what it says to do."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import trustme
from typer.testing import CliRunner

from gatecast.cli.doctor.findings import State
from gatecast.cli.doctor.machine import _certificate, _descriptors, _reachable
from gatecast.cli.main import app
from gatecast.hub import EventHub
from gatecast.server.descriptors import raise_limit
from gatecast.settings import Settings
from gatecast.testing.pods import Pods
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.pod_template import PodTemplate

#: Nobody listens there: the port of the discard service.
_NOBODY = ("--api-listen", "127.0.0.1:9", "--gateway-listen", "127.0.0.1:9")


def _examined(database: str, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit status, and the findings by what was looked at."""
    result = CliRunner().invoke(app, ["doctor", "--json", "--database", database, *arguments], catch_exceptions=False)
    answer = json.loads(result.stdout)
    assert answer["healthy"] == (result.exit_code == 0)
    return result.exit_code, {each["check"]: each for each in answer["findings"]}


def _migrated(database: str) -> str:
    assert CliRunner().invoke(app, ["migrate", "--database", database], catch_exceptions=False).exit_code == 0
    return database


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """A migrated file."""
    return _migrated(f"sqlite:///{tmp_path / 'gatecast.db'}")


def _set_for_this_database(url: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        name = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(statement.format(name))
        await connection.close()

    asyncio.run(run())


def test_a_file_as_it_should_be_is_healthy_before_a_pod_runs(sqlite: str) -> None:
    status, found = _examined(sqlite, *_NOBODY)
    assert status == 0
    assert {found[check]["state"] for check in ("schema", "database", "disk")} == {"ok"}
    for listener in ("api listener", "gateway listener"):
        assert found[listener]["state"] == "warning"
        assert "start a pod" in found[listener]["advice"]


def test_a_file_that_is_not_there_is_a_problem_and_is_not_made(tmp_path: Path) -> None:
    status, found = _examined(f"sqlite:///{tmp_path / 'absent.db'}", *_NOBODY)
    assert status == 1
    assert "gatecast migrate" in found["database"]["advice"]
    assert not list(tmp_path.iterdir())


async def test_a_database_that_is_an_outbox_holds_no_log_for_pods(tmp_path: Path, sqlite: str) -> None:
    """As after `gatecast move-log` to a stream: pods that know only the database would end with an error."""
    async with EventHub.open(f"sqlite:///{tmp_path / 'log.db'}", outbox=sqlite):
        pass
    status, found = await asyncio.to_thread(_examined, sqlite, *_NOBODY)
    assert status == 1
    assert "name this database as its outbox" in found["database"]["advice"]


def test_a_file_that_others_may_read_is_warned_of(sqlite: str) -> None:
    path = Path(sqlite.removeprefix("sqlite:///"))
    path.chmod(0o644)
    status, found = _examined(sqlite, *_NOBODY)
    assert (status, found["file rights"]["state"]) == (0, "warning")
    assert found["file rights"]["advice"] == f"chmod 600 {path}"


def test_a_file_that_is_no_database_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, but long enough to look like one" * 100, "utf-8")
    status, found = _examined(f"sqlite:///{tmp_path / 'text.db'}", *_NOBODY)
    assert (status, found["database"]["state"]) == (1, "problem")


def test_a_url_that_cannot_be_used_is_a_problem_and_its_password_is_not_repeated() -> None:
    result = CliRunner().invoke(app, ["doctor", "--database", "postgresql://user:geheim@/x y", *_NOBODY])
    assert result.exit_code == 1
    assert "geheim" not in result.output
    assert "problem" in result.stdout


def test_a_server_that_does_not_answer_is_a_problem_and_its_password_is_not_repeated() -> None:
    result = CliRunner().invoke(app, ["doctor", "--database", "postgresql://user:geheim@127.0.0.1:9/x", *_NOBODY])
    assert result.exit_code == 1
    assert "geheim" not in result.output
    assert "pg_hba.conf" in result.stdout


def test_postgresql_is_looked_at_from_version_to_clock(postgres_url: str) -> None:
    """The server of the tests does without fsync, which is the only problem that it has."""
    _, found = _examined(_migrated(postgres_url), *_NOBODY)
    assert found["database"]["message"].startswith("PostgreSQL ")
    assert {check for check, each in found.items() if each["state"] == "problem"} == {"durability"}
    for check in ("schema", "pooler", "isolation", "replication", "connections", "clock"):
        assert found[check]["state"] == "ok", found[check]


def test_a_database_without_tables_is_warned_of_and_stays_as_it_is(postgres: PostgresServer) -> None:
    asyncio.run(postgres.create_database("empty_for_the_doctor"))
    for _ in range(2):
        _, found = _examined(postgres.url("empty_for_the_doctor"), *_NOBODY)
        assert (found["schema"]["state"], "gatecast migrate" in found["schema"]["advice"]) == ("warning", True)


def test_an_isolation_level_that_applications_would_get_is_warned_of(postgres_url: str) -> None:
    _migrated(postgres_url)
    _set_for_this_database(postgres_url, "ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'")
    _, found = _examined(postgres_url, *_NOBODY)
    assert found["isolation"]["state"] == "warning"
    assert "repeatable read" in found["isolation"]["message"]


@pytest.mark.parametrize(
    ("days", "state"), [(-1, State.PROBLEM), (3, State.WARNING), (90, State.OK)], ids=["ended", "soon", "long"]
)
def test_the_end_of_a_certificate_is_noticed(tmp_path: Path, days: int, state: State) -> None:
    ends = datetime.now(UTC) + timedelta(days=days, hours=1)
    issued = trustme.CA().issue_cert("gateways.example.com", not_after=ends.replace(tzinfo=None))
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    (found,) = _certificate(Settings(gateway_tls=str(certificate), gateway_tls_key=str(key)))
    assert found.state is state


def test_a_certificate_that_cannot_be_loaded_is_a_problem(tmp_path: Path) -> None:
    (found,) = _certificate(Settings(gateway_tls=str(tmp_path / "absent.crt")))
    assert found.state is State.PROBLEM
    assert "GATECAST_GATEWAY_TLS" in found.advice


def test_descriptors_are_compared_with_what_the_settings_want() -> None:
    assert _descriptors(Settings(max_connections=1, max_api_connections=1)).state is State.OK
    found = _descriptors(Settings(max_connections=raise_limit() + 1))
    assert found.state is State.WARNING
    assert "ulimit -n" in found.advice


@pytest.mark.parametrize(
    ("listens", "reached"),
    [("0.0.0.0:8080", "127.0.0.1:8080"), ("[::]:1", "[::1]:1"), ("10.0.0.7:9243", "10.0.0.7:9243")],
)
def test_an_address_that_means_all_is_asked_at_this_machine(listens: str, reached: str) -> None:
    assert _reachable(listens) == reached


async def test_a_pod_that_runs_is_reached_at_both_listeners_and_missed_once_it_is_gone(
    tmp_path: Path, pod_template: PodTemplate
) -> None:
    database = f"sqlite:///{tmp_path / 'gatecast.db'}"
    async with Pods(database, admin_token="admin-token-of-the-doctor", command=pod_template) as pods:
        pod = await pods.start("pod")

        def examined() -> tuple[int, dict[str, Any]]:
            return _examined(database, "--url", pod.api, "--gateway-url", pod.gateways)

        status, found = await asyncio.to_thread(examined)
        assert (status, found["api listener"]["state"], found["gateway listener"]["state"]) == (0, "ok", "ok")
        pod.kill()
        await pod.ended()
        status, found = await asyncio.to_thread(examined)
        assert (status, found["api listener"]["state"], found["gateway listener"]["state"]) == (1, "problem", "problem")


async def test_something_else_that_listens_there_is_a_problem(tmp_path: Path, pod_template: PodTemplate) -> None:
    """The addresses are swapped: each listener answers, but not as expected there."""
    database = f"sqlite:///{tmp_path / 'gatecast.db'}"
    async with Pods(database, admin_token="admin-token-of-the-doctor", gateway_tls="off", command=pod_template) as pods:
        pod = await pods.start("pod")
        status, found = await asyncio.to_thread(_examined, database, "--url", pod.gateways, "--gateway-url", pod.api)
        assert status == 1
        assert found["api listener"]["state"] == found["gateway listener"]["state"] == "problem"


def test_people_read_a_line_for_each_finding_and_below_it_what_to_do(sqlite: str) -> None:
    result = CliRunner().invoke(app, ["doctor", "--database", sqlite, *_NOBODY], catch_exceptions=False)
    lines = result.stdout.splitlines()
    assert all(line.startswith(("ok ", "warning ", "problem ", " ")) for line in lines)
    assert any(line.strip().startswith("→ start a pod here") for line in lines)
