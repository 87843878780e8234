"""With `follow_artifacts`, the simulated gateway makes its REST calls as gateway-protocol.md section 3 says."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml

from gatecast.testing.clock import HandMovedClock
from gatecast.testing.doubles.scripted_control_plane import (
    Answer,
    Request,
)
from gatecast.testing.doubles.scripted_installation import BASE, UPSTREAM, Wire, document, tar_gz, wire, zipped
from gatecast.testing.unmodified_gateway import DEPLOYED, UNDEPLOYED, GatewayOptions, template

IMPORT = f"{BASE}/artifacts/import-gateway-artifacts"
T1, T2, T3 = "2026-01-02T03:04:05.440Z", "2026-01-02T03:04:06.000Z", "2026-01-02T03:04:07.123Z"
HASH_1, HASH_2 = "a" * 64, "b" * 64

PROVIDER = document("LlmProvider", "demo")
PROXY = document("LlmProxy", "proxy", provider={"id": "demo"})


KEY_LISTS = [f"GET /{path}/api-keys" for path in ("apis", "websub-apis", "webbroker-apis", "llm-providers")]
KEY_LISTS.append("GET /llm-proxies/api-keys")


# --- order of calls -----------------------------------------------------------------------------------------------


async def test_the_first_connection_asks_for_everything_in_order() -> None:
    async with wire() as w:
        await w.connect()
        assert w.plane.calls() == ["GET /secrets", "GET /deployments", "GET /subscription-plans", *KEY_LISTS]
        rest = [request for request in w.plane.server.requests if request.path.startswith(BASE)]
    assert {request.headers["api-key"] for request in rest} == {"token-1"}
    assert next(request for request in rest if request.path.endswith("secrets")).query == {"includeValues": "true"}


async def test_later_connections_skip_deployments_and_a_new_process_does_not() -> None:
    later = ["GET /secrets", "GET /subscription-plans", *KEY_LISTS]
    async with wire() as w:
        await w.connect()
        first = len(w.plane.calls())
        await w.reconnect()
        second = len(w.plane.calls())
        await w.restart()
        assert w.plane.calls()[first:second] == later
        assert w.plane.calls()[second:] == [later[0], "GET /deployments", *later[1:]]


async def test_a_failed_list_of_deployments_is_not_asked_for_again() -> None:
    async with wire() as w:
        w.plane.answer("GET", "/deployments", Answer(status=401))
        await w.connect()
        await w.reconnect()
        assert w.plane.calls().count("GET /deployments") == 1
        assert w.gateway.exited is None


async def test_on_premises_only_the_keys_of_apis_are_asked_for() -> None:
    async with wire() as w:
        w.plane.server.answers["GET /internal/gateway/.well-known"] = Answer(body={"gatewayPath": "x/v1"})
        await w.plane.server.greeted()
        await w.gateway.wait_until(lambda: "GET /x/v1/apis/api-keys" in w.plane.server.calls)
    assert [call for call in w.plane.server.calls if "/x/v1/" in call] == [
        "GET /x/v1/ws/gateways/connect",
        "GET /x/v1/apis/api-keys",
    ]


# --- manifest and import ------------------------------------------------------------------------------------------


async def test_the_manifest_names_release_and_policies_on_every_connection() -> None:
    path = "/gateways/gw-1/manifest"
    async with wire() as w:
        await w.connect()
        await w.gateway.wait_until(lambda: len(w.plane.bodies(path)) == 1)
        await w.reconnect()
        await w.gateway.wait_until(lambda: len(w.plane.bodies(path)) == 2)
        manifest = w.plane.bodies(path)[0]
    assert manifest["version"] == "1.2.0"
    assert "set-headers" in [policy["name"] for policy in manifest["policies"]]


@pytest.mark.parametrize("status", [401, 403, 404, 409, 422])
async def test_a_refused_manifest_ends_the_process(status: int) -> None:
    async with wire() as w:
        w.plane.answer("POST", "/gateways/gw-1/manifest", Answer(status=status))
        await w.plane.server.greeted()
        await w.gateway.wait_until(lambda: w.gateway.exited == status)


@pytest.mark.parametrize("status", [201, 500])
async def test_any_other_answer_to_the_manifest_is_repeated_twice(status: int) -> None:
    async with wire() as w:
        w.plane.answer("POST", "/gateways/gw-1/manifest", Answer(status=status))
        await w.connect()
        await pauses_pass(w.clock, 2.0, 4.0)
        await w.gateway.wait_until(lambda: any("manifest given up" in line for line in w.gateway.records.log))
        assert len(w.plane.bodies("/gateways/gw-1/manifest")) == 3
        assert w.gateway.connected


async def test_the_import_announces_the_seven_built_in_templates() -> None:
    async with wire() as w:
        await w.connect()
        [artifacts] = await imports(w, 1)
        request = next(request for request in w.plane.server.requests if request.path == IMPORT)
    assert b'name="total"\r\n' in request.body
    handles = [artifact["configuration"]["metadata"]["name"] for artifact in artifacts]
    assert (len(handles), handles[0], handles[-1]) == (7, "openai", "awsbedrock")


async def test_a_template_from_the_template_folder_is_announced_with_them() -> None:
    async with wire(templates=("my-own",)) as w:
        await w.connect()
        [artifacts] = await imports(w, 1)
    assert [artifact["configuration"]["metadata"]["name"] for artifact in artifacts][7:] == ["my-own"]


async def test_what_is_made_and_removed_on_the_gateway_is_announced_at_once() -> None:
    async with wire() as w:
        w.plane.answer("POST", "/artifacts/import-gateway-artifacts", takes_everything)
        await w.connect()
        await imports(w, 1)
        local_id = w.gateway.make(template("my-own"))
        [_, [made]] = await imports(w, 2)
        assert (made["dpid"], made["status"], made["configuration"]) == (local_id, "deployed", template("my-own"))
        await w.gateway.wait_until(lambda: w.gateway.own[local_id].control_plane_id == f"cp-{local_id}")
        w.gateway.remove(local_id)
        [*_, [removed]] = await imports(w, 3)
        assert (removed["dpid"], removed["status"], "deployedAt" in removed) == (local_id, "undeployed", False)
        await w.gateway.wait_until(lambda: local_id not in w.gateway.own)
        await w.reconnect()
        [*_, again] = await imports(w, 4)
        assert len(again) == 7


async def test_what_is_made_without_a_connection_is_announced_by_the_next_one() -> None:
    async with wire() as w:
        local_id = w.gateway.make(yaml.safe_load(PROVIDER))
        await w.connect()
        [artifacts] = await imports(w, 1)
        assert artifacts[-1]["dpid"] == local_id


async def test_what_the_control_plane_refuses_is_announced_again() -> None:
    async with wire() as w:
        local_id = w.gateway.make(yaml.safe_load(PROVIDER))
        refused = {"artifacts": {local_id: {"id": "", "status": "deployed", "error": "no"}}}
        w.plane.answer("POST", "/artifacts/import-gateway-artifacts", Answer(body=refused))
        await w.connect()
        await imports(w, 1)
        await w.reconnect()
        assert [each[-1]["dpid"] for each in await imports(w, 2)] == [local_id, local_id]
        assert w.gateway.own[local_id].control_plane_id == ""


async def takes_everything(request: Request) -> Answer:
    """What a control plane answers that keeps all that is announced."""
    ids = {each["dpid"]: {"id": f"cp-{each['dpid']}", "error": ""} for each in package_of(request)}
    return Answer(status=201, body={"total": len(ids), "artifacts": ids})


def package_of(request: Request) -> list[Any]:
    """What an import announces."""
    with zipfile.ZipFile(io.BytesIO(request.body[request.body.index(b"PK\x03\x04") :])) as archive:
        assert archive.namelist() == ["artifacts.json"]
        announced: list[Any] = json.loads(archive.read("artifacts.json"))
    return announced


async def imports(w: Wire, count: int) -> list[list[Any]]:
    """What the first so many imports announced."""
    await w.gateway.wait_until(lambda: w.plane.server.calls.count(f"POST {IMPORT}") == count)
    return [package_of(request) for request in w.plane.server.requests if request.path == IMPORT]


async def test_a_failed_import_is_tried_five_times() -> None:
    path = f"POST {BASE}/artifacts/import-gateway-artifacts"
    async with wire() as w:
        w.plane.answer("POST", "/artifacts/import-gateway-artifacts", Answer(status=404))
        await w.connect()
        await pauses_pass(w.clock, 1.0, 2.0, 4.0, 8.0)
        await w.gateway.wait_until(lambda: any("import given up" in line for line in w.gateway.records.log))
        assert w.plane.server.calls.count(path) == 5
        assert w.gateway.exited is None


async def pauses_pass(clock: HandMovedClock, *expected: float) -> None:
    """Let exactly these pauses pass, one after another; the liveness check's own do not count."""
    for number, pause in enumerate(expected, 1):
        while (asked := [each for each in clock.pauses if each != 5.0]) != list(expected[:number]):
            assert len(asked) < number, asked
            await clock.until_asleep(len(clock.pauses) + 1)
        await clock.advance(pause)


@pytest.mark.parametrize("artifacts", [[], {"t-1": "ok"}, {"t-1": {"id": 1}}, {"t-1": {"error": {}}}])
async def test_an_answer_to_an_import_that_cannot_be_read_counts_as_a_failure(artifacts: object) -> None:
    async with wire() as w:
        w.plane.answer("POST", "/artifacts/import-gateway-artifacts", Answer(body={"total": 1, "artifacts": artifacts}))
        await w.connect()
        await w.gateway.wait_until(lambda: any("unusable answer" in line for line in w.gateway.records.log))


# --- deployments at start-up --------------------------------------------------------------------------------------


async def test_what_is_listed_is_fetched_in_batches_and_in_the_order_of_kinds() -> None:
    async with wire(sync_batch_size=3) as w:
        w.plane.deploy("Mcp", "m", "d-m")
        w.plane.deploy("RestApi", "a", "d-a")
        w.plane.deploy("LlmProxy", "x", "d-x")
        w.plane.deploy("LlmProvider", "p", "d-p")
        w.plane.deploy("WebSubApi", "w", "d-w")
        w.plane.deploy("RestApi", "u", "d-u", state="UNDEPLOYED")
        w.plane.documents = {
            "d-m": document("Mcp", "mcp"),
            "d-a": document("RestApi", "api"),
            "d-x": PROXY,
            "d-p": PROVIDER,
        }
        await w.connect()
        batches = [body["deploymentIds"] for body in w.plane.bodies("/deployments/fetch-batch")]
        assert batches == [["d-p", "d-x", "d-a"], ["d-m"]]
        assert {key: value.handle for key, value in w.gateway.artifacts.items()} == {
            "p": "demo",
            "x": "proxy",
            "a": "api",
            "m": "mcp",
        }
        assert w.gateway.acks_sent == []
        assert "GET /apis/a/subscriptions" in w.plane.calls()
        provider = w.gateway.artifacts["p"]
        assert provider.document is not None
        assert provider.document["spec"]["displayName"] == "The demo"


async def test_after_a_restart_only_differences_are_fetched() -> None:
    async with wire() as w:
        for name in ("same", "other", "newer", "undeployed"):
            w.plane.deploy("RestApi", name, f"d-{name}")
            w.plane.documents[f"d-{name}"] = document("RestApi", name)
        await w.connect()
        w.plane.deploy("RestApi", "other", "d-2", deployedAt=T2, state="UNDEPLOYED")
        w.plane.documents["d-2"] = document("RestApi", "other")
        w.plane.deploy("RestApi", "newer", "d-newer", deployedAt=T2, more="")
        w.plane.deploy("RestApi", "undeployed", "d-undeployed", deployedAt=T2, state="undeployed")
        await w.restart()
        assert w.plane.bodies("/deployments/fetch-batch")[1:] == [{"deploymentIds": ["d-2", "d-newer"]}]
        states = {name: (each.state, each.deployment_id) for name, each in w.gateway.artifacts.items()}
        assert states == {
            "same": (DEPLOYED, "d-same"),
            "other": (DEPLOYED, "d-2"),
            "newer": (DEPLOYED, "d-newer"),
            "undeployed": (UNDEPLOYED, "d-undeployed"),
        }
        assert dict(w.gateway.running) == dict(w.gateway.artifacts)


async def test_a_change_of_state_needs_a_newer_time() -> None:
    async with wire() as w:
        w.plane.deploy("RestApi", "a", "d-1")
        w.plane.documents["d-1"] = document("RestApi", "a")
        await w.connect()
        w.plane.deploy("RestApi", "a", "d-1", state="UNDEPLOYED")
        await w.restart()
        assert w.gateway.artifacts["a"].state == DEPLOYED


async def test_what_is_not_listed_is_deleted_unless_it_still_exists() -> None:
    async with wire() as w:
        for name in ("gone", "kept"):
            w.plane.deploy("RestApi", name, f"d-{name}")
            w.plane.documents[f"d-{name}"] = document("RestApi", name)
        await w.connect()
        w.plane.deployments = []
        w.plane.existing = {"kept"}
        await w.restart()
        assert w.plane.bodies("/artifacts/exists") == [{"artifactIds": ["gone", "kept"]}]
        assert list(w.gateway.artifacts) == ["kept"]


async def test_what_was_made_on_the_gateway_is_never_deleted_and_keeps_others_from_its_name() -> None:
    async with wire() as w:
        local_id = w.gateway.make(yaml.safe_load(document("RestApi", "mine")))
        w.plane.deploy("RestApi", "a", "d-a")
        w.plane.documents["d-a"] = document("RestApi", "mine", displayName="Other")
        await w.connect()
        assert "POST /artifacts/exists" not in w.plane.calls()
        assert list(w.gateway.running) == [local_id]
        assert f"GET /apis/{local_id}/subscriptions" in w.plane.calls()


async def test_nothing_is_deleted_when_existence_cannot_be_asked() -> None:
    async with wire() as w:
        w.plane.deploy("RestApi", "a", "d-a")
        w.plane.documents["d-a"] = document("RestApi", "a")
        await w.connect()
        w.plane.deployments = []
        w.plane.answer("POST", "/artifacts/exists", Answer(status=404))
        await w.restart()
        assert list(w.gateway.artifacts) == ["a"]


async def test_an_entry_that_cannot_be_used_still_protects_its_artifact() -> None:
    async with wire() as w:
        w.plane.deploy("RestApi", "a", "d-a")
        w.plane.documents["d-a"] = document("RestApi", "a")
        await w.connect()
        w.plane.deploy("RestApi", "a", "d-a", state="ARCHIVED")
        await w.restart()
        assert "POST /artifacts/exists" not in w.plane.calls()
        assert list(w.gateway.artifacts) == ["a"]


@pytest.mark.parametrize("deployed_at", ["", 7])
async def test_one_unreadable_time_makes_the_whole_list_useless(deployed_at: object) -> None:
    async with wire() as w:
        w.plane.deploy("RestApi", "a", "d-a")
        w.plane.deploy("RestApi", "b", "d-b", deployedAt=deployed_at)
        w.plane.documents = {"d-a": document("RestApi", "a")}
        await w.connect()
        assert "POST /deployments/fetch-batch" not in w.plane.calls()


async def test_a_deployment_without_time_or_document_is_skipped_alone() -> None:
    async with wire() as w:
        w.plane.deploy("RestApi", "a", "d-a")
        w.plane.deploy("RestApi", "b", "d-b", deployedAt=None)
        w.plane.deploy("RestApi", "c", "d-c")
        w.plane.documents = {"d-a": document("RestApi", "a"), "d-b": document("RestApi", "b")}
        await w.connect()
        assert list(w.gateway.artifacts) == ["a"]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=500),
        Answer(body=b"PK not a tar"),
        Answer(body=gzip.compress(tar_gz({"d-a": document("RestApi", "a")})), headers={"Content-Encoding": "gzip"}),
    ],
)
async def test_a_batch_that_cannot_be_read_is_skipped(answer: Answer) -> None:
    plain_tar = gzip.decompress(tar_gz({"d-a": document("RestApi", "a")}))
    if answer.headers:
        answer = Answer(body=gzip.compress(plain_tar), headers=answer.headers)
    async with wire() as w:
        w.plane.deploy("RestApi", "a", "d-a")
        w.plane.answer("POST", "/deployments/fetch-batch", answer)
        await w.connect()
        assert dict(w.gateway.artifacts) == {}


async def test_start_up_does_not_fetch_secrets_on_demand() -> None:
    async with wire() as w:
        w.plane.deploy("RestApi", "a", "d-a")
        w.plane.documents["d-a"] = document("RestApi", "a", description='{{ secret "late" }}')
        w.plane.answer("GET", "/secrets/late/value", Answer(body={"value": "v"}))
        await w.connect()
        assert dict(w.gateway.artifacts) == {}


# --- downloads after events ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event_type", "field", "path", "text"),
    [
        ("api.deployed", "apiId", "apis", document("RestApi", "demo")),
        ("llmprovider.deployed", "providerId", "llm-providers", PROVIDER),
        ("mcpproxy.deployed", "proxyId", "mcp-proxies", document("Mcp", "demo")),
    ],
)
async def test_a_deploy_event_downloads_its_artifact(event_type: str, field: str, path: str, text: str) -> None:
    async with wire() as w:
        w.plane.answer("GET", f"/{path}/a-1", Answer(body=zipped(text)))
        await w.connect()
        await w.send(event_type, deploymentId="d-1", performedAt=T1, **{field: "a-1"})
        assert w.statuses == ["success"]
        artifact = w.gateway.artifacts["a-1"]
        assert (artifact.handle, artifact.document) == ("demo", yaml.safe_load(text))
        request = next(each for each in w.plane.server.requests if each.path == f"{BASE}/{path}/a-1")
        assert request.headers["accept"] == "application/zip"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=404),
        Answer(body=b"no zip"),
        Answer(body=zipped(PROVIDER, name="x.json").replace(b"later.yaml", b"later.json")),
        Answer(body=zipped("a: [")),
        Answer(body=zipped("just text")),
        Answer(body=zipped(document("RestApi", "demo"))),
        Answer(body=zipped(document("LlmProvider", ""))),
        Answer(body=zipped(document("LlmProvider", "demo", template="my-own"))),
        Answer(body=zipped(document("LlmProvider", "demo", description='{{ secret "unknown" }}'))),
    ],
)
async def test_a_download_that_cannot_be_applied_is_acknowledged_as_failed(answer: Answer) -> None:
    async with wire() as w:
        w.plane.answer("GET", "/llm-providers/p-1", answer)
        await w.connect()
        await w.send("llmprovider.deployed", providerId="p-1", deploymentId="d-1", performedAt=T1)
        assert [(ack["status"], ack["errorCode"]) for ack in w.gateway.acks_sent] == [
            ("failed", "GATEWAY_PROCESSING_ERROR")
        ]
        assert dict(w.gateway.artifacts) == {}


async def test_a_failed_redeploy_keeps_the_previous_version() -> None:
    async with wire() as w:
        w.plane.answer("GET", "/llm-providers/p-1", Answer(body=zipped(PROVIDER)))
        await w.connect()
        await w.send("llmprovider.deployed", providerId="p-1", deploymentId="d-1", performedAt=T1)
        w.plane.answer("GET", "/llm-providers/p-1", Answer(status=500))
        await w.send("llmprovider.deployed", providerId="p-1", deploymentId="d-2", performedAt=T2)
        assert w.statuses == ["success", "failed"]
        assert w.gateway.artifacts["p-1"].deployment_id == "d-1"


async def test_a_taken_handle_or_name_and_version_fails_and_a_redeploy_of_oneself_does_not() -> None:
    same_name = document("LlmProvider", "second", displayName="The demo")
    async with wire() as w:
        for artifact_id, text in {"p-1": PROVIDER, "p-2": PROVIDER, "p-3": same_name}.items():
            w.plane.answer("GET", f"/llm-providers/{artifact_id}", Answer(body=zipped(text)))
        await w.connect()
        for artifact_id in ("p-1", "p-2", "p-3"):
            await w.send("llmprovider.deployed", providerId=artifact_id, deploymentId="d-1", performedAt=T1)
        await w.send("llmprovider.deployed", providerId="p-1", deploymentId="d-2", performedAt=T2)
        assert w.statuses == ["success", "failed", "failed", "success"]


async def test_a_proxy_needs_its_provider_and_then_keeps_it() -> None:
    async with wire() as w:
        w.plane.answer("GET", "/llm-proxies/x-1", Answer(body=zipped(PROXY)))
        w.plane.answer("GET", "/llm-providers/p-1", Answer(body=zipped(PROVIDER)))
        await w.connect()
        await w.send("llmproxy.deployed", proxyId="x-1", deploymentId="d-1", performedAt=T1)
        await w.send("llmprovider.deployed", providerId="p-1", deploymentId="d-2", performedAt=T1)
        await w.send("llmproxy.deployed", proxyId="x-1", deploymentId="d-1", performedAt=T1)
        assert w.statuses == ["failed", "success", "success"]
        await w.send("apikey.created", apiId="p-1", name="my-key", apiKeyHashes=json.dumps({"sha256": HASH_1}))
        assert len(w.gateway.api_keys) == 1
        await w.send("llmprovider.deleted", providerId="p-1")
        assert ("p-1" in w.gateway.artifacts, dict(w.gateway.api_keys)) == (True, {})
        await w.send("llmproxy.deleted", proxyId="x-1")
        await w.send("llmprovider.deleted", providerId="p-1")
        assert dict(w.gateway.artifacts) == {}


# --- secrets ------------------------------------------------------------------------------------------------------


def secret(handle: str, sha: str, status: str = "ACTIVE", **more: str) -> dict[str, str]:
    """An entry of `GET /secrets`."""
    return {"handle": handle, "name": handle, "hash": sha, "status": status} | more


def secrets(*items: dict[str, str]) -> Answer:
    """An answer of `GET /secrets`."""
    return Answer(body={"list": list(items), "count": len(items)})


async def test_secrets_come_in_bulk_and_then_by_difference() -> None:
    async with wire() as w:
        old = secret("no", "1", "REVOKED", value="x"), secret("valueless", "1")
        w.plane.answer("GET", "/secrets", secrets(secret("one", "1", value="v1"), secret("two", "1", value="v1"), *old))
        await w.connect()
        assert dict(w.gateway.secrets) == {"one": "v1", "two": "v1"}
        w.plane.answer("GET", "/secrets", secrets(secret("one", "1"), secret("two", "2"), secret("three", "1")))
        w.plane.answer("GET", "/secrets/two/value", Answer(body={"value": "v2"}))
        await w.reconnect()
        assert dict(w.gateway.secrets) == {"one": "v1", "two": "v2"}
        asked = [call for call in w.plane.calls() if call.endswith("/value")]
        assert asked == ["GET /secrets/two/value", "GET /secrets/three/value"]


async def test_a_deploy_event_fetches_the_secrets_that_it_needs() -> None:
    auth = {"type": "api-key", "header": "Authorization", "value": '{{ secret "my-key" }}'}
    text = document("LlmProvider", "demo", upstream={**UPSTREAM, "auth": auth})
    async with wire() as w:
        w.plane.answer("GET", "/llm-providers/p-1", Answer(body=zipped(text)))
        w.plane.answer("GET", "/secrets/my-key/value", Answer(body={"value": "v"}))
        await w.connect()
        await w.send("llmprovider.deployed", providerId="p-1", deploymentId="d-1", performedAt=T1)
        await w.send("llmprovider.deployed", providerId="p-1", deploymentId="d-2", performedAt=T2)
        assert w.statuses == ["success", "success"]
        assert w.plane.calls().count("GET /secrets/my-key/value") == 1


# --- keys, plans, subscriptions -----------------------------------------------------------------------------------


def listed_key(name: str, sha256: str = HASH_1, **more: object) -> dict[str, object]:
    """An entry of a key list."""
    entry = {"uuid": f"u-{name}", "name": name, "artifactUuid": "a-1", "status": "active", "updatedAt": T1}
    return entry | {"apiKeyHashes": {"sha256": sha256}, "createdAt": T1, "expiresAt": None} | more


@asynccontextmanager
async def wire_with_keys() -> AsyncIterator[Wire]:
    """A gateway with one API and two keys."""
    async with wire() as w:
        w.plane.deploy("RestApi", "a-1", "d-1")
        w.plane.documents["d-1"] = document("RestApi", "api")
        w.plane.answer("GET", "/apis/api-keys", Answer(body=[listed_key("one"), listed_key("two", HASH_2)]))
        await w.connect()
        assert set(w.gateway.api_keys) == {("a-1", "one"), ("a-1", "two")}
        yield w


async def test_a_list_of_keys_deletes_those_that_were_made_on_the_gateway() -> None:
    async with wire_with_keys() as w:
        local_id = w.gateway.make(yaml.safe_load(document("RestApi", "mine")))
        for artifact_id in ("a-1", local_id):
            w.gateway.make_api_key(artifact_id, "own-key")
        assert len(w.gateway.api_keys) == 4
        await w.reconnect()
        assert set(w.gateway.api_keys) == {("a-1", "one"), ("a-1", "two")}


@pytest.mark.parametrize("body", [[], None])
async def test_an_empty_list_deletes_every_key_of_the_kind(body: object) -> None:
    async with wire_with_keys() as w:
        w.plane.answer("GET", "/apis/api-keys", Answer(body=body))
        await w.reconnect()
        assert dict(w.gateway.api_keys) == {}


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=500),
        Answer(status=404),
        Answer(body={"list": []}),
        Answer(body="not json"),
        Answer(body=[listed_key("three", updatedAt="")]),
        Answer(body=[listed_key("three", issuer=1)]),
    ],
)
async def test_an_answer_that_is_no_list_leaves_the_keys_alone(answer: Answer) -> None:
    async with wire_with_keys() as w:
        w.plane.answer("GET", "/apis/api-keys", answer)
        await w.reconnect()
        assert len(w.gateway.api_keys) == 2


async def test_what_is_not_listed_is_deleted_and_a_newer_local_key_stays() -> None:
    async with wire_with_keys() as w:
        newer = json.dumps({"sha256": "c" * 64})
        await w.send("apikey.updated", apiId="a-1", keyName="one", apiKeyHashes=newer, updatedAt=T3)
        revoked = listed_key("two", HASH_2, status="revoked")
        w.plane.answer("GET", "/apis/api-keys", Answer(body=[listed_key("one", updatedAt=T2), revoked]))
        await w.reconnect()
        assert {key.name: key.sha256 for key in w.gateway.api_keys.values()} == {"one": "c" * 64}


async def test_plans_and_subscriptions_become_what_is_listed() -> None:
    plan = {"id": "gold", "planName": "Gold", "status": "ACTIVE"}
    subscription = {"id": "s-1", "apiId": "other", "subscriptionToken": "t", "status": "ACTIVE"}
    async with wire() as w:
        w.plane.deploy("RestApi", "a-1", "d-1")
        w.plane.documents["d-1"] = document("RestApi", "api")
        w.plane.answer("GET", "/subscription-plans", Answer(body=[plan]))
        w.plane.answer("GET", "/apis/a-1/subscriptions", Answer(body=[subscription, {"status": "ACTIVE"}]))
        await w.connect()
        assert set(w.gateway.plans) == {"gold"}
        assert w.gateway.subscriptions["s-1"].api_id == "a-1"
        w.plane.answer("GET", "/subscription-plans", Answer(body=[]))
        w.plane.answer("GET", "/apis/a-1/subscriptions", Answer(body=None))
        await w.reconnect()
        assert (dict(w.gateway.plans), dict(w.gateway.subscriptions)) == ({}, {})


@pytest.mark.parametrize(
    "field",
    [
        {"stopOnQuotaReach": "yes"},
        {"throttleLimitCount": "10"},
        {"throttleLimitUnit": 1},
        {"expiryTime": ""},
        {"createdAt": "today"},
        {"etag": 7},
    ],
)
async def test_one_field_of_a_wrong_type_makes_the_whole_list_of_plans_useless(field: dict[str, object]) -> None:
    plan = {"id": "gold", "planName": "Gold", "status": "ACTIVE"}
    async with wire() as w:
        w.plane.answer("GET", "/subscription-plans", Answer(body=[plan]))
        await w.connect()
        other = {"id": "silver", "planName": "Silver", "status": "ACTIVE"}
        w.plane.answer("GET", "/subscription-plans", Answer(body=[other, plan | field]))
        await w.reconnect()
        assert set(w.gateway.plans) == {"gold"}


@pytest.mark.parametrize("field", [{"billingCustomerId": 1}, {"applicationId": {}}, {"updatedAt": ""}])
async def test_one_field_of_a_wrong_type_makes_a_list_of_subscriptions_useless(field: dict[str, object]) -> None:
    subscription = {"id": "s-1", "subscriptionToken": "t", "status": "ACTIVE"}
    async with wire() as w:
        w.plane.deploy("RestApi", "a-1", "d-1")
        w.plane.documents["d-1"] = document("RestApi", "api")
        w.plane.answer("GET", "/apis/a-1/subscriptions", Answer(body=[subscription | field]))
        await w.connect()
        assert dict(w.gateway.subscriptions) == {}


async def test_a_proxy_of_a_provider_with_a_host_of_its_own_needs_a_policy_to_rewrite_it() -> None:
    hosted = document("LlmProvider", "demo", vhost="llm.example.test")
    policies = tuple({"name": name, "version": "v1.0.0"} for name in ("set-headers", "respond"))
    for given, status in ((GatewayOptions().policies, "success"), (policies, "failed")):
        async with wire(policies=given) as w:
            w.plane.answer("GET", "/llm-providers/p-1", Answer(body=zipped(hosted)))
            w.plane.answer("GET", "/llm-proxies/x-1", Answer(body=zipped(PROXY)))
            await w.connect()
            await w.send("llmprovider.deployed", providerId="p-1", deploymentId="d-1", performedAt=T1)
            await w.send("llmproxy.deployed", proxyId="x-1", deploymentId="d-2", performedAt=T1)
            assert w.statuses == ["success", status]
