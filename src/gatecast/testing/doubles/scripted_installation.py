"""A scripted control plane with all that a gateway asks for, and a gateway that connects to it."""

from __future__ import annotations

import io
import itertools
import tarfile
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import yaml

from gatecast.testing.clock import HandMovedClock
from gatecast.testing.doubles.scripted_control_plane import (
    Answer,
    Request,
    Responder,
    ScriptedConnection,
    ScriptedControlPlane,
)
from gatecast.testing.unmodified_gateway import GatewayOptions, UnmodifiedGateway

#: Where the gateway's own calls go.
BASE = "/api/internal/v1"

_LISTED_AT = "2026-01-02T03:04:05.440Z"


#: Where requests go.
UPSTREAM = {"url": "https://upstream.example.test"}

#: What a document of each kind cannot do without.
_NEEDED: Mapping[str, Mapping[str, object]] = {
    "LlmProvider": {"template": "openai", "upstream": UPSTREAM, "accessControl": {"mode": "deny_all"}},
    "LlmProxy": {},
    "Mcp": {"context": "/mcp", "upstream": UPSTREAM},
    "RestApi": {
        "context": "/api",
        "upstream": {"main": UPSTREAM},
        "operations": [{"method": "GET", "path": "/"}],
    },
}


def document(kind: str, name: str, **specification: object) -> str:
    """A YAML artifact."""
    specification = {"displayName": f"The {name}", "version": "v1.0", **_NEEDED[kind], **specification}
    return yaml.safe_dump({"kind": kind, "metadata": {"name": name}, "spec": specification})


def zipped(text: str, name: str = "folder/any.yaml") -> bytes:
    """A ZIP with the document after another entry."""
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("README.txt", "not me")
        archive.writestr(name, text)
        archive.writestr("later.yaml", "kind: Other")
    return package.getvalue()


def tar_gz(texts: Mapping[str, str]) -> bytes:
    """A tar.gz with one document per deployment, and things to skip."""
    package = io.BytesIO()
    entries = {f"{deployment_id}/artifact.yaml": text for deployment_id, text in texts.items()}
    with tarfile.open(fileobj=package, mode="w:gz") as archive:
        for name, text in ({"README.txt": "x", "../d-9/x.yaml": "x", "rootless.yaml": "x"} | entries).items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return package.getvalue()


class ScriptedInstallation:
    """A scripted control plane with every endpoint, empty at first."""

    def __init__(self, server: ScriptedControlPlane) -> None:
        self.server = server
        self.deployments: list[dict[str, object]] = []
        self.documents: dict[str, str] = {}
        self.existing: set[str] = set()
        server.answers |= {
            f"GET {BASE}/secrets": Answer(body={"list": [], "count": 0}),
            f"GET {BASE}/deployments": self._list,
            f"POST {BASE}/deployments/fetch-batch": self._fetch,
            f"POST {BASE}/artifacts/exists": self._exists,
            f"POST {BASE}/artifacts/import-gateway-artifacts": Answer(body={"total": 0, "artifacts": {}}),
            f"GET {BASE}/subscription-plans": Answer(body=[]),
            f"POST {BASE}/gateways/gw-1/manifest": Answer(status=204),
        }
        for path in ("apis", "websub-apis", "webbroker-apis", "llm-providers", "llm-proxies"):
            self.answer("GET", f"/{path}/api-keys", Answer(body=[]))

    def answer(self, method: str, path: str, answer: Answer | Responder) -> None:
        """Answer so from now on."""
        self.server.answers[f"{method} {BASE}{path}"] = answer

    def deploy(self, kind: str, artifact_id: str, deployment_id: str, **more: object) -> None:
        """List a deployment."""
        entry = {"artifactId": artifact_id, "deploymentId": deployment_id, "kind": kind, "state": "DEPLOYED"}
        self.deployments = [each for each in self.deployments if each["artifactId"] != artifact_id]
        self.deployments.append(entry | {"deployedAt": _LISTED_AT, "etag": f"{deployment_id}-{len(more)}"} | more)

    def calls(self, *, apart_from: tuple[str, ...] = ("manifest", "import-gateway-artifacts")) -> list[str]:
        """REST calls in order, without those that run beside the others."""
        wanted = (call for call in self.server.calls if BASE in call and not call.endswith((*apart_from, "connect")))
        return [call.replace(BASE, "") for call in wanted]

    def bodies(self, path: str) -> list[Any]:
        """JSON bodies of the calls of a path."""
        return [request.json for request in self.server.requests if request.path == BASE + path]

    async def _list(self, _request: Request) -> Answer:
        return Answer(body={"deployments": self.deployments})

    async def _fetch(self, request: Request) -> Answer:
        wanted = request.json["deploymentIds"]
        return Answer(body=tar_gz({each: self.documents[each] for each in wanted if each in self.documents}))

    async def _exists(self, request: Request) -> Answer:
        ids = request.json["artifactIds"]
        return Answer(body={"artifacts": [{"artifactId": each, "exists": each in self.existing} for each in ids]})


class Wire:
    """A gateway that follows artifacts, and its control plane."""

    def __init__(self, gateway: UnmodifiedGateway, plane: ScriptedInstallation, clock: HandMovedClock) -> None:
        self.gateway = gateway
        self.plane = plane
        self.clock = clock
        self._connection: ScriptedConnection | None = None
        self._ids = itertools.count(1)

    async def connect(self) -> None:
        """Greet the next connection and return when everything that follows it was gone through."""
        done = self.gateway.records.reconciliations
        await self.greet()
        await self.gateway.wait_until(lambda: self.gateway.records.reconciliations > done)

    async def greet(self) -> None:
        """Greet the next connection, and wait for nothing that follows it."""
        self._connection = await self.plane.server.greeted()

    async def reconnect(self) -> None:
        """Cut the connection and connect."""
        self.gateway.cut()
        await self.connect()

    async def restart(self) -> None:
        """Restart the gateway and connect."""
        await self.gateway.restart()
        await self.connect()

    async def send(self, event_type: str, **payload: object) -> None:
        """Send an event and return when its handling has ended."""
        handled = self.gateway.records.handled
        await self.post(event_type, **payload)
        await self.gateway.wait_until(lambda: self.gateway.records.handled > handled)

    async def post(self, event_type: str, **payload: object) -> None:
        """Send an event, and do not wait for it."""
        assert self._connection is not None
        await self._connection.send(
            {"type": event_type, "payload": payload, "correlationId": f"e-{next(self._ids)}"},
        )

    @property
    def statuses(self) -> list[str]:
        """What was acknowledged."""
        return [ack["status"] for ack in self.gateway.acks_sent]


@asynccontextmanager
async def wire(**changes: Any) -> AsyncIterator[Wire]:  # noqa: ANN401 - any option
    """A gateway with these options, which dials; nobody has greeted it yet."""
    clock = HandMovedClock()
    options = GatewayOptions(tls=False, clock=clock, **changes)
    async with ScriptedControlPlane() as server:
        plane = ScriptedInstallation(server)
        gateway = UnmodifiedGateway(server.host, "token-1", follow_artifacts=True, options=options)
        async with gateway:
            yield Wire(gateway, plane, clock)
