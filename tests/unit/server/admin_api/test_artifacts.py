"""`/api/v1/llm-providers` and the other kinds of artifacts, on every database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from structlog.testing import CapturingLogger

from gatecast.controlplane.gateway_sync import acknowledgements
from gatecast.controlplane.gateway_sync.acknowledgements import Acknowledgement
from gatecast.server.admin_api import AdminContext
from gatecast.storage.contract import ReadRequest
from gatecast.telemetry import metrics

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_OTHER = {"Authorization": "Bearer other-token"}
_IGNORED = "gatecast_acknowledgements_ignored_total"
_CREDENTIAL = "Bearer a-credential"
_AUTH = {"type": "api-key", "header": "Authorization", "value": _CREDENTIAL}


def _provider(name: str = "Demo Provider", **fields: object) -> dict[str, Any]:
    upstream = {"url": "https://llm.example.test/v1", "auth": _AUTH}
    return {"name": name, "version": "v1.0", "template": "openai", "upstream": upstream, **fields}


def _proxy(provider_id: str, name: str = "Demo Proxy", **fields: object) -> dict[str, Any]:
    return {"name": name, "version": "v1.0", "context": "/demo-proxy", "provider": {"id": provider_id}, **fields}


def _mcp(name: str = "Demo MCP", **fields: object) -> dict[str, Any]:
    upstream = {"url": "https://mcp.example.test/mcp"}
    return {"name": name, "version": "v1.0", "context": "/demo-mcp", "upstream": upstream, **fields}


def _api(name: str = "Demo API", **fields: object) -> dict[str, Any]:
    upstream = {"main": {"url": "http://backend.example.test:8080/base"}}
    operations = [{"method": "GET", "path": "/items/{id}"}]
    return {
        "name": name,
        "version": "v1.0",
        "context": "/demo-api",
        "upstream": upstream,
        "operations": operations,
        **fields,
    }


async def _make(client: httpx.AsyncClient, collection: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(f"/api/v1/{collection}", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def _events(context: AdminContext, gateway_id: str) -> list[tuple[str, dict[str, Any]]]:
    request = ReadRequest(gateway_id=gateway_id, after=0, max_events=1000, max_bytes=10_000_000)
    [result] = await context.hub.storage.log.read([request])
    assert result is not None
    return [(event.type, dict(event.data)) for event in result.events]


async def _types(context: AdminContext, gateway_id: str) -> list[str]:
    return [type_ for type_, _ in await _events(context, gateway_id)]


def _problem(answer: httpx.Response, status: int, field: str | None = None) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    if field is not None:
        assert body["field"] == field, body
    return str(body["detail"])


# --- creating ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("collection", "body", "resource"),
    [
        ("llm-providers", _provider(), "llmprovider"),
        ("mcp-proxies", _mcp(), "mcpproxy"),
        ("rest-apis", _api(), "api"),
    ],
)
async def test_what_is_created_is_shown_and_published(
    open_api: OpenApi, new_gateway: NewGateway, collection: str, body: dict[str, Any], resource: str
) -> None:
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        made = await _make(client, collection, {**body, "gateways": [gateway]})
        answer = await client.get(f"/api/v1/{collection}/{made['id']}")
        shown = answer.json()
        assert answer.headers["etag"] == '"1"'
        assert (shown["handle"], shown["gateways"]) == (made["handle"], [gateway])
        assert [(each["state"], each["revision"]) for each in shown["deployments"]] == [("PENDING", 1)]
        [(type_, data)] = await _events(context, gateway)
        assert type_ == f"{resource}.deployed"
        id_field = {"llmprovider": "providerId", "api": "apiId"}.get(resource, "proxyId")
        assert data[id_field] == made["id"]
        assert data["deploymentId"] == shown["deployments"][0]["id"]
        assert data["gatewayId"] == gateway
        assert data["organizationId"] == "default"
        moment = datetime.fromisoformat(data["performedAt"])
        assert data["performedAt"].endswith("Z")
        assert moment.microsecond % 1000 == 0
        assert _CREDENTIAL not in str(data)


async def test_credentials_are_masked_and_the_mask_keeps_them(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        made = await _make(client, "llm-providers", _provider(gateways=[gateway]))
        assert made["upstream"]["auth"]["value"] == "***"
        path = f"/api/v1/llm-providers/{made['id']}"
        masked = {**_provider(), "description": "changed", "upstream": made["upstream"]}
        assert (await client.put(path, json=masked)).status_code == 200
        [kept] = await context.control_plane.files.secrets(gateway, with_values=True)
        assert kept.value == _CREDENTIAL
        auth = {**_AUTH, "value": "Bearer another"}
        await client.patch(path, json={"upstream": {"auth": auth}})
        [changed] = await context.control_plane.files.secrets(gateway, with_values=True)
        assert changed.value == "Bearer another"
        assert changed.handle != kept.handle
        fresh = _provider("Fresh", upstream={"url": "https://llm.example.test", "auth": {**_AUTH, "value": "***"}})
        refused = await client.post("/api/v1/llm-providers", json=fresh)
        assert "none is stored" in _problem(refused, 422, "upstream.auth.value")


async def test_names_make_handles_and_are_unique_with_their_version(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        first = await _make(client, "rest-apis", _api("My API"))
        second = await _make(client, "rest-apis", _api("My-API", context="/other"))
        assert (first["handle"], second["handle"]) == ("my-api", "my-api-2")
        _problem(await client.post("/api/v1/rest-apis", json=_api("My API")), 409, "name")
        await _make(client, "rest-apis", _api("My API", version="v2.0"))
        _problem(await client.post("/api/v1/rest-apis", json=_api("New", handle="my-api")), 409, "handle")


async def test_lists_are_paged_by_handle(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, _):
        gateway = await new_gateway(client)
        for number in range(3):
            await _make(client, "rest-apis", _api(f"Api {number}", gateways=[gateway] if number == 1 else []))
        first = (await client.get("/api/v1/rest-apis?limit=2")).json()
        assert [(each["handle"], each["gateways"]) for each in first["items"]] == [("api-0", []), ("api-1", [gateway])]
        second = (await client.get(f"/api/v1/rest-apis?limit=2&after={first['next']}")).json()
        assert [each["handle"] for each in second["items"]] == ["api-2"]
        assert second["next"] is None


async def test_a_document_that_a_gateway_would_reject_is_refused_with_its_field(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        for body, field in (
            (_api(context="no-slash"), "context"),
            (_api(name="x"), "name"),
            (_api(description="{{ env }}"), "description"),
            (_api(unknown=1), "unknown"),
        ):
            _problem(await client.post("/api/v1/rest-apis", json=body), 422, field)
        assert (await client.get("/api/v1/rest-apis")).json()["items"] == []


# --- changing ---------------------------------------------------------------------------------------------------------


async def test_s32_what_is_left_out_stays(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """A PUT or PATCH without gateways undeploys nothing; neither removes a key; leaving a gateway out must be said."""
    async with open_api() as (client, context):
        one, two = await new_gateway(client), await new_gateway(client, "second")
        made = await _make(client, "rest-apis", _api(gateways=[one, two]))
        path = f"/api/v1/rest-apis/{made['id']}"
        assert (await client.post(f"{path}/api-keys", json={"name": "first-key"})).status_code == 201
        assert (await client.put(path, json=_api(description="new"))).json()["gateways"] == sorted([one, two])
        assert (await client.patch(path, json={"description": "newer"})).json()["gateways"] == sorted([one, two])
        before = await _types(context, one)
        for method in (client.put, client.patch):
            body = _api(gateways=[two]) if method == client.put else {"gateways": [two]}
            assert one in _problem(await method(path, json=body), 409, "gateways")
        assert await _types(context, one) == before
        changed = await client.patch(path, json={"gateways": [two], "undeploy": [one]})
        assert changed.json()["gateways"] == [two]
        assert (await _types(context, one))[-1] == "api.undeployed"
        keys = (await client.get(f"{path}/api-keys")).json()["items"]
        assert [(key["name"], key["revokedAt"]) for key in keys] == [("first-key", None)]
        assert "apikey.revoked" not in await _types(context, one) + await _types(context, two)


async def test_a_stale_write_is_refused(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        made = await _make(client, "rest-apis", _api())
        path = f"/api/v1/rest-apis/{made['id']}"
        current = {"If-Match": '"1"'}
        assert (await client.patch(path, json={"description": "a"}, headers=current)).headers["etag"] == '"2"'
        for method, body in (("PATCH", {"description": "b"}), ("PUT", _api()), ("DELETE", None)):
            answer = await client.request(method, path, json=body, headers=current)
            _problem(answer, 412)
        assert (await client.get(path)).json()["description"] == "a"


async def test_a_stale_deployment_is_refused(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """Deploying, restoring and undeploying go by the version of the artifact; so do lists."""
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        made = await _make(client, "rest-apis", _api(gateways=[gateway]))
        path = f"/api/v1/rest-apis/{made['id']}"
        stale = {"If-Match": made["etag"]}
        await client.patch(path, json={"description": "a"})
        [listed] = (await client.get("/api/v1/rest-apis")).json()["items"]
        assert (made["etag"], listed["etag"]) == ('"1"', '"2"')
        before, body = await _types(context, gateway), {"gatewayId": gateway}
        actions = [
            ("deployments", body),
            (f"deployments/{made['deployments'][0]['id']}/restore", {}),
            ("undeploy", body),
        ]
        for action, sent in actions:
            _problem(await client.post(f"{path}/{action}", json=sent, headers=stale), 412)
        assert await _types(context, gateway) == before
        for action, sent in actions:
            fresh = await client.get(path)
            done = await client.post(f"{path}/{action}", json=sent, headers={"If-Match": fresh.headers["etag"]})
            assert done.is_success, done.text
        # What was restored is what the artifact is from then on: an ETag from before is stale.
        _problem(await client.post(f"{path}/undeploy", json=body, headers={"If-Match": listed["etag"]}), 412)
        assert fresh.headers["etag"] == '"3"'
        assert "description" not in fresh.json()


@pytest.mark.parametrize(
    ("collection", "body"),
    [("llm-providers", _provider()), ("mcp-proxies", _mcp()), ("rest-apis", _api())],
)
async def test_what_was_read_can_be_sent_back(
    open_api: OpenApi, new_gateway: NewGateway, collection: str, body: dict[str, Any]
) -> None:
    """Fields that cannot be changed are ignored, unknown ones are still errors, and nothing is told twice."""
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        made = await _make(client, collection, {**body, "gateways": [gateway]})
        path = f"/api/v1/{collection}/{made['id']}"
        shown = (await client.get(path)).json()
        for method in (client.put, client.patch):
            again = await method(path, json=shown)
            assert (again.status_code, again.headers.get("etag")) == (200, '"1"'), again.text
        assert len(await _types(context, gateway)) == 1
        shown["deployments"][0]["reason"] = "a template with {{ in it"
        changed = await client.put(path, json={**shown, "description": "changed"}, headers={"If-Match": shown["etag"]})
        assert (changed.json()["description"], changed.json()["handle"]) == ("changed", made["handle"])
        _problem(await client.put(path, json={**shown, "unknown": 1}), 422, "unknown")
        _problem(await client.patch(path, json={"unknown": 1}), 422, "unknown")


async def test_a_patch_merges_and_null_removes(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        made = await _make(client, "llm-providers", _provider(description="old", vhost="a.example"))
        path = f"/api/v1/llm-providers/{made['id']}"
        changed = (await client.patch(path, json={"upstream": {"url": "https://b.example"}, "vhost": None})).json()
        assert changed["upstream"]["url"] == "https://b.example"
        assert changed["upstream"]["auth"]["value"] == "***"
        assert changed["description"] == "old"
        assert not changed.get("vhost")


async def test_the_same_again_publishes_nothing(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        made = await _make(client, "rest-apis", _api(gateways=[gateway]))
        path = f"/api/v1/rest-apis/{made['id']}"
        assert (await client.patch(path, json={})).headers["etag"] == '"1"'
        added = await new_gateway(client, "second")
        await client.patch(path, json={"gateways": [gateway, added]})
        assert await _types(context, gateway) == ["api.deployed"]
        assert await _types(context, added) == ["api.deployed"]


# --- deploying --------------------------------------------------------------------------------------------------------


async def test_revisions_rise_and_instants_too(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """The last twenty are kept, and each can be restored as a new one."""
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        made = await _make(client, "rest-apis", _api(gateways=[gateway]))
        path = f"/api/v1/rest-apis/{made['id']}"
        for _ in range(22):
            assert (await client.post(f"{path}/deployments", json={"gatewayId": gateway})).status_code == 201
        page = (await client.get(f"{path}/deployments?limit=15")).json()
        rest = (await client.get(f"{path}/deployments?limit=15&after={page['next']}")).json()
        revisions = [each["revision"] for each in page["items"] + rest["items"]]
        assert revisions == list(range(23, 3, -1))
        assert {each["state"] for each in page["items"][1:]} == {"SUPERSEDED"}
        instants = [data["performedAt"] for _, data in await _events(context, gateway)]
        assert instants == sorted(set(instants))
        earlier, oldest = (each["id"] for each in rest["items"][-2:])
        restored = await client.post(f"{path}/deployments/{earlier}/restore")
        assert (restored.status_code, restored.json()["revision"]) == (201, 24)
        assert (await client.get(f"{path}/deployments/{earlier}")).json()["state"] == "SUPERSEDED"
        assert (await client.get(f"{path}/deployments/{oldest}")).status_code == 404


async def test_a_proxy_needs_its_provider_where_it_runs(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        provider = await _make(client, "llm-providers", _provider())
        refused = await client.post("/api/v1/llm-proxies", json=_proxy(provider["id"], gateways=[gateway]))
        assert "deploy the provider there first" in _problem(refused, 409, "gateways")
        assert (await client.get("/api/v1/llm-proxies")).json()["items"] == []
        path = f"/api/v1/llm-providers/{provider['id']}"
        await client.post(f"{path}/deployments", json={"gatewayId": gateway})
        await _make(client, "llm-proxies", _proxy(provider["id"], gateways=[gateway]))
        stopped = await client.post(f"{path}/undeploy", json={"gatewayId": gateway})
        assert "undeploy them first" in _problem(stopped, 409)
        await client.patch(path, json={"context": "/moved"})
        assert (await _types(context, gateway))[-2:] == ["llmprovider.deployed", "llmproxy.deployed"]
        unknown = await client.post("/api/v1/llm-proxies", json=_proxy("no-such-provider", "Another Proxy"))
        assert "be the id or the handle" in _problem(unknown, 422, "provider.id")


async def test_s33_a_delete_that_is_refused_has_changed_nothing(open_api: OpenApi, new_gateway: NewGateway) -> None:
    """A provider with proxies stays as it is, everywhere; without them it goes, with its keys."""
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        provider = await _make(client, "llm-providers", _provider(gateways=[gateway]))
        path = f"/api/v1/llm-providers/{provider['id']}"
        await client.post(f"{path}/api-keys", json={"name": "first-key"})
        proxy = await _make(client, "llm-proxies", _proxy(provider["id"]))
        before, shown = await _events(context, gateway), (await client.get(path)).json()
        assert "delete them first" in _problem(await client.delete(path), 409)
        assert await _events(context, gateway) == before
        after = (await client.get(path)).json()
        assert {**after, "deployments": None} == {**shown, "deployments": None}
        assert (await client.delete(f"/api/v1/llm-proxies/{proxy['id']}")).status_code == 204
        assert (await client.delete(path)).status_code == 204
        assert (await _types(context, gateway))[-2:] == ["apikey.revoked", "llmprovider.deleted"]
        assert (await client.get(path)).status_code == 404


async def test_a_gateway_that_lacks_a_policy_is_not_sent_what_needs_it(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        await context.gateways.record_manifest(gateway, {"policies": [{"name": "respond", "version": "v1.0.0"}]})
        refused = await client.post("/api/v1/llm-providers", json=_provider(gateways=[gateway]))
        assert "set-headers" in _problem(refused, 409, "gateways")
        await context.gateways.record_manifest(gateway, {"policies": [{"name": "set-headers", "version": "v1.2.0"}]})
        await _make(client, "llm-providers", _provider(gateways=[gateway]))


async def test_parameters_that_a_gateway_would_refuse_are_refused(open_api: OpenApi, new_gateway: NewGateway) -> None:
    schema = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
    broken = {"$ref": "http://192.0.2.1/schema.json", "type": 7}
    policies = [
        {"name": "quota", "version": "v1.0.0", "parameters": schema},
        {"name": "odd", "version": "v1.0.0", "parameters": broken},
    ]
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        await context.gateways.record_manifest(gateway, {"policies": policies})
        quota = {"name": "quota", "version": "v1", "params": {"count": _CREDENTIAL}}
        body = _api(gateways=[gateway], policies=[{"name": "odd", "version": "v1"}, quota])
        problem = _problem(await client.post("/api/v1/rest-apis", json=body), 409, "policies.1")
        assert all(part in problem for part in (gateway, "quota v1", "params.count", "type: 'integer'"))
        assert _CREDENTIAL not in problem
        quota["params"] = {"count": 5}
        await _make(client, "rest-apis", body)


async def test_the_content_of_a_deployment_never_changes_and_holds_no_credential(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    """In the place of each credential, of every kind that has one, stands a reference to a secret."""
    async with open_api() as (client, _):
        gateway = await new_gateway(client)
        provider = await _make(client, "llm-providers", _provider(gateways=[gateway]))
        another = await _make(client, "llm-providers", _provider("Another", gateways=[gateway]))
        mcp_upstream = {"url": "https://mcp.example.test", "auth": {**_AUTH, "type": "bearer"}}
        more = [{"id": another["id"], "auth": _AUTH}]
        proxy = _proxy(provider["id"], additionalProviders=more, gateways=[gateway])
        proxy["provider"]["auth"] = _AUTH
        made = {
            "llm-providers": provider,
            "mcp-proxies": await _make(client, "mcp-proxies", _mcp(upstream=mcp_upstream, gateways=[gateway])),
            "llm-proxies": await _make(client, "llm-proxies", proxy),
        }
        for collection, artifact in made.items():
            deployments = f"/api/v1/{collection}/{artifact['id']}/deployments"
            content = f"{deployments}/{artifact['deployments'][0]['id']}/content"
            first = await client.get(content)
            assert (first.status_code, first.headers["content-type"]) == (200, "application/yaml")
            assert _CREDENTIAL not in first.text
            assert first.text.count('secret \\"gatecast-') == (2 if collection == "llm-proxies" else 1)
            changed = await client.patch(
                f"/api/v1/{collection}/{artifact['id']}", json={"context": f"/moved-{collection}"}
            )
            assert changed.status_code == 200
            assert (await client.get(content)).text == first.text
        _problem(await client.get(f"{deployments}/unknown/content"), 404)
        assert (await client.get(content, headers=_OTHER)).status_code == 404


async def test_artifacts_that_share_a_place_since_an_older_release_show_each_other(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    """And what was read can be sent back."""
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        one = await _make(client, "rest-apis", _api("One", context="/one", gateways=[gateway]))
        two = await _make(client, "mcp-proxies", _mcp("Two", context="/two", gateways=[gateway]))
        assert one["clashes"] == two["clashes"] == []
        async with context.hub.storage.database.transaction() as transaction:
            await transaction.execute("UPDATE gatecast_content_routes SET context = '/one'")
        shown = (await client.get(f"/api/v1/rest-apis/{one['id']}")).json()
        place = {"gatewayId": gateway, "host": "*", "context": "/one"}
        assert shown["clashes"] == [{**place, "kind": "Mcp", "handle": "two"}]
        other = (await client.get(f"/api/v1/mcp-proxies/{two['id']}")).json()
        assert other["clashes"] == [{**place, "kind": "RestApi", "handle": "one"}]
        assert (await client.put(f"/api/v1/rest-apis/{one['id']}", json=shown)).status_code == 200


# --- acknowledgements -------------------------------------------------------------------------------------------------


async def test_s36_a_stale_acknowledgement_changes_no_state(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an older revision, another gateway, another instant, another deployment: only the very one counts.

    The others are logged and counted.
    """
    monkeypatch.setattr(acknowledgements, "_logger", logger := CapturingLogger())
    async with open_api() as (client, context):
        gateway, other = await new_gateway(client), await new_gateway(client, "other")
        made = await _make(client, "rest-apis", _api(gateways=[gateway]))
        path = f"/api/v1/rest-apis/{made['id']}"
        first = made["deployments"][0]
        second = (await client.post(f"{path}/deployments", json={"gatewayId": gateway})).json()

        async def state_after(**changes: object) -> str:
            true = {
                "organization": "default",
                "gateway_id": gateway,
                "artifact_id": made["id"],
                "deployment_id": second["id"],
                "performed_at": datetime.fromisoformat(second["performedAt"]),
                "deployed": True,
                "succeeded": True,
                "error_code": "",
            }
            context.control_plane.acknowledgements.report(Acknowledgement(**{**true, **changes}))
            await context.control_plane.acknowledgements.flush()
            return str((await client.get(f"{path}/deployments/{second['id']}")).json()["state"])

        moment = datetime.fromisoformat(second["performedAt"])
        ignored_before = metrics.registry.get_sample_value(_IGNORED) or 0.0
        assert await state_after(gateway_id=other) == "PENDING"
        assert await state_after(gateway_id="unknown") == "PENDING"
        assert await state_after(artifact_id="unknown") == "PENDING"
        assert await state_after(deployment_id=first["id"]) == "PENDING"
        assert await state_after(performed_at=moment - timedelta(milliseconds=1)) == "PENDING"
        assert await state_after(performed_at=None) == "PENDING"
        assert await state_after(deployed=False) == "PENDING"
        assert await state_after(performed_at=datetime.fromisoformat(first["performedAt"])) == "PENDING"
        old = (await client.get(f"{path}/deployments/{first['id']}")).json()
        assert old["state"] == "SUPERSEDED"
        assert {call.args for call in logger.calls} == {("acknowledgement-ignored",)}
        assert logger.calls[-1].kwargs == {
            "gateway": gateway,
            "artifact": made["id"],
            "deployment": second["id"],
            "performed_at": first["performedAt"].replace("Z", "+00:00"),
        }
        assert metrics.registry.get_sample_value(_IGNORED) == ignored_before + 8
        # The same instant, written differently.
        assert await state_after(performed_at=moment.astimezone(UTC)) == "DEPLOYED"
        # Replicas disagree: they are asked again before that counts, with an event of a new instant.
        told = await _types(context, gateway)
        assert await state_after(succeeded=False, error_code="late") == "PENDING"
        assert await _types(context, gateway) == [*told, "api.deployed"]
        assert metrics.registry.get_sample_value(_IGNORED) == ignored_before + 8
        assert await state_after(succeeded=False, error_code="late") == "PENDING"
        assert metrics.registry.get_sample_value(_IGNORED) == ignored_before + 9


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_keys_are_shown_once_and_follow_their_artifact(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        gateway, late = await new_gateway(client), await new_gateway(client, "late")
        made = await _make(client, "llm-providers", _provider(gateways=[gateway]))
        path = f"/api/v1/llm-providers/{made['id']}/api-keys"
        issued = (await client.post(path, json={"name": "first-key"})).json()
        [shown] = (await client.get(path)).json()["items"]
        assert "value" not in shown
        assert shown["maskedValue"] == f"***{issued['value'][-5:]}"
        rotated = (await client.post(f"{path}/first-key/rotate", json={})).json()
        assert rotated["value"] != issued["value"]
        await client.delete(f"{path}/first-key")
        _problem(await client.delete(f"{path}/first-key"), 404)
        again = (await client.post(path, json={"name": "first-key"})).json()
        types = await _types(context, gateway)
        assert types == [
            "llmprovider.deployed",
            "apikey.created",
            "apikey.updated",
            "apikey.revoked",
            "apikey.created",
        ]
        instants = [data["updatedAt"] for type_, data in await _events(context, gateway) if "updatedAt" in data]
        assert instants == sorted(set(instants))
        await client.post(f"/api/v1/llm-providers/{made['id']}/deployments", json={"gatewayId": late})
        [_, (type_, data)] = await _events(context, late)
        assert (type_, data["uuid"], data["name"]) == ("apikey.created", again["id"], "first-key")
        assert issued["value"] not in str(await _events(context, gateway))


async def test_the_eleventh_key_and_a_second_one_of_a_name_are_refused(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        made = await _make(client, "rest-apis", _api())
        path = f"/api/v1/rest-apis/{made['id']}/api-keys"
        for number in range(10):
            assert (await client.post(path, json={"name": f"key-{number}"})).status_code == 201
        assert "revoke one first" in _problem(await client.post(path, json={"name": "key-10"}), 409)
        assert "rotate it" in _problem(await client.post(path, json={"name": "key-3"}), 409, "name")
        for name in ("X", "ab", "-abc", "a" * 64):
            assert (await client.post(path, json={"name": name})).status_code == 422
        past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        _problem(await client.post(path, json={"name": "late-key", "expiresAt": past}), 422, "expiresAt")


async def test_a_key_that_has_expired_gets_no_value_that_never_opens(open_api: OpenApi) -> None:
    async with open_api() as (client, context):
        made = await _make(client, "rest-apis", _api())
        path = f"/api/v1/rest-apis/{made['id']}/api-keys"
        soon = datetime.now(UTC) + timedelta(hours=1)
        await client.post(path, json={"name": "first-key", "expiresAt": soon.isoformat()})
        rotate = f"{path}/first-key/rotate"
        assert (await client.post(rotate, json={})).status_code == 200
        await context.hub.database.execute("UPDATE gatecast_api_keys SET expires_at = 1")
        assert "has expired" in _problem(await client.post(rotate, json={}), 422, "expiresAt")
        again = await client.post(rotate, json={"expiresAt": (soon + timedelta(hours=1)).isoformat()})
        assert again.status_code == 200


# --- templates --------------------------------------------------------------------------------------------------------


async def test_templates_of_the_organization_stand_beside_the_built_in_ones(open_api: OpenApi) -> None:
    async with open_api() as (client, _):
        path = "/api/v1/llm-provider-templates"
        built_in = (await client.get(path)).json()["items"]
        assert {"openai", "anthropic", "mistralai", "gemini", "azure-openai", "azureai-foundry", "awsbedrock"} == {
            each["handle"] for each in built_in
        }
        assert all(each["readOnly"] for each in built_in)
        own = {"handle": "my-template", "name": "My Template"}
        assert (await client.post(path, json=own)).status_code == 201
        _problem(await client.post(path, json=own), 409, "handle")
        _problem(await client.put(f"{path}/openai", json={**own, "handle": "openai"}), 409, "handle")
        changed = await client.put(f"{path}/my-template", json={**own, "name": "Mine"}, headers={"If-Match": '"1"'})
        assert (changed.json()["name"], changed.headers["etag"]) == ("Mine", '"2"')
        assert (await client.get(f"{path}/my-template", headers=_OTHER)).status_code == 404
        shown = (await client.get(f"{path}/my-template")).json()
        assert shown["etag"] == '"2"'
        sent_back = await client.put(f"{path}/my-template", json={**shown, "description": "again"})
        assert (sent_back.status_code, sent_back.json()["description"]) == (200, "again")
        _problem(await client.put(f"{path}/my-template", json={**shown, "unknown": 1}), 422, "unknown")
        _problem(await client.delete(f"{path}/my-template", headers={"If-Match": shown["etag"]}), 412)
        assert (await client.delete(f"{path}/my-template", headers={"If-Match": '"3"'})).status_code == 204
        _problem(await client.delete(f"{path}/my-template"), 404)
        _problem(await client.delete(f"{path}/openai"), 409)


async def test_a_provider_on_an_own_template_goes_where_the_gateway_has_shown_it(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        body = _provider(template="my-template", gateways=[gateway])
        assert "my-template" in _problem(await client.post("/api/v1/llm-providers", json=body), 409, "template")
        configuration = {"kind": "LlmProviderTemplate", "metadata": {"name": "my-template"}, "spec": {}}
        item = {"dpid": "local-1", "status": "deployed", "configuration": configuration}
        await context.control_plane.imports.store("default", gateway, [item])
        await _make(client, "llm-providers", body)
        [shown] = (await client.get(f"/api/v1/gateways/{gateway}/imported-artifacts")).json()["items"]
        assert (shown["kind"], shown["handle"], shown["localId"]) == ("LlmProviderTemplate", "my-template", "local-1")


# --- organizations ----------------------------------------------------------------------------------------------------


async def test_s31_nothing_of_another_organization_can_be_seen_or_used(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    """By path or by body: artifacts, deployments, keys, providers, gateways."""
    async with open_api() as (client, context):
        gateway = await new_gateway(client)
        foreign = await new_gateway(client, "foreign", headers=_OTHER)
        provider = await _make(client, "llm-providers", _provider(gateways=[gateway]))
        path = f"/api/v1/llm-providers/{provider['id']}"
        await client.post(f"{path}/api-keys", json={"name": "first-key"})
        deployment = provider["deployments"][0]["id"]
        before = await _events(context, gateway)
        for method, tail, body in (
            ("GET", "", None),
            ("PUT", "", _provider()),
            ("PATCH", "", {"description": "mine"}),
            ("DELETE", "", None),
            ("GET", "/deployments", None),
            ("POST", "/deployments", {"gatewayId": foreign}),
            ("GET", f"/deployments/{deployment}", None),
            ("POST", f"/deployments/{deployment}/restore", None),
            ("POST", "/undeploy", {"gatewayId": gateway}),
            ("GET", "/api-keys", None),
            ("POST", "/api-keys", {"name": "my-key"}),
            ("POST", "/api-keys/first-key/rotate", {}),
            ("DELETE", "/api-keys/first-key", None),
        ):
            answer = await client.request(method, path + tail, json=body, headers=_OTHER)
            assert answer.status_code == 404, (method, tail, answer.text)
        assert (await client.get("/api/v1/llm-providers", headers=_OTHER)).json()["items"] == []
        stolen = await client.post("/api/v1/rest-apis", json=_api(gateways=[gateway]), headers=_OTHER)
        assert stolen.status_code == 404
        assert (
            await client.post("/api/v1/llm-proxies", json=_proxy(provider["id"]), headers=_OTHER)
        ).status_code == 422
        for tail in ("/deployments", "/imported-artifacts", "/parked"):
            assert (await client.get(f"/api/v1/gateways/{gateway}{tail}", headers=_OTHER)).status_code == 404
        assert (await client.post(f"{path}/deployments", json={"gatewayId": foreign})).status_code == 404
        assert await _events(context, gateway) == before
        assert await _events(context, foreign) == []


async def test_s06_a_change_whose_events_cannot_be_published_is_not_stored(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either all of it is there, or nothing."""
    async with open_api() as (client, context):
        gateway = await new_gateway(client)

        async def fail(*_: object) -> None:
            raise RuntimeError

        monkeypatch.setattr(context.hub.storage.log, "publish_in", fail)
        answer = await client.post("/api/v1/rest-apis", json=_api(gateways=[gateway]))
        assert answer.status_code == 500
        monkeypatch.undo()
        assert (await client.get("/api/v1/rest-apis")).json()["items"] == []
        assert (await client.get(f"/api/v1/gateways/{gateway}/deployments")).json()["items"] == []
        assert await _events(context, gateway) == []
