"""`differences` finds everything in which a gateway is not as its control plane says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gatecast import Settings
from gatecast.server.pod import Pod
from gatecast.testing.desired_state import differences, in_desired_state
from gatecast.testing.operator import Operator
from gatecast.testing.processes.deployment import address_of
from gatecast.testing.unmodified_gateway import UNDEPLOYED, Artifact, GatewayOptions, UnmodifiedGateway

pytestmark = pytest.mark.slow

AUTH = {"type": "api-key", "header": "Authorization", "value": "Bearer a-credential"}
PROVIDER = {
    "name": "Demo Provider",
    "template": "openai",
    "upstream": {"url": "https://llm.example.test", "auth": AUTH},
    "accessControl": {"mode": "deny_all", "exceptions": [{"path": "/a", "methods": ["GET"]}]},
    "rateLimits": {"global": {"requests": [{"count": 5, "duration": "1m"}]}},
}
API = {
    "name": "Demo API",
    "context": "/demo",
    "upstream": {"main": {"url": "http://backend.example.test"}},
    "operations": [{"method": "GET", "path": "/items"}],
}


@dataclass
class Site:
    """A gateway in the desired state, and who operates its control plane."""

    operator: Operator
    gateway_id: str
    gateway: UnmodifiedGateway

    def id_of(self, kind: str) -> str:
        """Id of the only artifact of a kind."""
        [(artifact_id, _)] = self.gateway._world.database.artifacts.of_kind(kind)
        return artifact_id

    def change(self, kind: str, **fields: object) -> None:
        """Change what runs, behind the control plane's back."""
        world, artifact_id = self.gateway._world, self.id_of(kind)
        changed: Artifact = replace(world.runtime.running[artifact_id], **fields)  # type: ignore[arg-type]
        world.runtime.running[artifact_id] = world.database.artifacts.stored[artifact_id] = changed

    def rewrite(self, kind: str, place: str, value: object) -> None:
        """Change a place of the document that runs."""
        document: Any = deepcopy(self.gateway.running[self.id_of(kind)].document)
        *path, last = place.split(".")
        inner = document["spec"]
        for step in path:
            inner = inner[step]
        inner[last] = value
        self.change(kind, document=document)

    async def found(self) -> str:
        """What is different, in one text."""
        return "\n".join(await differences(self.operator, self.gateway_id, self.gateway))


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    settings = Settings(
        database=f"sqlite:///{folder / 'gatecast.db'}",
        api_listen="127.0.0.1:0",
        gateway_listen="127.0.0.1:0",
        admin_token="an-admin-token-for-tests",
        secret_key="c2VjcmV0LWtleS1mb3ItdGVzdHMtb25seS0zMi1ieXQ=",
    )
    async with Pod.open(settings) as pod, Operator(pod.api_url, settings.admin_token or "") as operator:
        access = await operator.create_gateway("gateway")
        host, port = address_of(pod.gateway_url)
        options = GatewayOptions(reconnect_initial=0.02, reconnect_max=0.1)
        gateway = UnmodifiedGateway(f"{host}:{port}", access.token, follow_artifacts=True, options=options)
        async with gateway:
            provider = await operator.ask("POST", "/llm-providers", {**PROVIDER, "gateways": [access.id]})
            proxy = {"name": "Demo Proxy", "context": "/proxy", "provider": {"id": provider["id"], "auth": AUTH}}
            await operator.ask("POST", "/llm-proxies", {**proxy, "gateways": [access.id]})
            await operator.ask("POST", "/rest-apis", {**API, "gateways": [access.id]})
            await operator.ask("POST", f"/llm-providers/{provider['id']}/api-keys", {"name": "first-key"})
            await in_desired_state(operator, access.id, gateway)
            yield Site(operator, access.id, gateway)
            pod.hurried.set()


def put_gone(s: Site) -> None:
    """An artifact that no longer exists is kept, and runs."""
    stored, running = s.gateway._world.database.artifacts.stored, s.gateway._world.runtime.running
    stored["gone"] = running["gone"] = stored[s.id_of("LlmProvider")]


def make_own(s: Site) -> None:
    """An artifact of the gateway itself, with a key."""
    spec = {**API, "displayName": "Own", "version": "v1.0", "context": "/own"}
    own = {"kind": "RestApi", "metadata": {"name": "own"}, "spec": spec}
    s.gateway.make_api_key(s.gateway.make(own), "own-key")


def lose_secrets(s: Site) -> None:
    """No secret is there any more."""
    s.gateway._world.database.secrets.clear()


def keep_old_secrets(s: Site) -> None:
    """Secrets have other values."""
    secrets = s.gateway._world.database.secrets
    secrets |= dict.fromkeys(secrets, "old")


OLD_AUTH = {**AUTH, "value": "Bearer old"}

FLAWS: Sequence[tuple[Callable[[Site], None], str]] = (
    (lambda s: s.rewrite("RestApi", "displayName", "Other"), "demo-api runs with name 'Other'"),
    (lambda s: s.rewrite("RestApi", "version", "v0.9"), "demo-api runs with spec.version 'v0.9'"),
    (lambda s: s.rewrite("RestApi", "context", "/old"), "demo-api runs with context '/old'"),
    (lambda s: s.rewrite("RestApi", "operations", []), "demo-api runs with spec.operations []"),
    (
        lambda s: s.rewrite("RestApi", "upstream.main.url", "http://old.example.test"),
        "demo-api runs with url 'http://old",
    ),
    (
        lambda s: s.rewrite("LlmProvider", "accessControl.mode", "allow_all"),
        "demo-provider runs with spec.accessControl",
    ),
    (lambda s: s.rewrite("LlmProvider", "globalPolicies", []), "demo-provider runs with spec.globalPolicies []"),
    (lambda s: s.rewrite("LlmProvider", "upstream.auth.value", "x"), "demo-provider runs with spec.upstream"),
    (lambda s: s.rewrite("LlmProxy", "provider.id", "other"), "demo-proxy runs with provider 'other'"),
    (lambda s: s.rewrite("LlmProxy", "more", 1), "demo-proxy runs with spec.more 1, not None"),
    (lambda s: s.change("RestApi", deployment_id="d-0"), "demo-api runs as deployment d-0, not as"),
    (lambda s: s.change("RestApi", document=None), "demo-api has no document"),
    (lambda s: s.change("RestApi", state=UNDEPLOYED), "does not run"),
    (
        lambda s: s.change("LlmProvider", credentials={"upstream.auth": OLD_AUTH}),
        "demo-provider runs with another credential at upstream.auth",
    ),
    (lambda s: s.change("LlmProvider", credentials={}), "demo-provider runs with credentials [], not"),
    (lose_secrets, "has another value, or none"),
    (keep_old_secrets, "has another value, or none"),
    (lambda s: s.gateway._world.database.keys.stored.clear(), "demo-provider opens with {}"),
    (put_gone, "gone is kept"),
    (put_gone, "gone runs"),
    (make_own, ""),
)


async def test_every_flaw_is_found_and_what_the_gateway_has_itself_is_none(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        database, runtime = s.gateway._world.database, s.gateway._world.runtime
        for flaw, words in FLAWS:
            before = dict(runtime.running), dict(database.keys.stored), dict(database.secrets)
            flaw(s)
            found = await s.found()
            assert words in found if words else not found, (words, found)
            runtime.running, database.keys.stored = before[:2]
            database.artifacts.stored = dict(before[0])
            database.secrets |= before[2]
        assert await s.found() == ""


async def test_what_was_restored_everywhere_is_what_the_artifact_is_from_now_on(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        path = f"/rest-apis/{s.id_of('RestApi')}"
        await s.operator.ask("PATCH", path, {"context": "/moved"})
        first = (await s.operator.ask("GET", f"{path}/deployments"))["items"][-1]
        await s.operator.ask("POST", f"{path}/deployments/{first['id']}/restore")
        await in_desired_state(s.operator, s.gateway_id, s.gateway)
        assert (await s.operator.ask("GET", path))["context"] == "/demo"


async def test_what_was_restored_here_alone_is_the_desired_state_and_not_what_was_written_last(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        path = f"/rest-apis/{s.id_of('RestApi')}"
        other = await s.operator.ask("POST", "/gateways", {"name": "other"})
        await s.operator.ask("POST", f"{path}/deployments", {"gatewayId": other["id"]})
        await s.operator.ask("PATCH", path, {"context": "/moved"})
        await in_desired_state(s.operator, s.gateway_id, s.gateway)
        revisions = (await s.operator.ask("GET", f"{path}/deployments"))["items"]
        first = [each for each in revisions if each["gatewayId"] == s.gateway_id][-1]
        await s.operator.ask("POST", f"{path}/deployments/{first['id']}/restore")
        await in_desired_state(s.operator, s.gateway_id, s.gateway, as_written=False)
        assert await s.found() == "demo-api runs with context '/demo', not '/moved' as written"


async def test_a_control_plane_that_does_not_answer_the_gateway_is_a_difference(tmp_path: Path) -> None:
    async with site(tmp_path) as s:
        s.gateway._target = replace(s.gateway._target, token="wrong")
        assert "cannot say what should run" in await s.found()
        with pytest.raises(AssertionError, match="cannot say"):
            await in_desired_state(s.operator, s.gateway_id, s.gateway, within=1.0)
