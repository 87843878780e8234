"""The simulated gateway inherits and renders credentials as gateway-protocol.md 4.1 and 4.6 say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gatecast.testing.unmodified_gateway import DEPLOYED, Artifact, GatewayOptions, Rejected
from gatecast.testing.unmodified_gateway.api_keys import generated_key
from gatecast.testing.unmodified_gateway.database import Database

AUTH = {"type": "api-key", "header": "Authorization", "value": '{{ secret "first" }}'}
RENDERED = {**AUTH, "value": "Bearer 1"}
URL = {"url": "https://upstream.example.test"}


class Gateway:
    """A database that deploys documents, one after another."""

    def __init__(self) -> None:
        self.database = Database(GatewayOptions())
        self.database.secrets |= {"first": "Bearer 1", "second": "Bearer 2"}
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def deploy(self, kind: str, artifact_id: str, **specification: object) -> Mapping[str, Any]:
        """Apply a document; the credentials that run."""
        self._now += timedelta(seconds=1)
        spec = {"displayName": f"The {artifact_id}", "version": "v1.0", **specification}
        document = {"kind": kind, "metadata": {"name": artifact_id}, "spec": spec}
        artifact = Artifact(kind=kind, state=DEPLOYED, deployment_id="d", performed_at=self._now, document=document)
        artifacts = self.database.artifacts
        artifacts.save(artifact_id, artifacts.completed(artifact_id, artifact), event_id="")
        return artifacts.stored[artifact_id].credentials

    def provider(self, name: str = "provider", **upstream: object) -> Mapping[str, Any]:
        """Apply a provider."""
        needed = {"template": "openai", "accessControl": {"mode": "allow_all"}}
        return self.deploy("LlmProvider", name, **needed, upstream={**URL, **upstream})

    def proxy(self, *additional: object, **provider: object) -> Mapping[str, Any]:
        """Apply a proxy."""
        return self.deploy("LlmProxy", "proxy", provider=provider, additionalProviders=list(additional))

    def mcp(self, **upstream: object) -> Mapping[str, Any]:
        """Apply an MCP proxy."""
        return self.deploy("Mcp", "mcp", context="/mcp", upstream={**URL, **upstream})


def test_a_provider_without_auth_goes_on_with_the_stored_credential() -> None:
    gateway = Gateway()
    assert gateway.provider() == {}
    assert gateway.provider(auth=AUTH) == {"upstream.auth": RENDERED}
    assert gateway.provider() == {"upstream.auth": RENDERED}
    document = gateway.database.artifacts.stored["provider"].document
    assert document is not None
    assert document["spec"]["upstream"]["auth"] == AUTH


def test_auth_of_the_same_type_without_a_value_keeps_the_value_and_not_the_header() -> None:
    gateway = Gateway()
    gateway.provider(auth=AUTH)
    assert gateway.provider(auth={"type": "api-key", "header": "X-Key"}) == {
        "upstream.auth": {"type": "api-key", "header": "X-Key", "value": "Bearer 1"}
    }


def test_another_type_of_auth_needs_a_value() -> None:
    gateway = Gateway()
    gateway.provider(auth=AUTH)
    with pytest.raises(Rejected, match="another type"):
        gateway.provider(auth={"type": "other", "header": "X-Key"})
    changed = {"type": "other", "header": "X-Key", "value": '{{ secret "second" }}'}
    assert gateway.provider(auth=changed) == {"upstream.auth": {**changed, "value": "Bearer 2"}}


def test_only_none_removes_the_credential_of_a_provider() -> None:
    gateway = Gateway()
    gateway.provider(auth=AUTH)
    assert gateway.provider(auth={"type": "none"}) == {}
    assert gateway.provider() == {}


def test_a_proxys_credential_belongs_to_the_provider_that_it_is_for() -> None:
    gateway = Gateway()
    for name in ("one", "two"):
        gateway.provider(name)
    second = {**AUTH, "value": '{{ secret "second" }}'}
    both = {"provider/one": RENDERED, "additionalProviders/two": {**AUTH, "value": "Bearer 2"}}
    assert gateway.proxy({"id": "two", "auth": second}, id="one", auth=AUTH) == both
    assert gateway.proxy({"id": "two"}, id="one") == both
    assert gateway.proxy({"id": "one"}, id="two") == {}


def test_the_credential_of_an_mcp_proxy_cannot_be_removed() -> None:
    gateway = Gateway()
    assert gateway.mcp(auth=AUTH) == {"upstream.auth": RENDERED}
    assert gateway.mcp() == {"upstream.auth": RENDERED}
    with pytest.raises(Rejected, match="type, header and value"):
        gateway.mcp(auth={"type": "none"})
    sent_all_the_same = {"type": "none", "header": "X-Key", "value": "x"}
    assert gateway.mcp(auth=sent_all_the_same) == {"upstream.auth": sent_all_the_same}


def test_rules_hold_for_the_value_and_not_for_the_reference() -> None:
    gateway = Gateway()
    bearer = {**AUTH, "type": "bearer"}
    assert gateway.mcp(auth=bearer) == {"upstream.auth": {**RENDERED, "type": "bearer"}}
    gateway.database.secrets["first"] = "it's"
    with pytest.raises(Rejected, match="quote"):
        gateway.mcp(auth=bearer)


def test_what_runs_changes_with_the_next_deploy_and_not_with_the_secret() -> None:
    gateway = Gateway()
    gateway.provider(auth=AUTH)
    gateway.database.secrets["first"] = "Bearer 3"
    assert gateway.database.artifacts.stored["provider"].credentials == {"upstream.auth": RENDERED}
    assert gateway.provider() == {"upstream.auth": {**RENDERED, "value": "Bearer 3"}}


def test_a_secret_without_a_value_is_refused() -> None:
    with pytest.raises(Rejected, match="cannot be resolved"):
        Gateway().provider(auth={**AUTH, "value": '{{ secret "unknown" }}'})


def test_a_template_inside_a_secret_is_executed_and_so_refused() -> None:
    gateway = Gateway()
    gateway.database.secrets["first"] = "{{ env }}"
    with pytest.raises(Rejected, match="template"):
        gateway.provider(auth=AUTH)


# --- providers of proxies --------------------------------------------------------------------------------------------


def test_every_provider_of_a_proxy_must_be_there_and_stays() -> None:
    gateway = Gateway()
    gateway.provider("one")
    with pytest.raises(Rejected, match="unknown provider 'two'"):
        gateway.proxy({"id": "two"}, id="one")
    gateway.provider("two")
    gateway.proxy({"id": "two"}, id="one")
    for name in ("one", "two"):
        gateway.database.keys.save(generated_key(name, "first-key", datetime(2026, 1, 1, tzinfo=UTC)))
        assert not gateway.database.delete_artifact(name, kind="LlmProvider", event_id="")
    assert (set(gateway.database.artifacts.stored), gateway.database.keys.stored) == ({"one", "two", "proxy"}, {})
    gateway.proxy(id="one")
    assert gateway.database.delete_artifact("two", kind="LlmProvider", event_id="")
