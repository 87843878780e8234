"""What gateways ask for over HTTP, on every database."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp.test_utils import TestClient, TestServer

from gatecast import Action, Event, EventHub, Settings
from gatecast.controlplane.access.gateway_tokens import GatewayTokens
from gatecast.controlplane.access.gateways import GatewayFields, Gateways
from gatecast.controlplane.catalog.artifact_kinds import BY_KIND, LLM_PROVIDER, MCP_PROXY, REST_API, ArtifactKind
from gatecast.controlplane.catalog.artifact_store import StoredArtifact
from gatecast.controlplane.control_plane import ControlPlane
from gatecast.controlplane.deployments.artifact_events import written
from gatecast.controlplane.deployments.placements import Deployment
from gatecast.controlplane.documents import MODELS
from gatecast.controlplane.encryption import Encryption
from gatecast.controlplane.gateway_sync.acknowledgements import Acknowledgement
from gatecast.controlplane.gateway_sync.downloads import Content
from gatecast.errors import StorageUnavailable
from gatecast.server import wait_policy
from gatecast.server.admission import Admission
from gatecast.server.gateway_api import app as gateway_api
from gatecast.server.gateway_api.app import BASE_PATH, GatewayContext, create_gateway_app
from gatecast.server.gateway_api.archives import MAX_IMPORT_BYTES
from gatecast.server.gateway_api.request_bodies import MAX_JSON_BYTES, MAX_VALUES
from gatecast.testing.captured_logs import captured_logs

_ORGANIZATION = "default"

_KEY_PATHS = ("/apis/api-keys", "/llm-providers/api-keys", "/llm-proxies/api-keys")

_DOCUMENTS: dict[ArtifactKind, dict[str, Any]] = {
    LLM_PROVIDER: {
        "name": "Demo Provider",
        "version": "v1.0",
        "template": "openai",
        "upstream": {
            "url": "https://llm.example.test/v1",
            "auth": {"type": "api-key", "header": "Authorization", "value": "Bearer a-credential"},
        },
    },
    MCP_PROXY: {
        "name": "Demo MCP",
        "version": "v1.0",
        "context": "/demo-mcp",
        "upstream": {"url": "https://mcp.example.test/mcp"},
    },
    REST_API: {
        "name": "Demo API",
        "version": "v1.0",
        "context": "/demo-api",
        "upstream": {"main": {"url": "http://backend.example.test:8080"}},
        "operations": [{"method": "GET", "path": "/items"}],
    },
}


@dataclass(frozen=True)
class _Listener:
    """A listener in this process, and a gateway that talks to it."""

    hub: EventHub
    control_plane: ControlPlane
    client: TestClient[Any, Any]
    gateway_id: str
    token: str

    async def ask(
        self, method: str, path: str, *, token: str | None = None, json: object = None, data: object = None
    ) -> aiohttp.ClientResponse:
        """The answer to this gateway, or to another token."""
        headers = {"api-key": self.token if token is None else token}
        return await self.client.request(method, BASE_PATH + path, headers=headers, json=json, data=data)

    async def listed(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """What a GET answers."""
        answer = await self.ask("GET", path)
        assert answer.status == 200, await answer.text()
        return await answer.json()

    async def make(self, artifact_kind: ArtifactKind, **fields: object) -> tuple[StoredArtifact, Deployment]:
        """An artifact on this gateway."""
        document = MODELS[artifact_kind.kind].model_validate({**_DOCUMENTS[artifact_kind], **fields})
        made = (
            await self.control_plane.artifacts.create(
                _ORGANIZATION, artifact_kind, document, gateways=[self.gateway_id]
            )
        ).artifact
        [running] = await self.control_plane.artifacts.running(made.id)
        return made, running.deployment

    async def acknowledge(self, deployment: Deployment, *, deployed: bool = True) -> None:
        """The gateway says that it did it."""
        self.control_plane.acknowledgements.report(
            Acknowledgement(
                organization=_ORGANIZATION,
                gateway_id=self.gateway_id,
                artifact_id=deployment.artifact_id,
                deployment_id=deployment.id,
                performed_at=datetime.fromtimestamp(deployment.performed_at / 1000, UTC),
                deployed=deployed,
                succeeded=True,
                error_code="",
            )
        )
        await self.control_plane.acknowledgements.flush()


@asynccontextmanager
async def _open(url: str) -> AsyncIterator[_Listener]:
    settings = Settings(database=url, migrate="always", poll_interval=timedelta(hours=1), notifications=False)
    async with EventHub.open(settings=settings, migrations=("gatecast.controlplane.migrations",)) as hub:
        gateways, tokens = Gateways(hub), GatewayTokens(hub)
        control_plane = ControlPlane.on(hub, Encryption([bytes(32)]))
        context = GatewayContext(
            hub=hub,
            settings=settings,
            gateways=gateways,
            tokens=tokens,
            admission=Admission(settings, clock=lambda: 0.0),
            control_plane=control_plane,
        )
        gateway = (await gateways.create(_ORGANIZATION, GatewayFields(name="edge"))).gateway
        token = (await tokens.issue(_ORGANIZATION, gateway.id)).token
        async with TestClient(TestServer(create_gateway_app(context))) as client:
            yield _Listener(hub, control_plane, client, gateway.id, token)


OpenListener = Callable[[], AbstractAsyncContextManager[_Listener]]


@pytest.fixture
def listener(database_url: str) -> OpenListener:
    """Opens a listener on the test's database."""
    return lambda: _open(database_url)


def _document(package: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        [name] = archive.namelist()
        assert name.endswith(".yaml")
        document: dict[str, Any] = yaml.safe_load(archive.read(name))
        return document


# --- documents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("artifact_kind", [LLM_PROVIDER, MCP_PROXY, REST_API])
async def test_a_document_is_a_zip_of_the_same_bytes_each_time(
    listener: OpenListener, artifact_kind: ArtifactKind
) -> None:
    async with listener() as gateway:
        made, _ = await gateway.make(artifact_kind)
        path = f"/{artifact_kind.download}/{made.id}"
        packages = [await (await gateway.ask("GET", path)).read() for _ in range(2)]
        assert packages[0] == packages[1]
        document = _document(packages[0])
        assert (document["kind"], document["metadata"]["name"]) == (artifact_kind.kind.value, made.handle)
        assert "a-credential" not in str(document)
        for other in {LLM_PROVIDER, MCP_PROXY, REST_API} - {artifact_kind}:
            assert (await gateway.ask("GET", f"/{other.download}/{made.id}")).status == 404


async def test_a_gateway_gets_nothing_that_belongs_to_another_one(listener: OpenListener) -> None:
    """Nor without a token; and what is undeployed or deleted is not there."""
    async with listener() as gateway:
        made, deployment = await gateway.make(LLM_PROVIDER)
        [secret] = await gateway.control_plane.files.secrets(gateway.gateway_id, with_values=False)
        other = (await Gateways(gateway.hub).create(_ORGANIZATION, GatewayFields(name="other"))).gateway
        token = (await GatewayTokens(gateway.hub).issue(_ORGANIZATION, other.id)).token
        paths = (f"/llm-providers/{made.id}", f"/secrets/{secret.handle}/value")
        for path in paths:
            assert (await gateway.ask("GET", path)).status == 200
            assert (await gateway.ask("GET", path, token=token)).status == 404
            assert (await gateway.ask("GET", path, token="wrong")).status == 401
        assert (await (await gateway.ask("GET", "/secrets?includeValues=true", token=token)).json())["list"] == []
        body = {"deploymentIds": [deployment.id]}
        package = await (await gateway.ask("POST", "/deployments/fetch-batch", token=token, json=body)).read()
        with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
            assert archive.getnames() == []
        await gateway.control_plane.artifacts.undeploy(_ORGANIZATION, LLM_PROVIDER, made.id, gateway.gateway_id)
        for path in paths:
            assert (await gateway.ask("GET", path)).status == 404


async def test_a_batch_is_a_tar_without_content_encoding(listener: OpenListener) -> None:
    async with listener() as gateway:
        made = {(await gateway.make(artifact_kind))[1].id: artifact_kind for artifact_kind in (LLM_PROVIDER, REST_API)}
        body = {"deploymentIds": [*made, "unknown"]}
        answer = await gateway.ask("POST", "/deployments/fetch-batch", json=body)
        assert answer.content_type == "application/x-tar+gzip"
        assert "Content-Encoding" not in answer.headers
        with tarfile.open(fileobj=io.BytesIO(await answer.read()), mode="r:gz") as archive:
            members = {member.name.split("/")[0]: archive.extractfile(member) for member in archive}
            assert members.keys() == made.keys()
            for deployment_id, file in members.items():
                assert file is not None
                assert yaml.safe_load(file.read())["kind"] == made[deployment_id].kind.value


# --- what should run --------------------------------------------------------------------------------------------------


async def test_s38_the_list_says_what_should_run_and_what_should_not(listener: OpenListener) -> None:
    """What is undeployed is listed where that very deployment is there; what is not acknowledged a moment older."""
    async with listener() as gateway:
        provider, acknowledged = await gateway.make(LLM_PROVIDER)
        await gateway.acknowledge(acknowledged)
        _, pending = await gateway.make(REST_API)
        never, _ = await gateway.make(MCP_PROXY)
        await gateway.control_plane.artifacts.undeploy(_ORGANIZATION, MCP_PROXY, never.id, gateway.gateway_id)

        async def listed() -> dict[str, tuple[str, str]]:
            entries = (await gateway.listed("/deployments"))["deployments"]
            assert all(set(each) >= {"artifactId", "kind", "etag"} for each in entries)
            return {each["deploymentId"]: (each["state"], each["deployedAt"]) for each in entries}

        assert await listed() == {
            acknowledged.id: ("DEPLOYED", written(acknowledged.performed_at)),
            pending.id: ("DEPLOYED", written(pending.performed_at - 1)),
        }
        stopped = await gateway.control_plane.artifacts.undeploy(
            _ORGANIZATION, LLM_PROVIDER, provider.id, gateway.gateway_id
        )
        assert stopped.id == acknowledged.id
        assert (await listed())[acknowledged.id] == ("UNDEPLOYED", written(stopped.performed_at - 1))
        await gateway.acknowledge(stopped, deployed=False)
        assert (await listed())[acknowledged.id] == ("UNDEPLOYED", written(stopped.performed_at))
        asked = [provider.id, pending.artifact_id, never.id, "unknown"]
        answer = await gateway.ask("POST", "/artifacts/exists", json={"artifactIds": asked})
        exist = {each["artifactId"]: each["exists"] for each in (await answer.json())["artifacts"]}
        assert exist == {provider.id: True, pending.artifact_id: True, never.id: False, "unknown": False}


async def test_every_list_tags_its_deployments_anew(listener: OpenListener) -> None:
    """A gateway serves nothing under a tag that it has seen, even when it has lost what came under it first."""
    async with listener() as gateway:
        await gateway.make(LLM_PROVIDER)
        tags = {each["etag"] for _ in range(2) for each in (await gateway.listed("/deployments"))["deployments"]}
        assert len(tags) == 2


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_keys_are_listed_for_their_kind_whatever_issuer_is_asked_for(listener: OpenListener) -> None:
    async with listener() as gateway:
        provider, _ = await gateway.make(LLM_PROVIDER)
        issued = await gateway.control_plane.keys.create(_ORGANIZATION, LLM_PROVIDER, provider.id, "first-key")
        for query in ("", "?issuer=somebody"):
            [key] = await gateway.listed(f"/llm-providers/api-keys{query}")
            assert (key["uuid"], key["name"], key["artifactUuid"]) == (issued.key.id, "first-key", provider.id)
            assert (key["apiKeyHashes"], key["status"]) == ({"sha256": issued.key.sha256}, "active")
            assert issued.value not in json.dumps(key)
        for path in ("/apis/api-keys", "/llm-proxies/api-keys", "/websub-apis/api-keys", "/webbroker-apis/api-keys"):
            assert await gateway.listed(path) == []
        await gateway.control_plane.keys.revoke(_ORGANIZATION, LLM_PROVIDER, provider.id, "first-key")
        assert await gateway.listed("/llm-providers/api-keys") == []


async def test_a_document_is_waited_for_while_the_database_is_away_for_a_moment(
    listener: OpenListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway asks once, and gives the deployment up for good when that fails."""
    monkeypatch.setattr(wait_policy, "_PAUSE", 0.01)
    async with listener() as gateway:
        made, _ = await gateway.make(REST_API)
        content, failures = gateway.control_plane.files.content, 3

        async def away_at_first(*values: Any) -> Content:  # noqa: ANN401 - whatever is asked
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise StorageUnavailable("away")
            return await content(*values)

        monkeypatch.setattr(gateway.control_plane.files, "content", away_at_first)
        assert (await gateway.ask("GET", f"/apis/{made.id}")).status == 200
        monkeypatch.setattr(wait_policy, "_PATIENCE", 0.0)
        failures = 3
        assert (await gateway.ask("GET", f"/apis/{made.id}")).status == 503


@pytest.mark.parametrize("path", [*_KEY_PATHS, "/subscription-plans", "/apis/a-1/subscriptions", "/deployments"])
async def test_s37_a_list_that_cannot_be_told_is_not_empty(
    listener: OpenListener, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The gateway would delete everything that it has: it is told to come back."""
    monkeypatch.setattr(wait_policy, "_PATIENCE", 0.0)
    async with listener() as gateway:
        fetch = gateway.hub.storage.database.fetch

        async def fail_behind_the_token(query: Any, *arguments: object) -> Any:  # noqa: ANN401 - rows
            if "gatecast_gateway_tokens" in query:
                return await fetch(query, *arguments)
            raise StorageUnavailable("gone")

        monkeypatch.setattr(gateway.hub.storage.database, "fetch", fail_behind_the_token)
        answer = await gateway.ask("GET", path)
        assert answer.status == 503
        assert "gone" not in await answer.text()


async def test_whoever_leaves_in_the_middle_of_a_request_is_no_mistake_of_ours(
    listener: OpenListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def left(*_: object) -> None:
        raise ConnectionResetError

    async with listener() as gateway:
        monkeypatch.setattr(gateway_api, "identify", left)
        with captured_logs() as logs:
            assert (await gateway.ask("GET", "/deployments")).status == 503
    # What the pod does meanwhile is no mistake either.
    assert [line for line in logs if line["log_level"] != "info"] == []


async def test_s37_documents_that_cannot_be_decrypted_are_503(listener: OpenListener) -> None:
    """A pod without the right key cannot tell, which is not the same as there being nothing."""
    async with listener() as gateway:
        made, _ = await gateway.make(LLM_PROVIDER)
        keyless = ControlPlane.on(gateway.hub, Encryption([bytes([1]) * 32]))
        files = gateway.control_plane.files
        files._encryption = keyless.files._encryption
        assert (await gateway.ask("GET", f"/llm-providers/{made.id}")).status == 503
        assert (await gateway.ask("GET", "/secrets?includeValues=true")).status == 503


# --- subscriptions ----------------------------------------------------------------------------------------------------


async def test_subscriptions_and_plans_are_as_the_events_left_them(listener: OpenListener) -> None:
    async with listener() as gateway:

        async def publish(type_: str, **data: object) -> None:
            event = Event(
                gateway_id=gateway.gateway_id,
                type=type_,
                action=Action.UPDATE,
                entity_type="subscription",
                entity_id="s-1",
                data=data,
            )
            await gateway.control_plane.subscriptions.publish(event)

        await publish("subscriptionPlan.created", planId="p-1", planName="Gold", status="ACTIVE", throttleLimitCount=5)
        await publish("subscriptionPlan.updated", planId="p-1", throttleLimitCount=6)
        await publish("subscriptionPlan.updated", planId="unknown", throttleLimitCount=6)
        [plan] = await gateway.listed("/subscription-plans")
        assert (plan["id"], plan["planName"], plan["status"]) == ("p-1", "Gold", "ACTIVE")
        assert (plan["throttleLimitCount"], plan["billingPlan"]) == (6, None)
        await publish(
            "subscription.created", subscriptionId="s-1", apiId="a-1", subscriptionToken="token-of-s-1", status="ACTIVE"
        )
        await publish("subscription.updated", subscriptionId="s-1", status="INACTIVE")
        [subscription] = await gateway.listed("/apis/a-1/subscriptions")
        assert (subscription["subscriptionToken"], subscription["status"]) == ("token-of-s-1", "INACTIVE")
        assert await gateway.listed("/apis/a-2/subscriptions") == []
        rows = await gateway.hub.storage.database.fetch("SELECT body FROM gatecast_subscription_records")
        assert all(b"token-of-s-1" not in bytes(row["body"]) for row in rows)
        await publish("subscription.deleted", subscriptionId="s-1")
        assert await gateway.listed("/apis/a-1/subscriptions") == []


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("subscriptionPlan", {"expiryTime": ""}),
        ("subscriptionPlan", {"expiryTime": "tomorrow"}),
        ("subscriptionPlan", {"expiryTime": "2026-01-02T03:04:05"}),
        ("subscriptionPlan", {"throttleLimitCount": "10"}),
        ("subscriptionPlan", {"throttleLimitCount": True}),
        ("subscriptionPlan", {"stopOnQuotaReach": "yes"}),
        ("subscriptionPlan", {"planName": 5}),
        ("subscriptionPlan", {"status": None}),
        ("subscription", {"apiId": 1}),
        ("subscription", {"subscriptionToken": ""}),
        ("subscription", {"status": "SLEEPING"}),
        ("subscription", {"applicationId": ["a"]}),
    ],
)
async def test_what_a_gateway_cannot_read_spoils_no_list(
    listener: OpenListener, kind: str, fields: dict[str, Any]
) -> None:
    """The gateway drops such an event; a list with it would be dropped as a whole, at every connect."""
    good = {
        "subscriptionPlan": {"planId": "p-1", "planName": "Gold", "status": "ACTIVE"},
        "subscription": {"subscriptionId": "s-1", "apiId": "a-1", "subscriptionToken": "token", "status": "ACTIVE"},
    }[kind]
    path = {"subscriptionPlan": "/subscription-plans", "subscription": "/apis/a-1/subscriptions"}[kind]
    async with listener() as gateway:

        async def publish(verb: str, **data: object) -> None:
            event = Event(
                gateway_id=gateway.gateway_id,
                type=f"{kind}.{verb}",
                action=Action.UPDATE,
                entity_type=kind,
                entity_id="one",
                data={**good, **data},
            )
            await gateway.control_plane.subscriptions.publish(event)

        await publish("created", **fields)
        assert await gateway.listed(path) == []
        await publish("created")
        [before] = await gateway.listed(path)
        if fields not in ({"status": None}, {"subscriptionToken": ""}):
            # These two an update may leave out.
            await publish("updated", **fields)
            assert await gateway.listed(path) == [before]


# --- imports ----------------------------------------------------------------------------------------------------------


def _import(text: bytes, entry: str = "artifacts.json") -> aiohttp.FormData:
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(entry, text)
    form = aiohttp.FormData()
    form.add_field("artifacts", package.getvalue(), filename="artifacts.zip", content_type="application/octet-stream")
    form.add_field("total", "1")
    return form


async def test_what_was_made_on_a_gateway_is_stored_and_keeps_its_id(listener: OpenListener) -> None:
    async with listener() as gateway:
        item = {
            "dpid": "local-1",
            "status": "deployed",
            "configuration": {
                "kind": "RestApi",
                "metadata": {"name": "own-api"},
                "spec": {"displayName": "Own", "auth": {"value": "a-credential"}},
            },
            "deployedAt": "2026-01-02T03:04:05Z",
        }
        body = json.dumps([item, {**item, "dpid": "local-2", "status": "strange"}]).encode()
        path = "/artifacts/import-gateway-artifacts"
        answers = [await (await gateway.ask("POST", path, data=_import(body))).json() for _ in range(2)]
        assert (answers[0]["total"], answers[0]["success"], answers[0]["failed"]) == (2, 1, 1)
        assert answers[0]["artifacts"]["local-2"]["error"]
        assert answers[0]["artifacts"]["local-1"] == answers[1]["artifacts"]["local-1"]
        [shown] = await gateway.control_plane.imports.of_gateway(gateway.gateway_id)
        assert (shown.id, shown.handle, shown.name) == (answers[0]["artifacts"]["local-1"]["id"], "own-api", "Own")
        rows = await gateway.hub.storage.database.fetch("SELECT configuration FROM gatecast_imported_artifacts")
        assert all(b"a-credential" not in bytes(row["configuration"]) for row in rows)
        kept = await gateway.control_plane.files.existing(gateway.gateway_id, [shown.id, "local-1", "local-2"])
        assert kept == {shown.id, "local-1"}


@pytest.mark.parametrize(
    ("configuration", "fault"),
    [
        (b'{"a": ' * 2_000 + b"1" + b"}" * 2_000, "nested"),
        (b'{"a": ' * 300 + b"1" + b"}" * 300, "nested"),
        (b'{"spec": {"displayName": "\\ud800"}}', "surrogates"),
        (b'{"spec": {"n": ' + b"9" * 5_000 + b"}}", "double"),
        (b'{"spec": {"n": 1e999}}', "double"),
        (b"null", "configuration"),
    ],
    ids=["deepest", "deep", "surrogate", "digits", "infinite", "none"],
)
async def test_one_bad_artifact_is_shown_and_the_others_are_stored(
    listener: OpenListener, configuration: bytes, fault: str
) -> None:
    """Whatever is wrong with it: 200, the error at that artifact, and what was stored of it before stays."""
    good = b'{"dpid": "%b", "status": "deployed", "configuration": {"kind": "RestApi", "metadata": {"name": "%b"}}}'
    bad = b'{"configuration": %b, "x": "dpid", "status": "deployed", "y": {"dpid": "inner"}, "dpid" : "bad"}'
    async with listener() as gateway:
        path = "/artifacts/import-gateway-artifacts"
        before = await gateway.ask("POST", path, data=_import(b"[" + good % (b"bad", b"before") + b"]"))
        assert (await before.json())["success"] == 1
        package = b"[%b, %b, %b]" % (good % (b"one", b"first"), bad % configuration, good % (b"two", b"second"))
        answer = await gateway.ask("POST", path, data=_import(package))
        assert answer.status == 200, await answer.text()
        told = await answer.json()
        assert (told["total"], told["success"], told["failed"]) == (3, 2, 1)
        assert fault in told["artifacts"]["bad"]["error"]
        assert [told["artifacts"][each]["error"] for each in ("one", "two")] == ["", ""]
        stored = await gateway.control_plane.imports.of_gateway(gateway.gateway_id)
        assert {each.handle for each in stored} == {"before", "first", "second"}


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[1]",
        b'{"policies": ',
        b'{"a": ' * 2_000 + b"1" + b"}" * 2_000,
        b'{"a": ' * 300 + b"1" + b"}" * 300,
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"9" * 5_000 + b"}",
        b'{"a": 1e999}',
        b'{"a": [' + b"1," * MAX_VALUES + b"1]}",
        b'{"a": "' + b"x" * MAX_JSON_BYTES + b'"}',
    ],
    ids=["nothing", "list", "cut", "deepest", "deep", "surrogate", "digits", "infinite", "many", "long"],
)
async def test_a_bad_manifest_is_shown_and_the_one_before_stays(listener: OpenListener, manifest: bytes) -> None:
    """204, because a refusal ends the gateway's process; the next good one takes the fault away."""
    async with listener() as gateway:
        path = f"/gateways/{gateway.gateway_id}/manifest"
        gateways = Gateways(gateway.hub)

        async def fault() -> str:
            return (await gateways.get(_ORGANIZATION, gateway.gateway_id)).manifest_fault

        for sent, is_bad in ((b'{"version": "1.0"}', False), (manifest, True), (b'{"version": "1.1"}', False)):
            assert (await gateway.ask("POST", path, data=io.BytesIO(sent))).status == 204
            assert bool(await fault()) is is_bad
            if is_bad:
                assert await gateways.manifest(_ORGANIZATION, gateway.gateway_id) == {"version": "1.0"}
        assert await gateways.manifest(_ORGANIZATION, gateway.gateway_id) == {"version": "1.1"}


async def test_a_manifest_may_say_more_than_a_tenant(listener: OpenListener) -> None:
    """Schemas of policies nest, and hold numbers beyond 64 bits."""
    manifest: dict[str, Any] = {"version": "1.0", "large": 10**30, "text": "nul\x00"}
    for _ in range(150):
        manifest = {"inner": manifest}
    async with listener() as gateway:
        answer = await gateway.ask("POST", f"/gateways/{gateway.gateway_id}/manifest", json=manifest)
        assert answer.status == 204
        gateways = Gateways(gateway.hub)
        assert (await gateways.get(_ORGANIZATION, gateway.gateway_id)).manifest_fault == ""
        assert await gateways.manifest(_ORGANIZATION, gateway.gateway_id) == manifest


@pytest.mark.parametrize(
    "form",
    [
        lambda: _import(b"[", "artifacts.json"),
        lambda: _import(b"{}"),
        lambda: _import(b"[1]"),
        lambda: _import(b"[]", "other.json"),
        lambda: _import(b" " * (MAX_IMPORT_BYTES + 1)),
        lambda: _import(b"[" + b"{}," * MAX_VALUES + b"{}]"),
        lambda: _import(json.dumps([{"dpid": str(number)} for number in range(5_001)]).encode()),
        lambda: aiohttp.FormData({"total": "1"}),
        lambda: aiohttp.FormData([(f"part-{number}", "1") for number in range(30)]),
        lambda: b"not multipart",
    ],
)
async def test_a_hostile_import_is_refused(listener: OpenListener, form: Callable[[], Any]) -> None:
    """A bomb, no JSON, no array, no entry, too many: 400, and nothing is stored."""
    async with listener() as gateway:
        answer = await gateway.ask("POST", "/artifacts/import-gateway-artifacts", data=form())
        assert answer.status == 400, await answer.text()
        assert await gateway.control_plane.imports.of_gateway(gateway.gateway_id) == []


@pytest.mark.parametrize("path", ["/deployments/fetch-batch", "/artifacts/exists"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"[]",
        b'{"deploymentIds": 1, "artifactIds": [1]}',
        b'{"deploymentIds": ["\\u0000"], "artifactIds": ["\\u0000"]}',
        b'{"deploymentIds": ["\\ud800"], "artifactIds": ["\\ud800"]}',
        b"[" * 100_000,
        b"[" + b"[]," * MAX_VALUES + b"[]]",
        b'"' + b" " * MAX_JSON_BYTES + b'"',
    ],
    ids=["nothing", "cut", "list", "types", "nul", "surrogate", "deep", "many", "long"],
)
async def test_a_hostile_question_is_refused(listener: OpenListener, path: str, body: bytes) -> None:
    async with listener() as gateway:
        assert (await gateway.ask("POST", path, data=io.BytesIO(body))).status == 400


def test_every_family_can_be_downloaded() -> None:
    assert {artifact_kind.download for artifact_kind in BY_KIND.values()} == {
        "apis",
        "llm-providers",
        "llm-proxies",
        "mcp-proxies",
    }
