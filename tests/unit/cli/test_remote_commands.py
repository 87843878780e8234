"""Commands that talk HTTP, against a pod: names work as well as ids, and each prints JSON for machines."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gatecast.cli.main import app
from gatecast.cli.remote import RequestRefused, complete_actions, complete_gateways
from gatecast.server.pod import Pod
from gatecast.settings import Settings
from gatecast.testing.eventually import PATIENCE

pytestmark = pytest.mark.slow

_TOKEN = "an-admin-token-for-tests"


@dataclass
class _Shell:
    """Runs `gatecast` against one pod."""

    api: str
    gateways: str

    def text(self, *arguments: str, status: int = 0, stdin: str | None = None) -> str:
        """What a command prints for people."""
        flags = ["--url", self.api, "--token", _TOKEN]
        result = CliRunner().invoke(app, [*arguments, *flags], input=stdin, catch_exceptions=False)
        assert result.exit_code == status, result.output
        return result.stdout

    def json(self, *arguments: str, stdin: str | None = None) -> Any:  # noqa: ANN401 - JSON
        """What it prints for machines."""
        return json.loads(self.text(*arguments, "--json", stdin=stdin))

    def refused(self, *arguments: str) -> RequestRefused:
        """How the pod refuses it."""
        flags = ["--url", self.api, "--token", _TOKEN]
        error = CliRunner().invoke(app, [*arguments, *flags]).exception
        assert isinstance(error, RequestRefused), error
        return error


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Shell]:
    """One pod for all, in a thread of its own: commands begin loops of their own."""
    settings = Settings(
        database=f"sqlite:///{tmp_path_factory.mktemp('cli') / 'gatecast.db'}",
        api_listen="127.0.0.1:0",
        gateway_listen="127.0.0.1:0",
        gateway_tls="off",
        admin_token=_TOKEN,
    )
    found: list[_Shell] = []
    opened, ended = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with Pod.open(settings) as pod:
            found.append(_Shell(pod.api_url, pod.gateway_url))
            opened.set()
            await ended.wait()
            pod.hurried.set()  # no balancer has to notice that it stops

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert opened.wait(60)
    yield found[0]
    loops[0].call_soon_threadsafe(ended.set)
    thread.join(60)


@pytest.fixture
def gateway(shell: _Shell, request: pytest.FixtureRequest) -> str:
    """The name of a gateway of the test's own."""
    name = request.node.name.split("[")[0].removeprefix("test_").replace("_", "-")[:40].rstrip("-")
    shell.json("gateway", "create", name)
    return str(name)


def test_gateways_are_found_by_name_and_by_id(shell: _Shell, gateway: str) -> None:
    found = shell.json("gateway", "show", gateway)
    assert shell.json("gateway", "show", found["id"]) == found
    assert gateway in shell.text("gateway", "list")
    assert found["id"] in shell.text("gateway", "list", "--output", "wide")
    assert [each["name"] for each in shell.json("gateway", "list", "--search", gateway)] == [gateway]
    for command in ("update", "change"):
        assert shell.json("gateway", command, gateway, "--description", command)["description"] == command
    assert shell.refused("gateway", "show", "nobody").status == 404
    for wrong in ("", "..", "."):
        result = CliRunner().invoke(app, ["gateway", "show", wrong, "--url", shell.api, "--token", _TOKEN])
        assert "must be a name or an id" in str(result.exception)
    shell.text("gateway", "delete", gateway, "--yes")
    assert shell.refused("why", gateway).status == 404


def test_tokens_are_made_listed_and_revoked(shell: _Shell, gateway: str) -> None:
    made = shell.json("token", "create", gateway)
    [listed] = shell.json("token", "list", gateway)
    assert listed["id"] == made["id"]
    assert made["prefix"] in shell.text("token", "list", gateway)
    shell.text("token", "revoke", gateway, made["id"])
    assert shell.json("token", "list", gateway)[0]["revokedAt"] is not None


def test_events_are_published_listed_found_and_shown(shell: _Shell, gateway: str) -> None:
    for number in range(5):
        kind = "route.changed" if number % 2 else "route.made"
        shell.text("publish", gateway, "--type", kind, "--entity-id", f"route-{number}")
    assert [each["offset"] for each in shell.json("events", "list", gateway)] == [1, 2, 3, 4, 5]
    assert [each["offset"] for each in shell.json("events", "list", gateway, "--after", "2", "--limit", "2")] == [3, 4]
    assert [each["offset"] for each in shell.json("events", "search", gateway, "--type", "route.changed")] == [4, 2]
    assert len(shell.json("events", "search", gateway, "--limit", "0")) == 5
    assert shell.json("events", "show", gateway, "3")["entityId"] == "route-2"
    assert "route.changed" in shell.text("events", "show", gateway, "2")
    assert "route-4" in shell.text("events", "list", gateway)
    assert shell.json("events", "list", gateway)[0]["eventId"] in shell.text("events", "list", gateway, "-o", "wide")
    assert shell.text("events", "search", gateway, "--type", "nothing") == "no events\n"


def test_a_publish_that_waits_in_vain_says_so_and_fails(shell: _Shell, gateway: str) -> None:
    arguments = ["publish", gateway, "--type", "t", "--entity-id", "e", "--wait", "confirmed", "--timeout", "0.1"]
    result = CliRunner().invoke(app, [*arguments, "--json", "--url", shell.api, "--token", _TOKEN])
    assert result.exit_code == 1
    # One document and nothing else for machines, the sentence for people.
    assert json.loads(result.stdout)["offset"] == 1
    assert "the event is durable, but not confirmed" in result.stderr


def test_a_terminal_is_a_gateway(shell: _Shell, gateway: str) -> None:
    token = shell.json("token", "create", gateway)["token"]
    for number in range(3):
        shell.text("publish", gateway, "--type", "route.changed", "--entity-id", f"r-{number}", "--data", '{"n": 1}')
    flags = ["--url", shell.gateways, "--token", token]
    result = CliRunner().invoke(app, ["receive", *flags, "--limit", "2", "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["type"], first["data"], first["position"].rpartition(":")[2]) == ("route.changed", {"n": 1}, "1")
    assert second["position"].endswith(":2")
    while shell.json("gateway", "show", gateway)["position"]["confirmed"] < 2:
        pass  # acknowledgements are stored a moment after they arrive
    # It goes on after what it has acknowledged; a rejected event is parked.
    again = CliRunner().invoke(app, ["receive", *flags, "--limit", "1", "--reject", "not now"], catch_exceptions=False)
    assert again.stdout.split()[:2] == ["3", "route.changed"]
    assert [each["reason"] for each in shell.json("gateway", "parked", gateway)] == ["not now"]
    assert "not now" in shell.text("gateway", "parked", gateway)
    without = CliRunner().invoke(app, ["receive", "--url", shell.gateways])
    assert without.exit_code == 2


_API = {"name": "Orders", "version": "v1.0", "context": "/orders", "upstream": {"main": {"url": "http://orders.test"}}}


def test_an_artifact_is_stored_deployed_changed_and_deleted(shell: _Shell, gateway: str, tmp_path: Path) -> None:
    document = tmp_path / "orders.json"
    operations = [{"method": "GET", "path": "/"}]
    document.write_text(json.dumps({**_API, "operations": operations}))
    made = shell.json("api", "create", str(document), "--gateway", gateway)
    handle = made["handle"]
    assert shell.json("api", "show", handle)["id"] == made["id"]
    assert handle in shell.text("api", "list")
    assert made["id"] in shell.text("api", "list", "--output", "wide")
    assert shell.json("api", "update", handle, '{"version": "v2.0"}')["version"] == "v2.0"
    assert shell.json("api", "replace", handle, "-", stdin=document.read_text())["version"] == "v1.0"
    [*_, first] = shell.json("api", "deployments", handle)
    deployed = shell.json("api", "deploy", handle, gateway)
    assert deployed["revision"] > first["revision"]
    assert deployed["id"] in shell.text("api", "deployments", handle)
    assert shell.json("api", "restore", handle, first["id"])["revision"] > deployed["revision"]
    waited = shell.text("api", "deploy", handle, gateway, "--wait", "--timeout", "0.1", status=1)
    assert "PENDING" in waited
    shell.text("api", "undeploy", handle, gateway)
    shell.text("api", "delete", handle, "--yes")
    assert shell.refused("api", "show", handle).status == 404


def test_keys_are_made_rotated_listed_and_revoked(shell: _Shell, gateway: str, tmp_path: Path) -> None:
    document = tmp_path / "keyed.json"
    document.write_text(
        json.dumps({**_API, "name": "Keyed", "context": "/keyed", "operations": [{"method": "GET", "path": "/"}]})
    )
    artifact = f"api/{shell.json('api', 'create', str(document), '--gateway', gateway)['handle']}"
    made = shell.json("key", "create", artifact, "mobile-app")
    rotated = shell.json("key", "rotate", artifact, "mobile-app")
    assert made["value"] != rotated["value"]
    assert made["value"] not in shell.text("key", "list", artifact)
    shell.text("key", "revoke", artifact, "mobile-app")
    assert [each["name"] for each in shell.json("key", "list", artifact) if each["revokedAt"]] == ["mobile-app"]


def test_a_document_that_cannot_be_read_is_told(shell: _Shell, tmp_path: Path) -> None:
    for content in (None, "[1]", "not JSON"):
        file = tmp_path / "document.json"
        if content is not None:
            file.write_text(content)
        result = CliRunner().invoke(app, ["provider", "create", str(file), "--url", shell.api, "--token", _TOKEN])
        assert "FILE must" in str(result.exception)


@dataclass
class _Context:
    params: dict[str, str]


def test_names_are_completed(shell: _Shell, gateway: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever waits in a shell does not wait for a busy machine; the test does.
    monkeypatch.setattr("gatecast.cli.remote._COMPLETION_TIME_LIMIT", PATIENCE)
    here = _Context({"url": shell.api, "token": _TOKEN})
    assert complete_gateways(here, gateway[:5]) == [gateway]
    assert complete_gateways(here, "no-such") == []
    assert complete_gateways(_Context({"url": "http://127.0.0.1:1", "token": "x"}), "") == []
    assert complete_gateways(_Context({"url": "nonsense", "token": "x"}), "") == []
    assert complete_actions("p") == ["PROVISION"]
