"""Providers, proxies and APIs: the list of each kind, and one of them with its parts."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from gatecast.controlplane.families import FAMILIES, Family
from gatecast.errors import Conflict, InvalidValue
from gatecast.server.admin_api.artifact_models import artifact_view, deployment_view, key_view
from gatecast.server.admin_api.context import AdminContext, Context
from gatecast.server.admin_api.paths import ResourceId
from gatecast.server.console.fleet import look
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


def artifact_router(family: Family) -> APIRouter:
    """The pages of one kind of artifact."""
    router = APIRouter(prefix=f"/{family.collection}", route_class=ConsoleRoute, include_in_schema=False)
    title, about = _TITLES[family.collection]

    @router.get("")
    async def list_artifacts(
        request: Request,
        context: Context,
        visitor: Visitor,
        q: Annotated[str, Query(max_length=120)] = "",
        after: Annotated[str, Query(max_length=255)] = "",
    ) -> Response:
        found = await context.resources.artifacts.page(visitor.organization, family, after=after, limit=_ROWS + 1)
        running = await context.resources.artifacts.running_of(found[:_ROWS], after=after)
        items = [
            {
                "id": each.id,
                "handle": each.handle,
                "name": each.document.name,
                "version": each.document.version,
                "context": getattr(each.document, "context", "") or "",
                "states": Counter(run.deployment.state.value for run in running[each.id]).most_common(),
                "updated_at": each.updated_at,
            }
            for each in found[:_ROWS]
        ]
        if q:
            items = [each for each in items if q.casefold() in f"{each['name']} {each['handle']}".casefold()]
        following = f"?{urlencode({'after': found[_ROWS - 1].handle, 'q': q})}" if len(found) > _ROWS else ""
        return page(
            request,
            "artifacts.html",
            family=family,
            title=title,
            about=about,
            items=items,
            q=q,
            here=f"/{family.collection}?{urlencode({'after': after, 'q': q})}",
            next=following,
        )

    @router.get("/{artifact_id}")
    async def show_artifact(
        request: Request,
        context: Context,
        visitor: Visitor,
        artifact_id: ResourceId,
        tab: Annotated[str, Query(max_length=20)] = "overview",
        deployment: Annotated[str, Query(max_length=64)] = "",
    ) -> Response:
        return await shown(request, context, visitor.organization, artifact_id, tab=tab, deployment=deployment)

    async def shown(
        request: Request,
        context: AdminContext,
        organization: str,
        artifact_id: str,
        *,
        tab: str,
        deployment: str = "",
        secret: str = "",
        problem: str = "",
    ) -> Response:
        artifacts = context.resources.artifacts
        artifact = await artifacts.get(organization, family, artifact_id)
        running = await artifacts.running(artifact_id)
        standings = await look(context, organization)
        connected = {each.gateway.id: each.connected for each in standings}
        view = artifact_view(artifact, running)
        keys = await context.resources.keys.of_artifact(organization, family, artifact_id) if tab == "keys" else []
        revisions = []
        if tab == "revisions":
            found = await artifacts.deployments(organization, family, artifact_id, after=(2**62, ""), limit=_ROWS)
            revisions = [deployment_view(each) for each in found]
        if tab == "yaml" and not deployment and running:
            deployment = running[0].deployment.id
        yaml = await artifacts.content(organization, family, artifact_id, deployment) if tab == "yaml" and deployment else ""
        tab_title, part_fields = _PARTS.get(tab, ("", ()))
        return page(
            request,
            "artifact.html",
            family=family,
            title=title,
            artifact=artifact,
            document=artifact.document,
            tabs=_TABS,
            tab=tab,
            tab_title=tab_title,
            part={name: view[name] for name in part_fields if name in view},
            placed=[
                {"deployment": deployment_view(each.deployment), "connected": connected.get(each.deployment.gateway_id, False)}
                for each in running
            ],
            names={each.gateway.id: each.gateway.fields.name for each in standings},
            facts=_facts(view),
            keys=[key_view(each) for each in keys],
            revisions=revisions,
            yaml=yaml,
            secret=secret,
            problem=problem,
        )

    @router.post("/{artifact_id}/keys")
    async def create_key(request: Request, context: Context, visitor: Visitor, artifact_id: ResourceId) -> Response:
        name = str((await request.form()).get("name", ""))
        try:
            issued = await context.resources.keys.create(visitor.organization, family, artifact_id, name, None)
        except (Conflict, InvalidValue) as error:
            return await shown(request, context, visitor.organization, artifact_id, tab="keys", problem=str(error))
        return await shown(request, context, visitor.organization, artifact_id, tab="keys", secret=issued.value)

    @router.post("/{artifact_id}/keys/{name}/rotate")
    async def rotate_key(request: Request, context: Context, visitor: Visitor, artifact_id: ResourceId, name: str) -> Response:
        issued = await context.resources.keys.rotate(visitor.organization, family, artifact_id, name, None)
        return await shown(request, context, visitor.organization, artifact_id, tab="keys", secret=issued.value)

    @router.post("/{artifact_id}/keys/{name}/revoke")
    async def revoke_key(context: Context, visitor: Visitor, artifact_id: ResourceId, name: str) -> Response:
        await context.resources.keys.revoke(visitor.organization, family, artifact_id, name)
        return RedirectResponse(f"/{family.collection}/{artifact_id}?tab=keys", 303, SECURITY_HEADERS)

    @router.post("/{artifact_id}/deployments/{deployment_id}/restore")
    async def restore(context: Context, visitor: Visitor, artifact_id: ResourceId, deployment_id: ResourceId) -> Response:
        await context.resources.artifacts.restore(visitor.organization, family, artifact_id, deployment_id)
        return RedirectResponse(f"/{family.collection}/{artifact_id}", 303, SECURITY_HEADERS)

    @router.post("/{artifact_id}/delete")
    async def delete(context: Context, visitor: Visitor, artifact_id: ResourceId) -> Response:
        await context.resources.artifacts.delete(visitor.organization, family, artifact_id)
        return RedirectResponse(f"/{family.collection}", 303, SECURITY_HEADERS)

    return router


def _facts(view: dict[str, Any]) -> list[tuple[str, str]]:
    """What people want to know of a document at first sight."""
    upstream = view.get("upstream") or {}
    url = upstream.get("url") or (upstream.get("main") or {}).get("url") or ""
    provider = (view.get("provider") or {}).get("id", "")
    facts = (
        ("Description", view.get("description", "")),
        ("Context", view.get("context", "")),
        ("Template", view.get("template", "")),
        ("Upstream", url),
        ("Provider", provider),
        ("Virtual host", view.get("vhost", "")),
    )
    return [(name, value) for name, value in facts if value]


ROUTERS = [artifact_router(family) for family in FAMILIES]


