"""Providers, proxies and APIs: the list of each kind, one of them with its parts, and what can be done with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from gatecast.controlplane.catalog.artifact_kinds import FAMILIES, Family
from gatecast.controlplane.catalog.artifact_store import StoredArtifact
from gatecast.controlplane.deployments.api_keys import IssuedKey
from gatecast.controlplane.deployments.artifacts import Running
from gatecast.controlplane.deployments.placements import Deployment, Desired
from gatecast.errors import Conflict, InvalidValue, NotFound
from gatecast.server.admin_api.artifact_models import artifact_view, deployment_view, key_view
from gatecast.server.admin_api.context import AdminContext, Context
from gatecast.server.admin_api.paths import ResourceId
from gatecast.server.console.rendering import SECURITY_HEADERS, page
from gatecast.server.console.routes import ConsoleRoute, Visitor

#: Rows of one page.
_ROWS = 50

_TITLES = {
    "llm-providers": ("LLM providers", "Services that answer prompts, and who may use what of them."),
    "llm-proxies": ("LLM proxies", "What applications call: a provider with policies of its own."),
    "mcp-proxies": ("MCP proxies", "Tools for agents, behind a gateway."),
    "rest-apis": ("REST APIs", "HTTP interfaces, behind a gateway."),
}

#: Tabs that show a part of the document, by the fields that they show.
_PARTS = {
    "access": ("Access control", ("accessControl", "security")),
    "limits": ("Rate limits", ("rateLimits",)),
    "guardrails": ("Guardrails", ("globalPolicies", "operationPolicies", "policies")),
}

_TABS = [
    ("overview", "Overview"),
    ("keys", "Keys"),
    *((name, title) for name, (title, _fields) in _PARTS.items()),
    ("revisions", "Revisions"),
    ("yaml", "YAML"),
]

#: Before every deployment.
_BEGINNING = (2**62, "")


@dataclass(frozen=True, slots=True)
class _Shown:
    """Which part of an artifact a page shows."""

    tab: str = "overview"
    deployment: str = ""


class ArtifactPages:
    """The pages of one kind of artifact."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._title, self._about = _TITLES[family.collection]

    def router(self) -> APIRouter:
        """The routes of these pages."""
        router = APIRouter(prefix=f"/{self._family.collection}", route_class=ConsoleRoute, include_in_schema=False)
        router.add_api_route("", self.list_artifacts, methods=["GET"])
        router.add_api_route("/{artifact_id}", self.show_artifact, methods=["GET"])
        for path, answer in (
            ("/keys", self.create_key),
            ("/keys/{name}/rotate", self.rotate_key),
            ("/keys/{name}/revoke", self.revoke_key),
            ("/deployments/{deployment_id}/restore", self.restore),
            ("/deploy", self.deploy),
            ("/undeploy", self.undeploy),
            ("/delete", self.delete),
        ):
            router.add_api_route(f"/{{artifact_id}}{path}", answer, methods=["POST"])
        return router

    async def list_artifacts(
        self,
        request: Request,
        context: Context,
        visitor: Visitor,
        q: Annotated[str, Query(max_length=120)] = "",
        after: Annotated[str, Query(max_length=255)] = "",
    ) -> Response:
        """A page of them, in the order of handles."""
        artifacts = context.resources.artifacts
        found = await artifacts.page(visitor.organization, self._family, after=after, limit=_ROWS + 1)
        running = await artifacts.running_of(found[:_ROWS], after=after)
        items = [_item(each, running[each.id]) for each in found[:_ROWS]]
        return page(
            request,
            "artifacts.html",
            family=self._family,
            title=self._title,
            about=self._about,
            items=[each for each in items if q.casefold() in f"{each['name']} {each['handle']}".casefold()],
            q=q,
            here=f"{request.url.path}?{urlencode({'after': after, 'q': q})}",
            next=f"?{urlencode({'after': found[_ROWS - 1].handle, 'q': q})}" if len(found) > _ROWS else "",
        )

    async def show_artifact(
        self,
        request: Request,
        context: Context,
        visitor: Visitor,
        artifact_id: ResourceId,
        tab: Annotated[str, Query(max_length=20)] = "overview",
        deployment: Annotated[str, Query(max_length=64)] = "",
    ) -> Response:
        """One of them."""
        shown = _Shown(tab=tab, deployment=deployment)
        return self._page(request, await self._read(context, visitor.organization, artifact_id, shown))

    async def _read(self, context: AdminContext, organization: str, artifact_id: str, shown: _Shown) -> dict[str, Any]:
        artifacts = context.resources.artifacts
        artifact = await artifacts.get(organization, self._family, artifact_id)
        running = await artifacts.running(artifact_id)
        standings = {each.gateway.id: each for each in (await context.fleets.look(organization)).standings}
        view = artifact_view(artifact, running)
        tab_title, part_fields = _PARTS.get(shown.tab, ("", ()))
        return {
            "artifact": artifact,
            "document": artifact.document,
            "tab": shown.tab,
            "tab_title": tab_title,
            "part": {name: view[name] for name in part_fields if name in view},
            "placed": [
                {
                    "deployment": deployment_view(each.deployment),
                    "runs": each.desired is Desired.DEPLOYED,
                    "connected": each.deployment.gateway_id in standings
                    and standings[each.deployment.gateway_id].connected,
                }
                for each in running
            ],
            "names": {gateway_id: each.gateway.fields.name for gateway_id, each in standings.items()},
            "facts": _facts(view),
            "elsewhere": [
                each.gateway for gateway_id, each in standings.items() if gateway_id not in _running_on(running)
            ],
            **await self._tab(context, organization, artifact_id, running, shown),
        }

    def _page(self, request: Request, read: Mapping[str, Any], *, secret: str = "", problem: str = "") -> Response:
        """What was read, with a key that was made just now, or with what was wrong."""
        parts = {"family": self._family, "title": self._title, "tabs": _TABS, **read}
        return page(request, "artifact.html", **parts, secret=secret, problem=problem)

    async def _tab(
        self,
        context: AdminContext,
        organization: str,
        artifact_id: str,
        running: Sequence[Running],
        shown: _Shown,
    ) -> dict[str, Any]:
        """What only one tab shows."""
        place = (organization, self._family, artifact_id)
        found: dict[str, Any] = {"keys": [], "revisions": [], "yaml": "", "difference": []}
        match shown.tab:
            case "keys":
                found["keys"] = [key_view(each) for each in await context.resources.keys.of_artifact(*place)]
            case "revisions":
                revisions = await context.resources.artifacts.deployments(*place, after=_BEGINNING, limit=_ROWS)
                found["revisions"] = [deployment_view(each) for each in revisions]
            case "difference" if shown.deployment:
                found["difference"] = await self._difference(context, place, shown.deployment, running)
            case "yaml" if shown.deployment or running:
                deployment_id = shown.deployment or running[0].deployment.id
                found["yaml"] = await context.resources.artifacts.content(*place, deployment_id)
        return found

    async def _difference(
        self, context: AdminContext, place: tuple[str, Family, str], deployment_id: str, running: Sequence[Running]
    ) -> list[str]:
        """From an earlier revision on a gateway to what that gateway runs now."""
        artifacts = context.resources.artifacts
        earlier = await artifacts.deployment(*place, deployment_id)
        [now] = [each.deployment for each in running if each.deployment.gateway_id == earlier.gateway_id] or [earlier]
        older, newer = await artifacts.content(*place, earlier.id), await artifacts.content(*place, now.id)
        return list(unified_diff(older.splitlines(), newer.splitlines(), lineterm=""))[2:]

    # --- changing -----------------------------------------------------------------------------------------------

    async def create_key(
        self, request: Request, context: Context, visitor: Visitor, artifact_id: ResourceId
    ) -> Response:
        """A new key, shown once."""
        name = str((await request.form()).get("name", ""))
        return await self._issue(request, context, visitor, artifact_id, name, context.resources.keys.create)

    async def rotate_key(
        self, request: Request, context: Context, visitor: Visitor, artifact_id: ResourceId, name: str
    ) -> Response:
        """Another value for a key, shown once."""
        return await self._issue(request, context, visitor, artifact_id, name, context.resources.keys.rotate)

    async def _issue(
        self,
        request: Request,
        context: AdminContext,
        visitor: Visitor,
        artifact_id: str,
        name: str,
        change: Callable[[str, Family, str, str], Awaitable[IssuedKey]],
    ) -> Response:
        # Read before: once the key is made, nothing that fails may keep its value from whoever asked.
        read = await self._read(context, visitor.organization, artifact_id, _Shown(tab="keys"))
        try:
            issued = await change(visitor.organization, self._family, artifact_id, name)
        except (Conflict, InvalidValue) as error:
            return self._page(request, read, problem=str(error))
        keys = [*(each for each in read["keys"] if each.id != issued.key.id), key_view(issued.key)]
        return self._page(request, {**read, "keys": sorted(keys, key=lambda each: each.name)}, secret=issued.value)

    async def revoke_key(self, context: Context, visitor: Visitor, artifact_id: ResourceId, name: str) -> Response:
        """End a key."""
        await context.resources.keys.revoke(visitor.organization, self._family, artifact_id, name)
        return self._to(f"/{artifact_id}?tab=keys")

    async def deploy(self, request: Request, context: Context, visitor: Visitor, artifact_id: ResourceId) -> Response:
        """Let a gateway run it as it is now."""
        return await self._place(
            request, context, visitor.organization, artifact_id, context.resources.artifacts.deploy
        )

    async def undeploy(self, request: Request, context: Context, visitor: Visitor, artifact_id: ResourceId) -> Response:
        """Let a gateway stop running it."""
        return await self._place(
            request, context, visitor.organization, artifact_id, context.resources.artifacts.undeploy
        )

    async def _place(
        self,
        request: Request,
        context: AdminContext,
        organization: str,
        artifact_id: str,
        change: Callable[[str, Family, str, str], Awaitable[Deployment]],
    ) -> Response:
        gateway_id = str((await request.form()).get("gateway", ""))
        try:
            await change(organization, self._family, artifact_id, gateway_id)
        except (Conflict, NotFound) as error:
            return self._page(
                request, await self._read(context, organization, artifact_id, _Shown()), problem=str(error)
            )
        return self._to(f"/{artifact_id}")

    async def restore(
        self, context: Context, visitor: Visitor, artifact_id: ResourceId, deployment_id: ResourceId
    ) -> Response:
        """Let the gateway of an earlier deployment run its content again."""
        await context.resources.artifacts.restore(visitor.organization, self._family, artifact_id, deployment_id)
        return self._to(f"/{artifact_id}")

    async def delete(self, context: Context, visitor: Visitor, artifact_id: ResourceId) -> Response:
        """Delete it everywhere."""
        await context.resources.artifacts.delete(visitor.organization, self._family, artifact_id)
        return self._to("")

    def _to(self, path: str) -> Response:
        return RedirectResponse(f"/{self._family.collection}{path}", 303, SECURITY_HEADERS)


def _running_on(running: Sequence[Running]) -> set[str]:
    return {each.deployment.gateway_id for each in running if each.desired is Desired.DEPLOYED}


def _item(artifact: StoredArtifact, running: Sequence[Running]) -> dict[str, Any]:
    """A row of the list."""
    return {
        "id": artifact.id,
        "handle": artifact.handle,
        "name": artifact.document.name,
        "version": artifact.document.version,
        "context": getattr(artifact.document, "context", "") or "",
        "states": Counter(each.deployment.state.value for each in running).most_common(),
        "updated_at": artifact.updated_at,
    }


def _facts(view: dict[str, Any]) -> list[tuple[str, str]]:
    """What people want to know of a document at first sight."""
    upstream = view.get("upstream") or {}
    facts = (
        ("Description", view.get("description", "")),
        ("Context", view.get("context", "")),
        ("Template", view.get("template", "")),
        ("Upstream", upstream.get("url") or (upstream.get("main") or {}).get("url", "")),
        ("Provider", (view.get("provider") or {}).get("id", "")),
        ("Virtual host", view.get("vhost", "")),
    )
    return [(name, value) for name, value in facts if value]


ROUTERS = [ArtifactPages(family).router() for family in FAMILIES]
