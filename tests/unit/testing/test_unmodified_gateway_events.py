"""The simulated gateway applies events, and acknowledges them, as gateway-protocol.md section 2 says."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from gatecast.testing.clock import HandMovedClock
from gatecast.testing.doubles.scripted_control_plane import ScriptedConnection, ScriptedControlPlane
from gatecast.testing.unmodified_gateway import DEPLOYED, UNDEPLOYED, GatewayOptions, UnmodifiedGateway

T1, T2, T3 = "2026-01-02T03:04:05.440Z", "2026-01-02T03:04:06.000Z", "2026-01-02T03:04:07.123Z"
HASH_1, HASH_2 = "a" * 64, "b" * 64


class Wire:
    """A greeted gateway and the control plane's end of its socket."""

    def __init__(self, gateway: UnmodifiedGateway, connection: ScriptedConnection, clock: HandMovedClock) -> None:
        self.gateway = gateway
        self.connection = connection
        self.clock = clock
        self._ids = itertools.count(1)

    async def send(self, event_type: str, payload: object, **envelope: object) -> None:
        """Send an event and return when its handling has ended."""
        handled = self.gateway.records.handled
        message = {"type": event_type, "payload": payload, "correlationId": f"e-{next(self._ids)}"} | envelope
        await self.connection.send(message)
        await self.gateway.wait_until(lambda: self.gateway.records.handled > handled)

    async def deploy(self, deployment_id: str = "d-1", performed_at: str | None = T1, **envelope: object) -> None:
        """Deploy provider p-1."""
        payload = {"providerId": "p-1", "deploymentId": deployment_id, "performedAt": performed_at}
        await self.send("llmprovider.deployed", payload, **envelope)

    async def undeploy(self, deployment_id: str = "d-1", performed_at: str | None = T2, **envelope: object) -> None:
        """Undeploy provider p-1."""
        payload = {"providerId": "p-1", "deploymentId": deployment_id, "performedAt": performed_at}
        await self.send("llmprovider.undeployed", payload, **envelope)

    @property
    def acks(self) -> list[dict[str, str]]:
        """What was acknowledged."""
        return [dict(ack) for ack in self.gateway.acks_sent]


@asynccontextmanager
async def wire() -> AsyncIterator[Wire]:
    clock = HandMovedClock()
    options = GatewayOptions(tls=False, clock=clock)
    async with ScriptedControlPlane() as server, UnmodifiedGateway(server.host, "t", options=options) as gateway:
        yield Wire(gateway, await server.greeted(), clock)


# --- deploy and undeploy ---------------------------------------------------------------------------------------------


async def test_a_deploy_is_stored_and_acknowledged_in_gos_words() -> None:
    async with wire() as w:
        await w.deploy()
        frame = await w.connection.receive_message()
    artifact = w.gateway.artifacts["p-1"]
    assert (artifact.kind, artifact.state, artifact.deployment_id) == ("LlmProvider", DEPLOYED, "d-1")
    assert artifact.performed_at == datetime.fromisoformat("2026-01-02T03:04:05.440+00:00")
    assert frame == {
        "type": "deployment.ack",
        "payload": {
            "deploymentId": "d-1",
            "artifactId": "p-1",
            "resourceType": "llmprovider",
            "action": "deploy",
            "status": "success",
            "performedAt": "2026-01-02T03:04:05.44Z",
        },
    }
    assert w.acks == [frame["payload"]]


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ("2026-01-02T03:04:05.440Z", "2026-01-02T03:04:05.44Z"),
        ("2026-01-02T03:04:05.000Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.1234567890Z", "2026-01-02T03:04:05.123456789Z"),
        ("2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.50+05:30", "2026-01-02T03:04:05.5+05:30"),
        ("2026-01-02T03:04:05-08:00", "2026-01-02T03:04:05-08:00"),
        (None, "0001-01-01T00:00:00Z"),
    ],
)
async def test_the_acknowledged_time_is_the_events_as_go_writes_it(sent: str | None, echoed: str) -> None:
    async with wire() as w:
        await w.deploy(performed_at=sent)
    assert [ack["performedAt"] for ack in w.acks] == [echoed]


@pytest.mark.parametrize(
    "performed_at", ["", "yesterday", "2026-01-02 03:04:05Z", "2026-01-02T03:04:05", "2026-13-02T03:04:05Z", 7]
)
async def test_an_unparsable_time_drops_the_event_without_a_word(performed_at: Any) -> None:  # noqa: ANN401 - wrong on purpose
    async with wire() as w:
        await w.deploy(performed_at=performed_at)
    assert (w.acks, dict(w.gateway.artifacts)) == ([], {})


async def test_without_a_time_the_gateways_own_clock_counts() -> None:
    async with wire() as w:
        await w.deploy(performed_at=None)
        assert w.gateway.artifacts["p-1"].performed_at == w.clock.now()


@pytest.mark.parametrize("performed_at", [T1, "2026-01-02T03:04:05.439Z", "2026-01-02T03:04:05.440999Z"])
async def test_an_equal_or_older_time_is_stale_and_not_acknowledged(performed_at: str) -> None:
    async with wire() as w:
        await w.deploy("d-1", T1)
        await w.deploy("d-2", performed_at)
        await w.undeploy("d-1", performed_at)
    assert len(w.acks) == 1
    assert (w.gateway.artifacts["p-1"].deployment_id, w.gateway.artifacts["p-1"].state) == ("d-1", DEPLOYED)


async def test_after_a_time_with_an_offset_later_times_in_utc_count_as_stale() -> None:
    async with wire() as w:
        await w.deploy("d-1", "2026-01-02T08:34:05+05:30")
        await w.deploy("d-2", "2026-01-02T03:05:00Z")
    assert w.gateway.artifacts["p-1"].deployment_id == "d-1"


async def test_a_replay_of_an_applied_event_is_stale() -> None:
    async with wire() as w:
        await w.deploy(correlationId="same")
        await w.deploy(correlationId="same")
    assert len(w.acks) == 1


async def test_an_undeploy_keeps_the_artifact_and_its_keys() -> None:
    async with wire() as w:
        await w.deploy()
        await w.send("apikey.created", key())
        await w.undeploy()
    assert w.gateway.artifacts["p-1"].state == UNDEPLOYED
    assert len(w.gateway.api_keys) == 1
    assert [(ack["action"], ack["status"]) for ack in w.acks] == [("deploy", "success"), ("undeploy", "success")]


async def test_an_undeploy_of_something_unknown_succeeds() -> None:
    async with wire() as w:
        await w.undeploy()
    assert [ack["status"] for ack in w.acks] == ["success"]


async def test_an_undeploy_of_another_deployment_fails() -> None:
    async with wire() as w:
        await w.deploy("d-1")
        await w.undeploy("d-2")
    assert (w.acks[1]["status"], w.acks[1]["errorCode"]) == ("failed", "DEPLOYMENT_ID_MISMATCH")
    assert w.gateway.artifacts["p-1"].state == DEPLOYED


async def test_an_undeploy_without_deployment_erases_the_stored_one() -> None:
    async with wire() as w:
        await w.deploy()
        await w.undeploy("")
    assert w.gateway.artifacts["p-1"].deployment_id == ""
    assert w.acks[1]["deploymentId"] == ""


async def test_a_deploy_without_deployment_fails() -> None:
    async with wire() as w:
        await w.deploy("")
    assert [(ack["status"], ack["errorCode"]) for ack in w.acks] == [("failed", "GATEWAY_PROCESSING_ERROR")]


async def test_a_planned_failure_is_acknowledged_as_failed_once() -> None:
    async with wire() as w:
        w.gateway.fail_next_apply("disk full")
        await w.deploy("d-1", T1)
        await w.deploy("d-1", T1)
    assert [ack["status"] for ack in w.acks] == ["failed", "success"]
    assert any("disk full" in line for line in w.gateway.records.log)


async def test_a_repeated_correlation_id_is_acknowledged_but_does_not_reach_the_runtime() -> None:
    async with wire() as w:
        await w.deploy(correlationId="same")
        await w.undeploy(correlationId="same")
    assert [ack["status"] for ack in w.acks] == ["success", "success"]
    assert (w.gateway.artifacts["p-1"].state, w.gateway.running["p-1"].state) == (UNDEPLOYED, DEPLOYED)


async def test_a_missing_correlation_id_is_always_new() -> None:
    async with wire() as w:
        await w.deploy(correlationId="")
        await w.undeploy(correlationId="")
    assert w.gateway.running["p-1"].state == UNDEPLOYED


@pytest.mark.parametrize(
    ("event_type", "id_field", "resource_type", "kind"),
    [
        ("api", "apiId", "api", "RestApi"),
        ("llmprovider", "providerId", "llmprovider", "LlmProvider"),
        ("llmproxy", "proxyId", "llmproxy", "LlmProxy"),
        ("mcpproxy", "proxyId", "mcpproxy", "Mcp"),
    ],
)
async def test_each_kind_has_its_own_field_and_resource_type(
    event_type: str, id_field: str, resource_type: str, kind: str
) -> None:
    async with wire() as w:
        await w.send(f"{event_type}.deployed", {id_field: "a-1", "deploymentId": "d-1", "performedAt": T1})
        assert w.gateway.artifacts["a-1"].kind == kind
        await w.send(f"{event_type}.undeployed", {id_field: "a-1", "deploymentId": "d-1", "performedAt": T2})
        await w.send(f"{event_type}.deleted", {id_field: "a-1"})
    assert [ack["resourceType"] for ack in w.acks] == [resource_type] * 2
    assert (dict(w.gateway.artifacts), dict(w.gateway.running)) == ({}, {})


@pytest.mark.parametrize(
    "message",
    [
        {"payload": {"providerId": "", "deploymentId": "d-1"}},
        {"payload": {"deploymentId": "d-1"}},
        {"payload": {"providerId": "p-1", "deploymentId": 7}},
        {"payload": {"providerId": ["p-1"], "deploymentId": "d-1"}},
        {"payload": "text"},
        {"payload": None},
        {"payload": {"providerId": "p-1", "deploymentId": "d-1"}, "timestamp": 1767323045},
    ],
)
async def test_an_event_with_wrong_types_or_without_an_id_is_dropped_without_a_word(message: dict[str, Any]) -> None:
    async with wire() as w:
        await w.send("llmprovider.deployed", **message)
    assert (w.acks, dict(w.gateway.artifacts)) == ([], {})


async def test_events_of_another_binary_are_ignored() -> None:
    async with wire() as w:
        await w.send("websub.deployed", {"apiId": "a-1", "deploymentId": "d-1"})
        await w.send("webbroker.deleted", {"apiId": "a-1"})
    assert len(w.gateway.received) == 2
    assert w.acks == []


async def test_a_delete_removes_the_artifact_and_its_keys_without_a_word() -> None:
    async with wire() as w:
        await w.deploy()
        await w.send("apikey.created", key())
        await w.send("llmprovider.deleted", {"providerId": "p-1"})
    assert (dict(w.gateway.artifacts), dict(w.gateway.api_keys)) == ({}, {})
    assert len(w.acks) == 1


@pytest.mark.parametrize(("event_type", "field"), [("api.deleted", "apiId"), ("llmproxy.deleted", "proxyId")])
async def test_a_delete_of_another_kind_removes_the_keys_of_that_id_only(event_type: str, field: str) -> None:
    async with wire() as w:
        await w.deploy()
        await w.send("apikey.created", key())
        await w.send(event_type, {field: "p-1"})
    assert (set(w.gateway.artifacts), dict(w.gateway.api_keys)) == ({"p-1"}, {})


async def test_a_delete_of_an_mcp_proxy_that_is_not_here_is_ignored() -> None:
    async with wire() as w:
        await w.deploy()
        await w.send("apikey.created", key())
        await w.send("mcpproxy.deleted", {"proxyId": "p-1"})
    assert (set(w.gateway.artifacts), len(w.gateway.api_keys)) == ({"p-1"}, 1)


async def test_an_acknowledgement_is_lost_when_the_socket_is_gone() -> None:
    async with wire() as w:

        async def cut_meanwhile(_artifact_id: str) -> None:
            w.gateway.cut()

        w.gateway.delay_downloads(cut_meanwhile)
        await w.deploy()
    assert (w.acks, w.gateway.artifacts["p-1"].state) == ([], DEPLOYED)


# --- api keys --------------------------------------------------------------------------------------------------------


def key(name: str = "my-key", sha256: str = HASH_1, updated_at: str | None = T1, **more: object) -> dict[str, object]:
    """The payload of `apikey.created`."""
    hashes = json.dumps({"sha256": sha256})
    payload = {"uuid": f"u-{name}", "apiId": "p-1", "name": name, "apiKeyHashes": hashes, "updatedAt": updated_at}
    return payload | more


def key_update(sha256: str, updated_at: str | None) -> dict[str, object]:
    """The payload of `apikey.updated`."""
    hashes = json.dumps({"sha256": sha256})
    return {"apiId": "p-1", "keyName": "my-key", "apiKeyHashes": hashes, "updatedAt": updated_at}


async def test_a_key_needs_its_artifact() -> None:
    async with wire() as w:
        await w.send("apikey.created", key())
        await w.send("apikey.updated", key_update(HASH_1, T1))
    assert dict(w.gateway.api_keys) == {}


async def test_a_key_is_created_rotated_and_revoked() -> None:
    async with wire() as w:
        await w.deploy()
        await w.send("apikey.created", key(maskedApiKey="***12345"))
        created = w.gateway.api_keys["p-1", "my-key"]
        await w.send("apikey.updated", key_update(HASH_2, T2))
        rotated = w.gateway.api_keys["p-1", "my-key"]
        await w.send("apikey.revoked", {"apiId": "p-1", "keyName": "my-key"})
        revoked = w.gateway.api_keys["p-1", "my-key"]
    assert (created.sha256, created.mask, created.uuid) == (HASH_1, "***12345", "u-my-key")
    assert (rotated.sha256, rotated.uuid) == (HASH_2, "u-my-key")
    assert [created.status, rotated.status, revoked.status] == ["active", "active", "revoked"]
    assert len(w.acks) == 1


@pytest.mark.parametrize("updated_at", [T1, "2025-01-01T00:00:00Z"])
async def test_a_key_that_is_not_strictly_newer_changes_nothing(updated_at: str) -> None:
    async with wire() as w:
        await w.deploy()
        await w.send("apikey.created", key())
        await w.send("apikey.updated", key_update(HASH_2, updated_at))
    assert w.gateway.api_keys["p-1", "my-key"].sha256 == HASH_1


async def test_an_update_creates_a_missing_key() -> None:
    async with wire() as w:
        await w.deploy()
        await w.send("apikey.updated", key_update(HASH_2, T2))
    assert w.gateway.api_keys["p-1", "my-key"].sha256 == HASH_2


async def test_a_missing_name_is_made_up_and_a_missing_or_strange_time_is_the_gateways() -> None:
    async with wire() as w:
        await w.deploy()
        await w.send("apikey.created", key(name="", updated_at="soon"))
        (made,) = w.gateway.api_keys.values()
        assert "-key-" in made.name
        assert made.updated_at == w.clock.now()


@pytest.mark.parametrize(
    "more",
    [
        {"name": "Bad Name"},
        {"name": "ab"},
        {"name": "x" * 64},
        {"name": "-dash"},
        {"apiKeyHashes": {"sha256": HASH_1}},
        {"apiKeyHashes": "no json"},
        {"apiKeyHashes": '{"md5":"x"}'},
        {"expiresAt": "2020-01-01T00:00:00Z"},
        {"expiresAt": "never"},
        {"expiresIn": {"duration": 1, "unit": "fortnights"}},
        {"apiId": ""},
    ],
)
async def test_a_key_that_breaks_a_rule_is_dropped(more: dict[str, object]) -> None:
    async with wire() as w:
        await w.deploy()
        await w.send("apikey.created", key() | more)
    assert dict(w.gateway.api_keys) == {}


async def test_a_lifetime_counts_from_the_gateways_clock() -> None:
    async with wire() as w:
        await w.deploy()
        await w.send("apikey.created", key(expiresIn={"duration": 2, "unit": "months"}))
        assert w.gateway.api_keys["p-1", "my-key"].expires_at == w.clock.now() + timedelta(days=60)


async def test_ten_active_keys_are_the_most_for_one_artifact_and_user() -> None:
    async with wire() as w:
        await w.deploy()
        for number in range(11):
            await w.send("apikey.created", key(f"key-{number}", f"{number:064}"))
        assert len(w.gateway.api_keys) == 10
        await w.send("apikey.created", key("other", HASH_2), userId="someone")
        assert len(w.gateway.api_keys) == 11
        await w.send("apikey.revoked", {"apiId": "p-1", "keyName": "key-0"})
        await w.send("apikey.created", key("key-10", f"{10:064}"))
    assert ("p-1", "key-10") in w.gateway.api_keys


async def test_one_key_value_cannot_serve_two_keys() -> None:
    async with wire() as w:
        await w.deploy()
        await w.send("apikey.created", key("one-key"))
        await w.send("apikey.created", key("two-key"))
    assert list(w.gateway.api_keys) == [("p-1", "one-key")]


async def test_two_keys_cannot_have_the_same_id() -> None:
    async with wire() as w:
        await w.deploy()
        await w.send("apikey.created", key("one-key"))
        await w.send("apikey.created", key("two-key", HASH_2, uuid="u-one-key"))
    assert list(w.gateway.api_keys) == [("p-1", "one-key")]


# --- subscriptions, plans, applications ------------------------------------------------------------------------------


SUBSCRIPTION = {"apiId": "a-1", "subscriptionId": "s-1", "subscriptionToken": "secret", "status": "ACTIVE"}


async def test_a_subscription_needs_its_plan_first() -> None:
    subscriptions = "subscription.created", SUBSCRIPTION | {"subscriptionPlanId": "gold"}
    async with wire() as w:
        await w.send(*subscriptions)
        assert w.gateway.subscriptions == {}
        await w.send("subscriptionPlan.created", {"planId": "gold", "planName": "Gold", "status": "ACTIVE"})
        await w.send(*subscriptions)
    subscription = w.gateway.subscriptions["s-1"]
    assert (subscription.api_id, subscription.plan_id, subscription.status) == ("a-1", "gold", "ACTIVE")
    assert "secret" not in subscription.token_sha256


async def test_a_subscription_update_replaces_and_a_delete_removes() -> None:
    async with wire() as w:
        await w.send("subscriptionPlan.created", {"planId": "gold", "planName": "Gold", "status": "ACTIVE"})
        await w.send("subscription.created", SUBSCRIPTION | {"subscriptionPlanId": "gold"})
        await w.send("subscription.updated", {"subscriptionId": "s-1", "status": "INACTIVE"})
        await w.send("subscription.updated", {"subscriptionId": "s-2", "status": "INACTIVE"})
        updated = w.gateway.subscriptions["s-1"]
        await w.send("subscription.deleted", {"subscriptionId": "s-1"})
    assert (updated.plan_id, updated.status) == ("", "INACTIVE")
    assert dict(w.gateway.subscriptions) == {}


async def test_a_plan_in_use_stays_and_an_update_keeps_an_empty_name() -> None:
    async with wire() as w:
        await w.send("subscriptionPlan.created", {"planId": "gold", "planName": "Gold", "status": "ACTIVE"})
        await w.send("subscription.created", SUBSCRIPTION | {"subscriptionPlanId": "gold"})
        await w.send("subscriptionPlan.deleted", {"planId": "gold"})
        await w.send("subscriptionPlan.updated", {"planId": "gold", "status": "INACTIVE"})
        plan = w.gateway.plans["gold"]
        await w.send("subscription.deleted", {"subscriptionId": "s-1"})
        await w.send("subscriptionPlan.deleted", {"planId": "gold"})
    assert (plan.name, plan.status) == ("Gold", "INACTIVE")
    assert dict(w.gateway.plans) == {}


async def test_an_application_maps_only_keys_that_are_here() -> None:
    names = {
        "applicationId": "1",
        "applicationUuid": "app-1",
        "applicationName": "App",
        "applicationType": "x",
    }
    mappings = [{"apiKeyUuid": "u-my-key"}, {"apiKeyUuid": "u-unknown"}]
    async with wire() as w:
        await w.deploy()
        await w.send("apikey.created", key())
        await w.send("application.updated", names | {"mappings": mappings})
        await w.send("application.updated", names | {"applicationUuid": "app-2", "applicationName": ""})
    assert dict(w.gateway.applications) == {"app-1": frozenset({"u-my-key"})}
