"""Whatever a statement of the control plane fails with, who asked is answered, nothing is half done, and others go on.

Everything that operators, browsers and gateways ask for is done step by step. Before each step is done, each statement
that it runs fails in turn, with an SQLSTATE that nobody knows and with an exception that nobody foresaw, while another
organization goes on working. A statement that is added and not reached here fails a test (promise P11).
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import zipfile
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib import resources as package_files
from typing import Any, LiteralString

import aiohttp
import httpx
import pytest

from gatecast.controlplane.access.admin_tokens import AdminTokens
from gatecast.controlplane.access.audit import AuditLog
from gatecast.controlplane.access.gateway_tokens import GatewayTokens
from gatecast.controlplane.access.gateways import Gateways
from gatecast.controlplane.access.log_outs import LogOuts
from gatecast.controlplane.catalog import gateway_artifacts as imports
from gatecast.controlplane.control_plane import open_control_plane
from gatecast.controlplane.encryption import Encryption
from gatecast.controlplane.fleet_samples import FleetSamples
from gatecast.controlplane.gateway_sync.acknowledgements import Acknowledgement, UnservedDownload
from gatecast.controlplane.key_rotation import reseal
from gatecast.errors import StorageError
from gatecast.events import Action, Event
from gatecast.server.admin_api.fleet import Fleets
from gatecast.server.admin_api.fleet_history import FleetMeter
from gatecast.server.gateway_api.app import BASE_PATH
from gatecast.server.pod import Pod
from gatecast.settings import Settings
from gatecast.storage.queries import Queries
from gatecast.testing.doubles.failing_statements import SECRET, FailingStatements, plain
from gatecast.testing.eventually import PATIENCE

_OLD_KEY, _NEW_KEY = bytes(32), bytes([1]) * 32
_ORGANIZATION = "culprit"
_UPSTREAM = {"url": "https://upstream.example.test/v1"}
_AUTH = {"type": "api-key", "header": "Authorization", "value": "Bearer a-credential"}
_OPENAPI = {"openapi": "3.0.0", "info": {"title": "t", "version": "1"}, "paths": {}}
_OPERATIONS = [{"method": "GET", "path": "/items"}]


#: The folders of the control plane that keep tables.
_ROOMS = {"access", "catalog", "deployments", "gateway_sync", "transactions"}

#: Of a gateway that has read everything, and not just now.
_OVER: LiteralString = "finished_at = '2026-01-01T00:00:00+00:00'"


class _Refused(Exception):
    """A step was answered with an error that says: come back."""


def _statements() -> dict[str, str]:
    """File and name to text of every statement of the control plane."""
    found: dict[str, str] = {}
    for folder in ("", *(f".{name}" for name in sorted(_ROOMS))):
        for file in package_files.files(f"gatecast.controlplane{folder}").iterdir():
            if not file.name.endswith(".sql"):
                continue
            queries = Queries(f"gatecast.controlplane{folder}", file.name)
            found |= {f"{file.name}:{name}": plain(queries[name]) for name in queries.names}
    return found


class _Play:
    """One organization's life with one gateway, step by step; each step asks for one thing."""

    def __init__(self, pod: Pod, token: str, stack: AsyncExitStack, sessions: _Sessions, number: int) -> None:
        self._pod = pod
        self._stack = stack
        self._api = sessions.api
        self._browser = sessions.browser
        self._gateway = sessions.gateway
        self._headers = {"Authorization": f"Bearer {token}"}
        self._admin_token = token
        self._number = number
        self._ids: dict[str, str] = {}
        self._control_plane = pod.control_plane
        self._log_outs = LogOuts(pod.hub.storage.database)

    # --- asking -------------------------------------------------------------------------------------------------

    async def _ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        answer = await self._api.request(method, f"/api/v1{path}", json=body, headers=self._headers)
        assert SECRET not in answer.text
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            assert answer.headers["content-type"] == "application/problem+json"
            raise _Refused
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        is_json = answer.headers.get("content-type") == "application/json"
        return answer.json() if is_json and answer.content else None

    async def _browse(self, method: str, path: str, **form: str) -> httpx.Response:
        answer = await self._browser.request(method, path, data=form or None)
        assert SECRET not in answer.text
        assert "Traceback" not in answer.text
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise _Refused
        assert answer.is_success or answer.status_code == httpx.codes.SEE_OTHER, f"{path}: {answer.status_code}"
        assert not answer.headers.get("location", "").startswith("/login"), path
        return answer

    async def _call(self, method: str, path: str, **body: Any) -> bytes:  # noqa: ANN401 - of aiohttp
        headers = {"api-key": self._ids["token"]}
        async with self._gateway.request(method, BASE_PATH + path, headers=headers, **body) as answer:
            content = await answer.read()
            assert SECRET.encode() not in content
            if answer.status == httpx.codes.SERVICE_UNAVAILABLE:
                assert answer.headers["Retry-After"]
                raise _Refused
            assert answer.ok, f"{method} {path}: {answer.status} {content!r}"
            return content

    async def _do(self, work: Awaitable[Any]) -> Any:  # noqa: ANN401 - whatever it is
        """What no route asks for: the command line does, or a part of the pod."""
        try:
            return await work
        except StorageError as error:
            raise _Refused from error

    async def _alter(self, statement: LiteralString, *values: object) -> None:
        async with self._pod.hub.storage.database.transaction() as transaction:
            await transaction.execute(statement, *values)

    def _name(self, text: str) -> str:
        return f"{text} {self._number}"

    def _context(self, text: str) -> str:
        return f"/{text}-{self._number}"

    @property
    def _place(self) -> tuple[str, str]:
        return _ORGANIZATION, self._ids["gateway"]

    @property
    def _gateway_path(self) -> str:
        return f"/gateways/{self._ids['gateway']}"

    # --- the steps ----------------------------------------------------------------------------------------------

    def steps(self) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
        """In order, each with a name; to be done one after another."""
        parts = [self._gateways(), self._templates(), self._artifacts(), self._gateway_calls(), self._learning()]
        return [step for part in (*parts, self._looking(), self._console(), self._leaving()) for step in part]

    async def _make(self, key: str, path: str, **body: object) -> None:
        made = await self._ask("POST", path, body)
        self._ids[key] = str(made["id"])
        for each in made.get("deployments", ()):
            self._ids[f"{key} deployment"] = each["id"]

    def _asked(self, method: str, path: str, body: object = None) -> tuple[str, Callable[[], Awaitable[Any]]]:
        """A request to the admin API; names in braces stand for ids that earlier steps have made."""
        return f"{method} {path}", lambda: self._ask(method, self._filled(path), self._filled_body(body))

    def _filled(self, text: str) -> str:
        for key, value in self._ids.items():
            text = text.replace(f"{{{key}}}", value)
        return text.replace("{number}", str(self._number))

    def _filled_body(self, body: object) -> object:
        return None if body is None else json.loads(self._filled(json.dumps(body)))

    def _made(self, key: str, path: str, **body: object) -> tuple[str, Callable[[], Awaitable[Any]]]:
        return f"make {key}", lambda: self._make(key, self._filled(path), **self._filled_body(body))  # type: ignore[arg-type]

    def _done(self, name: str, work: Callable[[], Awaitable[Any]]) -> tuple[str, Callable[[], Awaitable[Any]]]:
        return name, lambda: self._do(work())

    def _called(self, method: str, path: str, **body: Any) -> tuple[str, Callable[[], Awaitable[Any]]]:  # noqa: ANN401
        return f"gateway {method} {path}", lambda: self._call(method, self._filled(path), **body)

    def _browsed(self, method: str, path: str, **form: str) -> tuple[str, Callable[[], Awaitable[Any]]]:
        return (
            f"console {method} {path}",
            lambda: self._browse(
                method, self._filled(path), **{name: self._filled(value) for name, value in form.items()}
            ),
        )

    def _gateways(self) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
        manifest = {"version": "1.0"}
        path = "/gateways/{gateway}/manifest"
        return [
            self._done("make the first token", lambda: AdminTokens(self._pod.hub.storage).prepare("")),
            ("issue an admin token", self._issue_admin_token),
            self._done("list admin tokens", self._pod.admin_tokens.all),
            self._done("revoke an admin token", lambda: self._pod.admin_tokens.revoke(self._ids["admin token"])),
            self._made("gateway", "/gateways", name="edge {number}"),
            self._asked("GET", "/gateways/edge {number}"),
            self._asked("PATCH", "/gateways/{gateway}", {"name": "the edge {number}"}),
            self._asked("GET", "/gateways"),
            ("issue a token", self._issue_token),
            self._made("second token", "/gateways/{gateway}/tokens"),
            self._asked("GET", "/gateways/{gateway}/tokens"),
            self._asked("DELETE", "/gateways/{gateway}/tokens/{second token}"),
            self._done("use a revoked token", self._use_revoked_token),
            self._called("POST", path, data=b"{"),
            self._called("POST", path, json=manifest),
            ("connect", self._connect),
        ]

    async def _issue_admin_token(self) -> None:
        self._ids["admin token"], _ = await self._do(self._pod.admin_tokens.issue(_ORGANIZATION))

    async def _issue_token(self) -> None:
        self._ids["token"] = (await self._ask("POST", f"{self._gateway_path}/tokens"))["token"]

    async def _use_revoked_token(self) -> None:
        assert not await GatewayTokens(self._pod.hub).confirm_use(self._ids["second token"])

    async def _connect(self) -> None:
        path, headers = f"{BASE_PATH}/ws/gateways/connect", {"api-key": self._ids["token"]}
        try:
            socket = await self._stack.enter_async_context(self._gateway.ws_connect(path, headers=headers))
        except aiohttp.WSServerHandshakeError as refusal:
            assert refusal.status == httpx.codes.SERVICE_UNAVAILABLE, refusal  # noqa: PT017 - any other status is a fault
            raise _Refused from refusal
        assert (await socket.receive_json())["type"] == "connection.ack"

    def _templates(self) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
        path, template = "/llm-provider-templates", {"handle": "own-{number}", "name": "Own"}
        return [
            self._asked("POST", path, template),
            self._asked("GET", path),
            self._asked("GET", f"{path}/own-{{number}}"),
            self._asked("PUT", f"{path}/own-{{number}}", {**template, "name": "Ours"}),
        ]

    def _artifacts(self) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
        on = {"version": "v1.0", "gateways": ["{gateway}"]}
        upstream, provider = {**_UPSTREAM, "auth": _AUTH}, "/llm-providers/{provider}"
        return [
            (
                "import a template",
                lambda: self._import("template", "LlmProviderTemplate", f"own-{self._number}"),
            ),
            ("import an API", lambda: self._import("api", "RestApi", f"made-there-{self._number}")),
            self._made("own", "/llm-providers", name="Own {number}", template="own-{number}", upstream=_UPSTREAM, **on),
            self._made(
                "provider",
                "/llm-providers",
                name="Provider {number}",
                template="openai",
                upstream=upstream,
                openapi=_OPENAPI,
                **on,
            ),
            self._asked("GET", "/llm-providers/provider-{number}"),
            self._asked(
                "PUT", provider, {**on, "name": "A provider {number}", "template": "openai", "upstream": upstream}
            ),
            self._asked("PATCH", provider, {"description": "changed"}),
            self._made("proxy", "/llm-proxies", name="Proxy {number}", provider={"id": "{provider}"}, **on),
            self._made("mcp", "/mcp-proxies", name="Mcp {number}", context="/mcp-{number}", upstream=_UPSTREAM, **on),
            self._made(
                "api",
                "/rest-apis",
                name="Api {number}",
                context="/api-{number}",
                upstream={"main": _UPSTREAM},
                operations=_OPERATIONS,
                **on,
            ),
            self._asked("GET", "/llm-providers"),
            self._asked("POST", f"{provider}/api-keys", {"name": "a-key"}),
            self._asked("GET", f"{provider}/api-keys"),
            self._asked("POST", f"{provider}/api-keys/a-key/rotate"),
            self._asked("DELETE", f"{provider}/api-keys/a-key"),
            self._asked(
                "POST", "/mcp-proxies/{mcp}/api-keys", {"name": "mcp-key", "expiresAt": "2100-01-01T00:00:00Z"}
            ),
            self._asked("GET", f"{provider}/deployments"),
            self._asked("GET", f"{provider}/deployments/{{provider deployment}}"),
            self._asked("GET", f"{provider}/deployments/{{provider deployment}}/content"),
            self._asked("POST", "/rest-apis/{api}/undeploy", {"gatewayId": "{gateway}"}),
            self._asked("POST", "/rest-apis/{api}/deployments", {"gatewayId": "{gateway}"}),
            self._asked("POST", "/rest-apis/{api}/deployments/{api deployment}/restore", {}),
            self._asked("PATCH", "/rest-apis/{api}", {"gateways": [], "undeploy": ["{gateway}"]}),
            self._asked("PATCH", "/rest-apis/{api}", {"gateways": ["{gateway}"]}),
            *(self._event(*each) for each in _EVENTS),
        ]

    def _event(self, type_: str, data: dict[str, Any]) -> tuple[str, Callable[[], Awaitable[Any]]]:
        kind, _, verb = type_.partition(".")
        action = {"created": "CREATE", "deleted": "DELETE"}.get(verb, "UPDATE")
        body = {"type": type_, "action": action, "entityType": kind, "entityId": "one", "data": data}
        return self._asked("POST", "/gateways/{gateway}/events", body)

    def _gateway_calls(self) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
        return [
            self._called("GET", "/secrets?includeValues=true"),
            ("the value of a secret", self._read_secret),
            self._called("GET", "/deployments"),
            ("fetch a batch", self._fetch),
            self._called("POST", "/artifacts/exists", json={"artifactIds": ["api"]}),
            self._called("GET", "/llm-providers/{provider}"),
            self._called("GET", "/subscription-plans"),
            self._called("GET", "/apis/{api}/subscriptions"),
            self._called("GET", "/apis/of-nobody/subscriptions"),
            self._called("GET", "/apis/api-keys"),
            self._called("GET", "/llm-providers/api-keys"),
            self._called("GET", "/llm-proxies/api-keys"),
            # Another call in between is noted, too, once the last one is.
            self._called("GET", "/mcp-proxies/{mcp}"),
            self._called("POST", "/artifacts/exists", json={"artifactIds": []}),
            ("import an API in place of another", self._replace_import),
            ("import what is gone", lambda: self._import("gone", "RestApi", self._name("gone"), status="undeployed")),
            ("import more than there is room for", self._import_too_many),
            ("import an API later", lambda: self._import("later", "RestApi", self._name("later"))),
        ]

    async def _import(self, local_id: str, kind: str, handle: str, *, status: str = "deployed") -> Any:  # noqa: ANN401 - JSON
        context = self._context(f"there-{local_id}")
        configuration = {
            "kind": kind,
            "metadata": {"name": handle},
            "spec": {"displayName": handle, "context": context},
        }
        item = {"dpid": f"{local_id}-{self._number}", "status": status, "configuration": configuration}
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr("artifacts.json", json.dumps([item]))
        form = aiohttp.FormData()
        form.add_field("artifacts", package.getvalue(), filename="artifacts.zip")
        told = json.loads(await self._call("POST", "/artifacts/import-gateway-artifacts", data=form))
        assert told["failed"] == 0, told

    async def _replace_import(self) -> None:
        await self._import("api-again", "RestApi", f"made-there-{self._number}", status="undeployed")
        await self._import("another", "RestApi", f"made-there-{self._number}")

    async def _import_too_many(self) -> None:
        imports.MAX_IMPORTED, before = 1, imports.MAX_IMPORTED
        try:
            await self._import("full", "RestApi", f"full-{self._number}")
        except AssertionError:
            pass
        finally:
            imports.MAX_IMPORTED = before

    async def _read_secret(self) -> None:
        rows = await self._do(self._pod.control_plane.files.secrets(self._ids["gateway"], with_values=False))
        self._ids["secret"] = rows[0].handle
        await self._call("GET", f"/secrets/{rows[0].handle}/value")

    async def _fetch(self) -> None:
        ids = [self._ids["provider deployment"]]
        listed = await self._do(self._control_plane.files.deployments(self._ids["gateway"]))
        ids += [each.deployment_id for each in listed]
        await self._call("POST", "/deployments/fetch-batch", json={"deploymentIds": ids})

    def _learning(self) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
        """What pods do by themselves with what gateways say."""
        state = self._control_plane.desired_state
        calls, foreign_events = self._control_plane.synchronizations, self._control_plane.foreign_events
        return [
            ("acknowledge", self._acknowledge),
            ("could not serve a secret", lambda: self._unserved(secret=self._ids["secret"])),
            ("could not serve a list", self._unserved),
            self._done("lost", lambda: state.lost(*self._place, "epoch")),
            ("acknowledge what nobody knows", lambda: self._acknowledge("of-another-history")),
            self._done("note unknown", lambda: state.named(self._ids["gateway"], "of-nobody")),
            ("import an API anew", lambda: self._import("anew", "RestApi", self._name("anew"))),
            self._done("look again", lambda: state.look_again(*self._place, 0)),
            self._done("revoked names", self._outlive_revocations),
            self._done("expired keys", self._end_expired),
            self._done("remember orphans", lambda: state.orphaned(self._ids["gateway"], ["of-nobody-else"])),
            ("read lists", self._read_lists),
            ("read everything", self._read_everything),
            ("show a template of another database", self._show_another_template),
            ("begin anew", self._begin_anew),
            self._done("look at the calls", lambda: calls.of_gateway(self._ids["gateway"])),
            self._done("note a loss", lambda: foreign_events.note(self._ids["gateway"], "retention")),
            self._asked("POST", "/gateways/{gateway}/resynchronized"),
            ("seal anew", self._reseal),
            self._done("log out everywhere", lambda: self._log_outs.everywhere(_ORGANIZATION, "oidc a")),
            self._done("count log-outs", lambda: self._log_outs.generation(_ORGANIZATION, "oidc a")),
            self._done("tell own gateways", lambda: self._pod.gateways.among(_ORGANIZATION, [self._ids["gateway"]])),
            self._done("clean up the audit", lambda: AuditLog(self._pod.hub.storage.database).clean_up()),
            ("start again", self._start_again),
        ]

    async def _acknowledge(self, artifact_id: str = "") -> None:
        [running] = await self._do(self._control_plane.artifacts.running(self._ids["api"]))
        deployment = running.deployment
        self._control_plane.acknowledgements.report(
            Acknowledgement(
                organization=_ORGANIZATION,
                gateway_id=self._ids["gateway"],
                artifact_id=artifact_id or self._ids["api"],
                deployment_id=deployment.id,
                performed_at=datetime.fromtimestamp(deployment.performed_at / 1000, UTC),
                deployed=True,
                succeeded=True,
                error_code="",
                resource_type="api",
            )
        )
        await self._do(self._control_plane.acknowledgements.flush())

    async def _unserved(self, *, secret: str = "") -> None:
        report = UnservedDownload(token=self._ids["token"], artifact_id="", secret=secret)
        self._control_plane.acknowledgements.report(report)
        await self._do(self._control_plane.acknowledgements.flush())

    async def _outlive_revocations(self) -> None:
        revoked = {(self._ids["mcp"], "mcp-key")}
        await self._control_plane.keys.outlive_revocations(*self._place, revoked)

    async def _end_expired(self) -> None:
        await self._alter("UPDATE gatecast_api_keys SET expires_at = 1 WHERE name = 'mcp-key'")
        await self._control_plane.keys.end_expired()

    async def _read_lists(self) -> None:
        gateway_id = self._ids["gateway"]
        seen = await self._do(self._control_plane.synchronizations.of_gateway(gateway_id))
        await self._do(self._control_plane.desired_state.read_lists(_ORGANIZATION, gateway_id, seen, alone=True))

    async def _read_everything(self) -> None:
        await self._alter("UPDATE gatecast_placements SET fetched = performed_at")
        await self._alter("UPDATE gatecast_deployments SET state = 'DEPLOYED' WHERE state = 'PENDING'")
        await self._alter(f"UPDATE gatecast_synchronizations SET listed = true, secrets_read = true, {_OVER}")
        await self._alter("UPDATE gatecast_placements SET named = (SELECT max(number) FROM gatecast_synchronizations)")
        await self._read_lists()

    async def _show_another_template(self) -> None:
        await self._import("template", "LlmProviderTemplate", f"own-{self._number}")
        await self._import("template-again", "LlmProviderTemplate", f"own-{self._number}")

    async def _begin_anew(self) -> None:
        await self._alter(f"UPDATE gatecast_synchronizations SET began_anew = true, {_OVER}")
        await self._do(self._control_plane.desired_state.began_anew(*self._place))

    async def _reseal(self) -> None:
        await self._do(reseal(self._pod.hub.storage.database, Encryption([_NEW_KEY, _OLD_KEY])))

    async def _start_again(self) -> None:
        await self._alter("UPDATE gatecast_contents SET routed = 0")
        await self._do(open_control_plane(self._pod.hub, self._pod.settings, None))

    def _looking(self) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
        of_gateway = ("", "/why", "/deployments", "/imported-artifacts", "/parked", "/events")
        return [
            *(self._asked("GET", "/gateways/{gateway}" + path) for path in of_gateway),
            *(self._asked("GET", path) for path in ("/fleet", "/pods", "/policies?gateway={gateway}", "/audit")),
            *(self._asked("GET", path) for path in ("/artifacts", "/deployments", "/fleet/history")),
            ("measure the fleet", self._measure),
            self._asked("POST", "/fleet/actions", {"action": "disconnect", "expected": 0, "search": "nobody"}),
            self._asked("GET", "/gateways/{gateway}/events/search"),
            ("follow events", self._follow),
            ("follow deployments", self._follow_deployments),
        ]

    async def _follow(self) -> None:
        async with self._api.stream("GET", "/api/v1/events/stream", headers=self._headers) as answer:
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                raise _Refused
            assert answer.is_success

    async def _measure(self) -> None:
        samples = FleetSamples(self._pod.hub.storage.database)
        await self._alter("DELETE FROM gatecast_fleet_samples")
        gateways = Gateways(self._pod.hub)
        meter = FleetMeter(Fleets(self._pod.hub, gateways), self._pod.hub.storage.survey, samples)
        await self._do(meter.measure(_ORGANIZATION))

    async def _follow_deployments(self) -> None:
        search = self._control_plane.search
        await self._do(search.recent_deployments(_ORGANIZATION, window=timedelta(minutes=1), limit=10))

    def _console(self) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
        provider = {
            "name": "Seen {number}",
            "version": "v1.0",
            "template": "openai",
            "url": _UPSTREAM["url"],
            "api_key": "a-credential",
            "gateways": "{gateway}",
        }
        return [
            self._browsed("POST", "/login", token=self._admin_token, next="/"),
            *(self._browsed("GET", path) for path in ("/", "/gateways", "/rollouts", "/audit", "/tail", "/settings")),
            *(
                self._browsed("GET", path)
                for path in ("/events?gateway={gateway}", "/llm-templates", "/console/history")
            ),
            *(self._browsed("GET", path) for path in ("/gateways/{gateway}", "/llm-providers", "/llm-providers/new")),
            self._browsed("GET", "/rest-apis/{api}?tab=keys"),
            self._browsed("GET", "/rest-apis/{api}?tab=deployments"),
            self._browsed("POST", "/gateways/new", name="by hand {number}", display_name="", vhost="", type="regular"),
            self._browsed("POST", "/gateways/{gateway}/tokens", any="1"),
            self._browsed("POST", "/llm-providers/new", **provider),
            self._browsed("POST", "/rest-apis/{api}/keys", name="by-hand"),
            self._browsed("POST", "/rest-apis/{api}/keys/by-hand/rotate", any="1"),
            self._browsed("POST", "/rest-apis/{api}/keys/by-hand/revoke", any="1"),
            self._browsed("POST", "/rest-apis/{api}/undeploy", gateway="{gateway}"),
            self._browsed("POST", "/rest-apis/{api}/deploy", gateway="{gateway}"),
            self._browsed("POST", "/rest-apis/{api}/deployments/{api deployment}/restore", any="1"),
            self._browsed("POST", "/mcp-proxies/{mcp}/delete", any="1"),
        ]

    def _leaving(self) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
        return [
            ("settle a deletion", self._settle_deletion),
            self._asked("DELETE", "/llm-proxies/{proxy}"),
            self._asked("DELETE", "/llm-providers/{provider}"),
            self._asked("DELETE", "/llm-providers/{own}"),
            self._asked("DELETE", "/llm-provider-templates/own-{number}"),
            self._asked("DELETE", "/gateways/{gateway}"),
        ]

    async def _settle_deletion(self) -> None:
        head = (await self._ask("GET", self._gateway_path))["position"]["head"]
        await self._do(self._control_plane.desired_state.answered_nothing(_ORGANIZATION, self._ids["gateway"], head))


_EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("subscriptionPlan.created", {"planId": "p-1", "planName": "Gold", "status": "ACTIVE"}),
    ("subscriptionPlan.deleted", {"planId": "p-1"}),
    ("subscriptionPlan.created", {"planId": "p-2", "planName": "Silver", "status": "ACTIVE"}),
    ("application.updated", {"applicationId": "a-1"}),
    ("application.deleted", {"applicationId": "a-1"}),
]


class _Sessions:
    """The clients of the pod."""

    def __init__(self, api: httpx.AsyncClient, browser: httpx.AsyncClient, gateway: aiohttp.ClientSession) -> None:
        self.api = api
        self.browser = browser
        self.gateway = gateway


class _Scene:
    """A pod, the organization that is failed, and one that must not notice."""

    def __init__(self, pod: Pod, stack: AsyncExitStack, sessions: _Sessions, tokens: tuple[str, str]) -> None:
        self.pod = pod
        self._stack = stack
        self._sessions = sessions
        self._token, self._other = tokens
        self._plays = 0

    def play(self) -> _Play:
        """A new one, with a gateway and artifacts of its own."""
        self._plays += 1
        return _Play(self.pod, self._token, self._stack, self._sessions, self._plays)

    async def others_work(self, *, ask: bool) -> None:
        """What the other organization does meanwhile succeeds; it asks where it needs nothing that fails."""
        event = Event(gateway_id="innocent", type="route.changed", action=Action.UPDATE, entity_type="r", entity_id="1")
        await self.pod.hub.publish(event)
        if ask:
            headers = {"Authorization": f"Bearer {self._other}"}
            answer = await self._sessions.api.get("/api/v1/gateways", headers=headers)
            assert answer.status_code == httpx.codes.OK, answer.text

    async def is_well(self) -> None:
        """The pod lives and is ready again."""
        assert self.pod.hub.delivery.failure is None
        async with asyncio.timeout(PATIENCE):
            while (answer := await self._sessions.api.get("/readyz")).status_code != httpx.codes.OK:
                await asyncio.sleep(0.05)
            assert answer.json()["problems"] == []

    async def stored(self) -> list[int]:
        """How many rows there are of what a step may make, and how many events were published with them."""
        [row] = await self.pod.hub.storage.database.fetch(_COUNTS)
        return list(row.values())


_TABLES = ("artifacts", "contents", "secrets", "openapi", "deployments", "placements", "api_keys", "gateways")
_MORE_TABLES = ("gateway_tokens", "admin_tokens", "imported_artifacts", "subscription_records", "kept_events")
_COUNTS: Any = "SELECT " + ", ".join(
    f"(SELECT count(*) FROM gatecast_{table}) AS {table}"
    for table in (*_TABLES, *_MORE_TABLES, "llm_provider_templates")
)


@asynccontextmanager
async def _scene(url: str) -> AsyncIterator[_Scene]:
    keys = [b64encode(key).decode() for key in (_OLD_KEY, _NEW_KEY)]
    settings = Settings(
        database=url,
        api_listen="127.0.0.1:0",
        gateway_listen="127.0.0.1:0",
        gateway_tls="off",
        admin_token="",
        secret_key=",".join(keys),
        migrate="always",
        drain_time=timedelta(seconds=1),
        connect_rate=1_000_000,
    )
    async with AsyncExitStack() as stack:
        pod = await stack.enter_async_context(Pod.open(settings))
        api = await stack.enter_async_context(httpx.AsyncClient(base_url=pod.api_url, timeout=PATIENCE))
        browser = httpx.AsyncClient(base_url=pod.api_url, headers={"Origin": pod.api_url}, timeout=PATIENCE)
        await stack.enter_async_context(browser)
        gateway = await stack.enter_async_context(aiohttp.ClientSession(base_url=pod.gateway_url))
        tokens = [(await pod.admin_tokens.issue(organization))[1] for organization in (_ORGANIZATION, "innocent")]
        await pod.hub.register_gateway("innocent")
        yield _Scene(pod, stack, _Sessions(api, browser, gateway), (tokens[0], tokens[1]))


@pytest.fixture
def faults() -> Any:  # noqa: ANN401 - an iterator
    """Stands between the code and both drivers."""
    faults = FailingStatements()
    with faults.installed():
        yield faults


@pytest.fixture
def url(backend: str, request: pytest.FixtureRequest) -> str:
    """A database of the test's own."""
    return str(request.getfixturevalue(f"{backend}_url"))


async def _learned(scene: _Scene, faults: FailingStatements) -> tuple[dict[str, set[str]], set[str]]:
    """Which statements each step runs, and which ones the other organization does."""
    faults.ran.clear()
    await scene.others_work(ask=True)
    others = set(faults.ran)
    found: dict[str, set[str]] = {}
    for name, step in scene.play().steps():
        faults.ran.clear()
        try:
            async with asyncio.timeout(PATIENCE):
                await step()
        except BaseException as error:
            error.add_note(f"in the step: {name}")
            raise
        # Some things are noted once the answer has left.
        await faults.quiet()
        found.setdefault(name, set()).update(faults.ran)
    return found, others


class _Trial:
    """Lets statements fail at the first step that runs them, each for both reasons."""

    def __init__(self, scene: _Scene, faults: FailingStatements, wanted: dict[str, str]) -> None:
        self._scene = scene
        self._faults = faults
        #: Name and reason of what has not failed yet.
        self.left = {(name, unforeseen): text for name, text in wanted.items() for unforeseen in (False, True)}
        #: Steps that were refused, and had changed something, by statement.
        self.half_done: list[str] = []

    async def run(self) -> None:
        """Go through the steps until everything has failed, or nothing more does."""
        learned, self._others = await _learned(self._scene, self._faults)
        before = None
        while self.left and len(self.left) != before:
            before = len(self.left)
            for name, step in self._scene.play().steps():
                half_done = len(self.half_done)
                await self._try(name, step, [key for key, text in self.left.items() if text in learned[name]])
                if len(self.half_done) > half_done:
                    # What comes after it needs it.
                    break
            await self._scene.is_well()

    async def _try(self, name: str, step: Callable[[], Awaitable[Any]], keys: list[tuple[str, bool]]) -> None:
        """Do a step, after it was asked for while each of these failed."""
        try:
            if keys:
                # What the step before has left to be noted is not this step's.
                await self._faults.quiet()
            for key in keys:
                if await self._fail(name, key, step):
                    return
            await self._within(step())
        except BaseException as error:
            error.add_note(f"in the step: {name}, while or after these failed: {keys}")
            raise

    async def _fail(self, step_name: str, key: tuple[str, bool], step: Callable[[], Awaitable[Any]]) -> bool:
        """Do the step while a statement fails; True: it was done all the same."""
        name, unforeseen = key
        text, before = self.left[key], await self._scene.stored()
        self._faults.fail(text, unforeseen=unforeseen)
        others = self._scene.others_work(ask=text not in self._others)
        try:
            done, _ = await self._within(asyncio.gather(_answered(step), others))
            if self._faults.failed == int(unforeseen):
                await self._faults.quiet()
        finally:
            self._faults.stop()
        if self._faults.failed > int(unforeseen):
            del self.left[key]
        if not done and await self._scene.stored() != before:
            self.half_done.append(f"{step_name}: {name}")
            return True
        return bool(done)

    async def _within(self, work: Awaitable[Any]) -> Any:  # noqa: ANN401 - whatever it is
        async with asyncio.timeout(PATIENCE):
            return await work


async def _answered(step: Callable[[], Awaitable[Any]]) -> bool:
    try:
        await step()
    except _Refused:
        return False
    return True


# --- what is done is answered ---------------------------------------------------------------------------------------

#: What is noted of a request, and is no part of what it asks for.
_NOTES = ("audit.sql:", "synchronizations.sql:")

#: What both listeners answer requests in.
_ANSWERING = ("RequestResponseCycle.run_asgi", "RequestHandler.start")


def _asked_afterwards(faults: FailingStatements, statements: dict[str, str]) -> list[str]:
    """What was asked of the database by requests that had committed a change before."""
    names = {text: name for name, text in statements.items()}
    found, changing, changed = [], set[object](), set[object]()
    for task, text in faults.order:
        if task is None or getattr(task.get_coro(), "__qualname__", "") not in _ANSWERING:
            continue
        name = names.get(text, "")
        if text == "COMMIT;" and task in changing:
            changed.add(task)
        elif name.startswith(_NOTES) or text.startswith(("BEGIN", "COMMIT")):
            continue
        elif task in changed:
            found.append(name or text)
        elif name and _CHANGES.search(text):
            changing.add(task)
    return found


_CHANGES = re.compile(r"\b(INSERT INTO|UPDATE gatecast|DELETE FROM)\b")


@pytest.mark.timeout(600)
async def test_a_change_is_answered_without_asking_the_database_again(
    postgres_url: str, faults: FailingStatements
) -> None:
    """Once it is committed, nothing that fails can hide that it was done: a secret that is shown once, for example."""
    statements = _statements()
    asked: dict[str, list[str]] = {}
    changes = 0
    async with _scene(postgres_url) as scene:
        for name, step in scene.play().steps():
            faults.order.clear()
            await step()
            if "GET" not in name and (found := _asked_afterwards(faults, statements)):
                asked[name] = found
            changes += any(_CHANGES.search(text) for _, text in faults.order)
    assert asked == {}
    assert changes > 30


@pytest.mark.timeout(600)  # Hundreds of failures, one after the other: long, also where nothing is slow.
@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
async def test_whatever_a_statement_fails_with_nothing_is_half_done(
    url: str, backend: str, faults: FailingStatements
) -> None:
    assert backend in url
    async with _scene(url) as scene:
        trial = _Trial(scene, faults, _statements())
        await trial.run()
    left = sorted({name for name, _ in trial.left})
    assert (trial.half_done, left) == ([], []), f"half done: {trial.half_done}; never failed: {left}"
    assert faults.types_asked_for == 0
