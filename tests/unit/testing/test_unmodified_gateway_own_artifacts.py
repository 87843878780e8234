"""What is made on the simulated gateway itself lives and is announced as gateway-protocol.md 3.7 and 4.7 say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gatecast.testing.unmodified_gateway import GATEWAY, GatewayOptions, Rejected, template
from gatecast.testing.unmodified_gateway.database import Database

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PROJECT = {"annotations": {"gateway.api-platform.wso2.com/project-id": "p-1"}}
UPSTREAM = {"url": "https://upstream.example.test"}


def provider(name: str, **specification: object) -> dict[str, Any]:
    """A provider."""
    spec = {"displayName": name, "template": "openai", "upstream": UPSTREAM, "accessControl": {"mode": "allow_all"}}
    return {"kind": "LlmProvider", "metadata": {"name": name}, "spec": {**spec, **specification}}


def proxy(name: str, **metadata: object) -> dict[str, Any]:
    """A proxy on the provider `mine`."""
    spec = {"displayName": name, "provider": {"id": "mine"}}
    return {"kind": "LlmProxy", "metadata": {"name": name, **metadata}, "spec": spec}


def announced(database: Database) -> dict[str, str]:
    """Status by handle of everything that is not built in."""
    entries = (entry for entry in database.own.announced() if entry["createdAt"] > "2026-01-02")
    return {entry["configuration"]["metadata"]["name"]: entry["status"] for entry in entries}


def take_everything(database: Database) -> None:
    """The control plane takes what is announced."""
    entries = database.own.announced()
    database.own.taken(entries, {entry["dpid"]: f"cp-{entry['dpid']}" for entry in entries})


def test_a_template_folder_adds_to_the_built_in_templates() -> None:
    database = Database(GatewayOptions(templates=("mine",)))
    assert {"mine", "openai", "awsbedrock"} <= database.own.templates
    assert len(database.own.announced()) == 8


def test_providers_may_use_a_template_from_when_it_is_made_until_it_is_removed() -> None:
    database = Database(GatewayOptions())
    mine = provider("mine", template="my-own")
    with pytest.raises(Rejected, match="unknown template"):
        database.make(mine, now=NOW)
    local_id = database.make(template("my-own"), now=NOW)
    database.make(mine, now=NOW)
    database.remove(local_id, now=NOW)
    with pytest.raises(Rejected, match="unknown template"):
        database.make(provider("other", template="my-own"), now=NOW)


@pytest.mark.parametrize(("handle", "problem"), [("openai", "is here already"), ("", "is missing")])
def test_a_template_needs_a_name_of_its_own(handle: str, problem: str) -> None:
    with pytest.raises(Rejected, match=problem):
        Database(GatewayOptions()).make(template(handle), now=NOW)


def test_what_is_removed_is_announced_as_undeployed_until_the_control_plane_has_taken_that() -> None:
    database = Database(GatewayOptions())
    local_id = database.make(template("my-own"), now=NOW)
    assert announced(database) == {"my-own": "deployed"}
    take_everything(database)
    assert database.own.stored[local_id].control_plane_id == f"cp-{local_id}"
    database.remove(local_id, now=NOW)
    assert announced(database) == {"my-own": "undeployed"}
    database.own.taken(database.own.announced(), {})
    assert announced(database) == {"my-own": "undeployed"}
    take_everything(database)
    assert announced(database) == {}


def test_an_artifact_runs_and_takes_handle_and_name_of_its_kind() -> None:
    database = Database(GatewayOptions())
    local_id = database.make(provider("mine"), now=NOW)
    assert database.artifacts.stored[local_id].origin == GATEWAY
    with pytest.raises(Rejected, match="handle 'mine' is taken"):
        database.make(provider("mine", displayName="Other"), now=NOW)
    with pytest.raises(Rejected, match="display name and version"):
        database.make(provider("other", displayName="mine"), now=NOW)


def test_only_what_belongs_to_a_project_is_announced_of_the_kinds_that_do() -> None:
    database = Database(GatewayOptions())
    database.make(provider("mine"), now=NOW)
    database.make(proxy("nobodys"), now=NOW)
    database.make(proxy("annotated", **PROJECT), now=NOW)
    database.make(proxy("labelled", labels={"project-id": "p-1"}), now=NOW)
    database.make(template("last"), now=NOW)
    assert list(announced(database)) == ["last", "mine", "annotated", "labelled"]


def test_a_provider_that_a_proxy_refers_to_cannot_be_removed() -> None:
    database = Database(GatewayOptions())
    local_id = database.make(provider("mine"), now=NOW)
    database.make(proxy("proxy"), now=NOW)
    with pytest.raises(Rejected, match="refers"):
        database.remove(local_id, now=NOW)
    assert announced(database) == {"mine": "deployed"}


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(Rejected, match="unknown kind"):
        Database(GatewayOptions()).make({"kind": "WebSubApi"}, now=NOW)
